"""Decompression of gzip and zstd files.

Damage is reported in words, and a small file cannot unpack into a whole disk. Both readers take
several members after each other, as `cat a.gz b.gz` gives them.
"""

from __future__ import annotations

import io
import zlib
from abc import abstractmethod
from typing import TYPE_CHECKING, BinaryIO, Protocol

from accord.types import DataError

if TYPE_CHECKING:
    from zstandard import ZstdDecompressor

LAYERS = 2  # files packed more often are no data; one that contains itself would never end

# Text packs 3 to 20 times. What packs a hundred times better than that holds nothing but
# repetition.
BOMB_BYTES = 1 << 30
BOMB_RATIO = 400


class Member(Protocol):
    """A decoder of one member: after its end, the bytes behind it are `unused_data`."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


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
        while piece := self.packed.read(self.piece):
            self.bytes_in += len(piece)
            if out := self._decoded(piece):
                self.bytes_out += len(out)
                self._refuse_bomb()
                return out
        if self.member is not None:
            raise DataError(f"the {self.kind} data is cut short. Copy it again.")
        return b""

    def _decoded(self, piece: bytes) -> bytes:
        out = []
        try:
            while piece := piece if self.member else piece.lstrip(self.padding):
                self.member = self.member or self.new_member()
                out.append(self.member.decompress(piece))
                piece = self.member.unused_data
                self.member = None if self.member.eof else self.member
        except self.damage as error:
            raise DataError(f"the {self.kind} data is damaged ({error}). Copy it again.") from error
        return b"".join(out)

    def _refuse_bomb(self) -> None:
        if self.bytes_out > BOMB_BYTES and self.bytes_out > BOMB_RATIO * self.bytes_in:
            raise DataError(
                f"{self.bytes_in:,} bytes of {self.kind} data unpack to over {self.bytes_out:,}: no"
                " preferences pack so well, so this was made to fill a memory or a disk. If it is"
                " right, unpack it yourself."
            )


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
                "zstd needs the package zstandard: pip install 'accord[zstd]'."
            ) from None
        self.damage = zstandard.ZstdError
        self.decompressor: ZstdDecompressor = zstandard.ZstdDecompressor()

    def new_member(self) -> Member:
        return self.decompressor.decompressobj()
