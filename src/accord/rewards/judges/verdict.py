"""What every judge is asked and gives: contests in, judged contests and an account of the others
out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from accord.types import Turn


@dataclass(frozen=True, slots=True)
class Contest:
    """Two answers to one prompt, as texts; `one` is the model's that is measured."""

    prompt: str
    one: str
    other: str
    turns: tuple[Turn, ...] = ()  # the prompt turn by turn, for a judge that renders it itself
    # the other columns of the prompt's row, for what is verified against them
    row: Mapping[str, object] = field(default_factory=dict, hash=False)


@dataclass
class Judged:
    """What a judge said of N contests."""

    scores: list[
        float | None
    ]  # [N]: 1 where `one` is better, ½ for a tie, 0; None where there is no verdict
    failures: Counter = field(default_factory=Counter)  # reason -> verdicts that failed
    # what it cost, how consistent it was; JSON-serialisable
    account: dict = field(default_factory=dict)

    @property
    def places(self) -> list[int]:
        """Contests with a verdict."""
        return [i for i, score in enumerate(self.scores) if score is not None]


class Judge(Protocol):
    """Anything that says which of two answers is better."""

    @property
    def name(self) -> str:
        """What it is called in records."""

    def __call__(self, contests: Sequence[Contest]) -> Judged:
        """A verdict on each contest, or an account of why there is none."""


def by_scores(
    ours: Sequence[float], theirs: Sequence[float], failures: Counter | None = None
) -> Judged:
    """The higher score wins; equal scores are a tie, and where one is NaN there is no verdict."""
    both = [
        (a, b) for a, b in zip(ours, theirs, strict=True) if not (math.isnan(a) or math.isnan(b))
    ]
    scores = [
        None if math.isnan(a) or math.isnan(b) else 0.5 if a == b else float(a > b)
        for a, b in zip(ours, theirs, strict=True)
    ]
    means = [sum(side) / len(both) for side in zip(*both, strict=True)] or [None, None]
    return Judged(
        scores, failures or Counter(), {"mean_score": means[0], "mean_score_other": means[1]}
    )
