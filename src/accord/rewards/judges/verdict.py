"""The interface of every judge: contests in, judged contests and an account of the failures out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from accord.types import Turn


@dataclass(frozen=True, slots=True)
class Contest:
    """Two answers to one prompt, as texts; `one` is from the model that is measured."""

    prompt: str
    one: str
    other: str
    turns: tuple[Turn, ...] = ()  # the prompt turn by turn, for a judge that renders it itself
    # the other columns of the prompt's row, for rewards that verify against them
    row: Mapping[str, object] = field(default_factory=dict, hash=False)


@dataclass
class Judged:
    """A judge's scores of N contests."""

    scores: list[
        float | None
    ]  # [N]: 1 where `one` is better, ½ for a tie, 0; None where there is no verdict
    failures: Counter = field(default_factory=Counter)  # reason -> verdicts that failed
    # the judge's cost and consistency; JSON-serialisable
    account: dict = field(default_factory=dict)

    @property
    def places(self) -> list[int]:
        """The indices of contests with a verdict."""
        return [i for i, score in enumerate(self.scores) if score is not None]


# one answer is right and the other beside the question
TRIAL = Contest("What is two plus two?", "Two plus two is four.", "The moon is made of cheese.")


class Judge(Protocol):
    """A callable that decides which of two answers is better."""

    @property
    def name(self) -> str:
        """The judge's name in records."""

    def try_out(self) -> list[str]:
        """Ask one plain question before anything is measured; return what to know about it.

        Raises:
          UsageError: it cannot be asked, or its reply cannot be read.
        """

    def __call__(self, contests: Sequence[Contest]) -> Judged:
        """Give a verdict on each contest, or the reason why there is none."""


def by_scores(
    ours: Sequence[float], theirs: Sequence[float], failures: Counter | None = None
) -> Judged:
    """Let the higher score win. Equal scores are a tie; a NaN gives no verdict."""
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
