"""Tables of every row, kept while a file is read once, beside the arrays of `scan.py`: one table a
kind of fault. A table knows rows by their numbers, in the order in which they are added, and takes
few bytes a row: a million rows must stay under 2.5 GB.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from accord.auditing.tables.ids import IdTable
from accord.auditing.tables.marks import MarkTable
from accord.auditing.tables.numbers import NumberTable
from accord.auditing.tables.wrecks import Look, WreckTable
from accord.data.foreign_marks import Hit
from accord.types import Example


@dataclass
class Tables:
    """All tables of a file."""

    marks: MarkTable = field(default_factory=MarkTable)
    wrecks: WreckTable = field(default_factory=WreckTable)
    numbers: NumberTable = field(default_factory=NumberTable)
    ids: IdTable = field(default_factory=IdTable)

    def add(self, example: Example, looks: list[Look], hits: list[Hit]) -> None:
        """Add one row to every table, with what was found in its texts."""
        self.marks.add(example, hits)
        self.wrecks.add(looks)
        self.numbers.add(example)
        self.ids.add(example)
