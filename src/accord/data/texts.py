"""Texts inside values of any JSON type, and what a column's texts look like as a whole.

Everything is bounded: rows are strangers' and may nest without end or hold millions of strings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from accord.errors import plural

DEPTH = 8  # lists and objects inside each other that are looked into
MOST = 256  # strings of one value that are looked at
LOOKED_AT = 400  # characters of a text that decide whether it is prose
SKETCH = 1024  # different texts of a column that are remembered, as hashes

LONG = 60  # mean characters from which unknown text counts as content
WORDS = 2.5  # mean words from which text that varies with the row counts as content
ALONE = 5  # words from which the only text of a column counts as content


def strings(value: object, depth: int = DEPTH) -> Iterator[str]:
    """Yield the texts inside a value that are not blank."""
    if isinstance(value, str):
        if value.strip():
            yield value
    elif depth and isinstance(value, (list, tuple)):
        for each in value[:MOST]:
            yield from strings(each, depth - 1)
    elif depth and isinstance(value, dict):
        for each in list(value.values())[:MOST]:
            yield from strings(each, depth - 1)


def is_empty(value: object, depth: int = DEPTH) -> bool:
    """Tell whether nothing stands in a value: null, blank text, or lists and objects of such."""
    if value is None or (isinstance(value, (str, bytes)) and not value.strip()):
        return True
    if isinstance(value, (list, tuple)):
        return bool(depth) and all(is_empty(each, depth - 1) for each in value[:MOST])
    if isinstance(value, dict):
        return bool(depth) and all(
            is_empty(each, depth - 1) for each in list(value.values())[:MOST]
        )
    return False


def count_words(text: str) -> float:
    """Count the words at the start of a text. Addresses, hashes, numbers and dates have none;
    scripts without blanks count two characters as a word.
    """
    total = 0.0
    for token in text[:LOOKED_AT].split():
        word = token.strip(".,;:!?\"'()[]{}<>*`#|/=").replace("-", "").replace("'", "")
        if word.isalpha():
            total += 1 if word.isascii() or len(word) < 4 else max(1, _syllabic(word) / 2)
    return total


def _syllabic(word: str) -> int:
    """Count the characters of scripts that write no blanks between words."""
    return sum("\u0e00" <= c <= "\u0eff" or "\u3040" <= c <= "\ud7af" for c in word)


@dataclass
class TextSketch:
    """Statistics of a column's values: counts, lengths, and a sketch of the different texts."""

    rows: int = 0  # rows with any value
    texts: int = 0  # those with text in it
    prose: int = 0  # those of at least two words
    characters: int = 0  # of the longest prose of each row
    words: float = 0.0
    seen: set[int] = field(default_factory=set)
    counted: dict[int, float] = field(default_factory=dict)  # hash of a text -> its words
    sample: str = ""

    def add(self, value: object) -> None:
        """Count one row's value. Its longest text stands for it."""
        self.rows += 1
        if isinstance(value, (bool, int, float)):
            return
        found = value if isinstance(value, str) else max(strings(value), key=len, default="")
        if not found.strip():
            return
        self.texts += 1
        self.sample = self.sample or found[:LONG]
        mark = hash(found)
        if len(self.seen) < SKETCH:
            self.seen.add(mark)
        words = self.counted.get(mark)  # labels repeat: their words are counted once
        if words is None:
            words = count_words(found)
            if len(self.counted) < SKETCH:
                self.counted[mark] = words
        if words >= 2:
            self.prose += 1
            self.words += words
            self.characters += len(found)

    @property
    def mean(self) -> float:
        """Return the characters of prose in a row that has text, on average."""
        return self.characters / self.texts if self.texts else 0.0

    def is_content(self) -> bool:
        """Tell whether the texts look like content: they are long, or of several words and
        different in more than half of the rows.
        """
        if not self.prose:
            return False
        if self.mean > LONG:
            return True
        if self.texts == 1:
            return self.words >= ALONE
        varied = 2 * len(self.seen) > min(self.texts, SKETCH)
        return varied and 2 * self.prose > self.texts and self.words > WORDS * self.prose

    def says(self) -> str:
        """Describe the values in a few words."""
        if not self.texts:
            return "no text"
        known = len(self.seen) < SKETCH
        different = (
            plural(len(self.seen), "different text")
            if known
            else f"over {SKETCH:,} different texts"
        )
        return different + (f", {self.mean:.0f} characters on average" if self.prose else "")
