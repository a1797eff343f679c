"""Members of zip and tar archives as streams. Nothing is ever unpacked to a path.

An archive with a member that could harm someone who unpacks it (an absolute path, "..", a link, a
device) is refused whole: such an archive was not made by a person who shares preferences.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from accord.data.compression import OUT, refuse_bomb
from accord.types import DataError

MEMBERS = 100_000  # an archive of more files is no data set
# The directory of a zip archive is read whole. 100,000 members take about 10 MB.
DIRECTORY_BYTES = 64 << 20
TAR_BLOCK = 512
# A header that only carries a long name or a comment; a file of them would fill the memory.
TAR_EXTRA_BYTES = 1 << 20

TAR_LINKS = {b"1": "a hard link", b"2": "a symbolic link"}
TAR_DEVICES = {b"3": "a device", b"4": "a device", b"6": "a named pipe"}
DRIVE = re.compile(r"[A-Za-z]:")


def check_member_name(name: str) -> None:
    """Refuse a path that leads out of the folder it is unpacked in.

    Raises:
      DataError: it is absolute, or climbs.
    """
    parts = re.split(r"[/\\]", name)
    if name.startswith(("/", "\\")) or DRIVE.match(name) or ".." in parts or "\0" in name:
        raise DataError(
            f"the archive holds the path {name[:200]!r}, which leads out of the folder that it is"
            " unpacked in. Nothing was unpacked. Get the data from a place that you trust, or"
            " unpack it with care and name the file inside."
        )


def _refuse_entry(name: str, kind: str) -> DataError:
    return DataError(
        f"the archive holds {kind}, {name[:200]!r}, and no data has one. Nothing was unpacked."
        " Unpack it yourself and name the data file."
    )


def _check_count(count: int) -> None:
    if count > MEMBERS:
        raise DataError(
            f"the archive holds over {MEMBERS:,} files. Unpack it and name the data files."
        )


# ---------------------------------------------------------------- zip


@contextmanager
def _zip_errors() -> Iterator[None]:
    """Turn the errors of zipfile into words."""
    try:
        yield
    except NotImplementedError as error:
        raise DataError(
            f"the zip archive needs what is not read here ({error}). Unpack it and name the file"
            " inside."
        ) from error
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        zlib.error,
        struct.error,
        EOFError,
        RuntimeError,
        ValueError,
        IndexError,
    ) as error:
        raise DataError(
            f"the zip archive is damaged or cut short ({str(error)[:200] or 'it ends too early'})."
            " Copy it again."
        ) from error


class ZipStream(io.RawIOBase):
    """The bytes of one member of a zip archive, checked against their checksum at the end."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, total: int) -> None:
        with _zip_errors():
            self.member = archive.open(info)
        self.packed, self.total, self.out = total, info.file_size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        """Fill the buffer completely, except at the end."""
        filled = 0
        while filled < len(buffer):
            with _zip_errors():
                piece = self.member.read(min(len(buffer) - filled, OUT))
            if not piece:
                break
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
            self.out += len(piece)
            refuse_bomb("zip", self.packed, self.out)
        return filled


class ZipArchive:
    """A zip archive that is open."""

    def __init__(self, stream: BinaryIO) -> None:
        self.size = stream.seek(0, io.SEEK_END)
        _check_directory(stream, self.size)
        with _zip_errors():
            self.archive = zipfile.ZipFile(stream)
        self.infos: dict[str, zipfile.ZipInfo] = {}
        _check_count(len(self.archive.infolist()))
        for info in self.archive.infolist():
            self._check(info)
            if not info.is_dir():
                self.infos[info.filename] = info

    def _check(self, info: zipfile.ZipInfo) -> None:
        name, mode = info.filename, info.external_attr >> 16
        check_member_name(info.orig_filename)
        check_member_name(name)
        if stat.S_ISLNK(mode):
            raise _refuse_entry(name, "a symbolic link")
        if stat.S_IFMT(mode) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise _refuse_entry(name, "a device")
        if info.flag_bits & 0x1:
            raise DataError(
                f"{name[:200]!r} in the zip archive is encrypted. Unpack it with its password and"
                " name the file inside."
            )
        # others can turn a few bytes into gigabytes before anything could stop them
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(
                f"{name[:200]!r} in the zip archive is packed by a method that is not read here"
                f" (number {info.compress_type}). Unpack it and name the file inside."
            )
        if name in self.infos:
            raise DataError(
                f"the zip archive holds {name[:200]!r} twice: which one is meant? Unpack it and"
                " name the file."
            )

    def names(self) -> list[str]:
        """List its files."""
        return list(self.infos)

    def open(self, name: str) -> ZipStream:
        """Open a member."""
        return ZipStream(self.archive, self.infos[name], self.size)


def _check_directory(stream: BinaryIO, size: int) -> None:
    """Refuse an archive whose directory would fill the memory, before it is read."""
    stream.seek(max(0, size - 65_558))
    tail = stream.read(65_558)
    at = tail.rfind(b"PK\5\6")
    if at >= 0 and len(tail) >= at + 20:
        listed = struct.unpack_from("<L", tail, at + 12)[0]
        # 0xFFFFFFFF: the size stands in another record, and the files before it leave no more
        if min(listed, size) > DIRECTORY_BYTES and listed != 0xFFFFFFFF:
            raise DataError(
                f"the directory of the zip archive takes {listed:,} bytes. Unpack it and name the"
                " data files."
            )
    stream.seek(0)


# ---------------------------------------------------------------- tar


@dataclass(frozen=True)
class TarEntry:
    """A file in a tar archive."""

    name: str
    start: int  # the byte of the unpacked archive that its data begin at
    size: int


class _Forward:
    """A stream that is read and skipped forward, with its position."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.at = stream, 0

    def read(self, count: int) -> bytes:
        data = self.stream.read(count)
        self.at += len(data)
        return data

    def whole(self, count: int) -> bytes:
        """Read so many bytes, or report that the archive is cut short."""
        data = self.read(count)
        if len(data) < count:
            raise DataError("the tar archive is cut short. Copy it again.")
        return data

    def skip(self, count: int) -> None:
        while count > 0:
            count -= len(self.whole(min(count, OUT)))


def _number(field: bytes) -> int:
    """Read a size: octal, or binary where the first bit is set."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    text = field.split(b"\0", 1)[0].strip() or b"0"
    if not re.fullmatch(rb"[0-7]+", text):
        raise DataError(
            f"the tar archive is damaged: {text[:20]!r} stands where a size is expected. Copy it"
            " again."
        )
    return int(text, 8)


def has_tar_header(block: bytes) -> bool:
    """Tell whether a block is a tar header: its checksum is right."""
    found = re.fullmatch(rb"[ \0]*([0-7]+)[ \0]*", block[148:156])
    if len(block) < TAR_BLOCK or found is None:
        return False
    blank = block[:148] + b" " * 8 + block[156:TAR_BLOCK]
    return int(found[1], 8) == sum(blank)


def is_tar(head: bytes) -> bool:
    """Tell whether a file that begins with these bytes is a tar archive."""
    empty = len(head) >= 2 * TAR_BLOCK and not head[: 2 * TAR_BLOCK].strip(b"\0")
    return has_tar_header(head) or empty


def _pax(data: bytes) -> dict[str, str]:
    """Read the records of an extended header: "25 path=name\\n", where 25 is the whole length."""
    found, at = {}, 0
    while at < len(data) and data[at : at + 1] != b"\0":
        blank = data.find(b" ", at, at + 12)
        length = int(data[at:blank]) if blank > 0 and data[at:blank].isdigit() else 0
        record = data[at : at + length]
        if length <= blank - at or not record.endswith(b"\n") or b"=" not in record:
            raise DataError("the tar archive is damaged: an extended header. Copy it again.")
        key, _, value = record[blank - at + 1 : -1].partition(b"=")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at += length
    return found


def tar_entries(stream: BinaryIO) -> list[TarEntry]:
    """List the files of a tar archive. The whole stream is read.

    Raises:
      DataError: it is damaged, cut short, or holds what no data has.
    """
    forward = _Forward(stream)
    found: dict[str, TarEntry] = {}
    extra: dict[str, str] = {}
    count = 0
    while (block := forward.whole(TAR_BLOCK)).strip(b"\0"):
        count += 1
        _check_count(count)
        if not has_tar_header(block):
            raise DataError("the tar archive is damaged: a header's checksum. Copy it again.")
        kind, size = block[156:157], _number(block[124:136])
        if kind in (b"x", b"g", b"L", b"K"):
            extra |= _extension(forward, kind, size)
            continue
        name = extra.get("path") or _entry_name(block)
        if "size" in extra:
            size = int(extra["size"]) if extra["size"].isdigit() else 0
        _check_entry(name, kind, extra)
        if kind in (b"0", b"\0", b"7") and not name.endswith("/"):
            if name in found:
                raise DataError(
                    f"the tar archive holds {name[:200]!r} twice: which one is meant? Unpack it"
                    " and name the file."
                )
            found[name] = TarEntry(name, forward.at, size)
        forward.skip(-(-size // TAR_BLOCK) * TAR_BLOCK)
        extra = {}
    while rest := forward.read(OUT):
        if rest.strip(b"\0"):
            raise DataError(
                "something follows the end of the tar archive, such as a second archive. Unpack it"
                " (tar --ignore-zeros -xf) and name the data files."
            )
    return list(found.values())


def _extension(forward: _Forward, kind: bytes, size: int) -> dict[str, str]:
    """Read what a header of this kind says about the next file."""
    if size > TAR_EXTRA_BYTES:
        raise DataError(f"the tar archive has a header of {size:,} bytes, which no name needs.")
    data = forward.whole(-(-size // TAR_BLOCK) * TAR_BLOCK)[:size]
    if kind == b"x":
        return _pax(data)
    if kind == b"L":
        return {"path": data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")}
    return {}  # a comment on the archive, or the target of a link, which is refused


def _entry_name(block: bytes) -> str:
    name, prefix = block[:100], block[345:500]
    text = name.split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0" and prefix.strip(b"\0"):
        text = prefix.split(b"\0", 1)[0] + b"/" + text
    return text.decode("utf-8", "surrogateescape")


def _check_entry(name: str, kind: bytes, extra: dict[str, str]) -> None:
    check_member_name(name)
    if kind in TAR_LINKS or kind in TAR_DEVICES:
        raise _refuse_entry(name, (TAR_LINKS | TAR_DEVICES)[kind])
    if kind == b"S" or any(key.startswith("GNU.sparse") for key in extra):
        raise _refuse_entry(name, "a file with holes")
    if kind not in (b"0", b"\0", b"7", b"5"):
        raise _refuse_entry(name, f"an entry of the kind {kind.decode('ascii', 'replace')!r}")


class Slice(io.RawIOBase):
    """Part of a stream: so many bytes from where it stands."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream, self.left = stream, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        """Fill the buffer completely, except at the end."""
        data = self.stream.read(min(len(buffer), self.left))
        if len(data) < min(len(buffer), self.left):
            raise DataError("the tar archive is cut short. Copy it again.")
        buffer[: len(data)] = data
        self.left -= len(data)
        return len(data)


class TarArchive:
    """A tar archive, packed or not, that is read forward. Going back means opening it again."""

    def __init__(self, reopen: Callable[[], io.RawIOBase], stream: BinaryIO) -> None:
        self.entries = {entry.name: entry for entry in tar_entries(stream)}
        self.reopen, self.at = reopen, 0
        self.stream: BinaryIO | None = None
        self.part: Slice | None = None

    def names(self) -> list[str]:
        """List its files."""
        return list(self.entries)

    def open(self, name: str) -> Slice:
        """Open a member. The one before is closed by it."""
        entry = self.entries[name]
        at = self.at - (self.part.left if self.part else 0)
        if self.stream is None or at > entry.start:
            self.close()
            self.stream = cast(BinaryIO, io.BufferedReader(self.reopen(), OUT))
            at = 0
        _Forward(self.stream).skip(entry.start - at)
        self.at, self.part = entry.start + entry.size, Slice(self.stream, entry.size)
        return self.part

    def close(self) -> None:
        """Close what is open."""
        if self.stream is not None:
            self.stream.close()
