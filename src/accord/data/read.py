"""Read a preference file into examples, with the account of every row and of every column.

container ──▶ rows ──▶ the format of each row ──▶ example ──▶ the kind that was asked for
              │              └────────── columns: read, known, named, or refused (unread.py)
              └────────────────── ledger: used, or rejected with a reason ─────────────────┘
"""

from __future__ import annotations

import contextlib
import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

from accord.data.containers import MAX_ROW_BYTES, Source, locate
from accord.data.formats import FORMATS, Format, Pairing, as_kind, named, recognise
from accord.data.formats.guesses import guess, guess_label, readable
from accord.data.formats.parts import Row
from accord.data.formats.ranked import ANSWERS
from accord.data.formats.whole_file import Conventions
from accord.data.hints import hint
from accord.data.json_rows import Numbered, kind_of
from accord.data.ledger import Ledger, RowError
from accord.data.metadata import Metadata, classify
from accord.data.naming import PLAIN, Naming, rename_columns
from accord.data.refusals import refusal
from accord.data.unread import ColumnAccount
from accord.types import ROW_KINDS, DataError, Example, Origin, UsageError

__all__ = ["Dataset", "Reading", "Stream", "read", "rename_columns", "stream", "understand"]


@dataclass(frozen=True)
class Dataset:
    """The examples of a file, and how they were read."""

    examples: Sequence[Example]
    ledger: Ledger
    formats: Counter  # name of a format -> rows that were found to be of it and could be used
    # the kind of most rows of the file, a key of ROW_KINDS; the examples are of the kind asked for
    kind: str
    digest: str  # sha256 of the file's bytes
    path: str
    files: tuple[str, ...] = ()  # the paths, where several files were joined

    def __len__(self) -> int:
        return len(self.examples)

    @classmethod
    def of(cls, found: Stream, examples: Sequence[Example], digest: str) -> Dataset:
        """Return the examples of a source that was read to its end."""
        kind = found.kinds.most_common(1)[0][0] if found.kinds else ""
        return cls(examples, found.ledger, found.formats, kind, digest, found.source.name)


# after so many unusable rows at the start, the rest is not read: the file holds no preferences
USELESS = 100_000
# reasons for which the columns' names may be at fault
MISNAMED = frozenset({"unknown format", "ambiguous prompt", "not a comparison"})
GUESSED = "columns guessed by their names"  # the note on such rows begins with it
RANKED = "ranked"  # the format whose rows hold lists
SIDES = frozenset({"prompt", "chosen", "rejected", "completion", "label"})
KNOWN_SETS = 256  # sets of columns whose hint is remembered


@dataclass(frozen=True)
class Reading:
    """The options of a reading."""

    rows: str | None = None  # None: each row as the kind that it has
    format: str = "auto"
    naming: Naming = PLAIN
    pairing: Pairing = field(default_factory=Pairing)
    attempt: bool = False  # to find a hint: what fails in it needs none of its own

    @cached_property
    def formats(self) -> tuple[Format, ...]:
        return named(self.format)


def read(
    path: str | Path,
    rows: str = "pairs",
    *,
    format: str = "auto",
    columns: Mapping[str, str] | str | None = None,
    ignore_columns: tuple[str, ...] | list[str] | str | None = None,
    naming: Naming | None = None,
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
      columns: {name expected: name in the file}, to read a column under another name; or the same
        as text, "prompt=question,chosen=good".
      ignore_columns: columns and keys of messages that hold no content and are not read.
      naming: the last two in one, in their place; lenient, where they were given for another file.
      pairing, margin: which pairs a ranked list gives, see `formats.Pairing`.
      max_row_bytes: a larger row is rejected.
      max_rows: stop after so many rows of the file.

    Raises:
      DataError: the file is missing, damaged or empty, none of its rows can be used as `rows`, or
        it holds content that nothing reads.
      UsageError: an option has a value that does not exist.
    """
    if rows not in ROW_KINDS:
        raise UsageError(f"rows is {rows!r}; known: {', '.join(ROW_KINDS)}.")
    if max_row_bytes < 1 or (max_rows is not None and max_rows < 1):
        raise UsageError(
            f"max_row_bytes ({max_row_bytes}) and max_rows ({max_rows}) must be at least 1."
        )
    naming = naming or Naming.of(columns, ignore_columns)
    reading = Reading(rows, format, naming, Pairing(pairing, margin))
    _ = reading.formats  # an unknown format is refused before the file is opened
    with locate(path) as source:
        found = Stream(source, islice(source.rows(max_row_bytes), max_rows), reading)
        examples = list(found)
        dataset = Dataset.of(found, examples, source.digest())
    require_fit(dataset, found, reading)
    return dataset


class Stream:
    """The examples of a source, one after the other; ledger, formats, kinds and the account of the
    columns fill while they are read.

    Nothing else is kept, so that a file of millions of rows takes no more memory than one row.
    """

    def __init__(self, source: Source, numbered: Iterator[Numbered], reading: Reading) -> None:
        self.source, self.reading, self._numbered = source, reading, numbered
        self.columns = ColumnAccount(reading.naming)
        # name of a format -> rows that were found to be of it and could be used
        self.formats: Counter = Counter()
        self.ledger = Ledger(source.name, formats=self.formats, columns=self.columns)
        self.kinds: Counter = Counter()  # key of ROW_KINDS -> rows
        self._seen: set[str] = set()
        self._conventions = Conventions()

    def __iter__(self) -> Iterator[Example]:
        for line, value in self._numbered:
            try:
                columns = _columns(value, self.reading.naming)
                self._seen |= columns.keys()
                if self.reading.naming.ignored:
                    self._seen |= self.reading.naming.keys_in(columns)
                found = understand(columns, Origin(self.source.name, line), self.reading)
            except RowError as error:
                self.ledger.reject(line, error, value)
                if not self.ledger.used and self.ledger.rows == USELESS:
                    break
                continue
            self.ledger.use(len(found.examples), found.notes)
            self._conventions.add(found.row, found.format.kind, found.notes)
            self.formats[found.format.name] += 1
            self.kinds[found.format.kind] += 1
            self.columns.add(columns, found.row, found.whole, line, found.names)
            yield from found.examples
        self.ledger.notes.update(dict.fromkeys(self.source.notes, self.ledger.rows))
        require_columns(self.columns, self._seen, self.source.name)
        if self.reading.formats is FORMATS:
            most = self.formats.most_common(1)
            self._conventions.refuse_ambiguous(self.source.name, most[0][0] if most else "auto")


def stream(
    source: Source,
    rows: str | None = None,
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    naming: Naming | None = None,
) -> Stream:
    """Stream the examples of a located source. Content that nothing reads is accounted for in
    `Stream.columns` and not refused.

    Args:
      rows: a key of ROW_KINDS; None leaves each row the kind that it has.
      format, columns: as in `read`.
      naming: the columns and those to ignore, in place of `columns`.
    """
    naming = naming or Naming.of(columns)
    reading = Reading(rows, naming.format if format == "auto" else format, naming)
    _ = reading.formats
    return Stream(source, source.rows(MAX_ROW_BYTES), reading)


def require_rows(path: str | Path, rows: str, naming: Naming = PLAIN) -> None:
    """Check that a file has a row that can be used as `rows`; a good one is read up to its first.

    Raises:
      DataError: as `read`.
    """
    with locate(path) as source:
        if any(True for _ in stream(source, rows, naming=naming)):
            return
    read(path, rows, format=naming.format, naming=naming)


def reread(source: Source, lines: Set[int], naming: Naming = PLAIN) -> Iterator[Example]:
    """Yield the examples of some lines again, in order; nothing is accounted for, and the other
    rows are not understood.
    """
    reading, last = Reading(None, naming.format, naming), max(lines, default=0)
    for line, value in source.rows(MAX_ROW_BYTES):
        if line > last:
            return
        if line in lines:
            with contextlib.suppress(RowError):
                yield from understand(
                    _columns(value, naming), Origin(source.name, line), reading
                ).examples


@dataclass(frozen=True)
class Understood:
    """One row, as its format read it."""

    format: Format
    row: Row
    whole: list[Example]  # all that the format made of it
    examples: list[Example]  # of the kind asked for
    notes: list[str]
    names: Mapping[str, str]  # the names that its columns were read under


def understand(columns: dict, origin: Origin, reading: Reading) -> Understood:
    """Read one row: by its own names or the caller's; where no format knows them, by the only
    guess that is possible.

    Raises:
      RowError: the row cannot be used; says how its columns may be named.
    """
    plain = reading.naming.apply(columns)
    names = reading.naming.applied(columns)
    try:
        found = _read_row(plain, origin, reading, names)
        if found.format.kind != "demonstrations" or reading.formats is not FORMATS:
            return found
        guessed = guess_label(plain)
        if not guessed:
            return found
    except RowError as error:
        guessed = _guess_after(error, columns, plain, origin, reading)
    said = ", ".join(f"{name}={column}" for name, column in guessed.items())
    renamed = rename_columns(plain, guessed)
    own = {**names, **{name: names.get(column, column) for name, column in guessed.items()}}
    found = _read_row(renamed, origin, reading, own)
    return replace(found, notes=[*found.notes, f"{GUESSED}: read as {said}"])


def _guess_after(
    error: RowError, columns: dict, plain: dict, origin: Origin, reading: Reading
) -> dict[str, str]:
    """Return the only guess that is possible of a row that was not read, or raise its error."""
    if error.reason == "no label" and (label := guess_label(plain)):
        return label
    if error.reason == "no label" and reading.naming != PLAIN:
        raise error if reading.attempt else _with_hint(error, columns, origin, reading) from None
    if error.reason not in MISNAMED:
        raise error
    test = readable(lambda row: _read_row(row, origin, reading, {}), plain, rename_columns)
    guessed = guess(plain, test)
    if not guessed:
        raise error if reading.attempt else _with_hint(error, columns, origin, reading) from None
    return guessed


def _read_row(
    plain: dict, origin: Origin, reading: Reading, names: Mapping[str, str]
) -> Understood:
    found, row = recognise(plain, reading.formats, reading.pairing)
    made = found.examples(row, origin, plain)
    if found.name == RANKED and len(made) < combinations_of(row):
        row.notes.append(f"ranked list: {reading.pairing.policy} pairs are made of it, no others")
    wanted = (
        made
        if reading.rows is None
        else [one for each in made for one in as_kind(each, reading.rows)]
    )
    return Understood(found, row, made, wanted, list(dict.fromkeys(row.notes)), names)


def combinations_of(row: Row) -> int:
    """Count the pairs that a list of answers holds."""
    answers = dict.get(row, row.name(ANSWERS))
    count = len(answers) if isinstance(answers, list) else 0
    return count * (count - 1) // 2


_hints: dict[tuple, str] = {}


def _with_hint(error: RowError, columns: dict, origin: Origin, reading: Reading) -> RowError:
    """Add what may mend the row to its error, as a command that works with this file."""
    naming = replace(reading.naming, format=reading.format)
    shape = tuple((str(name), type(value).__name__) for name, value in columns.items())[:64]
    key = (origin.file, error.reason, reading.rows, naming.options(), shape)
    if key not in _hints:
        if len(_hints) >= KNOWN_SETS:
            _hints.clear()

        def reads(row: dict, other: Naming, guesses: bool) -> str | None:
            tried = replace(reading, naming=other, format=other.format, attempt=True)
            try:
                if guesses:
                    return understand(row, origin, tried).format.name
                return _read_row(other.apply(row), origin, tried, {}).format.name
            except RowError:
                return None

        unknown = error.reason == "unknown format"
        _hints[key] = hint(columns, origin.file, naming, reads, unknown)
    found = _hints[key]
    return RowError(error.reason, error.says, error.source, found) if found else error


def reading_test(reading: Reading):
    """Return a test of whether a row can be read under another naming: the columns read, or
    None.
    """

    def attempt(columns: dict, naming: Naming) -> set[str] | None:
        try:
            found = understand(columns, Origin("", 0), replace(reading, naming=naming))
        except RowError:
            return None
        return set(found.row.read)

    return attempt


def _columns(value: object, naming: Naming) -> dict:
    if isinstance(value, RowError):
        raise value
    if not isinstance(value, dict):
        raise RowError(
            "not an object",
            f"the row is {kind_of(value)}; an object with named columns is expected.",
        )
    return naming.spread(value)


def require_columns(account: ColumnAccount, seen: set[str], file: str) -> None:
    """Require that every column that the caller names is in the file, and does something.

    Raises:
      DataError: one is not, or is read under a name that no format reads.
    """
    naming = account.naming
    if naming.lenient or not seen:
        return
    known = f"It has: {', '.join(sorted(name[:40] for name in seen)[:40])}."
    turned = {
        n: c
        for n, c in naming.names.items()
        if c in SIDES and n not in SIDES and c not in seen and n in seen
    }
    if turned:
        names = {c: n for n, c in turned.items()}
        names |= {n: c for n, c in naming.names.items() if n not in turned}
        raise DataError(
            f"{file}: no row has a column {next(iter(names))!r}. NAME=COLUMN has accord's name in"
            f" front and the file's behind. Did you mean {naming.options(names, alone=True)}?"
            f" {known}"
        )
    for expected, found in naming.names.items():
        if found not in seen:
            close = difflib.get_close_matches(found, sorted(seen)[:1000], n=1)
            hint = f" Did you mean {expected}={close[0]}?" if close else ""
            raise DataError(
                f"{file}: no row has a column {found!r}, which --columns {expected}={found}"
                f" names.{hint} {known}"
            )
        read = found in account.used or account.prompts_only or not account.rows
        if not read and not isinstance(classify(expected), Metadata):
            known_names = sorted({one for each in named("auto") for one in each.column_names})
            close = difflib.get_close_matches(expected, known_names, n=1)
            hint = f"; did you mean {close[0]}={found}?" if close else "."
            raise DataError(
                f"{file}: --columns {expected}={found} does nothing: no format that reads these"
                f" rows takes a column {expected!r}{hint} {known}"
            )
    for name in naming.ignored:
        if name not in seen:
            raise DataError(
                f"{file}: no row has a column or a message key {name!r}, which --ignore-columns"
                f" names, so that it does nothing. Leave it out. {known}"
            )


def require_fit(dataset: Dataset, found: Stream, reading: Reading) -> None:
    """Require that a file that was read to its end has usable rows, and no content that nothing
    reads.

    Raises:
      DataError: the commonest reasons and where they stand, or the columns.
    """
    _refuse_useless(dataset, reading.rows or "pairs")
    if unread := refusal(found.columns, dataset.path, reading_test(reading)):
        raise DataError(unread)


def _refuse_useless(dataset: Dataset, rows: str) -> None:
    """Refuse a file without a usable row; name the commonest reasons and where they stand."""
    ledger = dataset.ledger
    if ledger.used:
        return
    if not ledger.rows:
        raise DataError(f"{ledger.file}: there are no rows in it.")
    first = "first " if ledger.rows == USELESS else ""
    lines = [f"{ledger.file}: none of its {first}{ledger.rows:,} rows can be used as {rows}."]
    lines += ledger.commonest()
    raise DataError("\n".join(lines))
