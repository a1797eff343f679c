"""Habits of a whole answer that nobody writes for its content: blanks at its ends, capitals
throughout, a mark at its end, quotation marks around it.

Each habit has a test and a way to write the answer without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

READ = 4_000  # characters of an answer that are looked at
TAG = re.compile(r"<([A-Za-z][\w:-]{0,30})>")
QUOTES = ('""', "''", "“”", "‘’", "«»", "„“", "「」", "『』", "``", "**", "__", "()", "[]", "{}")
STOPS = ".!?。！？…"


@dataclass(frozen=True)
class Habit:
    """A property of a whole answer."""

    check: str
    name: str  # completes “… in 40 % of chosen answers”
    has: Callable[[str], bool]
    without: Callable[[str], str]
    # Anywhere in the text: a longer answer has more of it, so it counts only where it is exclusive.
    anywhere: bool = False
    # The content may ask for it: 5 % of truthfulqa's desirable answers ask back, .1 % of others
    content: bool = False


def _letters(text: str) -> str:
    return "".join(c for c in text[:READ] if c.isalpha())


def _is_upper(text: str) -> bool:
    letters = _letters(text)
    return len(letters) >= 8 and letters.isupper()


def _is_lower(text: str) -> bool:
    letters = _letters(text)
    return len(letters) >= 8 and letters.islower()


def _is_title(text: str) -> bool:
    words = [word for word in text[:READ].split() if word[0].isalpha()]
    return (
        len(words) >= 4
        and all(word[0].isupper() for word in words)
        and any(word[1:].islower() for word in words)
    )


def _starts_lower(text: str) -> bool:
    text = text.lstrip()
    return len(text) >= 8 and text[0].islower() and not _is_lower(text)


def _ends(*endings: str) -> Callable[[str], bool]:
    return lambda text: len(text) > 1 and text.rstrip().endswith(endings)


def _strip_end(text: str) -> str:
    return text.rstrip().rstrip(STOPS + ";,:~-–— ")


def _has_no_stop(text: str) -> bool:
    """Tell whether a text of several words ends with a letter."""
    text = text.rstrip()
    return text.count(" ") >= 3 and text[-1:].isalnum()


def _is_wrapped(text: str) -> bool:
    text = text.strip()
    return len(text) > 2 and text[0] + text[-1] in QUOTES


def _unwrapped(text: str) -> str:
    return text.strip()[1:-1] if _is_wrapped(text) else text


def _contains(*marks: str) -> Callable[[str], bool]:
    return lambda text: any(mark in text for mark in marks)


def _replace(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


def opening_tag(text: str) -> str:
    """Return the name of the tag that opens an answer and is closed later, or ""."""
    head = text.lstrip()
    found = TAG.match(head)
    return found[1] if found and f"</{found[1]}>" in head else ""


def _without_block(text: str) -> str:
    """Take out the block that opens an answer; if nothing stands behind it, only its tags."""
    name = opening_tag(text)
    if not name:
        return text
    inside, after = text.lstrip()[len(name) + 2 :].split(f"</{name}>", 1)
    return after.lstrip() or inside.strip()


def _squeeze(text: str) -> str:
    return re.sub(r" {2,}", " ", text)


def _inner_double(text: str) -> bool:
    """Tell whether words of one line are parted by two blanks; indented lines do not count."""
    return "  " in text and any("  " in line.strip() for line in text[:READ].split("\n"))


def _is_blank_separated(text: str) -> bool:
    return "\n\n\n" in text


HABITS = (
    Habit(
        "shortcuts.blanks",
        "begin with a blank",
        lambda t: t[:1] in " \t\u00a0" and bool(t),
        lambda t: t.lstrip(" \t\u00a0"),
    ),
    Habit(
        "shortcuts.blanks",
        "begin with a newline",
        lambda t: t[:1] in "\r\n" and bool(t),
        lambda t: t.lstrip(),
    ),
    Habit(
        "shortcuts.blanks",
        "end with a blank",
        lambda t: t[-1:] in " \t\u00a0" and bool(t),
        lambda t: t.rstrip(" \t\u00a0"),
    ),
    Habit(
        "shortcuts.blanks",
        "end with a newline",
        lambda t: t[-1:] in "\r\n" and bool(t),
        lambda t: t.rstrip(),
    ),
    Habit("shortcuts.blanks", "have two blanks between words", _inner_double, _squeeze, True),
    Habit("shortcuts.blanks", "have a tab", _contains("\t"), _replace("\t", " "), True),
    Habit("shortcuts.blanks", "have carriage returns", _contains("\r"), _replace("\r", ""), True),
    Habit(
        "shortcuts.blanks",
        "have no-break blanks",
        _contains("\u00a0", "\u202f"),
        lambda t: t.replace("\u00a0", " ").replace("\u202f", " "),
        True,
    ),
    Habit(
        "shortcuts.blanks",
        "have two empty lines",
        _is_blank_separated,
        lambda t: re.sub(r"\n{3,}", "\n\n", t),
        True,
    ),
    Habit("shortcuts.capitals", "are written in capitals", _is_upper, str.lower),
    Habit("shortcuts.capitals", "have no capital letter", _is_lower, str.lower),
    Habit("shortcuts.capitals", "begin every word with a capital", _is_title, str.lower),
    Habit("shortcuts.capitals", "begin with a small letter", _starts_lower, str.lower),
    Habit("shortcuts.punctuation", "end with an exclamation mark", _ends("!", "！"), _strip_end),
    Habit(
        "shortcuts.punctuation",
        "end with a question mark",
        _ends("?", "？"),
        _strip_end,
        content=True,
    ),
    Habit("shortcuts.punctuation", "end with an ellipsis", _ends("...", "…"), _strip_end),
    Habit(
        "shortcuts.punctuation",
        "end with a full stop",
        lambda t: _ends(".", "。")(t) and not _ends("..")(t),
        _strip_end,
    ),
    Habit(
        "shortcuts.punctuation",
        "end with a semicolon, comma, colon or dash",
        _ends(";", ",", ":", "~", "-", "–", "—"),
        _strip_end,
    ),
    Habit("shortcuts.punctuation", "end without a mark", _has_no_stop, _strip_end),
    Habit("shortcuts.punctuation", "have a dash (—)", _contains("—"), _replace("—", ","), True),
    Habit("shortcuts.punctuation", "have a dash (–)", _contains("–"), _replace("–", "-"), True),
    Habit(
        "shortcuts.punctuation",
        "have an ellipsis",
        _contains("...", "…"),
        lambda t: t.replace("...", ".").replace("…", "."),
        True,
    ),
    Habit(
        "shortcuts.punctuation",
        "have !! or more",
        _contains("!!"),
        lambda t: re.sub(r"!{2,}", "!", t),
        True,
    ),
    Habit(
        "shortcuts.punctuation",
        "have ?? or more",
        _contains("??"),
        lambda t: re.sub(r"\?{2,}", "?", t),
        True,
    ),
    Habit(
        "shortcuts.punctuation",
        "have an exclamation mark",
        _contains("!"),
        _replace("!", "."),
        True,
    ),
    Habit("shortcuts.punctuation", "have a semicolon", _contains(";"), _replace(";", ","), True),
    Habit(
        "shortcuts.punctuation",
        "have a blank before a comma",
        _contains(" ,"),
        _replace(" ,", ","),
        True,
    ),
    Habit(
        "shortcuts.punctuation",
        "have a blank before a full stop",
        _contains(" ."),
        _replace(" .", "."),
        True,
    ),
    Habit("shortcuts.quotes", "stand in quotation marks or brackets", _is_wrapped, _unwrapped),
    Habit(
        "shortcuts.quotes",
        "have curly quotation marks",
        _contains("“", "”", "’", "‘"),
        lambda t: t.translate({0x201C: '"', 0x201D: '"', 0x2018: "'", 0x2019: "'"}),
        True,
    ),
    Habit(
        "shortcuts.quotes",
        "have straight double quotation marks",
        _contains('"'),
        _replace('"', "'"),
        True,
    ),
    Habit(
        "shortcuts.think",
        "open with a block in tags",
        lambda t: bool(opening_tag(t)),
        _without_block,
    ),
)
