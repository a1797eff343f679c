"""Texts that are no text any more: what is kept of every row.

A text takes 14 bytes: the signs of wrecks in it, its length in characters and in words, how it ends
and a hash of its last word. The texts of a row are its last turn of the prompt and its answers.
"""

from __future__ import annotations

import re
import zlib
from array import array
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from accord.auditing.thresholds import limit
from accord.auditing.wrecks.context import Asked
from accord.auditing.wrecks.kinds import BITS, KINDS, find_wrecks
from accord.errors import printable, shorten
from accord.types import Example

SHOWN = 3  # places of each kind and column
SIGNATURE = 5  # words of a name under a letter
JOINING = frozenset("of the and & my from for at de van von der la le y und".split())
SHOWN_PIECE = 80  # characters of a place
FORMS = 10_000  # different weak texts whose places are kept

# How a text ends and begins; see `edges`.
OPEN, ODD_START, DOTS, MARKED = 1, 2, 4, 8
# the prompt asks for a number of words or lines, or for what comes next: see `asked_length`
SIZED, CONTINUED = 16, 32
NUMBER = re.compile(
    r"\b\d{1,4}[ -](?:more |other |next )?(?:words?|characters?|chars|letters?|tokens?)\b"
    r"|\d\s?字",
    re.IGNORECASE,
)
CONTINUE = re.compile(
    r"\b(?:continu(?:e|ation)|autocomplete|(?:auto-?)?complet(?:e|ion)|finish|carry on|go on"
    r"|what (?:comes|follows)|next (?:\d+ )?(?:words?|lines?|sentences?|part|piece|chunk))\b"
    r"|续写|接着",
    re.IGNORECASE,
)
FRAMED = 80  # characters at both ends of a prompt, in which it says what it wants
CUT_MARK = re.compile(
    r"(?:\[|\(|<|\{)\s*(?:\.{3}|…|(?:\w+ )?truncated|cut(?: off)?|continued"
    r"|clipped|snip)[^\]\n]{0,40}(?:\]|\)|>|\})\W{0,3}\Z|\.{3}\s*\(?truncated\)?\Z",
    re.IGNORECASE,
)


class Look(NamedTuple):
    """The look of one text."""

    hits: tuple[tuple[str, bool, int, str], ...]  # kind, is it sure, key, piece of the text
    characters: int
    words: int
    ends: int  # bits, see `edges`
    last: int  # hash of the last word, 0 if none


def look(example: Example) -> list[Look]:
    """Look at the last turn of a row's prompt and at its answers."""
    prompt = example.prompt[-1].content
    wanted = asked_length(prompt)
    asked = Asked("\n".join(turn.content for turn in example.prompt))
    return [
        _look(prompt, Asked(prompt), wanted),
        *(_look(text, asked, wanted) for text in example.completions),
    ]


def _look(text: str, asked: Asked, wanted: int) -> Look:
    bits, word = edges(text)
    hits = tuple(
        (name, hit.sure, hit.key, hit.shown[: 4 * SHOWN_PIECE])
        for name, hit in find_wrecks(text, asked)
    )
    return Look(hits, min(len(text), 0xFFFFFFFF), len(text.split()), bits | wanted, word)


@dataclass
class WreckTable:
    """The wrecks among the rows added so far."""

    columns: int = 0  # 1 + S: the prompt, then the answers
    signs: array = field(default_factory=lambda: array("H"))  # [N · columns], see kinds.BITS
    characters: array = field(default_factory=lambda: array("I"))
    words: array = field(default_factory=lambda: array("I"))
    ends: array = field(default_factory=lambda: array("B"))
    last: array = field(default_factory=lambda: array("I"))  # hash of the last word, 0 if none
    # weak signs: (text's number, kind's number, key), 3 numbers each
    weak: array = field(default_factory=lambda: array("Q"))
    # (kind, column) -> (row, piece) of the first
    first: dict[tuple[str, int], list[tuple[int, str]]] = field(default_factory=dict)
    # (kind's number, column, key) of weak signs -> (row, piece) of the first
    forms: dict[tuple[int, int, int], list[tuple[int, str]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.signs) // max(1, self.columns)

    def add(self, looks: list[Look]) -> None:
        """Count one row: the looks of its prompt and of its answers."""
        self.columns = self.columns or len(looks)
        row = len(self)
        for column, each in enumerate(looks):
            self._add(row, column, each)

    def _add(self, row: int, column: int, found: Look) -> None:
        signs = 0
        for name, sure, key, piece in found.hits:
            if sure:
                signs |= BITS[name]
                places = self.first.setdefault((name, column), [])
            else:
                number = NUMBERS[name]
                self.weak.extend((row * self.columns + column, number, key))
                form = (number, column, key)
                if form not in self.forms and len(self.forms) >= FORMS:
                    continue
                places = self.forms.setdefault(form, [])
            if len(places) < SHOWN:
                places.append((row, shown(piece)))
        self.signs.append(signs)
        self.characters.append(found.characters)
        self.words.append(found.words)
        self.ends.append(found.ends)
        self.last.append(found.last)

    def shaped(self, values: array) -> np.ndarray:
        """Return a column of numbers as [N, columns]."""
        return np.array(values).reshape(-1, max(1, self.columns))

    def mark(self, name: str, questions: np.ndarray, least: int) -> np.ndarray:
        """Mark the texts of one kind, [N, columns] bool.

        A weak sign counts where it answers `least` different prompts on one side.

        Args:
          questions: the prompt of each row as a hash, [N].
        """
        marked = (self.shaped(self.signs) & BITS[name]) > 0
        for texts, _ in self.repeated(name, questions, least):
            marked.reshape(-1)[texts] = True
        return marked

    def repeated(
        self, name: str, questions: np.ndarray, least: int
    ) -> list[tuple[np.ndarray, tuple[int, int, int]]]:
        """Return (numbers of texts, form) of each weak sign that enough prompts share."""
        weak = np.array(self.weak).reshape(-1, 3)
        weak = weak[weak[:, 1] == NUMBERS[name]]
        out: list[tuple[np.ndarray, tuple[int, int, int]]] = []
        few: list[tuple[np.ndarray, tuple[int, int, int]]] = []
        if not len(weak):
            return out
        column = weak[:, 0] % self.columns
        order = np.lexsort((weak[:, 2], column))
        weak, column = weak[order], column[order]
        edge = np.flatnonzero((np.diff(weak[:, 2]) != 0) | (np.diff(column) != 0)) + 1
        for part in np.split(np.arange(len(weak)), edge):
            texts = weak[part, 0].astype(np.int64)
            side = int(column[part[0]])
            # different prompts for an answer; of a prompt, the row is all there is
            asked = texts if side == 0 else questions[texts // self.columns]
            # signs that only add up must be as many as a finding needs
            needed = least if weak[part[0], 2] else max(least, limit("wreck") * len(self))
            enough = len(np.unique(asked)) >= needed
            (out if enough else few).append((texts, (NUMBERS[name], side, int(weak[part[0], 2]))))
        # what counts on one side counts on the other: else few there would look like none
        common = {form[2] for _, form in out if form[1]}
        return out + [(texts, form) for texts, form in few if form[1] and form[2] in common]


NUMBERS = {name: at for at, name in enumerate(KINDS)}


def shown(text: str) -> str:
    """Return a piece of a text as it can be shown."""
    return shorten(printable(text[: 4 * SHOWN_PIECE].replace("\n", " ⏎ ")), SHOWN_PIECE)


def asked_length(prompt: str) -> int:
    """Return in bits whether a prompt says how long an answer is, or has it go on with a text."""
    ends = prompt[:FRAMED] + "\n" + prompt[-FRAMED:]
    sized = SIZED if NUMBER.search(ends) else 0
    return sized | (CONTINUED if CONTINUE.search(ends) else 0)


def edges(text: str) -> tuple[int, int]:
    """Return how a text ends and begins, in bits, and a hash of its last word.

    OPEN: it ends with a letter, a comma or a dash. ODD_START: it begins with a small letter or a
    closing mark. DOTS: three dots stand behind. MARKED: a program wrote that it cut.
    """
    tail = text[-120:].rstrip()
    bits = 0
    if tail.endswith((")", "]", ">", "}", "ted")) and CUT_MARK.search(tail):
        bits |= MARKED
    plain = tail.rstrip("…")
    if plain.endswith("...") or len(plain) < len(tail):
        bits |= DOTS
        plain = plain.rstrip(".").rstrip()
    if plain and (plain[-1].isalpha() or plain[-1] in ",-–—(/&") and not _signed(plain):
        bits |= OPEN
    begin = text[:1]
    if begin and (begin.islower() or begin in ",.;:)]}?!%"):
        bits |= ODD_START
    return bits, _last_word(plain[-60:])


def _signed(tail: str) -> bool:
    """Return True if the last line is a name under a letter: "Li Wei", "— Kate, Support Team"."""
    above, line_end, line = tail.rpartition("\n")
    words = line.strip(" \t-–—*_,").split()
    if not line_end or not 0 < len(words) <= SIGNATURE or line.lstrip()[:1] in ("#", "|", ">"):
        return False
    if line.lstrip().startswith(("- ", "* ", "**")) or not above.strip():
        return False  # an item of a list, or a heading
    return all(word[:1].isupper() or (at > 0 and word in JOINING) for at, word in enumerate(words))


def _last_word(text: str) -> int:
    """Return a hash of the last word of a text, 0 if it ends with none.

    A letter alone is an option ("it is B"), capitals are a name's ("NY"), and letters behind a
    digit or inside an address are part of something else.
    """
    high = len(text)
    while high and not text[high - 1].isalpha():
        high -= 1
    low = high
    while low and text[low - 1].isalpha():
        low -= 1
    word = text[low:high]
    joined = low > 0 and not (text[low - 1].isspace() or text[low - 1] in "\"'([“‘«*—")
    return 0 if len(word) < 2 or joined or (word.isupper() and len(word) < 5) else word_hash(word)


def word_hash(word: str) -> int:
    """Return 32 bits of a word, without case."""
    return zlib.crc32(word.lower().encode("utf-8", "ignore")) or 1
