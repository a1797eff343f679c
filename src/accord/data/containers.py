"""Containers of rows: JSONL, JSON, CSV, Parquet, Arrow, compressed or not, a folder, or "-".

The first bytes of a file decide what it is; a suffix only settles what they leave open. Nothing is
ever fetched: a name that is no file is an error, since a hub name must be asked for.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from accord.data import compression, json_rows, table_rows
from accord.data.json_rows import Numbered
from accord.environment.digests import file_digest
from accord.types import DataError

MAX_ROW_BYTES = 4_000_000
HEAD = 1 << 16  # bytes looked at to tell what a file is

BOM = b"\xef\xbb\xbf"
# One of these in its first line makes a text without JSON a table: header names that formats know.
HEADER = frozenset(
    b"prompt chosen rejected instruction completion messages question response label".split()
)


@dataclass(frozen=True)
class Source:
    """A file or folder to read rows from; messages call it `name`."""

    name: str
    path: Path

    def digest(self) -> str:
        """Return the sha256 of the file's bytes; of a folder, of its data files' names and bytes in
        order.
        """
        if self.path.is_file():
            return file_digest(self.path)
        total = hashlib.sha256()
        for part in table_rows.folder_files(self.path):
            total.update(f"{part.name}\0{Source(part.name, part).digest()}\0".encode())
        return total.hexdigest()

    def rows(self, max_row_bytes: int = MAX_ROW_BYTES) -> Iterator[Numbered]:
        """Yield (line, value or RowError) of every row, in order, as they are asked for.

        Raises:
          DataError: the container is empty, damaged, cut short, or of no known kind; names the
            file.
        """
        try:
            if self.path.is_dir():
                yield from self._folder_rows(max_row_bytes)
            else:
                with open(self.path, "rb", buffering=0) as file:
                    yield from _rows(file, self.path.name.lower(), max_row_bytes)
        except DataError as error:
            raise (
                error if self.name in str(error) else DataError(f"{self.name}: {error}")
            ) from error
        except OSError as error:  # Arrow's errors of reading are OSErrors too
            raise DataError(f"{self.name}: cannot be read: {error}.") from error

    def _folder_rows(self, max_row_bytes: int) -> Iterator[Numbered]:
        number = 0
        for file in table_rows.folder_files(self.path):
            for _, row in Source(file.name, file).rows(max_row_bytes):
                number += 1
                yield number, row


@contextmanager
def locate(path: str | Path) -> Iterator[Source]:
    """Locate the source that a path names; "-" is standard input, which is copied to a temporary
    file first.

    Raises:
      DataError: there is no such file or folder.
    """
    name = str(path)
    if name == "-":
        with _copied(sys.stdin.buffer) as copy:
            yield Source("standard input", copy)
        return
    kind = _kind(name)
    if stat.S_ISFIFO(kind):  # <(zcat a.gz) can be read only once, and we read twice
        with open(name, "rb") as pipe, _copied(pipe) as copy:
            yield Source(name, copy)
        return
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise DataError(f"{name}: it is neither a file nor a folder but a device or a socket.")
    yield Source(name, Path(name))


def _kind(name: str) -> int:
    """Return the mode bits of what lies there."""
    try:
        return os.stat(name).st_mode
    # ValueError: a NUL in the name
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        hub = name.count("/") == 1 and not name.startswith((".", "/"))
        hint = (
            " If it is a dataset's name on a hub, download it first: nothing is fetched unasked."
            if hub
            else ""
        )
        raise DataError(
            f"{name or 'an empty name'}: there is no such file or folder.{hint}"
        ) from error
    except OSError as error:  # a folder that may not be entered, a name too long, a loop of links
        raise DataError(f"{name}: cannot be read: {error.strerror}.") from error


@contextmanager
def _copied(stream: BinaryIO) -> Iterator[Path]:
    """Copy a stream into a temporary file."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "stream"
        try:
            with open(copy, "wb") as file:
                shutil.copyfileobj(stream, file)
        except OSError as error:
            raise DataError(
                f"the input cannot be copied to {tempfile.gettempdir()}: {error.strerror}."
            ) from error
        yield copy


def _rows(
    file: io.FileIO | compression.Unpacked, name: str, limit: int, layers: int = 0
) -> Iterator[Numbered]:
    """Yield the rows of an open file, unpacked from `layers` layers.

    Its first bytes decide which reader gets it.
    """
    stream = io.BufferedReader(file, HEAD)
    head = stream.peek()
    for magic, reader in MAGIC.items():
        if head.startswith(magic):
            yield from reader(stream, limit)
            return
    for magic, unpack in PACKED.items():
        if head.startswith(magic):
            if layers == compression.LAYERS:
                raise DataError(
                    f"it is packed more than {compression.LAYERS} times over. Unpack it first."
                )
            yield from _rows(
                unpack(stream), name.removesuffix(".gz").removesuffix(".zst"), limit, layers + 1
            )
            return
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(
            "the text is UTF-16; UTF-8 is expected. Convert it: iconv -f UTF-16 -t UTF-8."
        )
    if head.startswith(BOM):
        stream.read(len(BOM))
    yield from _text_reader(head.removeprefix(BOM), name)(stream, limit)


def _text_reader(head: bytes, name: str) -> Callable[[BinaryIO, int], Iterator[Numbered]]:
    """Choose the reader for text that begins with these bytes."""
    whole = len(head) < HEAD - len(BOM)
    text = head.lstrip()
    if not text and whole:
        raise DataError("the file is empty.")
    first, _, rest = text.partition(b"\n")
    alone = whole and not rest.strip()
    if text.startswith(b"["):
        return json_rows.array_rows if alone or _parsed(first) is None else json_rows.line_rows
    if text.startswith(b"{"):
        columns = first.strip() == b"{" or (alone and json_rows.holds_rows(_parsed(first)))
        return json_rows.object_rows if columns else json_rows.line_rows
    if name.endswith((".csv", ".tsv")) or HEADER & set(re.split(rb'[",;\t\r]+', first.lower())):
        return table_rows.csv_rows
    return json_rows.line_rows


def _parsed(line: bytes) -> object:
    """Parse a line of JSON; None if it is not JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


# First bytes -> reader of the rows, or what unpacks the file to look again.
MAGIC = {
    b"PAR1": table_rows.parquet_rows,
    b"ARROW1": table_rows.arrow_rows,
    b"\xff\xff\xff\xff": table_rows.arrow_stream_rows,
}
PACKED: dict[bytes, Callable[[BinaryIO], compression.Unpacked]] = {
    b"\x1f\x8b": compression.Gzip,
    b"\x28\xb5\x2f\xfd": compression.Zstd,
}
