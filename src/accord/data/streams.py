"""Rows of a stream of bytes, by its first bytes: unpacked, converted and read, one layer at a time.

A stream can be opened again, since an archive is read twice: once for its list of files.
"""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from accord.data import compression, json_rows, table_rows
from accord.data.archives import TarArchive, ZipArchive, is_tar
from accord.data.arrow_types import name_classes
from accord.data.csv_rows import SEPARATOR, csv_rows
from accord.data.encodings import BOM, code_page, has_mac_ends, to_utf8, unicode_name, unix_ends
from accord.data.foreign import refuse_binary, refuse_foreign, refuse_zipped
from accord.data.json_rows import Numbered
from accord.data.ledger import RowError
from accord.data.shards import data_files, one_data_set
from accord.errors import plural
from accord.types import DataError, FileLine

MAX_ROW_BYTES = 4_000_000
HEAD = 1 << 16  # bytes looked at to tell what a file is

# One of these in its first line makes a text without JSON a table: header names that formats know.
HEADER = frozenset(
    b"prompt chosen rejected instruction completion messages question response label".split()
)


@dataclass(frozen=True)
class Packing:
    """A packing that is undone on the way, and the command that undoes it."""

    magic: re.Pattern[bytes]
    unpack: Callable[[BinaryIO], compression.Unpacked]
    command: str
    suffixes: tuple[str, ...]


PACKINGS = (
    Packing(re.compile(rb"\x1f\x8b"), compression.Gzip, "zcat", (".gz", ".gzip")),
    Packing(re.compile(rb"\x28\xb5\x2f\xfd"), compression.Zstd, "zstdcat", (".zst", ".zstd")),
    Packing(re.compile(rb"\xfd7zXZ\0"), compression.Xz, "xzcat", (".xz",)),
    Packing(
        re.compile(rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)"),
        compression.Bzip2,
        "bzcat",
        (".bz2",),
    ),
)
# First bytes -> reader of a table with types of its own.
PARQUET = b"PAR1"
TABLES = {
    PARQUET: table_rows.parquet_rows,
    b"ARROW1": table_rows.arrow_rows,
    b"\xff\xff\xff\xff": table_rows.arrow_stream_rows,
}


@dataclass(frozen=True)
class Bytes:
    """Bytes that can be opened again, and how a person gets at them."""

    open: Callable[[], io.RawIOBase]
    name: str  # the file's own name in lower case, which suffixes are read from
    shown: str  # as messages call it
    dump: str  # a shell command that prints the bytes
    notes: dict[str, None] = field(default_factory=dict)  # see `Source.notes`
    features: Mapping[str, Any] = field(default_factory=dict)
    layers: int = 0  # packings undone so far
    inside: str = ""  # the kind of archive that it is a member of


def file_bytes(
    path: Path, shown: str, notes: dict[str, None], features: Mapping[str, Any]
) -> Bytes:
    """Describe a file's bytes."""
    dump = "cat" if shown == "standard input" else f"cat {shlex.quote(shown)}"
    return Bytes(
        lambda: open(path, "rb", buffering=0), path.name.lower(), shown, dump, notes, features
    )


def rows_of(source: Bytes, limit: int) -> Iterator[Numbered]:
    """Yield the rows of a stream. Its first bytes decide which reader gets it.

    Raises:
      DataError: it is empty, damaged, cut short, or holds no rows.
    """
    with io.BufferedReader(source.open(), HEAD) as stream:
        yield from _chosen(source, stream, stream.peek(), limit)


def count_rows(file: Path, shown: str, most: int) -> tuple[int, bool]:
    """Count the rows that `rows_of` gives of a file: a Parquet file says how many; another is read,
    no further than `most`.

    Returns:
      the rows that were counted, and whether they are all.

    Raises:
      DataError: it is empty, damaged, or holds no rows.
    """
    source = file_bytes(file, shown, {}, {})
    with source.open() as stream:
        if stream.read(4) == PARQUET:
            return table_rows.parquet_count(file), True
    count = sum(1 for _ in islice(rows_of(source, MAX_ROW_BYTES), most))
    return count, count < most


def _chosen(
    source: Bytes, stream: io.BufferedReader[Any], head: bytes, limit: int
) -> Iterator[Numbered]:
    for magic, reader in TABLES.items():
        if head.startswith(magic):
            yield from reader(stream, limit, source.features)
            return
    if packing := next((each for each in PACKINGS if each.magic.match(head)), None):
        yield from rows_of(_unpacked(source, packing), limit)
        return
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        yield from _zip_rows(source, stream, limit)
    elif is_tar(head):
        yield from _tar_rows(source, stream, limit)
    else:
        refuse_foreign(head, source.shown)
        yield from _text_rows(source, stream, head, limit)


def _unpacked(source: Bytes, packing: Packing) -> Bytes:
    if source.layers == compression.LAYERS:
        raise DataError(f"it is packed more than {compression.LAYERS} times over. Unpack it first.")
    name, file = source.name, source.dump.removeprefix("cat ")
    for suffix in packing.suffixes:
        name = name.removesuffix(suffix)
    plain = source.dump.startswith("cat ") and "|" not in source.dump
    return replace(
        source,
        open=lambda: packing.unpack(io.BufferedReader(source.open(), HEAD)),
        name=name,
        dump=f"{packing.command} {file}" if plain else f"{source.dump} | {packing.command}",
        layers=source.layers + 1,
    )


# ---------------------------------------------------------------- archives


def _zip_rows(source: Bytes, stream: BinaryIO, limit: int) -> Iterator[Numbered]:
    _refuse_nested(source)
    with compression.seekable(stream) as whole:
        archive = ZipArchive(whole)
        refuse_zipped(archive.names(), source.shown)
        command = f"unzip -p {shlex.quote(source.shown)} %s"
        yield from _member_rows(source, archive.names(), archive.open, "zip", command, limit)


def _tar_rows(source: Bytes, stream: BinaryIO, limit: int) -> Iterator[Numbered]:
    _refuse_nested(source)
    archive = TarArchive(source.open, stream)
    command = f"tar -xOf {shlex.quote(source.shown)} %s"
    try:
        yield from _member_rows(source, archive.names(), archive.open, "tar", command, limit)
    finally:
        archive.close()


def _refuse_nested(source: Bytes) -> None:
    if source.inside:
        raise DataError(
            f"it is an archive inside a {source.inside} archive. Unpack the outer one, and name"
            " what is in it."
        )


def _extracting(command: str) -> Callable[[str], str]:
    """Return what a person types to have a member as a file of its own."""
    return lambda name: f"{command % shlex.quote(name)} > {shlex.quote(name.rpartition('/')[2])}"


def _member_rows(
    source: Bytes,
    names: list[str],
    open_member: Callable[[str], io.RawIOBase],
    kind: str,
    command: str,
    limit: int,
) -> Iterator[Numbered]:
    """Yield the rows of the files in an archive that are its data set."""
    if not names:
        raise DataError(f"the {kind} archive is empty.")
    _, other = data_files(names, lone=True)
    try:
        chosen = one_data_set(names, _extracting(command), lone=True)
    except DataError as error:
        raise DataError(f"the {kind} archive cannot be read as one data set: {error}") from error
    if not chosen:
        listed = ", ".join(name[:60] for name in names[:6])
        raise DataError(f"the {kind} archive has no data file in it: {listed}.")
    many = len(chosen) > 1
    source.notes.setdefault(
        f"read from {plural(len(chosen), 'file')} in the archive, {chosen[0]} to {chosen[-1]}"
        if many
        else f"read from {chosen[0]} in the archive"
    )
    if other:
        source.notes.setdefault(
            f"not read, since the name is no data file's: {', '.join(other[:6])[:200]}"
        )
    before = last = 0
    for name in chosen:
        member = Bytes(
            partial(open_member, name),
            name.rpartition("/")[2].lower(),
            f"{source.shown}/{name}",
            command % shlex.quote(name),
            source.notes,
            source.features,
            source.layers,
            kind,
        )
        try:
            for line, row in rows_of(member, limit):
                last = before + line
                yield (FileLine(last, member.shown, before) if many else line), row
        except DataError as error:
            raise DataError(f"{member.shown}: {error}") from error
        before = last


# ---------------------------------------------------------------- text


def _text_rows(
    source: Bytes, stream: io.BufferedReader[Any], head: bytes, limit: int
) -> Iterator[Numbered]:
    if found := unicode_name(head):
        codec, mark = found
        stream.read(mark)
        stream = io.BufferedReader(to_utf8(stream, codec), HEAD)
        head = stream.peek()
        name = "UTF-32" if "32" in codec else "UTF-16"
        order = "LE" if codec.endswith("le") else "BE"
        source.notes.setdefault(f"the text is {name}")
        source = replace(source, dump=f"{source.dump} | iconv -f {name}{order} -t UTF-8")
    else:
        refuse_binary(head)
    if head.startswith(BOM):
        stream.read(len(BOM))
        head = head.removeprefix(BOM)
    reader = _text_reader(head, source)
    if reader is json_rows.line_rows and has_mac_ends(head):
        stream = io.BufferedReader(unix_ends(stream), HEAD)
    for line, row in reader(stream, limit):
        if isinstance(row, RowError) and row.reason == "invalid UTF-8":
            row = _with_code_page(row, source)
        yield line, name_classes(row, source.features) if source.features else row


def _text_reader(head: bytes, source: Bytes) -> Callable[[BinaryIO, int], Iterator[Numbered]]:
    """Choose the reader for text that begins with these bytes."""
    whole = len(head) < HEAD - len(BOM)
    text = head.lstrip()
    if not text and whole:
        raise DataError("the file is empty.")
    first, _, rest = text.partition(b"\r" if has_mac_ends(text) else b"\n")
    alone = whole and not rest.strip()
    if text.startswith(b"["):
        return json_rows.array_rows if alone or _parsed(first) is None else json_rows.line_rows
    if text.startswith(b"{"):
        columns = first.strip() == b"{" or (alone and json_rows.holds_rows(_parsed(first)))
        return json_rows.object_rows if columns else json_rows.line_rows
    if (
        source.name.endswith((".csv", ".tsv"))
        or SEPARATOR.fullmatch(first.decode("utf-8", "replace"))
        or HEADER & set(re.split(rb'[",;\t\r]+', first.lower()))
    ):
        return lambda stream, limit: csv_rows(stream, limit, source.dump, source.notes)
    return json_rows.line_rows


def _parsed(line: bytes) -> object:
    """Parse a line of JSON; None if it is not JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _with_code_page(error: RowError, source: Bytes) -> RowError:
    """Add how to convert a text of another encoding."""
    raw = error.source
    text = "".join(map(str, raw)) if isinstance(raw, list) else raw
    if isinstance(text, str):
        text = text.encode("utf-8", "surrogateescape")
    page = code_page(text) if isinstance(text, bytes) else "CP1252"
    end = Path(source.name).suffix or ".txt"
    return RowError(
        error.reason,
        f"{error.says} If the file is {page}, convert it: {source.dump} | iconv -f {page} -t UTF-8"
        f" > converted{end}",
        error.source,
    )
