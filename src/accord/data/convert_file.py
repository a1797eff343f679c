"""The work of `accord convert`: read a file in one format, write it in another, account for every
row.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from accord.data.containers import locate
from accord.data.convert import WRITERS, to_format
from accord.data.ledger import Ledger, RowError
from accord.data.read import stream
from accord.data.write import new_file, write_row
from accord.types import DataError, UsageError


@dataclass
class Converted:
    """The account of a conversion: rows read, rows written."""

    path: str
    format: str
    ledger: Ledger
    found: dict[str, int]  # format -> rows that were of it
    written: int = 0
    # reason -> examples that the format cannot hold
    refused: Counter = field(default_factory=Counter)
    first: str = ""  # the first of them, in words

    def as_dict(self) -> dict:
        return {
            "path": self.path,
            "format": self.format,
            "written": self.written,
            "found": self.found,
            "refused": dict(self.refused),
            "first_refused": self.first,
            "ledger": self.ledger.as_dict(),
        }

    def lines(self) -> list[str]:
        """Return the account for a person."""
        found = ", ".join(f"{count:,} {name}" for name, count in self.found.items())
        out = [
            *self.ledger.lines(),
            f"read as {found}",
            f"{self.path}: {self.written:,} rows of {self.format} written",
        ]
        if self.refused:
            out.append(
                f"  {sum(self.refused.values()):,} examples cannot be held by {self.format} and"
                f" were left out; the first: {self.first}"
            )
        return out


def convert_file(
    data: str | Path,
    output: str | Path,
    to: str,
    *,
    format: str = "auto",
    columns: dict[str, str] | None = None,
) -> Converted:
    """Convert a file to another format.

    Args:
      to: a key of `WRITERS`.
      format, columns: how to read, as in `read`.

    Raises:
      UsageError: no such format; the output exists.
      DataError: the file cannot be read, or no row of it can be written.
    """
    if to not in WRITERS:
        raise UsageError(f"no format to write is called {to!r}. Known: {', '.join(WRITERS)}.")
    with locate(data) as source, new_file(output) as file:
        examples = stream(source, format=format, columns=columns)
        out = Converted(str(output), to, examples.ledger, {})
        for example in examples:
            try:
                rows = list(to_format([example], to))
            except DataError as error:
                out.refused[_reason(error)] += 1
                out.first = out.first or str(error)
                continue
            for row in rows:
                write_row(file, row)
            out.written += len(rows)
        out.found = dict(examples.formats)
        if not out.written:
            raise DataError(
                "\n".join(
                    [
                        f"{source.name}: no row can be written as {to}.",
                        *examples.ledger.lines()[:5],
                        out.first,
                    ]
                ).rstrip()
            )
    return out


def _reason(error: DataError) -> str:
    return error.__cause__.reason if isinstance(error.__cause__, RowError) else "other"
