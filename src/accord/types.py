"""The nouns of accord: the data on its way from a preference file to a weight update.

    row ──▶ Example ──▶ Tree ──▶ Logps ──▶ LossOutput

Shapes, in one alphabet: B rows · N completions · T packed tokens · C completion tokens · V
vocabulary · D hidden · K completions of one prompt. Log-probs are natural logarithms (nats).

Imports torch and accord.errors alone: everything else may import this file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self

import torch
from torch import Tensor

from accord.errors import (
    AccordError,
    CheckpointError,
    DataError,
    Diverged,
    Flagged,
    Interrupted,
    PeerLost,
    Refused,
    UsageError,
)

__all__ = [
    "NO_INPUTS",
    "REASONING",
    "ROW_KINDS",
    "AccordError",
    "CheckpointError",
    "DataError",
    "Demonstration",
    "DemonstrationLogps",
    "Diverged",
    "Example",
    "FileLine",
    "Finding",
    "Flagged",
    "Interrupted",
    "Labelled",
    "LabelledLogps",
    "Logps",
    "LossOutput",
    "Origin",
    "Pair",
    "PairLogps",
    "PairScores",
    "PeerLost",
    "PerCompletion",
    "Refused",
    "Rollout",
    "RowLogps",
    "Scores",
    "TemplateInputs",
    "Tree",
    "Turn",
    "UsageError",
]

# ---------------------------------------------------------------- text: the rows of a file


class FileLine(int):
    """The number of a row in a data set of many files. It knows the row's own file and line.

    The number counts on from file to file, so that it is one row's alone: number = lines of the
    files before + the line in its own file.
    """

    file: str
    before: int

    def __new__(cls, number: int, file: str, before: int) -> FileLine:
        made = super().__new__(cls, number)
        made.file, made.before = file, before
        return made

    def __getnewargs__(self) -> tuple[int, str, int]:  # type: ignore[override]
        return int(self), self.file, self.before

    def __str__(self) -> str:
        return f"{self.file}:{self - self.before}"


@dataclass(frozen=True, slots=True)
class Origin:
    """The place that a row came from, so that every message about it can name it."""

    file: str  # as it was given: a file, a folder or a pattern
    # from 1; the row's number if a container has no lines (Parquet, JSON arrays); a FileLine if
    # the rows come from many files
    line: int

    def __str__(self) -> str:
        return str(self.line) if isinstance(self.line, FileLine) else f"{self.file}:{self.line}"

    def as_dict(self) -> dict[str, str | int]:
        """Return the row's own file and line."""
        if isinstance(self.line, FileLine):
            return {"file": self.line.file, "line": self.line - self.line.before}
        return {"file": self.file, "line": self.line}


# keys of a message under which public data has what an assistant thought before it spoke
REASONING = ("reasoning_content", "reasoning", "thinking")


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: str  # "system", "user", "assistant" or "tool"
    content: str
    # further keys of the message that a chat template may read (reasoning_content, tool_calls,
    # name): (key, value as JSON text), in the order of the keys
    keys: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TemplateInputs:
    """Inputs of a row for the chat template beside its turns. All values are JSON text, so that
    they can be compared; an empty text stands for an input that the row does not have.
    """

    tools: str = ""  # a list of tool schemas
    documents: str = ""  # a list of objects
    options: str = ""  # an object: chat_template_kwargs
    # of each answer, the further keys of its message, as `Turn.keys` has them; empty where no
    # answer has any
    answers: tuple[tuple[tuple[str, str], ...], ...] = ()

    def of_answer(self, index: int) -> tuple[tuple[str, str], ...]:
        """Return the further keys of one answer's message."""
        return self.answers[index] if self.answers else ()

    def only(self, index: int) -> TemplateInputs:
        """Return the inputs of an example that keeps one of the answers alone."""
        return replace(self, answers=(self.answers[index],) if self.answers else ())


NO_INPUTS = TemplateInputs()


@dataclass(frozen=True, slots=True)
class Pair:
    """A comparison of two answers to a prompt: the preferred one and the other."""

    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str
    origin: Origin
    # other columns, kept: scores, source, licence
    extra: dict = field(default_factory=dict, hash=False)
    inputs: TemplateInputs = NO_INPUTS

    @property
    def completions(self) -> tuple[str, ...]:
        return (self.chosen, self.rejected)


@dataclass(frozen=True, slots=True)
class Labelled:
    """One answer, and whether it was found desirable."""

    prompt: tuple[Turn, ...]
    completion: str
    desirable: bool
    origin: Origin
    extra: dict = field(default_factory=dict, hash=False)
    inputs: TemplateInputs = NO_INPUTS

    @property
    def completions(self) -> tuple[str, ...]:
        return (self.completion,)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One answer to imitate, for supervised fine-tuning."""

    prompt: tuple[Turn, ...]
    completion: str
    origin: Origin
    extra: dict = field(default_factory=dict, hash=False)
    inputs: TemplateInputs = NO_INPUTS

    @property
    def completions(self) -> tuple[str, ...]:
        return (self.completion,)


Example = Pair | Labelled | Demonstration

# The rows an objective trains on; the value of `Objective.rows` and of `data.rows` in a run's
# records.
ROW_KINDS = {"pairs": Pair, "labelled": Labelled, "demonstrations": Demonstration}


# ---------------------------------------------------------------- tokens: the unit of computation


@dataclass(frozen=True, slots=True)
class Tree:
    """Token ids of one prompt and of its K completions: the unit of computation.

    The prompt is computed once. Each completion attends to the prompt and to itself, with positions
    that go on from the prompt. K is 2 for a pair (chosen first), 1 for a label or a demonstration.
    """

    prompt: tuple[int, ...]  # at least one token
    completions: tuple[tuple[int, ...], ...]  # K of them, none empty
    row: int  # index of the example in its dataset, for messages and records
    desirable: bool | None = None  # the label, where rows are labelled
    # by how much a pair's chosen answer should score above the rejected one, if its file says so
    margin: float = 0.0

    def __post_init__(self) -> None:
        assert self.prompt, (
            "a tree needs at least one prompt token to predict its first answer token from"
        )
        assert self.completions and all(self.completions), "an empty completion has no log-prob"

    @property
    def tokens(self) -> int:
        """Count the unique tokens, which are the work of this tree."""
        return len(self.prompt) + sum(map(len, self.completions))

    def scored_in(self, k: int) -> Sequence[int]:
        """Return the places in completion k whose tokens are scored, in their order: all of them.
        The others are attended to, and are no targets.
        """
        return range(len(self.completions[k]))

    @property
    def counts(self) -> list[int]:
        """Count the scored tokens of each completion."""
        return [len(self.scored_in(k)) for k in range(len(self.completions))]

    @property
    def shortest(self) -> int:
        """Count the scored tokens of the shortest completion."""
        return min(self.counts)

    def only(self, *places: int) -> Tree:
        """Make the tree of the prompt and some of its completions, for a forward pass."""
        return Tree(self.prompt, tuple(self.completions[k] for k in places), self.row)


@dataclass(frozen=True, slots=True, eq=False)
class Rollout(Tree):
    """A prompt and K answers that the policy itself gave, with the numbers that their loss depends
    on.

    All these are [C], over the scored tokens of the answers, laid end to end, on the host.
    """

    old: Tensor | None = None  # nats, under the policy that gave them
    advantages: Tensor | None = None
    reference: Tensor | None = None  # nats, if a KL term is in the loss
    expected: Tensor | None = None  # the value head's estimates, if there is one
    returns: Tensor | None = None  # and its targets
    # of each answer, the places of the tokens that the policy drew; None: it drew them all. What
    # others said in between (a tool, a user) is read, and not learned from.
    scored: tuple[tuple[int, ...], ...] | None = None

    def scored_in(self, k: int) -> Sequence[int]:
        """Return the places in answer k whose tokens the policy drew."""
        return range(len(self.completions[k])) if self.scored is None else self.scored[k]

    def only(self, *places: int) -> Rollout:
        """Make the tree of the prompt and some of its answers, without their numbers."""
        scored = None if self.scored is None else tuple(self.scored[k] for k in places)
        completions = tuple(self.completions[k] for k in places)
        return Rollout(self.prompt, completions, self.row, scored=scored)


# ---------------------------------------------------------------- numbers: what objectives see


@dataclass(frozen=True)
class PerCompletion:
    """One number for each of N completions, and its count of tokens: the result of a forward pass
    and the input of an objective.
    """

    # [N] over the tokens that are read: float64 for log-probs, whose terms are float32; a score is
    # one term and keeps its dtype
    sum: Tensor
    count: Tensor  # [N] tokens, at least 1: a Tree refuses an empty completion

    def __getitem__(self, index: Tensor | slice) -> Self:
        return self._changed(lambda column: column[index])

    def __len__(self) -> int:
        return len(self.sum)

    def detach(self) -> Self:
        return self._changed(Tensor.detach)

    @classmethod
    def join(cls, pieces: Sequence[Self]) -> Self:
        """Join several groups of completions into one, in their order."""
        columns = {
            each.name: _joined([getattr(p, each.name) for p in pieces]) for each in fields(cls)
        }
        return cls(**columns)  # type: ignore[arg-type]

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the same with every column changed that is there."""
        columns = {each.name: getattr(self, each.name) for each in fields(self)}
        changed = {name: None if v is None else change(v) for name, v in columns.items()}
        return type(self)(**changed)  # type: ignore[arg-type]


def _joined(column: Sequence[Tensor | None]) -> Tensor | None:
    """Join one column of several groups; it is there in all of them or in none."""
    there = [piece for piece in column if piece is not None]
    assert len(there) in (0, len(column)), "some groups have a column that others lack"
    return torch.cat(there) if there else None


@dataclass(frozen=True)
class Logps(PerCompletion):
    """Log-probs of N completions: the sum over their tokens, in nats, and the number of tokens.

    They travel together because objectives disagree. DPO and KTO take the sum, SimPO and ORPO the
    mean. For IPO the paper does not say; its authors told TRL that they averaged
    (huggingface/blog#1785).

    Two more columns are there where the objective asks for them (`Objective.columns`).
    """

    # [N] nats, the sum over the first tokens of each completion: as many as the shortest
    # completion of its prompt has
    shared: Tensor | None = None
    # [N] nats, the sum over tokens of the collision entropy -log Σ p², p the prediction of the
    # token; no gradient comes back through it
    collision: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        return self.sum / self.count  # [N] nats per token


@dataclass(frozen=True)
class Scores(PerCompletion):
    """The scores of a reward model for N completions. Only the last token of each is read, so the
    sum has one term.

    A mean over tokens has no meaning here, so there is none.
    """

    @property
    def value(self) -> Tensor:
        return self.sum  # [N]


@dataclass(frozen=True)
class PairLogps:
    """Log-probs of B pairs."""

    chosen: Logps  # [B]
    rejected: Logps  # [B]
    # [B] by how much the chosen answer is better, 0 if unknown; None where nobody asked the data
    margin: Tensor | None = None

    def __len__(self) -> int:
        return len(self.chosen)


@dataclass(frozen=True)
class LabelledLogps:
    """Log-probs of B labelled completions."""

    completion: Logps  # [B]
    desirable: Tensor  # [B] bool

    def __len__(self) -> int:
        return len(self.completion)


@dataclass(frozen=True)
class DemonstrationLogps:
    """Log-probs of B demonstrations."""

    completion: Logps  # [B]

    def __len__(self) -> int:
        return len(self.completion)


@dataclass(frozen=True)
class PairScores:
    """A reward model's scores of B pairs."""

    chosen: Scores  # [B]
    rejected: Scores  # [B]
    margin: Tensor  # [B] by how much the chosen answer should win; 0 if unknown

    def __len__(self) -> int:
        return len(self.chosen)


# the input of an objective for B rows
RowLogps = PairLogps | LabelledLogps | DemonstrationLogps | PairScores


@dataclass(frozen=True)
class LossOutput:
    """The output of an objective for B rows. Nothing is reduced here: the step has the one
    denominator.
    """

    losses: Tensor  # [B]
    # name -> [B], detached; logged as the rows' mean
    metrics: dict[str, Tensor] = field(default_factory=dict)


# ---------------------------------------------------------------- verdicts


@dataclass(frozen=True)
class Finding:
    """A finding of a check: what, where, why it matters and what to do."""

    check: str  # "data.boundary", "step0.reference", …
    verdict: str  # "ok", "note", "warning" or "refused"
    says: str  # one line for the user
    evidence: dict = field(default_factory=dict)  # numbers, rows, tokens; JSON-serialisable
    remedy: str = ""  # the command or recipe line that fixes it
    means: str = ""  # the meaning for the run, for a red flag
    source: str = ""  # the publication that shows it

    @property
    def refused(self) -> bool:
        return self.verdict == "refused"
