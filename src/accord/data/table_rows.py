"""Rows from tables: CSV, Parquet, Arrow, and the folder that `datasets.Dataset.save_to_disk` writes.

Nothing is unpickled, no code of a dataset runs, and rows are read in batches. Every generator yields
(line, value or RowError); only CSV has lines, the others give the row's number.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from accord.data.json_rows import Numbered, text_size, too_large
from accord.data.ledger import RowError
from accord.types import DataError

BATCH = 256  # rows

# Columns of a CSV file whose cells may hold a list that is not of messages.
LISTS = frozenset(
    "responses completions candidates answers generations scores ratings rewards ranks ranking history output".split()
)


def csv_rows(stream: BinaryIO, limit: int) -> Iterator[Numbered]:
    """Rows of CSV or TSV, the first line being the header.

    Raises:
      DataError: a column named twice, or a quote that is never closed (all that follows would be one cell).
    """
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    first = text.readline()
    delimiter = max(",\t;", key=first.count)
    header = next(csv.reader([first], delimiter=delimiter), [])
    if len(set(header)) < len(header):
        raise DataError(f"the CSV header names a column twice: {', '.join(header)}.")
    reader, kept = csv.reader(text, delimiter=delimiter, strict=True), csv.field_size_limit(limit)
    try:
        while True:
            line = reader.line_num + 2  # the header is line 1, and this row starts after the last one's end
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield line, _csv_error(error, line)
                continue
            if cells:
                yield line, _csv_row(header, cells, limit)
    finally:
        csv.field_size_limit(kept)


def _csv_error(error: csv.Error, line: int) -> RowError:
    if "end of data" in str(error) or "field limit" in str(error):
        raise DataError(
            f"line {line:,}: a quote is opened and not closed within the row limit, so all that follows would be one "
            "cell. Close it, or write the file as JSONL."
        ) from error
    return RowError("invalid CSV", f"{error}.")


def _csv_row(header: list[str], cells: list[str], limit: int) -> object:
    if len(cells) != len(header):
        return RowError("invalid CSV", f"{len(cells)} cells in a table of {len(header)} columns.", cells)
    if any("\udc80" <= c <= "\udcff" for cell in cells if not cell.isascii() for c in cell):
        return RowError("invalid UTF-8", "bytes that are not UTF-8 stand in it.", cells)
    if sum(map(len, cells)) > limit:
        return too_large(limit, cells)
    try:
        return {name: _cell(name, cell) for name, cell in zip(header, cells, strict=True)}
    except RowError as error:
        return error


def _cell(name: str, cell: str) -> object:
    """A cell's value: messages and lists where they stand as JSON, else the text as it is."""
    start = cell.lstrip()[:2]
    if start[:1] not in ("[", "{"):
        return cell
    if start in ("[{", "{'") and "'role':" in cell:
        raise RowError(
            "messages are not JSON",
            f"{name} holds messages as Python prints them ({{'role': …}}), not as JSON; save as JSONL or Parquet.",
            cell,
        )
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    return value if _is_messages(value) or (name in LISTS and isinstance(value, list)) else cell


def _is_messages(value: object) -> bool:
    if isinstance(value, dict):
        return "messages" in value or _is_message(value)
    return isinstance(value, list) and bool(value) and all(map(_is_message, value))


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and bool({"role", "from"} & set(value)) and bool({"content", "value"} & set(value))


def parquet_rows(stream: BinaryIO, limit: int) -> Iterator[Numbered]:
    """Rows of a Parquet file."""
    from pyarrow.parquet import ParquetFile

    with _intact("Parquet"):
        yield from _batch_rows(ParquetFile(stream).iter_batches(batch_size=BATCH), limit)


def arrow_rows(stream: BinaryIO, limit: int) -> Iterator[Numbered]:
    """Rows of an Arrow file, which can be read in any order."""
    from pyarrow import ipc

    with _intact("Arrow"):
        reader = ipc.open_file(stream)
        yield from _batch_rows(map(reader.get_batch, range(reader.num_record_batches)), limit)


def arrow_stream_rows(stream: BinaryIO, limit: int) -> Iterator[Numbered]:
    """Rows of an Arrow stream, which is what `datasets` writes."""
    from pyarrow import ipc

    with _intact("Arrow"):
        yield from _batch_rows(ipc.open_stream(stream), limit)


@contextmanager
def _intact(kind: str) -> Iterator[None]:
    """Turns Arrow's errors into words."""
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError) as error:
        raise DataError(f"this {kind} file is damaged or cut short: {error}. Copy it again.") from error


def _batch_rows(batches: Iterable, limit: int) -> Iterator[Numbered]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH):
            for row in batch.slice(start, BATCH).to_pylist():
                number += 1
                yield number, _plain(row) if text_size(row) <= limit else too_large(limit)


def _plain(row: dict) -> dict:
    """The row with JSON's types alone: dates, decimals and bytes, which JSON has not, as text."""
    known = (str, int, float, bool, list, dict, type(None))
    return {name: value if isinstance(value, known) else str(value) for name, value in row.items()}


def folder_files(folder: Path) -> list[Path]:
    """The Arrow files of a dataset that `save_to_disk` wrote, in order.

    Raises:
      DataError: the folder is no such dataset, or holds several splits; says which.
    """
    if (folder / "dataset_dict.json").is_file():
        return folder_files(_only_split(folder))
    state = folder / "state.json"
    if not state.is_file():
        inside = ", ".join(sorted(entry.name for entry in folder.iterdir())[:6]) or "nothing"
        raise DataError(
            f"{folder}: this folder is no dataset saved with save_to_disk (no state.json; it holds {inside}). "
            "Name a data file in it."
        )
    try:
        recorded = json.loads(state.read_text("utf-8"))
        files = [folder / Path(each["filename"]).name for each in recorded["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{state}: not readable as the state of a saved dataset. Save it again.") from error
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise DataError(f"{folder}: {missing[0]} is missing, which state.json names. Copy the whole folder again.")
    return files


def _only_split(folder: Path) -> Path:
    splits = [entry for entry in sorted(folder.iterdir()) if (entry / "state.json").is_file()]
    if len(splits) != 1:
        found = ", ".join(str(split) for split in splits) or "none"
        raise DataError(f"{folder}: a dataset of {len(splits)} splits; name one of them: {found}.")
    return splits[0]
