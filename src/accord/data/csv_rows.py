"""Rows of CSV and TSV.

A quote at the start of a cell is either CSV's, which opens a cell that may go on over line ends, or
a character of the text. The start of the file decides which (`Dialect`). Where both readings fit
and give different rows, the file is refused: no row is ever merged from lines that stand for
themselves.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from accord.data.arrow_types import check_columns
from accord.data.json_rows import Numbered, too_large
from accord.data.ledger import RowError
from accord.errors import plural
from accord.types import DataError

ROW = 4  # times the size limit of a row: the reader gives up on a larger CSV row, and on the file
WINDOW = 1 << 20  # characters at the start of a file that decide what its quotes are
OPEN_LINES = 200  # a cell that goes on over so many lines, each a whole row, was never opened
NUMBER = re.compile(r"[-+]?[\d.,]+(e[-+]?\d+)?", re.I)
REREAD = 20_000  # lines that are read again after rows that broke off, before the file is given up

# Excel's first line, which names the delimiter.
SEPARATOR = re.compile(r'\s*"?sep=(.)"?(\1|[\s,;])*', re.I)


@dataclass(frozen=True)
class Dialect:
    """A way to read the lines of a table."""

    header: list[str]
    delimiter: str
    literal: bool = False  # quotes are characters of the text
    # a row has been seen that only CSV's rules can read, so that quotes are CSV's in this file
    proven: bool = False

    def fits(self, line: str) -> bool:
        """Tell whether a line is a whole row if its quotes are text."""
        return line.count(self.delimiter) + 1 == len(self.header)

    def are_rows(self, lines: list[str]) -> bool:
        """Tell whether the lines of one row by CSV's rules are rows themselves, all of them."""
        return all(map(self.fits, lines))

    def may_be_rows(self, lines: list[str]) -> bool:
        """Tell whether the lines can be rows with a broken one among them.

        The first line is whole where only the last cell goes on, and the last where only the first
        cell does. Both are where a quote of one row met a quote of another.
        """
        return self.fits(lines[0]) and self.fits(lines[-1])

    def opens(self, line: str) -> bool:
        """Tell whether a cell of the line begins with a quote."""
        return line.startswith('"') or self.delimiter + '"' in line

    def literal_cells(self, line: str) -> list[str]:
        return line.rstrip("\r\n").split(self.delimiter)


def csv_rows(
    stream: BinaryIO, limit: int, dump: str = "cat FILE", notes: dict[str, None] | None = None
) -> Iterator[Numbered]:
    """Yield the rows of CSV or TSV; the first line is the header.

    Args:
      dump: a shell command that prints the table, for messages.
      notes: takes what a person must know about the reading.

    Raises:
      DataError: a column named twice, a quote that is never closed (all that follows would be one
        cell), or quotes that can be CSV's or text.
    """
    lines = _Lines(
        io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline=""), limit
    )
    kept = csv.field_size_limit(limit)
    try:
        dialect = _dialect(lines, dump)
        if dialect.literal:
            if notes is not None:
                notes.setdefault("the table's quotes are read as characters of the text")
            yield from _literal_rows(lines, dialect, limit)
        else:
            yield from _quoted_rows(lines, dialect, limit, dump)
    finally:
        csv.field_size_limit(kept)


class _Lines:
    """Lines of a text for csv.reader, none longer than a row may be.

    The reader itself would take a line of any length. Lines can be put back and read again.
    """

    def __init__(self, text: io.TextIOBase, limit: int) -> None:
        self.text, self.limit = text, limit
        self.number = 0  # of the line read last
        self.row: list[str] = []  # lines of the row so far: quoted line ends make it go on
        self.size = 0  # their characters
        self.back: deque[str | RowError] = deque()
        self.reread = 0

    def begin_row(self) -> int:
        """Return the number of the line that the next row begins on, from 1."""
        self.row, self.size = [], 0
        return self.number + 1

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.back.popleft() if self.back else self._read()
        if line == "":
            raise StopIteration
        self.number += 1
        if isinstance(line, RowError):
            raise line
        self.row.append(line)
        self.size += len(line)
        if self.size > ROW * self.limit:
            raise csv.Error("field limit")  # many cells, each within it
        return line

    def _read(self) -> str | RowError:
        line = self.text.readline(self.limit + 2)  # + 2: the line's end does not count
        if len(line.rstrip("\r\n")) <= self.limit:
            return line
        rest = line
        while rest and not rest.endswith(("\n", "\r")):
            rest = self.text.readline(self.limit)
        return too_large(self.limit, line)

    def window(self) -> tuple[list[str], bool]:
        """Return the lines to come that can be read whole, up to WINDOW characters, and whether
        they are all. They are put back.
        """
        held: list[str | RowError] = []
        size = 0
        while size < WINDOW and (line := self._read()) != "":
            held.append(line)
            size += len(line) if isinstance(line, str) else 0
        self.back.extendleft(reversed(held))
        return [line for line in held if isinstance(line, str)], size < WINDOW

    def put_back(self) -> None:
        """Put back the lines of the row but its first."""
        again = self.row[1:]
        self.reread += len(again)
        if self.reread > REREAD:
            raise DataError(
                f"line {self.number:,}: too many rows break off over several lines, since quotes"
                " are opened and not closed. Write the file as JSONL."
            )
        self.back.extendleft(reversed(again))
        self.number -= len(again)
        self.row = self.row[:1]


def _quoted_rows(lines: _Lines, dialect: Dialect, limit: int, dump: str) -> Iterator[Numbered]:
    """Yield rows by CSV's rules."""
    proven, tabs = dialect.proven, dialect.delimiter == "\t"
    reader = csv.reader(lines, delimiter=dialect.delimiter, strict=True)
    while True:
        line = lines.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, _csv_error(error, line)
            lines.put_back()
            reader = csv.reader(lines, delimiter=dialect.delimiter, strict=True)
            continue
        except RowError as error:
            if lines.row:  # the row goes on in a line that is too large
                yield line, RowError("invalid CSV", "its quote is still open in a later line.")
                lines.put_back()
                lines.back.appendleft(error)
            else:
                yield line, error
            reader = csv.reader(lines, delimiter=dialect.delimiter, strict=True)
            continue
        several = len(lines.row) > 1
        if several and (tabs or not proven) and dialect.are_rows(lines.row):
            raise _ambiguous(line, lines.number, dialect, dump)
        if not proven and '"' in lines.row[0]:
            fit = dialect.may_be_rows(lines.row)
            if fit and tabs and (several or dialect.opens(lines.row[0])):
                raise _ambiguous(line, lines.number, dialect, dump)
            proven = not fit and len(cells) == len(dialect.header)
        if cells:
            yield line, _csv_row(dialect.header, cells, limit)


def _literal_rows(lines: _Lines, dialect: Dialect, limit: int) -> Iterator[Numbered]:
    """Yield every line as a row, quotes and all."""
    while True:
        number = lines.begin_row()
        try:
            line = next(lines)
        except StopIteration:
            return
        except RowError as error:
            yield number, error
            continue
        if line.strip("\r\n"):
            yield number, _csv_row(dialect.header, dialect.literal_cells(line), limit)


# ---------------------------------------------------------------- header and quotes


def _dialect(lines: _Lines, dump: str) -> Dialect:
    """Read the header, and choose the delimiter and the meaning of quotes.

    Raises:
      DataError: the first line is no header, or quotes are ambiguous.
    """
    try:
        first, given = next(lines, ""), None
        if found := SEPARATOR.fullmatch(first):
            first, given = next(lines, ""), found[1]
        delimiter = given or max(",\t;", key=first.count)
        header = next(csv.reader([first], delimiter=delimiter), [])
    except (csv.Error, RowError) as error:
        raise DataError(f"line {lines.number} is no CSV header: {error}.") from error
    if not "".join(header).isascii() and re.search("[\udc80-\udcff]", "".join(header)):
        raise DataError(f"line {lines.number}: the CSV header has bytes that are not UTF-8.")
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise DataError(f"the CSV header names a column twice: {', '.join(twice)[:200]}.")
    check_columns(header)
    plain = Dialect(header, delimiter)
    held, whole = lines.window()
    if not any(map(plain.opens, held)):
        return plain
    return _with_quotes(plain, held, whole, lines.number + 1, dump)


def _with_quotes(plain: Dialect, held: list[str], whole: bool, first: int, dump: str) -> Dialect:
    """Choose what the quotes of a table are.

    A tab rarely stands in a text, so a TSV whose lines are rows while CSV's rules break is read
    line by line. Tables with other delimiters follow CSV's rules. Where both readings fit and give
    other rows, the table is refused.
    """
    survey = _survey(plain, held, whole)
    tabs = plain.delimiter == "\t"
    if survey.merged and (tabs or not survey.proof):
        start, end = survey.merged
        raise _ambiguous(first + start, first + end - 1, plain, dump)
    if survey.proof or not tabs:
        return replace(plain, proven=survey.proof > 0)
    misfits = sum(not plain.fits(line) for line in held if line.strip("\r\n"))
    # no writer of CSV leaves quotes in some cells of a column that do not need them
    literal = misfits < survey.bad or (survey.needless > 0 and not survey.regular)
    return replace(plain, literal=literal, proven=not literal)


@dataclass
class _Survey:
    """Counts of how well the start of a table can be read by CSV's rules."""

    bad: int = 0  # rows that break CSV's rules or have other cells than the header
    proof: int = 0  # rows that only CSV's rules can read
    needless: int = 0  # cells in quotes that CSV would not need
    regular: bool = False  # each column has quotes in all its cells or in none
    merged: tuple[int, int] | None = None  # first row of several lines that are rows themselves


def _survey(dialect: Dialect, held: list[str], whole: bool) -> _Survey:
    """Read the lines by CSV's rules; a row that breaks them ends with its first line."""
    found, at, reread = _Survey(), 0, 0
    quoted: dict[int, set[bool]] = {}
    while at < len(held) and reread < REREAD:
        taken = _Counted(held, at)
        try:
            cells = next(csv.reader(taken, delimiter=dialect.delimiter, strict=True))
        except csv.Error:
            count = taken.at - at
            # a row may go on behind the window; one of many lines that are rows does not
            if not whole and taken.at == len(held) and count < OPEN_LINES:
                break
            found.bad += 1
            reread += count - 1
            at += 1
            continue
        lines = held[at : taken.at]
        if len(cells) != len(dialect.header):
            found.bad += bool(cells)
        elif len(lines) > 1 and dialect.are_rows(lines):
            found.merged = found.merged or (at, taken.at)
        elif not dialect.may_be_rows(lines):
            found.proof += 1
        elif len(lines) == 1:
            _note_quotes(dialect, lines[0], quoted, found)
        at = taken.at
    found.regular = not found.bad and all(len(each) == 1 for each in quoted.values())
    return found


def _note_quotes(dialect: Dialect, line: str, quoted: dict[int, set[bool]], found: _Survey) -> None:
    """Count the cells in quotes of a row that both readings give the same cells."""
    for at, cell in enumerate(dialect.literal_cells(line)):
        if cell.startswith('"') and '""' in cell[1:-1]:
            found.proof += 1  # nobody but a CSV writer doubles quotes
        elif cell and not NUMBER.fullmatch(cell):
            quoted.setdefault(at, set()).add(cell.startswith('"'))
            found.needless += cell.startswith('"')


class _Counted:
    """Lines from one place on, and how many were taken."""

    def __init__(self, lines: list[str], at: int) -> None:
        self.lines, self.at = lines, at

    def __iter__(self) -> _Counted:
        return self

    def __next__(self) -> str:
        if self.at == len(self.lines):
            raise StopIteration
        self.at += 1
        return self.lines[self.at - 1]


def _ambiguous(start: int, end: int, dialect: Dialect, dump: str) -> DataError:
    """Make the error of quotes that can be CSV's or text, with a command for each."""
    as_csv = (
        f"one row by CSV's rules and {plural(end - start + 1, 'row')} as they stand"
        if end > start
        else "a row whose quotes are CSV's or characters of the text"
    )
    delimiter = "\\t" if dialect.delimiter == "\t" else dialect.delimiter
    options = f'delimiter="{delimiter}"'
    code = (
        "import csv, json; csv.field_size_limit(10**9); [print(json.dumps(row)) for row in"
        ' csv.DictReader(open(0, newline="", encoding="utf-8-sig"), {options})]'
    )
    first = code.format(options=options)
    second = code.format(options=f"{options}, quoting=csv.QUOTE_NONE")
    lines = f"lines {start:,} to {end:,} are" if end > start else f"line {start:,} is"
    return DataError(
        f"{lines} {as_csv}: a quote opens a cell there, and nothing else in the file says what"
        " quotes mean. Write the table as JSONL by the reading that is right.\n"
        f"  CSV's rules:      {dump} | python3 -c '{first}' > rows.jsonl\n"
        f"  quotes are text:  {dump} | python3 -c '{second}' > rows.jsonl"
    )


def _csv_error(error: csv.Error, line: int) -> RowError:
    if "end of data" in str(error) or "field limit" in str(error):
        raise DataError(
            f"line {line:,}: a quote is opened and not closed within the row limit, so all that"
            " follows would be one cell. Close it, or write the file as JSONL."
        ) from error
    return RowError("invalid CSV", f"{error}.")


def _csv_row(header: list[str], cells: list[str], limit: int) -> object:
    if len(cells) != len(header):
        return RowError(
            "invalid CSV", f"{len(cells)} cells in a table of {len(header)} columns.", cells
        )
    if any("\udc80" <= c <= "\udcff" for cell in cells if not cell.isascii() for c in cell):
        return RowError("invalid UTF-8", "it has bytes that are not UTF-8.", cells)
    if sum(map(len, cells)) > limit:
        return too_large(limit, cells)
    # a cell that holds messages or a list as text is read where its format is known
    return dict(zip(header, cells, strict=True))
