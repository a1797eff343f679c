"""The work of `accord convert`: read a file in one format, write it in another, account for every
row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from accord.data.containers import locate
from accord.data.convert import WRITERS, to_format
from accord.data.ledger import Ledger, RowError
from accord.data.naming import Naming
from accord.data.read import Reading, reading_test, stream
from accord.data.refusals import refusal
from accord.data.unread import ColumnAccount
from accord.data.write import new_file, write_row
from accord.errors import plural
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
    # what rows held that the format has no place for, in words -> how often
    lost: Counter = field(default_factory=Counter)

    def as_dict(self) -> dict:
        return {
            "path": self.path,
            "format": self.format,
            "written": self.written,
            "found": self.found,
            "refused": dict(self.refused),
            "first_refused": self.first,
            "lost": dict(self.lost),
            "ledger": self.ledger.as_dict(),
        }

    def lines(self) -> list[str]:
        """Return the account for a person."""
        out = [
            *self.ledger.lines(),
            f"{self.path}: {plural(self.written, 'row')} of {self.format} written",
        ]
        out += [f"  not held: {count:,} × {what}" for what, count in self.lost.most_common()]
        if self.refused:
            out.append(
                f"  {plural(sum(self.refused.values()), 'example cannot', 'examples cannot')} be"
                f" held by {self.format} and"
                f" were left out; the first: {self.first}"
            )
        return out


def convert_file(
    data: str | Path,
    output: str | Path,
    to: str,
    *,
    format: str = "auto",
    columns: dict[str, str] | str | None = None,
    ignore_columns: Sequence[str] | str | None = None,
    naming: Naming | None = None,
) -> Converted:
    """Convert a file to another format.

    Args:
      to: a key of `WRITERS`.
      format, columns, ignore_columns, naming: how to read, as in `read`.

    Raises:
      UsageError: no such format; the output exists.
      DataError: the file cannot be read, its messages hold content that nothing reads, or no row
        of it can be written.
    """
    if to not in WRITERS:
        raise UsageError(f"no format to write is called {to!r}. Known: {', '.join(WRITERS)}.")
    with locate(data) as source, new_file(output) as file:
        named = naming or Naming.of(columns, ignore_columns)
        examples = stream(source, format=format, naming=named)
        out = Converted(str(output), to, examples.ledger, {})
        for example in examples:
            try:
                lost: Counter = Counter()
                rows = list(to_format([example], to, lost))
            except DataError as error:
                out.refused[_reason(error)] += 1
                out.first = out.first or str(error)
                continue
            out.lost += lost
            for row in rows:
                write_row(file, row)
            out.written += len(rows)
        out.found = dict(examples.formats)
        _account_keys(out, examples.columns, source.name, Reading(format=format, naming=named))
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


def _account_keys(out: Converted, columns: ColumnAccount, file: str, reading: Reading) -> None:
    """Name the keys of messages that are not read: messages are written anew, without them.

    Raises:
      DataError: such a key holds content.
    """
    if columns.content_keys:
        raise DataError(refusal(columns, file, reading_test(reading)))
    keys = columns.keys_as_dict()
    for name in [*keys["metadata"], *keys["unread"]]:
        out.lost[f"message key {name!r}: messages are written anew"] += columns.key_rows(name)


def _reason(error: DataError) -> str:
    return error.__cause__.reason if isinstance(error.__cause__, RowError) else "other"
