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
    """The facts of a run that are known before its first update.

    Of a mixture, the objective is the part that answers are compared by.
    """

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
    adapter_scale: float | None = None  # alpha / rank, or its like; None where all weights train
    usual_rate: float | None = None  # the learning rate that the objective suggests here
    weights: int | None = None  # numbers that train
    epsilon: float | None = 1e-8  # AdamW's, under which a gradient is lost; None without one
    pairs: bool = True  # whether it trains on pairs: another method of pairs can take its place
    # what does something against chosen answers that fall, method or part of a mixture -> what, in
    # words; the methods of the same rows and reference that do
    holds: Mapping[str, str] = field(default_factory=dict)
    holding: tuple[str, ...] = ()
    usual_beta: float | None = None  # the objective's default of beta; None if it has none
    # nats a token that rounding may put between policy and reference where they are one model
    rounding: float = 0.0

    def number(self, option: str) -> float | None:
        """Return an option of the objective that is a number; None where it has no such option."""
        value = self.options.get(option)
        return value if isinstance(value, (int, float)) else None


@dataclass
class Ends:
    """The lines of one column that rules ask for after every update, by index. They are kept up to
    date, since a search through the column each time takes time quadratic in the run's length.
    """

    first: int
    newest: int
    second: int | None  # the newest but one
    least: int
    most: int


class Table:
    """Figures by step, one column each; NaN where a line lacks one.

    A figure takes eight bytes, so that long runs fit.
    """

    def __init__(self) -> None:
        self.steps = array("q")
        self.columns: dict[str, array] = {}
        self.broken: dict[str, list[int]] = {}  # steps at which a figure was written as NaN
        self._ends: dict[str, Ends] = {}
        # sums and counts of the lines before each, of the columns whose means are asked for
        self._before: dict[str, tuple[array, array]] = {}

    def add(self, line: Mapping[str, float]) -> None:
        before = len(self.steps)
        self.steps.append(int(line["step"]))
        for name, value in line.items():
            if name != "step" and isinstance(value, (int, float)):
                if name not in self.columns:
                    self.columns[name] = array("d", [math.nan]) * before
                self.columns[name].append(value)
                if math.isnan(value):
                    self.broken.setdefault(name, []).append(self.steps[-1])
                else:
                    self._note(name, before)
        for column in self.columns.values():
            if len(column) <= before:
                column.append(math.nan)

    def _note(self, name: str, index: int) -> None:
        ends, column = self._ends.get(name), self.columns[name]
        if ends is None:
            self._ends[name] = Ends(index, index, None, index, index)
            return
        ends.second, ends.newest = ends.newest, index
        if column[index] < column[ends.least]:
            ends.least = index
        if column[index] > column[ends.most]:
            ends.most = index

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

    def spread(self, name: str, start: int, stop: int, most: int) -> list[float]:
        """Return at most so many values between two lines, evenly apart."""
        column = self.columns.get(name, array("d"))[start : stop : max(1, (stop - start) // most)]
        return [value for value in column[:most] if not math.isnan(value)]

    def mean_of_last(self, name: str, count: int) -> tuple[int, float]:
        """Return how many of the last lines have the figure, and its mean over them (NaN of
        none), in time that does not grow with `count`.
        """
        column = self.columns.get(name)
        if column is None or count <= 0:
            return 0, math.nan
        sums, counts = self._before.setdefault(name, (array("d", [0.0]), array("q", [0])))
        for value in column[len(sums) - 1 :]:
            known = not math.isnan(value)
            sums.append(sums[-1] + (value if known else 0.0))
            counts.append(counts[-1] + known)
        start = max(0, len(column) - count)
        number = counts[-1] - counts[start]
        return number, (sums[-1] - sums[start]) / number if number else math.nan

    def ends(self, name: str) -> Ends | None:
        """Return where the first, newest, least and largest values stand, if there is one."""
        return self._ends.get(name)

    def point(self, name: str, index: int) -> tuple[int, float]:
        """Return (step, value) of one line."""
        return self.steps[index], self.columns[name][index]

    def newest(self, name: str) -> float | None:
        """Return the newest value, if there is one."""
        ends = self.ends(name)
        return self.columns[name][ends.newest] if ends is not None else None

    def points(self, name: str) -> list[tuple[int, float]]:
        """Return (step, value) of every line that has the figure."""
        return [(s, v) for s, v in self.recorded(name) if not math.isnan(v)]

    def recorded(self, name: str) -> list[tuple[int, float]]:
        """Return (step, value) of every line that has the figure, also where it was written as
        NaN.
        """
        if name not in self.columns:
            return []
        broken = set(self.broken.get(name, ()))
        columns = zip(self.steps, self.columns[name], strict=True)
        return [(s, v) for s, v in columns if not math.isnan(v) or s in broken]


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
        ends = self.held_out.ends(name)
        if ends is None:
            return None
        step, value = self.held_out.point(name, ends.newest)
        return value if step > 0 and step >= share * self.facts.steps else None

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
