"""Characters that nobody sees, that look like others, or that carry a pattern.

Joiners are right in emoji and in scripts that need them, marks of direction beside Arabic and
Hebrew, a break without a blank in Thai and Khmer, a variation selector behind a symbol.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

from accord.auditing.wrecks.context import Asked
from accord.auditing.wrecks.whole import Hit

READ = 65_536
ODD = (
    "\u200b\u200c\u200d\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\u00ad\u180e\u034f"
    "\u061c\u115f\u1160\u3164\uffa0\u2800\ufe00-\ufe0f\U000e0000-\U000e01ef\U0001d173-\U0001d17a"
    "\u17b4\u17b5\ufff9-\ufffb"
)
CONTROL = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f"
ASCII_CONTROL = bytes(c for c in (*range(32), 127) if c not in (9, 10, 13))
UNSEEN = re.compile(f"[{ODD}{CONTROL}]")
RARE_BLANK = "\u2000-\u2008\u205f\u2009\u200a"
BLANKS = re.compile(rf"(?<=[^\W\d_])[{RARE_BLANK}\u00a0\u202f\u3000](?=[^\W\d_])")
ODD_BLANK = re.compile(rf"[{RARE_BLANK}\u00a0\u202f\u3000]")
# scripts whose words are shaped by joiners or ordered by marks of direction
SHAPED = (
    (0x0590, 0x0900),
    (0x0900, 0x1100),
    (0x1780, 0x18B0),
    (0x1A00, 0x1C00),
    (0xA800, 0xAAFF),
    (0xFB1D, 0xFE00),
    (0xFE70, 0xFEFD),
    (0x11000, 0x12000),
    (0x0E00, 0x1000),
)
RUN = 8  # characters of a row that nobody sees: no slip writes so many
REGULAR = 3  # equal distances that make a pattern


def _shaped(character: str) -> bool:
    value = ord(character)
    return any(low <= value < high for low, high in SHAPED)


def _symbol(character: str) -> bool:
    return (
        unicodedata.category(character) in ("So", "Sk", "Mn", "Me", "Sm")
        or character in "0123456789#*©®™‼⁉‍️ℹ"
        or ord(character) >= 0x1F000
        or 0x2190 <= ord(character) < 0x2C00
        or 0x2E80 <= ord(character) < 0xA000  # variants of ideographs
    )


def _right(text: str, at: int) -> bool:
    """Return True if an unseen character has its right in this place."""
    character = text[at]
    before = text[at - 1] if at else ""
    after = text[at + 1] if at + 1 < len(text) else ""
    value = ord(character)
    if value in (0x200C, 0x200D):
        if (before and _shaped(before)) or (after and _shaped(after)):
            return True
        return value == 0x200D and bool(before and after) and _symbol(before) and _symbol(after)
    if 0xFE00 <= value <= 0xFE0F or 0xE0100 <= value <= 0xE01EF:
        return bool(before) and _symbol(before) and not _selects(before)
    if 0xE0020 <= value <= 0xE007F:  # the flags of England, Scotland and Wales
        return "\U0001f3f4" in text[max(0, at - 7) : at]
    if value in (0x200B, 0x2060) and before and after:
        # a place to break a line in scripts without blanks
        return (_shaped(before) and _shaped(after)) or (_wide(before) and _wide(after))
    if value in (0x200E, 0x200F, 0x061C) or 0x202A <= value <= 0x202E or 0x2066 <= value <= 0x2069:
        return any(_shaped(c) for c in text[max(0, at - 60) : at + 60])
    if value in (0x17B4, 0x17B5, 0x1160, 0x115F):
        return bool(before) and (_shaped(before) or 0x1100 <= ord(before) < 0x1200)
    if value == 0x2800:  # a blank of Braille, and of pictures made of it
        return any(0x2801 <= ord(c) < 0x2900 for c in text[max(0, at - 80) : at + 80])
    return False


def _selects(character: str) -> bool:
    return 0xFE00 <= ord(character) <= 0xFE0F or ord(character) >= 0xE0000


def _wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in ("W", "F")


@lru_cache(maxsize=4)  # two signs ask for the places of one text, one after the other
def unseen(text: str) -> list[int]:
    """Return the places of unseen characters that have no right to be there."""
    return [f.start() for f in UNSEEN.finditer(text) if not _right(text, f.start())]


def is_blank(text: str) -> bool:
    """Return True if nothing in a text can be seen."""
    return not UNSEEN.sub("", text).strip() or not any(
        c.isprintable() and not c.isspace() and not UNSEEN.match(c) for c in text[:READ]
    )


def blank(text: str, asked: Asked) -> Hit | None:
    """Recognise a text of which nothing can be seen."""
    if text[:1].isascii() and text[:1].isprintable() and not text[:1].isspace():
        return None
    return Hit("nothing that can be seen: " + text[:20]) if is_blank(text) else None


def invisible(text: str, asked: Asked) -> Hit | None:
    """Recognise characters in a text that cannot be seen."""
    head = text[:READ]
    if text.isascii() and len(head.encode().translate(None, ASCII_CONTROL)) == len(head):
        return None
    places = unseen(head)
    if not places:
        return None
    if is_blank(text):
        return None
    return None if _pattern(head, places) else Hit(head[max(0, places[0] - 25) : places[0] + 25])


def watermark(text: str, asked: Asked) -> Hit | None:
    """Recognise a pattern of unseen characters or of rare blanks."""
    if text.isascii():
        return None
    head = text[:READ]
    places = unseen(head)
    if places and not is_blank(text) and _pattern(head, places):
        return Hit(head[max(0, places[0] - 15) : places[0] + 45])
    blanks = [f.start() for f in ODD_BLANK.finditer(head) if _between_letters(head, f.start())]
    if blanks and _all_hard(head):
        return Hit(head[max(0, blanks[0] - 15) : blanks[0] + 45])
    if len(blanks) >= REGULAR:
        rare = [at for at in blanks if head[at] not in "\u00a0\u202f\u3000"]
        if len(rare) >= REGULAR or (len(blanks) > REGULAR and _regular(head, blanks)):
            return Hit(head[max(0, blanks[0] - 15) : blanks[0] + 45])
    return None


def _all_hard(text: str) -> bool:
    """Return True if most blanks of a text are no-break blanks, in a script that has none so."""
    hard = text.count("\u00a0")
    return hard > REGULAR and hard > 2 * text.count(" ") and len(text) < 40 * hard


def _between_letters(text: str, at: int) -> bool:
    return 0 < at < len(text) - 1 and text[at - 1].isalpha() and text[at + 1].isalpha()


def _pattern(text: str, places: list[int]) -> bool:
    """Return True if unseen characters stand in a long run, in a code of two, or regularly."""
    run = longest = 1
    for one, two in pairwise(places):
        run = run + 1 if two == one + 1 else 1
        longest = max(longest, run)
    kinds = {text[at] for at in places}
    selectors = [at for at in places if _selects(text[at])]
    if longest >= RUN or (longest > 3 and len(kinds) > 1) or len(selectors) > 2:
        return True
    return len(places) > REGULAR and _regular(text, places)


def _regular(text: str, places: list[int]) -> bool:
    """Return True if the distances are equal, in characters or in words, but for one in ten."""
    gaps = [b - a for a, b in pairwise(places)]
    words = [len(text[a : b + 1].split()) for a, b in pairwise(places) if b - a < 2000]
    return any(
        values and max(map(values.count, set(values))) >= max(REGULAR, 0.9 * len(values))
        for values in (gaps, words)
    )


BROKEN_BY = {"\x07": "\\a", "\x08": "\\b", "\x0b": "\\v", "\x0c": "\\f"}
BROKEN_LATEX = re.compile(  # the rest of \alpha, \boxed, \vec, \frac and their like
    "\x07(?=lpha|ngle|pprox|st|rc)|\x08(?=oxed|ar|eta|egin|inom|mod|ig|igl|igr|ullet|oldsymbol|f|ot)"
    "|\x0b(?=ec|ar|dots|ert)|\x0c(?=rac|lat|orall|box|ootnote|loor)"
)


def mend_unseen(text: str) -> str:
    """Take the unseen characters out that have no right to be there; rare blanks become blanks."""
    if any(c in text for c in BROKEN_BY):
        # a backslash read as an escape: its letter comes back before anything is taken out
        text = BROKEN_LATEX.sub(lambda found: BROKEN_BY[found.group()], text)
    for _ in range(4):  # what stood beside a character that goes may lose its right
        places = set(unseen(text))
        if not places:
            break
        text = "".join(c for at, c in enumerate(text) if at not in places)
    return text


def mend_blanks(text: str) -> str:
    """Take a pattern of unseen characters out, and turn rare blanks into blanks."""
    if _all_hard(text):
        text = text.replace("\u00a0", " ")
    return BLANKS.sub(" ", mend_unseen(text))


# ---------------------------------------------------------------- letters that look like others

ALIKE = dict(
    zip(
        "аеорсухіјѕһԁԛԝАВЕКМНОРСТХУІЈЅԌѵοΑΒΕΖΗΙΚΜΝΟΡΤΥΧցօսⅼⅽⅾⅰⅴⅹ",
        "aeopcyxijshdqwABEKMHOPCTXYIJSGvoABEZHIKMNOPTYXgoulcdivx",
        strict=True,
    )
)
ALIKE |= {chr(0xFF21 + i): chr(65 + i) for i in range(26)}
ALIKE |= {chr(0xFF41 + i): chr(97 + i) for i in range(26)}
ALIKE_SET = "".join(ALIKE)
LOOKS_ALIKE = re.compile(f"[{ALIKE_SET}]")
WORD = re.compile(r"[^\W\d_]+")


def homoglyphs(text: str, asked: Asked) -> Hit | None:
    """Recognise Latin words with letters of another script in them."""
    if text.isascii():
        return None
    head = text[:READ]
    for found in LOOKS_ALIKE.finditer(head):
        at = found.start()
        beside = head[max(0, at - 1) : at + 2]
        if any(c.isascii() and c.isalpha() for c in beside):
            word = _word_at(head, at)
            if _latin(word) != word:
                return Hit(word)
    return None


def _word_at(text: str, at: int) -> str:
    low, high = at, at + 1
    while low and text[low - 1].isalpha() and at - low < 60:
        low -= 1
    while high < len(text) and text[high].isalpha() and high - at < 60:
        high += 1
    return text[low:high]


def _latin(word: str) -> str:
    """Return a word in Latin letters, if half of it is and all others only look so."""
    latin = sum(c.isascii() for c in word)
    if len(word) < 3 or latin == 0 or word.isascii():
        return word
    if not all(c.isascii() or c in ALIKE for c in word) or 2 * latin < len(word) - 1:
        return word
    return "".join(ALIKE.get(c, c) for c in word)


def mend_homoglyphs(text: str) -> str:
    """Write Latin words in Latin letters."""
    return WORD.sub(lambda found: _latin(found.group()), text) if not text.isascii() else text
