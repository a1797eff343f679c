"""Copy rows of a file to other files, unchanged, with an account.

rows in = rows written + rows removed
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from accord.data.containers import Source
from accord.data.ledger import RowError
from accord.types import CheckpointError, UsageError

SUFFIXES = (".jsonl", ".jsonl.gz")


def check_absent(path: str | Path) -> None:
    """Refuse a name that is already taken, before the work is done.

    Raises:
      UsageError: it exists.
    """
    if Path(path).exists():
        raise UsageError(
            f"{path}: this file exists already and is not overwritten. Name another, or remove it."
        )


def check_rows_file(path: str | Path) -> None:
    """Refuse a name that rows cannot be written to.

    Raises:
      UsageError: the name does not end as a JSONL file's, or something stands there already.
    """
    if not Path(path).name.endswith(SUFFIXES):
        raise UsageError(
            f"{path}: rows are written as JSONL; expected a name that ends in"
            f" {' or '.join(SUFFIXES)}."
        )
    check_absent(path)


@contextmanager
def new_file(path: str | Path) -> Iterator[TextIO]:
    """Open a JSONL file that appears under its name only when it is complete.

    Raises:
      UsageError: the name ends otherwise, or something stands there already.
    """
    path = Path(path)
    check_rows_file(path)
    staged = path.with_name(f".{path.name}.partial")
    opened = _open_text(staged, path.name.endswith(".gz"))
    try:
        with opened as file:
            yield file
        os.replace(staged, path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror}.") from error
    finally:
        staged.unlink(missing_ok=True)


def _open_text(path: Path, compressed: bool) -> TextIO:
    if compressed:
        return gzip.open(path, "wt", encoding="utf-8")
    return open(path, "w", encoding="utf-8")


def raw_rows(source: Source) -> Iterator[tuple[int, dict]]:
    """Yield (line, row as it stands) of every row that is an object; the others are in the
    ledger.
    """
    for line, value in source.rows():
        if isinstance(value, dict) and not isinstance(value, RowError):
            yield line, value


def write_row(file: TextIO, row: object) -> None:
    """Write one line of JSON. Half a surrogate pair, which UTF-8 cannot hold, is escaped."""
    text = json.dumps(row, ensure_ascii=False, default=str)
    file.write((text if _encodable(text) else json.dumps(row, default=str)) + "\n")


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def write_lines(path: str | Path, source: Source, lines: Iterable[int]) -> int:
    """Write the rows of these lines, in the file's order; return how many."""
    wanted, count = set(lines), 0
    with new_file(path) as file:
        for line, row in raw_rows(source):
            if line in wanted:
                write_row(file, row)
                count += 1
    return count
