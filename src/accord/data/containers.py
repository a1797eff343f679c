"""Containers of rows: text and tables, packed or in archives, files, folders, patterns, or "-".

The first bytes of a file decide what it is; a suffix only settles what they leave open. `KINDS`
lists what is read. A name of a hub is fetched where `hub:` asks for it (`hub.py`); any other name
that is no file is an error.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from accord.data.folders import Parts, parts_of
from accord.data.hub import fetch_data
from accord.data.json_rows import Numbered
from accord.data.shards import container_of
from accord.data.streams import MAX_ROW_BYTES, file_bytes, rows_of
from accord.environment.digests import file_digest
from accord.environment.hub.names import PREFIX, is_hub, may_be_repo, without_rows
from accord.environment.nearest import did_you_mean
from accord.errors import AccordWarning, plural
from accord.types import DataError, FileLine

__all__ = ["KINDS", "MAX_ROW_BYTES", "Kind", "Source", "is_there", "locate", "named_copy"]

_copies: dict[str, Path] = {}  # names of rows in memory -> the files that they were written to


@dataclass(frozen=True)
class Kind:
    """A kind of container that is read."""

    name: str
    suffixes: tuple[str, ...]
    says: str


KINDS = (
    Kind("JSONL", (".jsonl", ".ndjson"), "one JSON object a line"),
    Kind("JSON", (".json",), "an array of objects, columns of equal length, or one row"),
    Kind("CSV", (".csv",), "a header and rows; comma, tab or semicolon, or as Excel's sep= says"),
    Kind("TSV", (".tsv",), "as CSV; quotes are text where the lines show that they are"),
    Kind("Parquet", (".parquet",), "with the types of datasets: json, ClassLabel"),
    Kind("Arrow", (".arrow", ".feather"), "as a file or a stream, with the same types"),
    Kind("gzip", (".gz",), "around any of these"),
    Kind("zstd", (".zst",), "around any of these; needs accord[zstd]"),
    Kind("xz", (".xz",), "around any of these"),
    Kind("bzip2", (".bz2",), "around any of these"),
    Kind("zip", (".zip",), "with one data set in it; read in place"),
    Kind("tar", (".tar", ".tar.gz", ".tar.xz", ".tar.bz2", ".tar.zst"), "the same"),
    Kind("UTF-16, UTF-32", (), "text with a byte order mark or without; otherwise UTF-8"),
    Kind("saved dataset", (), "a folder that datasets.save_to_disk wrote, of one split"),
    Kind("folder", (), "shards of one split: data/train-00000-of-00002.parquet, train/…"),
    Kind("pattern", (), "files of one split in the order of their numbers: 'data/train-*.jsonl'"),
    Kind("standard input", (), "any of the files, as -"),
)


@dataclass(frozen=True)
class Source:
    """A file, folder or pattern to read rows from; messages call it `name`."""

    name: str
    path: Path
    # what a person must know of how the rows were read, in order; filled as they are
    notes: dict[str, None] = field(default_factory=dict, compare=False)
    parts: Parts | None = field(default=None, compare=False)  # its files, where they are known

    def digest(self) -> str:
        """Return the sha256 of the file's bytes; of several files, of their names and bytes in
        order; of the first rows of files, of their number as well.
        """
        wanted = None if self.parts is None else self.parts.rows
        if self.path.is_file() and wanted is None:
            return file_digest(self.path)
        parts = self._parts()
        total = hashlib.sha256(b"" if wanted is None else f"first {wanted}\0".encode())
        for name, file in zip(parts.names, parts.files, strict=True):
            total.update(f"{name}\0{file_digest(file)}\0".encode("utf-8", "surrogateescape"))
        return total.hexdigest()

    def rows(self, max_row_bytes: int = MAX_ROW_BYTES) -> Iterator[Numbered]:
        """Yield (line, value or RowError) of every row, in order, as they are asked for. The line
        is a FileLine where the rows come from many files.

        Raises:
          DataError: the container is empty, damaged, cut short, or of no known kind; names the
            file.
        """
        names = [self.name]
        try:
            parts = self._parts()
            names += map(str, parts.files)
            self.notes.update(dict.fromkeys(parts.notes))
            if parts.partial:
                self.notes.setdefault(parts.partial)
                # training on a part of a data set for the whole is the one thing said at once
                warnings.warn(f"{self.name}: {parts.partial}", AccordWarning, stacklevel=2)
            if len(parts.files) == 1 and not self.path.is_dir():
                file = file_bytes(parts.files[0], self.name, self.notes, parts.features)
                found = rows_of(file, max_row_bytes)
            else:
                found = self._many(parts, max_row_bytes)
            yield from found if parts.rows is None else _first(found, parts.rows)
        except DataError as error:
            named = str(error).startswith(tuple(names))
            raise (error if named else DataError(f"{self.name}: {error}")) from error
        except OSError as error:  # Arrow's errors of reading are OSErrors too
            raise DataError(f"{self.name}: cannot be read: {error}.") from error

    def _parts(self) -> Parts:
        return self.parts or parts_of(self.path)

    def _many(self, parts: Parts, limit: int) -> Iterator[Numbered]:
        """Yield the rows of several files, numbered through."""
        before = last = 0
        for file in parts.files:
            shown = str(file)
            try:
                for line, row in rows_of(
                    file_bytes(file, shown, self.notes, parts.features), limit
                ):
                    last = before + line
                    yield _placed(line, shown, before), row
            except DataError as error:
                named = str(error).startswith(shown)
                raise (error if named else DataError(f"{shown}: {error}")) from error
            before = last


def _first(rows: Iterator[Numbered], wanted: int) -> Iterator[Numbered]:
    """Yield the first rows.

    Raises:
      DataError: there are fewer than were counted when their files were fetched.
    """
    count = 0
    for row in islice(rows, wanted):
        count += 1
        yield row
    if count < wanted:
        raise DataError(
            f"{plural(count, 'row')} came of the {wanted:,} that were counted: a file in the hub's"
            " cache, or accord's note of its rows, has changed since. Remove the folder hub/ in"
            " accord's cache (ACCORD_CACHE), and they are counted again."
        )


def _placed(line: int, file: str, before: int) -> FileLine:
    """Number a row of one file through; a file that is an archive of many has its own places."""
    if isinstance(line, FileLine):
        return FileLine(before + line, line.file, before + line.before)
    return FileLine(before + line, file, before)


def require_there(name: str) -> None:
    """Check that a path leads to a file, a folder or a pattern's matches, without reading any. What
    a name of a hub stands for is fetched.

    Raises:
      DataError: it does not.
    """
    if is_hub(name):
        fetch_data(name)
    elif name != "-" and not is_there(name):
        _kind(name)


def is_there(name: str) -> bool:
    """Tell whether a path names a file or a folder, or a pattern matches one. A name of a hub
    counts as there: its faults come to light when it is read.
    """
    if name in _copies or is_hub(name):
        return True
    path = os.path.expanduser(name)
    found = glob.iglob(path, recursive=True) if glob.has_magic(path) else iter(())
    return os.path.exists(path) or next(found, None) is not None


@contextmanager
def named_copy(name: str, file: Path) -> Iterator[str]:
    """Let `locate` find a file under a name of its own, such as "rows of data", while the context
    lasts; a name that is taken gets a number.
    """
    number, free = 1, name
    while free in _copies or os.path.lexists(free):
        number += 1
        free = f"{name} ({number})"
    _copies[free] = file
    try:
        yield free
    finally:
        del _copies[free]


@contextmanager
def locate(path: str | Path) -> Iterator[Source]:
    """Locate the source that a path names; "-" is standard input, which is copied to a temporary
    file first.

    Raises:
      DataError: there is no such file or folder.
    """
    name = str(path)
    if name in _copies:
        yield Source(name, _copies[name])
        return
    if is_hub(name):
        found = fetch_data(name)
        files = found.parts.files
        yield Source(found.name, files[0] if len(files) == 1 else found.folder, parts=found.parts)
        return
    if name == "-":
        with _copied(sys.stdin.buffer) as copy:
            yield Source("standard input", copy)
        return
    if glob.has_magic(name) and not os.path.lexists(name):
        _refuse_rows(name)
        yield Source(name, Path(name))
        return
    kind = _kind(name)
    if stat.S_ISFIFO(kind):  # <(zcat a.gz) can be read only once, and we read twice
        with open(name, "rb") as pipe, _copied(pipe) as copy:
            yield Source(name, copy)
        return
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise DataError(f"{name}: it is neither a file nor a folder but a device or a socket.")
    yield Source(name, Path(name))


def _refuse_rows(name: str) -> None:
    """Refuse [:N] behind a file here: only names of a hub take it.

    Raises:
      DataError: what stands before it is a file, a folder or a pattern.
    """
    file, inside = without_rows(name)
    if inside is not None and ":" in inside and not is_there(name) and is_there(file):
        raise DataError(
            f"{name}: [:N], the first N rows, can stand behind names of a hub alone"
            f" ({PREFIX}org/name#train[:100000]), where it saves fetching the rest. Write the first"
            f" rows of {file} into a file of their own, and name that."
        )


def _kind(name: str) -> int:
    """Return the mode bits of what lies there."""
    _refuse_rows(name)
    try:
        return os.stat(name).st_mode
    # ValueError: a NUL in the name
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        # a suffix of data is a file's: no data set is called so
        hub = may_be_repo(name) and not container_of(name)
        hint = (
            f" If it is a data set's name on a hub, say so: {PREFIX}{name}, or --allow hub where"
            " the command has it (it goes to the network)."
            if hub
            else ""
        )
        raise DataError(
            f"{name or 'an empty name'}: there is no such file or folder.{did_you_mean(name)}{hint}"
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
