"""Rows from tables: CSV, Parquet, Arrow, and the folder that `datasets.Dataset.save_to_disk`
writes.

Nothing is unpickled, no code of a dataset runs, and rows are read in batches. Every generator
yields (line, value or RowError); only CSV has lines, the others give the row's number.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from accord.data.json_rows import Numbered, text_size, too_large
from accord.data.ledger import RowError
from accord.types import DataError

BATCH = 256  # rows
ROW = 4  # times the size limit of a row: the reader gives up on a larger CSV row, and on the file


def csv_rows(stream: BinaryIO, limit: int) -> Iterator[Numbered]:
    """Yield the rows of CSV or TSV; the first line is the header.

    Raises:
      DataError: a column named twice, or a quote that is never closed (all that follows would be
        one cell).
    """
    lines = _Lines(
        io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline=""), limit
    )
    kept = csv.field_size_limit(limit)
    try:
        header, delimiter = _csv_header(lines)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        while True:
            line = lines.begin_row()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield line, _csv_error(error, line)
                continue
            except RowError as error:
                yield line, error
                continue
            if cells:
                yield line, _csv_row(header, cells, limit)
    finally:
        csv.field_size_limit(kept)


class _Lines:
    """Lines of a text for csv.reader, none longer than a row may be.

    The reader itself would take a line of any length.
    """

    def __init__(self, text: io.TextIOBase, limit: int) -> None:
        self.text, self.limit = text, limit
        self.number = self.row = 0  # characters of the row so far: quoted line ends make it go on

    def begin_row(self) -> int:
        """Return the number of the line that the next row begins on, from 1."""
        self.row = 0
        return self.number + 1

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.text.readline(self.limit + 2)  # + 2: the line's end does not count
        if not line:
            raise StopIteration
        self.number += 1
        self.row += len(line)
        if len(line.rstrip("\r\n")) > self.limit:
            self._skip_rest(line)
            raise too_large(self.limit, line)
        if self.row > ROW * self.limit:
            raise csv.Error("field limit")  # many cells, each within it
        return line

    def _skip_rest(self, line: str) -> None:
        while line and not line.endswith(("\n", "\r")):
            line = self.text.readline(self.limit)


def _csv_header(lines: _Lines) -> tuple[list[str], str]:
    """Return the columns' names and the delimiter.

    Raises:
      DataError: the first line is no header.
    """
    try:
        first = next(lines, "")
        delimiter = max(",\t;", key=first.count)
        header = next(csv.reader([first], delimiter=delimiter), [])
    except (csv.Error, RowError) as error:
        raise DataError(f"line 1 is no CSV header: {error}.") from error
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise DataError(f"the CSV header names a column twice: {', '.join(twice)[:200]}.")
    return header, delimiter


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
    return dict(zip(header, cells, strict=True))


def parquet_rows(stream: BinaryIO, limit: int) -> Iterator[Numbered]:
    """Yield the rows of a Parquet file."""
    from pyarrow.parquet import ParquetFile

    with _intact("Parquet"):
        yield from _batch_rows(ParquetFile(stream).iter_batches(batch_size=BATCH), limit)


def arrow_rows(stream: BinaryIO, limit: int) -> Iterator[Numbered]:
    """Yield the rows of an Arrow file, which can be read in any order."""
    from pyarrow import ipc

    with _intact("Arrow"):
        reader = ipc.open_file(stream)
        yield from _batch_rows(map(reader.get_batch, range(reader.num_record_batches)), limit)


def arrow_stream_rows(stream: BinaryIO, limit: int) -> Iterator[Numbered]:
    """Yield the rows of an Arrow stream, which is what `datasets` writes."""
    from pyarrow import ipc

    with _intact("Arrow"):
        yield from _batch_rows(ipc.open_stream(stream), limit)


@contextmanager
def _intact(kind: str) -> Iterator[None]:
    """Turn Arrow's errors into words."""
    from pyarrow import ArrowException

    try:
        yield
    except MemoryError as error:
        raise DataError(
            f"this {kind} file is damaged: it asks for more memory than there is."
        ) from error
    # ValueError: a column's name that is no UTF-8
    except (ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"this {kind} file is damaged or cut short: {str(error)[:500]}. Copy it again."
        ) from error


def _batch_rows(batches: Iterable, limit: int) -> Iterator[Numbered]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH):
            for row in _python_rows(batch.slice(start, BATCH)):
                number += 1
                if isinstance(row, dict):
                    row = _plain(row) if text_size(row) <= limit else too_large(limit)
                yield number, row


def _python_rows(batch) -> list:
    """Return the rows of a batch, with a RowError in the place of a row that cannot be read.

    Arrow trusts what stands in a file: an offset that points outside would crash the process, so
    all is validated.
    """
    from pyarrow import ArrowException

    try:
        batch.validate(full=True)
        return batch.to_pylist()
    # text that is no UTF-8, a date beyond Python's
    except (ArrowException, ValueError, OverflowError) as error:
        if batch.num_rows > 1:
            return [row for at in range(batch.num_rows) for row in _python_rows(batch.slice(at, 1))]
        return [
            RowError("invalid value", f"a value of the row cannot be read: {str(error)[:200]}.")
        ]


def _plain(row: dict) -> dict:
    """Convert a row to JSON's types: dates and decimals become text; binary text becomes a
    string.
    """
    return {name: _plain_value(value) for name, value in row.items()}


def _plain_value(value: object) -> object:
    # tools that write text without its type; other bytes stay what they are
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    known = (str, int, float, bool, list, dict, type(None))
    return value if isinstance(value, known) else str(value)


def folder_files(folder: Path) -> list[Path]:
    """List the Arrow files of a dataset that `save_to_disk` wrote, in order.

    Raises:
      DataError: the folder is no such dataset, or holds several splits; says which.
    """
    if (folder / "dataset_dict.json").is_file():
        return folder_files(_only_split(folder))
    state = folder / "state.json"
    if not state.is_file():
        inside = ", ".join(sorted(entry.name for entry in folder.iterdir())[:6]) or "nothing"
        raise DataError(
            f"{folder}: this folder is no dataset saved with save_to_disk (no state.json; it holds"
            f" {inside}). Name a data file in it."
        )
    try:
        recorded = json.loads(state.read_text("utf-8"))
        files = [folder / Path(each["filename"]).name for each in recorded["_data_files"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{state}: not readable as the state of a saved dataset. Save it again."
        ) from error
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise DataError(
            f"{folder}: {missing[0]} is missing, which state.json names. Copy the whole folder"
            " again."
        )
    return files


def _only_split(folder: Path) -> Path:
    splits = [entry for entry in sorted(folder.iterdir()) if (entry / "state.json").is_file()]
    if len(splits) != 1:
        found = ", ".join(str(split) for split in splits) or "none"
        raise DataError(f"{folder}: a dataset of {len(splits)} splits; name one of them: {found}.")
    return splits[0]
