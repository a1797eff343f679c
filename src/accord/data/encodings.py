"""Text that is not UTF-8 with line feeds: UTF-16 and UTF-32, with a mark or without, and the line
ends of old Macs.

All become UTF-8 on the way, a piece at a time. Single-byte code pages (cp1252 and its like) are
never guessed, since each reads as every other: they are named, with a command that converts.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable
from typing import BinaryIO

from accord.types import DataError

BOM = codecs.BOM_UTF8
PIECE = 1 << 16  # bytes converted at a time

# Marks at the start of a text. UTF-32's begins as UTF-16's does, so it stands first.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# Zero bytes of a text without a mark, whose first two characters are ASCII, as those of JSON and
# of a table's header are (RFC 4627, section 3).
ZEROS: dict[tuple[bool, ...], str] = {
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
}
NAMES = {"utf-16-le": "UTF-16", "utf-16-be": "UTF-16", "utf-32-le": "UTF-32", "utf-32-be": "UTF-32"}
# Bytes that cp1252 leaves undefined: a text with one of them is of another code page.
NOT_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")


class Converted(io.RawIOBase):
    """The bytes of a stream after a conversion, a piece at a time."""

    def __init__(self, stream: BinaryIO, convert: Callable[[bytes, bool], bytes]) -> None:
        self.stream, self.convert = stream, convert
        self.ready, self.at, self.ended = b"", 0, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        """Fill the buffer completely, except at the end."""
        filled = 0
        while filled < len(buffer):
            if self.at == len(self.ready):
                if self.ended:
                    break
                piece = self.stream.read(PIECE)
                self.ended = not piece
                self.ready, self.at = self.convert(piece, self.ended), 0
                continue
            count = min(len(buffer) - filled, len(self.ready) - self.at)
            buffer[filled : filled + count] = self.ready[self.at : self.at + count]
            filled, self.at = filled + count, self.at + count
        return filled


def unicode_name(head: bytes) -> tuple[str, int] | None:
    """Recognise UTF-16 or UTF-32 by a text's first bytes.

    Returns:
      The codec, and how many bytes its mark takes; None for all other text.
    """
    for mark, codec in MARKS.items():
        if head.startswith(mark):
            return codec, len(mark)
    text = head[:4]
    zeros = tuple(byte == 0 for byte in text)
    if len(text) == 2 and zeros in ((False, True), (True, False)):  # one character
        return "utf-16-le" if zeros[1] else "utf-16-be", 0
    ascii = re.fullmatch(rb"[\0\t\r\n -~]{4}", text)  # a binary file may begin with a small number
    found = ZEROS.get(zeros) if ascii else None
    return None if found is None else (found, 0)


def to_utf8(stream: BinaryIO, codec: str) -> Converted:
    """Convert UTF-16 or UTF-32 to UTF-8.

    Half a surrogate pair becomes bytes that are no UTF-8, so that it spoils its row alone.

    Raises:
      DataError, as it is read: the text ends within a character, or a UTF-32 unit is none.
    """
    decoder = codecs.getincrementaldecoder(codec)(errors="surrogatepass")

    def convert(piece: bytes, last: bool) -> bytes:
        try:
            return decoder.decode(piece, last).encode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise DataError(
                f"the {NAMES[codec]} text is damaged or cut short ({error.reason}). Copy it again."
            ) from error

    return Converted(stream, convert)


def has_mac_ends(head: bytes) -> bool:
    """Tell whether lines end with a carriage return alone, as on Macs before 2001."""
    return b"\n" not in head and b"\r" in head.rstrip(b"\r")


def unix_ends(stream: BinaryIO) -> Converted:
    """Replace every line end (\\r, \\r\\n) by \\n. JSON holds no bare \\r within its strings."""
    held = b""

    def convert(piece: bytes, last: bool) -> bytes:
        nonlocal held
        text, held = held + piece, b""
        if text.endswith(b"\r") and not last:
            text, held = text[:-1], b"\r"
        return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    return Converted(stream, convert)


def code_page(raw: bytes) -> str:
    """Name the single-byte encoding that bytes which are not UTF-8 are most likely in."""
    return "ISO-8859-1" if NOT_CP1252.search(raw) else "CP1252"
