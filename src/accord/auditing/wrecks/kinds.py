"""The kinds of wrecks in one table: sign, mend, words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from accord.auditing.wrecks.characters import (
    blank,
    homoglyphs,
    invisible,
    mend_blanks,
    mend_homoglyphs,
    mend_unseen,
    watermark,
)
from accord.auditing.wrecks.context import Asked
from accord.auditing.wrecks.damage import damaged, loop
from accord.auditing.wrecks.encoded import (
    doubled_json,
    escapes,
    mend_escapes,
    mend_json,
    mend_page,
    page_escapes,
)
from accord.auditing.wrecks.mojibake import mend_mojibake, mojibake
from accord.auditing.wrecks.placeholders import placeholder
from accord.auditing.wrecks.whole import Hit, error, moderation, sentinel


@dataclass(frozen=True)
class Kind:
    """A kind of wreck."""

    find: Callable[[str, Asked], Hit | None]
    title: str
    what: str  # verb and object, behind "12 of 400 chosen"
    mend: Callable[[str], str] | None = None


# In this order: the first of the whole-text kinds names a text, and the others are not looked for.
WHOLE = {
    "blank": Kind(blank, "Texts that nobody sees", "hold nothing that can be seen"),
    "sentinel": Kind(sentinel, "A missing value as text", "are a missing value written out"),
    "moderation": Kind(moderation, "Notices of a moderation layer", "are a moderation notice"),
    "error": Kind(error, "Errors of a program as text", "are an error message"),
    "placeholder": Kind(placeholder, "Places never filled in", "hold a place never filled in"),
}
# A kind takes the signs of the kinds that it hides: bytes read in a wrong code page leave controls
# that nobody sees, and JSON around a text leaves escapes in it.
PARTS = {
    "json": Kind(doubled_json, "Texts inside JSON", "are JSON around the text", mend_json),
    "mojibake": Kind(
        mojibake, "Text in a wrong code page", "were read in a wrong code page", mend_mojibake
    ),
    "invisible": Kind(
        invisible, "Characters that nobody sees", "hold characters that nobody sees", mend_unseen
    ),
    "html": Kind(
        page_escapes, "Escapes and tags of a page", "hold escapes or tags of a page", mend_page
    ),
    "escaped": Kind(
        escapes, "Escapes written out", "hold escapes such as \\n written out", mend_escapes
    ),
    "watermark": Kind(
        watermark, "A hidden pattern", "hold a pattern of odd characters", mend_blanks
    ),
    "homoglyphs": Kind(
        homoglyphs,
        "Letters of another script",
        "hold words with letters of another script",
        mend_homoglyphs,
    ),
    "loop": Kind(loop, "One piece again and again", "say one piece again and again"),
    "damaged": Kind(
        damaged,
        "Damaged on the way",
        "lost marks, blanks or line ends on the way (don?t, exam-⏎ple, end.Next)",
    ),
}
HIDES = {
    "json": ("escaped",),
    "mojibake": ("invisible", "watermark", "homoglyphs"),
    "loop": ("damaged",),
}
KINDS = WHOLE | PARTS
BITS = {name: 1 << at for at, name in enumerate(KINDS)}


def find_wrecks(text: str, asked: Asked) -> Iterator[tuple[str, Hit]]:
    """Yield (kind, sign) of a text; at most one of the kinds that are a whole text."""
    for name, kind in WHOLE.items():
        hit = kind.find(text, asked)
        if hit is not None:
            yield name, hit
            if hit.sure:
                return
            break
    hidden: tuple[str, ...] = ()
    for name, kind in PARTS.items():
        if name in hidden:
            continue
        hit = kind.find(text, asked)
        if hit is not None:
            hidden += HIDES.get(name, ()) if hit.sure else ()
            yield name, hit


MENDS = tuple(name for name, kind in PARTS.items() if kind.mend is not None)


def mend_text(text: str, name: str, asked: Asked) -> str:
    """Mend a text that has the sign of a kind; any other text stays as it is.

    A mend that leaves nothing to be seen is none: such a row is dropped, not mended.
    """
    kind = KINDS[name]
    hit = kind.find(text, asked) if kind.mend is not None else None
    if kind.mend is None or hit is None or not hit.sure:
        return text
    mended = kind.mend(text)
    return mended if mended.strip() else text
