"""Rows from Parquet and Arrow tables.

Nothing is unpickled, no code of a dataset runs, and rows are read in batches. Every generator
yields (row's number, value or RowError).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from accord.data.arrow_types import Convert, row_converters
from accord.data.compression import refuse_bomb, seekable
from accord.data.json_rows import Numbered, text_size, too_large
from accord.data.ledger import RowError
from accord.types import DataError

BATCH = 256  # rows
REPEATED = 8 << 20  # bytes; writers keep the texts that they number under 1 MiB
EXPANDED = 256 << 20  # bytes that numbered texts may take once they are written out
Features = Mapping[str, Any]  # column -> its type as `datasets` describes it


def parquet_rows(stream: BinaryIO, limit: int, features: Features) -> Iterator[Numbered]:
    """Yield the rows of a Parquet file."""
    from pyarrow.parquet import ParquetFile

    with _intact("Parquet"), seekable(stream) as whole:
        file = ParquetFile(whole)
        converters = row_converters(file.schema_arrow, features)
        _refuse_parquet_bomb(file.metadata)
        if repeated := _repeated_columns(file.metadata):
            file = ParquetFile(whole, read_dictionary=repeated)
        yield from _batch_rows(file.iter_batches(batch_size=BATCH), converters, limit)


def parquet_count(file: Path) -> int:
    """Return how many rows a Parquet file says that it has."""
    from pyarrow.parquet import read_metadata

    with _intact("Parquet"):
        return read_metadata(file).num_rows


def _refuse_parquet_bomb(metadata) -> None:
    """Refuse a file that says of itself that it unpacks to more than text can."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = [group.column(at) for at in range(group.num_columns)]
        packed = sum(column.total_compressed_size for column in columns)
        refuse_bomb("Parquet", packed, group.total_byte_size)


def _repeated_columns(metadata) -> list[str]:
    """List the columns whose texts are few and large, repeated by number.

    Written out, 256 rows of one text of 20 MB would take 5 GB. They are read as numbers, so that a
    row over the limit is found before its text is copied.
    """
    found = set()
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            size = column.total_uncompressed_size
            if column.has_dictionary_page and size > REPEATED:
                texts = column.data_page_offset - column.dictionary_page_offset
                if 100 * (column.total_compressed_size - texts) < size:
                    found.add(column.path_in_schema)
    return sorted(found)


def arrow_rows(stream: BinaryIO, limit: int, features: Features) -> Iterator[Numbered]:
    """Yield the rows of an Arrow file, which can be read in any order."""
    from pyarrow import ipc

    with _intact("Arrow"), seekable(stream) as whole:
        reader = ipc.open_file(whole)
        converters = row_converters(reader.schema, features)
        batches = map(reader.get_batch, range(reader.num_record_batches))
        yield from _batch_rows(batches, converters, limit)


def arrow_stream_rows(stream: BinaryIO, limit: int, features: Features) -> Iterator[Numbered]:
    """Yield the rows of an Arrow stream, which is what `datasets` writes."""
    from pyarrow import ipc

    with _intact("Arrow"):
        reader = ipc.open_stream(stream)
        yield from _batch_rows(reader, row_converters(reader.schema, features), limit)


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
    # RecursionError: a schema nested without end; ValueError: a column's name that is no UTF-8
    except (ArrowException, OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"this {kind} file is damaged or cut short: {str(error)[:500]}. Copy it again."
        ) from error


def _batch_rows(
    batches: Iterable, converters: Mapping[str, Convert], limit: int
) -> Iterator[Numbered]:
    number = 0
    for batch in batches:
        step = max(1, min(BATCH, EXPANDED // (1 + _dictionary_bytes(batch))))
        for start in range(0, batch.num_rows, step):
            for row in _python_rows(batch.slice(start, step)):
                number += 1
                yield number, _converted(row, converters, limit)


def _dictionary_bytes(batch) -> int:
    """Return the size of the texts that the rows of a batch name by their numbers."""
    from pyarrow.types import is_dictionary

    return sum(
        batch.column(at).dictionary.nbytes
        for at, field in enumerate(batch.schema)
        if is_dictionary(field.type)
    )


def _converted(row: object, converters: Mapping[str, Convert], limit: int) -> object:
    """Convert a row to JSON's types; return the RowError that stands in its place."""
    if not isinstance(row, dict):
        return row
    if text_size(row) > limit:
        return too_large(limit)
    try:
        for name, convert in converters.items():
            row[name] = convert(row[name])
    except RowError as error:
        return error
    return row


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
