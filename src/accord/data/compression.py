"""Decompression of gzip, zstd, xz and bzip2 files.

Damage is reported in words, and a small file cannot unpack into a whole disk or memory. All readers
take several members after each other, as `cat a.gz b.gz` gives them.
"""

from __future__ import annotations

import bz2
import io
import lzma
import shutil
import tempfile
import zlib
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from accord.environment.installing import install_line
from accord.types import DataError

if TYPE_CHECKING:
    from zstandard import ZstdDecompressor

LAYERS = 2  # files packed more often are no data; one that contains itself would never end

# Text packs 3 to 20 times. What packs a hundred times better than that holds nothing but
# repetition.
BOMB_BYTES = 1 << 30
BOMB_RATIO = 400
# An xz file says how much memory its decoder needs, up to 4 GiB; `xz -9` asks for 65 MiB.
XZ_MEMORY = 256 << 20
# Bytes that a decoder which can stop in between gives at a time: 45 bytes of bzip2 can stand for
# 46 MB.
OUT = 1 << 20


class Member(Protocol):
    """A decoder of one member: after its end, the bytes behind it are `unused_data`."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


class Stepwise:
    """A decoder that gives at most `OUT` bytes at a time and keeps the rest of its input."""

    def __init__(self, decoder: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self.decoder = decoder

    @property
    def eof(self) -> bool:
        return self.decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self.decoder.unused_data

    @property
    def full(self) -> bool:
        """Tell whether it can give more without more input."""
        return not (self.decoder.eof or self.decoder.needs_input)

    def decompress(self, data: bytes, /) -> bytes:
        return self.decoder.decompress(data, OUT)


class Unpacked(io.RawIOBase):
    """The unpacked bytes of a stream.

    Subclasses decode one member; this class joins them and watches the ratio.
    """

    kind = ""
    damage: type[Exception] = Exception  # the error that the decoder raises
    piece = 0  # packed bytes decoded at a time; what they can become must fit the memory
    padding = b""  # bytes that may stand between members

    def __init__(self, packed: BinaryIO) -> None:
        self.packed = packed
        self.member: Member | None = None
        self.ready, self.at = b"", 0
        self.bytes_in = self.bytes_out = 0

    @abstractmethod
    def new_member(self) -> Member:
        """Return a fresh decoder of one member."""

    if TYPE_CHECKING:

        def read(self, size: int = -1, /) -> bytes:
            """Read as the base class does.

            It may return None, as a raw stream does for a read that would block.
            """

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        """Fill the buffer completely, except at the end: the file type is recognised from its first
        64 KiB or from all of it.
        """
        filled = 0
        while filled < len(buffer):
            if self.at == len(self.ready):
                self.ready, self.at = self._next(), 0
                if not self.ready:
                    break
            count = min(len(buffer) - filled, len(self.ready) - self.at)
            buffer[filled : filled + count] = self.ready[self.at : self.at + count]
            filled, self.at = filled + count, self.at + count
        return filled

    def _next(self) -> bytes:
        """Return the next unpacked bytes, none at the end.

        Raises:
          DataError: the data are damaged, cut short, or blow up out of all proportion.
        """
        while (full := getattr(self.member, "full", False)) or (
            piece := self.packed.read(self.piece)
        ):
            self.bytes_in += 0 if full else len(piece)
            if out := self._resumed() if full else self._decoded(piece):
                self.bytes_out += len(out)
                self._refuse_bomb()
                return out
        if self.member is not None:
            raise DataError(f"the {self.kind} data is cut short. Copy it again.")
        return b""

    def _resumed(self) -> bytes:
        """Take more from a decoder that was full, then go on with what follows its end."""
        assert self.member is not None, "only a decoder can be full"
        try:
            out = self.member.decompress(b"")
        except self.damage as error:
            raise self._damaged(error) from error
        if not self.member.eof:
            return out
        behind, self.member = self.member.unused_data, None
        return out + self._decoded(behind)

    def _damaged(self, error: Exception) -> DataError:
        if "Memory usage limit" in str(error):  # lzma's words
            return DataError(
                f"the {self.kind} data needs over {XZ_MEMORY >> 20} MiB to be unpacked. Unpack it"
                " and pack it again, as xz does by itself."
            )
        return DataError(f"the {self.kind} data is damaged ({error}). Copy it again.")

    def _decoded(self, piece: bytes) -> bytes:
        out = []
        try:
            while piece := piece if self.member else piece.lstrip(self.padding):
                self.member = self.member or self.new_member()
                out.append(self.member.decompress(piece))
                piece = self.member.unused_data
                self.member = None if self.member.eof else self.member
        except self.damage as error:
            raise self._damaged(error) from error
        return b"".join(out)

    def _refuse_bomb(self) -> None:
        refuse_bomb(self.kind, self.bytes_in, self.bytes_out)


def refuse_bomb(kind: str, packed: int, unpacked: int) -> None:
    """Refuse data that unpack to more than text can.

    Raises:
      DataError: they do.
    """
    if unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * packed:
        raise DataError(
            f"{packed:,} bytes of {kind} data unpack to over {unpacked:,}: no preferences pack so"
            " well, so this was made to fill a memory or a disk. If it is right, unpack it"
            " yourself."
        )


@contextmanager
def seekable(stream: BinaryIO) -> Iterator[BinaryIO]:
    """Return a stream that can be read in any order: itself, or a copy of what is left of it in a
    temporary file without a name.
    """
    if stream.seekable():
        yield stream
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(stream, copy, OUT)
        copy.seek(0)
        yield cast(BinaryIO, copy)


class Gzip(Unpacked):
    """gzip: at most 1,032 times larger unpacked."""

    kind, damage, piece, padding = "gzip", zlib.error, 1 << 14, b"\0"

    def new_member(self) -> Member:
        return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)


class Zstd(Unpacked):
    """zstd: a block of four bytes can stand for 128 KiB.

    The package's own reader takes data that were cut short for complete.
    """

    kind, piece = "zstd", 1 << 10

    def __init__(self, packed: BinaryIO) -> None:
        super().__init__(packed)
        try:
            import zstandard
        except ImportError:
            raise DataError(
                f"zstd needs the package zstandard: {install_line('accord[zstd]')}"
            ) from None
        self.damage = zstandard.ZstdError
        self.decompressor: ZstdDecompressor = zstandard.ZstdDecompressor()

    def new_member(self) -> Member:
        return self.decompressor.decompressobj()


class Xz(Unpacked):
    """xz: at most 7,000 times larger unpacked."""

    kind, damage, piece, padding = "xz", lzma.LZMAError, 1 << 12, b"\0"

    def new_member(self) -> Member:
        return Stepwise(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY))


class Bzip2(Unpacked):
    """bzip2: at most a million times larger unpacked."""

    kind, damage, piece, padding = "bzip2", OSError, 1 << 12, b"\0"

    def new_member(self) -> Member:
        return Stepwise(bz2.BZ2Decompressor())
