"""Read a preference file into examples, with the account of every row.

container ──▶ rows ──▶ the format of each row ──▶ example ──▶ the kind that was asked for
              └────────────────── ledger: used, or rejected with a reason ─────────────────┘
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from accord.data.containers import MAX_ROW_BYTES, Source, locate
from accord.data.formats import Format, Pairing, as_kind, named, recognise
from accord.data.json_rows import Numbered, kind_of
from accord.data.ledger import Ledger, RowError
from accord.types import ROW_KINDS, DataError, Example, Origin, UsageError


@dataclass(frozen=True)
class Dataset:
    """The examples of a file, and how they were read."""

    examples: list[Example]
    ledger: Ledger
    formats: Counter  # name of a format -> rows that were found to be of it and could be used
    # the kind of most rows of the file, a key of ROW_KINDS; the examples are of the kind asked for
    kind: str
    digest: str  # sha256 of the file's bytes
    path: str

    def __len__(self) -> int:
        return len(self.examples)


# after so many unusable rows at the start, the rest is not read: the file holds no preferences
USELESS = 100_000


@dataclass(frozen=True)
class _Reading:
    """The options of a reading."""

    rows: str | None  # None: each row as the kind that it has
    formats: tuple[Format, ...]
    columns: Mapping[str, str]
    pairing: Pairing


def read(
    path: str | Path,
    rows: str = "pairs",
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    pairing: str = "best-worst",
    margin: float = 0.0,
    max_row_bytes: int = MAX_ROW_BYTES,
    max_rows: int | None = None,
) -> Dataset:
    """Read a file or a folder of preferences as rows of one kind.

    Args:
      path: a file, a folder of files that are one data set, a pattern ("data/train-*.jsonl"), or
        "-" for standard input; `containers.KINDS` lists what is read.
      rows: "pairs", "labelled" or "demonstrations". A pair serves as two labels; labels never as
        pairs.
      format: the name of the only format to accept; "auto" finds each row's own.
      columns: {name expected: name in the file}, to read a column under another name.
      pairing, margin: which pairs a ranked list gives, see `formats.Pairing`.
      max_row_bytes: a larger row is rejected.
      max_rows: stop after so many rows of the file.

    Raises:
      DataError: the file is missing, damaged or empty, or none of its rows can be used as `rows`.
      UsageError: an option has a value that does not exist.
    """
    if rows not in ROW_KINDS:
        raise UsageError(f"rows is {rows!r}; known: {', '.join(ROW_KINDS)}.")
    if max_row_bytes < 1 or (max_rows is not None and max_rows < 1):
        raise UsageError(
            f"max_row_bytes ({max_row_bytes}) and max_rows ({max_rows}) must be at least 1."
        )
    reading = _Reading(rows, named(format), columns or {}, Pairing(pairing, margin))
    with locate(path) as source:
        dataset = _gather(source, islice(source.rows(max_row_bytes), max_rows), reading)
    _refuse_useless(dataset, rows)
    return dataset


class Stream:
    """The examples of a source, one after the other; ledger, formats and kinds fill while they are
    read.

    Nothing else is kept, so that a file of millions of rows takes no more memory than one row.
    """

    def __init__(self, source: Source, numbered: Iterator[Numbered], reading: _Reading) -> None:
        self.source, self.reading, self._numbered = source, reading, numbered
        self.ledger = Ledger(source.name)
        # name of a format -> rows that were found to be of it and could be used
        self.formats: Counter = Counter()
        self.kinds: Counter = Counter()  # key of ROW_KINDS -> rows
        self._seen: set[str] = set()

    def __iter__(self) -> Iterator[Example]:
        for line, value in self._numbered:
            try:
                columns = _columns(value)
                self._seen |= columns.keys()
                found, made, notes = _understood(
                    columns, Origin(self.source.name, line), self.reading
                )
            except RowError as error:
                self.ledger.reject(line, error, value)
                if not self.ledger.used and self.ledger.rows == USELESS:
                    break
                continue
            self.ledger.use(len(made), notes)
            self.formats[found.name] += 1
            self.kinds[found.kind] += 1
            yield from made
        self.ledger.notes.update(dict.fromkeys(self.source.notes, self.ledger.rows))
        _refuse_unknown_columns(self.reading.columns, self._seen, self.source.name)


def stream(
    source: Source,
    rows: str | None = None,
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
) -> Stream:
    """Stream the examples of a located source.

    Args:
      rows: a key of ROW_KINDS; None leaves each row the kind that it has.
      format, columns: as in `read`.
    """
    return Stream(
        source, source.rows(MAX_ROW_BYTES), _Reading(rows, named(format), columns or {}, Pairing())
    )


def _gather(source: Source, numbered: Iterator[Numbered], reading: _Reading) -> Dataset:
    """Read all rows; each is used or in the ledger."""
    found = Stream(source, numbered, reading)
    examples = list(found)
    kind = found.kinds.most_common(1)[0][0] if found.kinds else ""
    return Dataset(examples, found.ledger, found.formats, kind, source.digest(), source.name)


def _columns(value: object) -> dict:
    if isinstance(value, RowError):
        raise value
    if not isinstance(value, dict):
        raise RowError(
            "not an object",
            f"the row is {kind_of(value)}; an object with named columns is expected.",
        )
    return value


def _understood(
    columns: dict, origin: Origin, reading: _Reading
) -> tuple[Format, list[Example], list[str]]:
    """Return the row's format, its examples of the kind asked for, and the notes on it."""
    columns = rename_columns(columns, reading.columns)
    found, row = recognise(columns, reading.formats, reading.pairing)
    made = found.examples(row, origin, columns)
    wanted = (
        made
        if reading.rows is None
        else [one for each in made for one in as_kind(each, reading.rows)]
    )
    return found, wanted, list(dict.fromkeys(row.notes))


def rename_columns(columns: dict, names: Mapping[str, str]) -> dict:
    """Return the row with columns under the expected names. A column renamed by hand takes
    precedence over one that has the name already.
    """
    given = {expected: columns[found] for expected, found in names.items() if found in columns}
    return {name: value for name, value in columns.items() if name not in names.values()} | given


def _refuse_unknown_columns(names: Mapping[str, str], seen: set[str], file: str) -> None:
    unknown = [found for found in names.values() if found not in seen]
    if unknown and seen:
        known = ", ".join(sorted(name[:40] for name in seen)[:40])
        raise DataError(
            f"{file}: no row has a column {unknown[0]!r}, which columns={{…}} names. It has:"
            f" {known}."
        )


def _refuse_useless(dataset: Dataset, rows: str) -> None:
    """Refuse a file without a usable row; name the commonest reasons and where they stand."""
    ledger = dataset.ledger
    if ledger.used:
        return
    if not ledger.rows:
        raise DataError(f"{ledger.file}: there are no rows in it.")
    first = "first " if ledger.rows == USELESS else ""
    lines = [f"{ledger.file}: none of its {first}{ledger.rows:,} rows can be used as {rows}."]
    for reason, count in ledger.reasons.most_common(3):
        lines.append(f"  {count:,} × {reason}: {ledger.first_places(reason)}")
    raise DataError("\n".join(lines))
