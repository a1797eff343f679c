"""The interface of all rewards: prompts, answers and rows in; one number per answer out, or the
reason why there is none.

Scorers, verifiers, reward models, a user's function and a language model behind an address all have
this interface, and `load.py` makes each by its name. Any of them can be a judge of pairs
(judges/scored.py): the answer with the higher reward is better.

There are N answers, each with its prompt and its row. An answer without a reward has a reason and
never counts as 0: a reward of 0 is a judgement, and a policy would learn to get it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from accord.config.plugins import code_digest
from accord.errors import printable
from accord.types import Turn, UsageError

Conversation = tuple[Turn, ...]


@dataclass(frozen=True)
class Rewards:
    """The rewards of N answers."""

    values: np.ndarray  # [N] float64, NaN exactly where there is a failure
    failures: Mapping[int, str]  # index -> reason, of a few words, for counting
    # the parts of a sum: name -> [N], unweighted
    parts: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = set(np.flatnonzero(np.isnan(self.values)).tolist())
        assert self.values.dtype == np.float64 and missing == set(self.failures), (
            "each missing reward has its reason"
        )

    def __len__(self) -> int:
        return len(self.values)

    @property
    def reasons(self) -> Counter[str]:
        """Count failures by reason. Together with the rewards they add up to N."""
        return Counter(self.failures.values())

    @classmethod
    def of(
        cls, values: Sequence[float | object | None], failures: Mapping[int, str] | None = None
    ) -> Rewards:
        """Convert the output of any scorer. A value that is not a finite number is a failure, and
        gets a reason if it has none.
        """
        failures = dict(failures or {})
        numbers = [math.nan if i in failures else number(value) for i, value in enumerate(values)]
        for i, value in enumerate(numbers):
            if math.isnan(value):
                failures.setdefault(i, "no finite number")
        return cls(np.array(numbers, dtype=np.float64), failures)


def number(value: object) -> float:
    """Convert a value to a finite float: True is 1, False is 0, anything else is NaN. A text is NaN
    too, because "7/10" would be read in part.
    """
    if not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:  # an integer beyond all floats
        return math.nan


def prompt_text(turns: Sequence[Turn]) -> str:
    """Render a prompt for functions and judges: a single question unchanged, a conversation with
    its roles.
    """
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)


def require_all(reward: Reward, found: Rewards, answers: Sequence[str]) -> list[float]:
    """Return every answer's reward, for uses that cannot leave one out.

    Raises:
      UsageError: an answer has none; how many, the reasons and the first of them.
    """
    if found.failures:
        first = min(found.failures)
        reasons = "; ".join(f"{n:,} × {reason}" for reason, n in found.reasons.most_common(3))
        said = "".join(
            f"\n{printable(str(words))}" for words in reward.account().get("said", {}).values()
        )
        raise UsageError(
            f"{reward.name}: {len(found.failures):,} of {len(found):,} answers have no number"
            f" ({reasons}); first answer {first}, {printable(repr(answers[first])[:80])}.{said}\n"
            "Expected a number for each answer; a missing one would silently count as one."
        )
    return [float(value) for value in found.values]


class Reward(Protocol):
    """A callable that gives each answer a number."""

    @property
    def name(self) -> str:
        """The reward's name in recipes and records."""

    def __call__(
        self, prompts: Sequence[Conversation], answers: Sequence[str], rows: Sequence[Mapping]
    ) -> Rewards:
        """Compute the rewards of N answers. `rows` holds the other columns of each answer's row,
        for rewards that verify against them.
        """

    def account(self) -> dict:
        """Return the cost so far and the messages of failures, JSON-serialisable; empty if there
        are none.
        """


@dataclass(frozen=True)
class PerAnswer:
    """A reward that looks at one answer and its row. All verifiable rewards have this form."""

    name: str
    judge: Callable[[str, Mapping], float | str]  # a number, or in words why there is none

    def __call__(
        self, prompts: Sequence[Conversation], answers: Sequence[str], rows: Sequence[Mapping]
    ) -> Rewards:
        found = [self.judge(answer, row) for answer, row in zip(answers, rows, strict=True)]
        return Rewards.of(found, {i: one for i, one in enumerate(found) if isinstance(one, str)})

    def account(self) -> dict:
        return {}


@dataclass(frozen=True)
class Weighted:
    """The sum Σ weight · reward. If one part has no value, the sum has none."""

    parts: Sequence[tuple[Reward, float]]
    name: str = "sum"

    def __call__(
        self, prompts: Sequence[Conversation], answers: Sequence[str], rows: Sequence[Mapping]
    ) -> Rewards:
        # With a row missing, every later answer would be judged by its neighbour's right answer.
        assert len(prompts) == len(answers) == len(rows), (
            f"{len(prompts)} prompts and {len(rows)} rows for {len(answers)} answers"
        )
        total = np.zeros(len(answers))
        failures: dict[int, str] = {}
        values: dict[str, np.ndarray] = {}
        for reward, weight in self.parts:
            found = reward(prompts, answers, rows)
            assert len(found) == len(answers), (
                f"{reward.name} gave {len(found)} rewards for {len(answers)} answers"
            )
            # the rewards are finite, but large weights can make their sum overflow
            with np.errstate(over="ignore", invalid="ignore"):
                total += weight * found.values
            values[reward.name] = found.values
            for i, reason in found.failures.items():
                failures.setdefault(i, f"{reward.name}: {reason}")
        for i in np.flatnonzero(~np.isfinite(total)).tolist():
            failures.setdefault(i, "the sum is no finite number")
        total[list(failures)] = np.nan
        return Rewards(total, failures, values)

    @property
    def notes(self) -> list[tuple[str, str]]:
        """Return (mark, words) for each reward model: what is known of its held-out accuracy."""
        known = [(reward.name, getattr(reward, "trust", None)) for reward, _ in self.parts]
        return [(each.mark, f"{name}: {each.says}") for name, each in known if each is not None]

    def account(self) -> dict[str, dict]:
        """Return the accounts of the parts by name, without the empty ones."""
        told = {reward.name: reward.account() for reward, _ in self.parts}
        return {name: account for name, account in told.items() if account}


def identity_of(*rewards: Weighted | None) -> str:
    """Name rewards so that others under the same name make another run: reward models by their
    weights' fingerprint, functions by their files.
    """
    parts = [reward for weighted in rewards if weighted is not None for reward, _ in weighted.parts]
    models = {each.name: each.fingerprint for each in parts if hasattr(each, "fingerprint")}
    functions = {each.name: code for each in parts if (code := code_digest(each.name)) is not None}
    return json.dumps(models | functions, sort_keys=True)
