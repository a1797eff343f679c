"""Numbers beside the texts: every numeric column of every row."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from accord.auditing.columns import figure, is_name
from accord.types import Example

MOST = 32  # columns: four bytes a row each, so at most 128 MB of a million rows
NESTED = 16  # keys of a column that is an object: one with more is content, not numbers
# a number with the unit that judges write behind it: "85 %", "8/10", "4 stars"
WRITTEN = re.compile(r"([-+]?\d{1,15}(?:\.\d{0,15})?) ?(?:%|/ ?\d{1,4}|points?|stars?)")


@dataclass
class NumberTable:
    """The numeric columns of the rows added so far. A nested one is named `column.key`, and a list
    of two numbers gives `column[0]` and `column[1]`.
    """

    columns: dict[str, array] = field(default_factory=dict)
    rows: int = 0

    def add(self, example: Example) -> None:
        """Count one row."""
        for name, value in _numbers(example.extra):
            column = self.columns.get(name)
            if column is None:
                if len(self.columns) == MOST:
                    continue
                column = self.columns[name] = array("f")
            if len(column) <= self.rows:  # a key that stands twice in a row counts once
                column.extend([math.nan] * (self.rows - len(column)))
                column.append(value)
        self.rows += 1

    def column(self, name: str) -> np.ndarray:
        """Return the values of a column, [N] float32, NaN where a row has none."""
        out = np.full(self.rows, np.nan, np.float32)
        values = self.columns[name]
        out[: len(values)] = values
        return out


def number(value: object) -> float:
    """Read a finite number, also from a text with a usual unit; else NaN."""
    found = figure(value)
    if math.isnan(found) and isinstance(value, str) and len(value) <= 40:
        text = value.strip().replace("−", "-")
        match = WRITTEN.fullmatch(text)
        found = float(match[1]) if match else figure(text)
    return found if abs(found) < 1e38 else math.nan  # what a float32 can hold


def _numbers(extra: dict) -> Iterator[tuple[str, float]]:
    for name, value in extra.items():
        if not is_name(name):
            continue
        if isinstance(value, dict):
            if len(value) <= NESTED:
                for key, inner in value.items():
                    if is_name(key) and not math.isnan(found := number(inner)):
                        yield f"{name}.{key}", found
        elif isinstance(value, (list, tuple)):
            if len(value) == 2:
                pair = number(value[0]), number(value[1])
                if not math.isnan(sum(pair)):
                    yield f"{name}[0]", pair[0]
                    yield f"{name}[1]", pair[1]
        elif not math.isnan(found := number(value)):
            yield name, found
