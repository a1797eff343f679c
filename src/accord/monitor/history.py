"""The history that a rule looks at: a run's figures so far, and a few facts that do not change.

It is built from the lines of metrics.jsonl and timings.jsonl alone, which a resume rewinds: a
resumed run has the history, and so the flags, of an uninterrupted one.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean, median


@dataclass(frozen=True)
class Facts:
    """The facts of a run that are known before its first update."""

    objective: str
    options: Mapping[str, object]
    steps: int  # planned
    rows: int  # training rows
    batch_size: int
    batches_per_epoch: int
    learning_rate: float  # peak
    tie_width: float = 0.0  # reward margins no larger are rounding
    at_reference: float | None = None  # a row's loss where policy = reference
    clip: float | None = 1.0  # largest gradient norm that an update takes whole
    # rows are the policy's own answers: every batch is new, and nothing was there to be ranked
    # before
    sampled: bool = False

    def number(self, option: str) -> float | None:
        """Return an option of the objective that is a number; None where it has no such option."""
        value = self.options.get(option)
        return value if isinstance(value, (int, float)) else None


class Table:
    """Figures by step, one column each; NaN where a line lacks one.

    A figure takes eight bytes, so that long runs fit.
    """

    def __init__(self) -> None:
        self.steps = array("q")
        self.columns: dict[str, array] = {}

    def add(self, line: Mapping[str, float]) -> None:
        before = len(self.steps)
        self.steps.append(int(line["step"]))
        for name, value in line.items():
            if name != "step" and isinstance(value, (int, float)):
                self.columns.setdefault(name, array("d", [math.nan] * before)).append(value)
        for column in self.columns.values():
            if len(column) <= before:
                column.append(math.nan)

    def __len__(self) -> int:
        return len(self.steps)

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def span(self, name: str, start: int | None, stop: int | None) -> list[float]:
        """Return the values of some lines, without those that are missing."""
        return [v for v in self.columns.get(name, array("d"))[start:stop] if not math.isnan(v)]

    def last(self, name: str, count: int) -> list[float]:
        return self.span(name, -count, None) if count else []

    def first(self, name: str, count: int) -> list[float]:
        return self.span(name, None, count)

    def points(self, name: str) -> list[tuple[int, float]]:
        """Return (step, value) of every line that has the figure."""
        if name not in self.columns:
            return []
        column = self.columns[name]
        return [(s, v) for s, v in zip(self.steps, column, strict=True) if not math.isnan(v)]


@dataclass
class History:
    """Training lines, evaluations, samplings and timings of one run."""

    facts: Facts
    training: Table = field(default_factory=Table)
    held_out: Table = field(default_factory=Table)
    samples: Table = field(default_factory=Table)
    timings: Table = field(default_factory=Table)

    def add(self, line: Mapping[str, float]) -> None:
        """Add a line of metrics.jsonl or timings.jsonl."""
        self.table_of(line).add(line)

    def table_of(self, line: Mapping[str, float]) -> Table:
        if "seconds" in line:
            return self.timings
        if any(name.startswith("diag/samples_") for name in line):
            return self.samples
        return self.held_out if any(name.startswith("eval_") for name in line) else self.training

    @property
    def step(self) -> int:
        return self.training.steps[-1] if len(self.training) else 0

    @property
    def window(self) -> int:
        """Return how many training lines "recently" means: a tenth of the run, 5 to 25, and at
        least 64 rows.
        """
        rows = math.ceil(64 / self.facts.batch_size)
        return max(rows, min(25, max(5, self.facts.steps // 10)))

    def past(self, share: float) -> bool:
        """Tell whether this share of the run is done, and at least two windows."""
        return self.step >= share * self.facts.steps and self.step >= 2 * self.window

    def tested(self, name: str, share: float) -> float | None:
        """Return the newest held-out value, if its weights have made this share of the run."""
        points = self.held_out.points(name)
        return (
            points[-1][1]
            if points and points[-1][0] > 0 and points[-1][0] >= share * self.facts.steps
            else None
        )

    def recent(self, name: str) -> float | None:
        """Return the mean over the last window of training; None before there is a whole one."""
        values = self.training.last(name, self.window)
        return fmean(values) if len(values) == self.window else None

    def early(self, name: str) -> float | None:
        """Return the mean over the first window of training."""
        values = self.training.first(name, self.window)
        return fmean(values) if len(values) == self.window else None

    def gained(self, name: str) -> float | None:
        """Return the recent mean minus the early one; None before the windows are apart."""
        now, then = self.recent(name), self.early(name)
        return (
            now - then
            if now is not None and then is not None and self.step >= 2 * self.window
            else None
        )

    def typical(self, name: str) -> float | None:
        """Return the median of the ten lines before the newest, for spikes."""
        values = self.training.last(name, 11)[:-1]
        return median(values) if len(values) == 10 else None
