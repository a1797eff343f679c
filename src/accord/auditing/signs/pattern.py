"""Patterns of tokens: what a signature looks like, where it stands, and a text without it.

A pattern is a sequence of tokens at one of three levels: the words themselves, the words with every
number as "0" and every code of letters and digits as "a0" (so that stamps which vary are one
pattern), or shapes ("Aa" is a word with a capital). Matching compares tokens and needs no regular
expression made from the data.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

# A Chinese, Japanese or Korean character is a token: such text has no blanks between words.
CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
TOKEN = re.compile(f"[{CJK}]|[^\\W{CJK}]+|[^\\w\\s]|_")
READ = 4_000  # characters from the beginning of an answer that are searched
EDGE = 600  # characters at each end in which a beginning or an ending is looked for
LONGEST = 40  # tokens of a pattern
MONTHS = frozenset(
    "january february march april may june july august september october november december"
    " jan feb mar apr jun jul aug sep sept oct nov dec"
    " monday tuesday wednesday thursday friday saturday sunday mon tue wed thu fri sat sun".split()
)
LEVELS = ("exact", "digits", "shape")
# Numbers, also with what is written without a blank: "12th", "5pm", "01T12", "00Z". Other tokens
# with letters and digits, such as "4a901487" or "U3VyZSwg", are codes.
NUMBER = re.compile(r"\d+(?:st|nd|rd|th|am|pm|ms|[smhZ]|T\d*Z?)?", re.IGNORECASE)
CLASSES = frozenset(("0", "a0", "Month"))  # tokens that stand for many


@lru_cache(maxsize=1 << 16)  # a file's words come again: half of an audit's time without it
def mapped(token: str, level: str) -> str:
    """Return a token as a level sees it."""
    if level == "exact":
        return token
    if any(c.isdigit() for c in token):
        return "0" if NUMBER.fullmatch(token) else "a0"
    if token.lower() in MONTHS and token[0].isupper():
        return "Month"
    if level == "digits" or not token[0].isalpha():
        return token
    return "AA" if len(token) > 1 and token.isupper() else "Aa" if token[0].isupper() else "a"


def tokens(text: str, level: str = "exact", part: slice = slice(None)) -> list[str]:
    """Split a text into mapped tokens, and return a part of them."""
    found = TOKEN.findall(text)[part]
    return found if level == "exact" else [mapped(token, level) for token in found]


@dataclass(frozen=True)
class Pattern:
    """A sequence of tokens at a place of the answer."""

    where: str  # "beginning", "ending" or "anywhere"
    level: str  # one of LEVELS
    tokens: tuple[str, ...]

    def find(self, text: str) -> tuple[int, int] | None:
        """Return the first place of the pattern, as (start, end), or None."""
        if self.where == "beginning":
            return self._first(text[:EDGE])
        if self.where == "ending":
            return self._last(text)
        if any(self._is_literal(token) and token not in text for token in self.tokens):
            return None  # cheap, and true of nearly all texts without the pattern
        return self._search(text)

    def _is_literal(self, token: str) -> bool:
        """Tell whether a text with the pattern has this token as it is written here."""
        if self.level == "shape":
            return not token[0].isalnum()
        return self.level == "exact" or token not in CLASSES

    def _first(self, text: str) -> tuple[int, int] | None:
        for at, match in enumerate(TOKEN.finditer(text)):
            if mapped(match[0], self.level) != self.tokens[at]:
                return None
            if at + 1 == len(self.tokens):
                return 0, match.end()
        return None

    def _last(self, text: str) -> tuple[int, int] | None:
        before = max(0, len(text) - EDGE)
        spans = [match.span() for match in TOKEN.finditer(text, before)][-len(self.tokens) :]
        if len(spans) < len(self.tokens):
            return None
        same = all(
            mapped(text[start:end], self.level) == token
            for (start, end), token in zip(spans, self.tokens, strict=True)
        )
        return (spans[0][0], len(text)) if same else None

    def _search(self, text: str) -> tuple[int, int] | None:
        spans = [match.span() for match in TOKEN.finditer(text[:READ])]
        seen = [mapped(text[a:b], self.level) for a, b in spans]
        size = len(self.tokens)
        first = self.tokens[0]
        at = -1
        wanted = list(self.tokens)
        while True:
            try:
                at = seen.index(first, at + 1)
            except ValueError:
                return None
            if seen[at : at + size] == wanted:
                return spans[at][0], spans[at + size - 1][1]

    def without(self, text: str) -> str:
        """Return the text without the pattern and without the blanks that parted it from the
        rest.
        """
        found = self.find(text)
        if found is None:
            return text
        before, after = text[: found[0]], text[found[1] :]
        if not before.strip():
            return after.lstrip()
        if not after.strip():
            return before.rstrip()
        return before.rstrip(" ") + " " + after.lstrip(" ")


def examples(pattern: Pattern, texts: Iterable[str]) -> list[str]:
    """Return the pattern as it stands in the texts, each different one once, the commonest first;
    blanks do not make a difference.
    """
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for text in texts:
        found = pattern.find(text)
        if found is not None:
            shown = text[found[0] : found[1]]
            key = " ".join(TOKEN.findall(shown))
            counts[key] += 1
            first.setdefault(key, shown)
    return [first[key] for key, _ in counts.most_common()]


def is_stamp(found: Sequence[str]) -> bool:
    """Tell whether mapped tokens hold a date or a time: a month or a day with a number, or three
    numbers with a mark of dates between them. A list "[1][2][3]" is none, and no URL encoding.
    """
    if "%" in found:
        return False
    if "Month" in found and "0" in found:
        return True
    joins = [
        found[at + 1] in "-/.:" and found[at] == found[at + 2] == "0"
        for at in range(len(found) - 2)
    ]
    return sum(joins) >= 2


def kind(found: Sequence[str], level: str) -> str:
    """Name what mapped tokens stand for, in words for a reader."""
    if is_stamp(found):
        return "a date or a stamp"
    if level == "shape":
        return "words and marks of one form"
    if "a0" in found:
        return "a code of letters and digits"
    if "Month" in found:
        return "a month or a day"
    if any(token[0].isalpha() for token in found):
        return "words with a number"
    return "a number" if list(found).count("0") == 1 else "numbers"
