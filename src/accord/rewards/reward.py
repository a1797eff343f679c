"""The seam between those who need a judgement and whatever judges: prompts, answers and rows in;
one number an answer out, or the reason why there is none.

Scorers, verifiers, reward models, a function of the user's and a language model behind an address
are all of this kind, and `load.py` makes each by its name. A judge of pairs follows from any of
them (judges/scored.py): the answer with the higher reward is the better one.

N answers, each with its prompt and its row. An answer that has no reward has a reason; it never
counts as 0: a reward of 0 is a judgement, and a policy would learn to get it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from accord.errors import printable
from accord.types import Turn, UsageError

Conversation = tuple[Turn, ...]


@dataclass(frozen=True)
class Rewards:
    """Rewards of N answers."""

    values: np.ndarray  # [N] float64, NaN exactly where there is a failure
    failures: Mapping[int, str]  # index -> reason, of a few words, for counting
    # of a sum: name -> [N], unweighted
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
        """Failures by reason; with the rewards that there are, they add up to N."""
        return Counter(self.failures.values())

    @classmethod
    def of(
        cls, values: Sequence[float | object | None], failures: Mapping[int, str] | None = None
    ) -> Rewards:
        """From whatever a scorer gave: what is no finite number is a failure, unless it has a
        reason already.
        """
        failures = dict(failures or {})
        numbers = [math.nan if i in failures else number(value) for i, value in enumerate(values)]
        for i, value in enumerate(numbers):
            if math.isnan(value):
                failures.setdefault(i, "no finite number")
        return cls(np.array(numbers, dtype=np.float64), failures)


def number(value: object) -> float:
    """A finite float, of True 1 and of False 0; NaN for whatever is none. Text is none: "7/10"
    would be read in part.
    """
    if not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:  # an integer beyond all floats
        return math.nan


def prompt_text(turns: Sequence[Turn]) -> str:
    """A prompt as functions and judges read it: a single question as it stands, a conversation with
    its roles.
    """
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)


def require_all(reward: Reward, found: Rewards, answers: Sequence[str]) -> list[float]:
    """Every answer's reward, where one that is missing cannot be left out.

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
    """Anything that gives answers numbers."""

    @property
    def name(self) -> str:
        """What it is called in a recipe and in records."""

    def __call__(
        self, prompts: Sequence[Conversation], answers: Sequence[str], rows: Sequence[Mapping]
    ) -> Rewards:
        """Rewards of N answers; `rows` are the other columns of each answer's row, for what is
        verified against them.
        """

    def account(self) -> dict:
        """What it cost so far and what it said when it failed, JSON-serialisable; empty where there
        is nothing to tell.
        """


@dataclass(frozen=True)
class PerAnswer:
    """A reward that looks at one answer and its row: the shape of all that is verified."""

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
    """Σ weight · reward. Where one part has no value the sum has none either."""

    parts: Sequence[tuple[Reward, float]]
    name: str = "sum"

    def __call__(
        self, prompts: Sequence[Conversation], answers: Sequence[str], rows: Sequence[Mapping]
    ) -> Rewards:
        # One row short, and every answer behind it would be judged by its neighbour's right answer.
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
            # of finite rewards, but weights may carry them beyond all floats
            with np.errstate(over="ignore", invalid="ignore"):
                total += weight * found.values
            values[reward.name] = found.values
            for i, reason in found.failures.items():
                failures.setdefault(i, f"{reward.name}: {reason}")
        for i in np.flatnonzero(~np.isfinite(total)).tolist():
            failures.setdefault(i, "the sum is no finite number")
        total[list(failures)] = np.nan
        return Rewards(total, failures, values)

    def account(self) -> dict[str, dict]:
        """What the parts tell of their work, by name; those with nothing to tell are left out."""
        told = {reward.name: reward.account() for reward, _ in self.parts}
        return {name: account for name, account in told.items() if account}
