"""The account of a file: every row was used, or is listed with the reason why not.

    rows == used + len(rejected)        always, whatever the file holds

A row is one line of a JSONL file, one element of an array, one record of a table. What a row became
(a pair that serves as two labels, a ranking that gives three pairs) is counted apart, in
`examples`.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from accord.errors import plural, printable, shorten
from accord.types import DataError, FileLine, Origin

if TYPE_CHECKING:  # the account reads rows as formats do, which raise this file's RowError
    from accord.data.store.records import RecordedColumns
    from accord.data.unread import ColumnAccount

EXCERPT = 120  # characters: enough to recognise a row, few enough for a terminal

# Rows without a fault that the caller's own choice leaves out. They count as rejected, so that the
# account balances, but not in `rejected_share`: nothing is wrong with a file because its raters
# found a tie.
LEFT_OUT = frozenset({"undesirable", "tie"})


class RowError(Exception):
    """The error of one row that cannot be used. Internal: `read` turns it into a line of the
    ledger.

    Args:
      reason: a few words that are the same for every such row; the ledger counts by it.
      says: what was found in this row and what was expected, for a person.
      source: the row as it stood in the file, where it could not be parsed.
      hint: a command that may mend every such row; it is shown once, on a line of its own.
    """

    def __init__(self, reason: str, says: str, source: object = None, hint: str = "") -> None:
        super().__init__(f"{reason}: {says}")
        self.reason, self.says, self.source, self.hint = reason, says, source, hint


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that was not used."""

    origin: Origin
    reason: str
    says: str
    excerpt: str

    def as_dict(self) -> dict:
        return {
            **self.origin.as_dict(),
            "reason": self.reason,
            "says": self.says,
            "excerpt": self.excerpt,
        }


@dataclass
class Ledger:
    """The account: rows in, rows used, rows rejected by reason, and notes on rows that were
    used.
    """

    file: str
    rows: int = 0
    used: int = 0
    examples: int = 0
    rejected: list[Rejection] = field(default_factory=list)
    notes: Counter = field(default_factory=Counter)
    formats: Counter = field(default_factory=Counter)  # name of a format -> rows read by it
    columns: ColumnAccount | RecordedColumns | None = None
    hints: dict[str, str] = field(default_factory=dict)  # reason -> what may mend such rows

    def use(self, examples: int, notes: list[str]) -> None:
        """Count one row that gave `examples` examples."""
        self.rows += 1
        self.used += 1
        self.examples += examples
        self.notes.update(notes)

    def reject(self, line: int, error: RowError, row: object = None) -> None:
        """Count one row that was not used, and keep its place and reason."""
        self.rows += 1
        source = row if error.source is None else error.source
        if error.hint:
            self.hints.setdefault(error.reason, printable(error.hint))
        self.rejected.append(
            Rejection(Origin(self.file, line), error.reason, printable(error.says), excerpt(source))
        )

    @property
    def reasons(self) -> Counter:
        """Count the rejected rows by reason."""
        return Counter(rejection.reason for rejection in self.rejected)

    @property
    def rejected_share(self) -> float:
        """Return the share of rows that have a fault, from 0 to 1; rows left out by choice
        (`LEFT_OUT`) have none.

        The caller decides which share is too large: `read` itself refuses only a file without
        usable rows.
        """
        faulty = sum(count for reason, count in self.reasons.items() if reason not in LEFT_OUT)
        return faulty / self.rows if self.rows else 0.0

    def places(self, reason: str, most: int = 3) -> list[Rejection]:
        """Return the first rows rejected for this reason."""
        return [rejection for rejection in self.rejected if rejection.reason == reason][:most]

    def lines(self) -> list[str]:
        """Return the account for a person: totals, then each reason with its first places, then the
        notes.
        """
        share = f" ({len(self.rejected) / self.rows:.2%})" if self.rejected else ""
        lines = [
            f"{self.file}: {plural(self.rows, 'row')} = {self.used:,} used + {len(self.rejected):,}"
            f" rejected{share}"
        ]
        if self.examples != self.used:
            lines.append(f"  the {self.used:,} used rows give {plural(self.examples, 'example')}")
        for reason, count in self.reasons.most_common():
            lines.append(f"  {count:>7,}  {reason}: {self.first_places(reason)}")
            lines += [f"           {self.hints[reason]}"] if reason in self.hints else []
        lines += [f"  {count:>7,}  note: {name}" for name, count in self.notes.most_common()]
        return lines + self.reading_lines()

    def reading_lines(self) -> list[str]:
        """Return how the file was read, for a person: its formats, and what became of the
        columns.
        """
        read_as = ", ".join(f"{count:,} {name}" for name, count in self.formats.most_common())
        lines = [f"  read as {read_as}"] if read_as else []
        return lines + (self.columns.lines() if self.columns is not None else [])

    def commonest(self, most: int = 3) -> list[str]:
        """Return the commonest reasons for an error's message, each with what may mend it."""
        lines = []
        for reason, count in self.reasons.most_common(most):
            lines.append(f"  {count:,} × {reason}: {self.first_places(reason)}")
            lines += [f"    {self.hints[reason]}"] if reason in self.hints else []
        return lines

    def first_places(self, reason: str) -> str:
        """Return what was found in the first row with this reason, and the lines of the first
        three.
        """
        first = self.places(reason)
        more = ", …" if self.reasons[reason] > len(first) else ""
        if isinstance(first[0].origin.line, FileLine):
            return f"{first[0].says} ({', '.join(str(place.origin) for place in first)}{more})"
        return (
            f"{first[0].says} (line {', '.join(f'{place.origin.line:,}' for place in first)}{more})"
        )

    def as_dict(self) -> dict:
        """Return the account for a run's records; JSON-serialisable."""
        columns = self.columns
        return {
            "file": self.file,
            "columns": columns.as_dict() if columns is not None else {},
            "message_keys": columns.keys_as_dict() if columns is not None else {},
            "rows": self.rows,
            "used": self.used,
            "examples": self.examples,
            "rejected": len(self.rejected),
            "rejected_share": self.rejected_share,
            "reasons": dict(self.reasons.most_common()),
            "notes": dict(self.notes.most_common()),
            "first": {
                reason: [place.as_dict() for place in self.places(reason)]
                for reason in self.reasons
            },
        }

    def write(self, path: str | Path) -> None:
        """Write the rejected rows to a JSONL file: file, line, reason, what was found, excerpt."""
        lines = (
            json.dumps(rejection.as_dict(), ensure_ascii=False) + "\n"
            for rejection in self.rejected
        )
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(lines)
        except OSError as error:
            raise DataError(
                f"{path}: the list of rejected rows cannot be written: {error.strerror}."
            ) from error


def excerpt(source: object) -> str:
    """Return the beginning of a row, safe to print."""
    if isinstance(source, bytes):
        source = source[: 4 * EXCERPT].decode("utf-8", "backslashreplace")
    elif not isinstance(source, str):
        source = _as_json(source)
    return source[:EXCERPT] and shorten(printable(source[: EXCERPT + 1]), EXCERPT)


def _as_json(source: object) -> str:
    try:
        return json.dumps(source, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):  # nested deeper than the writer can follow
        return f"<{type(source).__name__}>"
