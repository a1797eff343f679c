"""Conventions that the rows of a file share, which no row of it tells alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from accord.data.formats.single import LABEL
from accord.data.formats.structured import LISTED, QUOTED
from accord.types import DataError

# Real answers stand in quotation marks in 0.2 % of rows (TruthfulQA), and both of a pair in 0.02 %.
# A writer that encoded every text does it in all.
MOST = 0.9
ENOUGH = 8  # rows


@dataclass
class Conventions:
    """Counts of what the rows of a file have in common, kept while they are read."""

    rows: int = 0
    quoted: int = 0
    listed: int = 0
    labels: set[float] = field(default_factory=set)

    def add(self, columns: dict, kind: str, notes: Sequence[str]) -> None:
        """Count one row."""
        self.rows += 1
        self.quoted += QUOTED in notes
        self.listed += LISTED in notes
        if kind == "labelled":
            for name in LABEL.split("|"):
                if (found := _number(dict.get(columns, name))) in (-1, 0):
                    self.labels.add(found)

    def refuse_ambiguous(self, file: str, format: str) -> None:
        """Refuse a file whose rows together can be read in two ways.

        Args:
          format: the format of most rows; to insist on it takes the answers as they stand.

        Raises:
          DataError: nearly all answers stand in quotation marks; or labels are -1 and 0 alike.
        """
        if self.rows >= ENOUGH and self.quoted > MOST * self.rows:
            raise DataError(
                f"{file}: in {self.quoted:,} of {self.rows:,} rows the answers stand in quotation"
                " marks, as JSON writes text; the quotation marks would be trained on. Write the"
                f" answers as plain text, or take them as they stand: --format {format}"
                f" (accord train: --set data.format={format})."
            )
        if self.rows >= ENOUGH and self.listed > MOST * self.rows:
            raise DataError(
                f"{file}: in {self.listed:,} of {self.rows:,} rows the prompt is a list of texts in"
                " brackets and quotation marks, as JSON or Python writes it, which the model would"
                " read. Write one text, or messages with roles; or take the prompts as they stand:"
                f" --format {format} (accord train: --set data.format={format})."
            )
        if {-1, 0} <= self.labels:
            raise DataError(
                f"{file}: labels are -1 in some rows and 0 in others; either may mean undesirable,"
                " and the other unlabelled. Write true or false, and leave out what has no label."
            )


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, (int, float, str)) else None
    except (ValueError, OverflowError):
        return None
