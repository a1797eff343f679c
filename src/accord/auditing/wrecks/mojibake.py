"""UTF-8 that was read in another code page: `cafÃ©`, `donâ€™t`, `РџСЂРёРІРµС‚`.

A run of characters is mojibake if its bytes in the wrong code page are valid UTF-8, which chance
rarely makes: a lead byte must be followed by as many bytes from 80 to BF as it names.
"""

from __future__ import annotations

import re
from functools import partial

from accord.auditing.wrecks.context import Asked
from accord.auditing.wrecks.whole import Hit

READ = 65_536
ROUNDS = 4
REPLACED = "\ufffd"

# scripts that mojibake is turned into; a decoding into others is chance ("CAFÉ”" is C9 94, a letter
# of phonetics)
PLAUSIBLE = (
    (0x00A0, 0x0180),
    (0x0370, 0x0530),
    (0x05D0, 0x05EB),
    (0x0600, 0x0700),
    (0x0900, 0x0E80),
    (0x10A0, 0x1100),
    (0x1E00, 0x1F00),
    (0x2000, 0x206F),
    (0x20A0, 0x2C00),
    (0x3000, 0x3200),
    (0x4E00, 0xA000),
    (0xAC00, 0xD7A4),
    (0xFE0F, 0xFE10),
    (0xFEFF, 0xFF00),
    (0xFF01, 0xFFF0),
    (0x1F000, 0x1FB00),
)


def _page(codec: str) -> dict[int, str]:
    """Return the character of each byte from 80 on; bytes that a page lacks stay as they are."""
    out = {}
    for byte in range(0x80, 0x100):
        try:
            out[byte] = bytes([byte]).decode(codec)
        except UnicodeDecodeError:
            out[byte] = chr(byte)
    return out


def _sequences(codec: str, leads: tuple[int, ...]) -> tuple[re.Pattern[str], dict[str, int]]:
    page = _page(codec)
    bytes_of = {character: byte for byte, character in page.items()}
    if codec == "cp1252":  # Latin-1 leaves 80 to 9F as control characters
        bytes_of |= {chr(byte): byte for byte in range(0x80, 0xA0)}
    tail = "".join(c for c, byte in bytes_of.items() if byte < 0xC0)
    parts = []
    for low, high, more in ((0xC2, 0xE0, 1), (0xE0, 0xF0, 2), (0xF0, 0xF5, 3)):
        lead = "".join(page[byte] for byte in range(low, high) if not leads or byte in leads)
        if lead:
            parts.append(f"[{re.escape(lead)}][{re.escape(tail)}]{{{more}}}")
    return re.compile(f"(?:{'|'.join(parts)})+"), bytes_of


# Of pages beside Western Europe's, only what chance does not write: punctuation (E2) everywhere,
# Cyrillic (D0, D1) in the Cyrillic page. "√π" in Mac Roman would be "ù", "├│" of a tree "ó".
PAGES = (
    _sequences("cp1252", ()),
    _sequences("cp1251", (0xD0, 0xD1, 0xE2)),
    _sequences("mac_roman", (0xE2,)),
    _sequences("cp437", (0xE2,)),
)
LEAST = (1, 3, 1, 1)  # characters that must come out: "РЎ" may be two letters of an abbreviation
ABOUT = ("mojibake", "encoding", "encoded", "garbled", "unicode", "utf-8")
RUNS = re.compile(r"[^\x00-\x7f]{2,}")
GBK = re.compile("锟斤拷|鈥[\u4e00-\u9fff?]")


def mojibake(text: str, asked: Asked) -> Hit | None:
    """Recognise UTF-8 read in another code page, and characters that were lost on the way."""
    hit = None if text.isascii() else _find(text)
    if hit is not None and asked.prompt is not text:
        return None if any(map(asked.low.__contains__, ABOUT)) else hit
    return hit


def _find(text: str) -> Hit | None:
    head = text[:READ]
    for run in RUNS.finditer(head):
        for (pattern, bytes_of), least in zip(PAGES, LEAST, strict=True):
            for found in pattern.finditer(run.group()):
                if _decoded(found.group(), bytes_of, least) is not None:
                    return Hit(head[max(0, run.start() - 25) : run.end() + 25])
    at = head.find(REPLACED)
    lost = GBK.search(head)
    if lost is not None:
        at = lost.start()
    return None if at < 0 else Hit(head[max(0, at - 25) : at + 25])


def _decoded(run: str, bytes_of: dict[str, int], least: int) -> str | None:
    try:
        text = bytes(bytes_of[c] for c in run).decode("utf-8")
    except (UnicodeDecodeError, KeyError):
        return None
    if len(text) < least or not all(_plausible(c) for c in text):
        return None
    return text


def _plausible(character: str) -> bool:
    value = ord(character)
    return any(low <= value < high for low, high in PLAUSIBLE) or 0x80 <= value < 0xA0


def _decode_match(found: re.Match[str], bytes_of: dict[str, int], least: int) -> str:
    return _decoded(found.group(), bytes_of, least) or found.group()


def mend_mojibake(text: str) -> str:
    """Decode what was UTF-8; lost characters stay lost."""
    for _ in range(ROUNDS):
        before = text
        for (pattern, bytes_of), least in zip(PAGES, LEAST, strict=True):
            text = pattern.sub(partial(_decode_match, bytes_of=bytes_of, least=least), text)
        if text == before:
            break
    return text
