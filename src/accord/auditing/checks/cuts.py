"""Texts that a program cut: at a number of characters or words, or wherever a limit of tokens fell.

Two signs, and neither is enough where honest texts have it. Lengths pile up at one value, far above
their neighbours, in texts that end without a full stop. And texts end inside a word, or with a
word that never ends a sentence in this file: both are learnt from the inside of the file's own
texts, so that no list of words of a language is needed.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from accord.auditing.scan import Scan
from accord.auditing.tables.wrecks import (
    CONTINUED,
    DOTS,
    MARKED,
    OPEN,
    SIZED,
    WreckTable,
    word_hash,
)
from accord.auditing.thresholds import limit

READ_ROWS = 2_000  # rows of the sample whose words are learnt
READ = 4_000  # characters of each of their texts
TOKEN = re.compile(r"([^\W\d_]+)(\s*[^\w\s]|\s*\n|)")
# a word that stands so often inside and ends so few sentences: "the" does, "there" does not
FREQUENT, SELDOM_LAST = 20, 0.02
EXPECTED_LAST = 2.0  # ends of a word by the file's own rate, that its absence means something
OFTEN_LAST = 0.08  # a word that ends so many of the open texts is a template's, "5 lines"
LEAST_WORDS = 4  # words of a text whose end says anything: a label of one word has none
LEAST_LENGTH = {"characters": 16, "words": 8}
AROUND, NEAR = 0.15, 6  # neighbours of a length: a share of it, and at least so many values
LEAST_PILE = 5  # texts at one length
PILE_RATIO = 1.5  # ends inside a sentence, against those of the column's other open texts
STEEP, DOUBT = 6, 0.03  # a pile so far above its neighbours is one; else its ends must show it
FEW_PILE, FEW_SHARE = 8, 0.05  # fewer than so many must be such a share of a column's texts
CEILING_TEXTS, CEILING_SPREAD, CEILING_PURE = 10, 1.6, 0.9  # see `_under_ceiling`
CHANCE = 1e-4  # that any length of a file piles up so by itself
LABEL = 5  # letters of a last word that recurs and is therefore no fragment
LETTERS = 0x2E80  # scripts from here on have no blanks between words


@dataclass(frozen=True)
class Cuts:
    """The texts of each column that look cut."""

    rows: np.ndarray  # [N, columns] bool
    piles: tuple[tuple[int, str, int, int], ...]  # (column, unit, length, texts)

    @property
    def pile_share(self) -> float:
        """The largest share of a column's texts at one length."""
        return max((texts for *_, texts in self.piles), default=0) / max(1, len(self.rows))


def find_cuts(scan: Scan) -> Cuts:
    """Find the texts that end where a program cut them."""
    table = scan.tables.wrecks
    fragments, never_last = _learn_words(scan)
    ends, last = table.shaped(table.ends), table.shaped(table.last)
    # an answer of as many words as were asked for, and what goes on with a text, may end anywhere
    long = (table.shaped(table.words) >= LEAST_WORDS) & ((ends & (SIZED | CONTINUED)) == 0)
    stops = (ends & (OPEN | DOTS)) > 0
    # what ends inside a loop is named by the loop
    stops &= ~table.mark("loop", scan.questions, 1)
    inside = long & stops & (np.isin(last, fragments) | np.isin(last, never_last))
    marked = (ends & MARKED) > 0
    rows, piles = inside | marked, []
    for column in range(table.columns):
        sizes = table.shaped(table.characters)[:, column]
        ceiling = _under_ceiling(sizes, long[:, column] & stops[:, column])
        if ceiling.any() and inside[ceiling, column].mean() >= limit("cut_inside"):
            rows[:, column] |= ceiling
            most = int(sizes[ceiling].max())
            piles.append(
                (column, f"to {most:,} characters", int(sizes[ceiling].min()), int(ceiling.sum()))
            )
        for unit in ("characters", "words"):
            for length, texts in _piles(scan, table, column, unit, inside[:, column]):
                piles.append((column, unit, length, len(texts)))
                # a length at which one side is cut counts on the other by the same rule
                lengths = table.shaped(table.characters if unit == "characters" else table.words)
                alike = stops & ((ends & SIZED) == 0) & (lengths == length)
                alike[:, 0 if column else slice(1, None)] = False
                rows |= alike
    return Cuts(rows, tuple(piles))


def _learn_words(scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """Return hashes of the beginnings of words that are no words, and of words that end nothing."""
    count: Counter[str] = Counter()
    final: Counter[str] = Counter()
    ending: Counter[str] = Counter()
    step = max(1, len(scan.sample) // READ_ROWS)
    for sampled in scan.sample[::step]:
        for text in (sampled.example.prompt[-1].content, *sampled.example.completions):
            words = _words(text)
            if words and len(text) <= READ and not words[-1][1]:
                ending[words.pop()[0]] += 1  # perhaps cut itself
            for word, stop in words:
                count[word] += 1
                final[word] += stop
    usual = sum(final.values()) / max(1, sum(count.values()))  # words before a mark: 1 in 10
    texts = sum(ending.values())
    words_known = set(count) | {w for w, n in ending.items() if n >= 3 and len(w) >= LABEL}
    known = {word_hash(word) for word in words_known}
    begins = {word_hash(word[:size]) for word in count for size in range(2, len(word))}
    never = [
        word_hash(word)
        for word, n in count.items()
        if n >= FREQUENT
        and final[word] <= SELDOM_LAST * n
        and n * usual >= EXPECTED_LAST  # without marks inside texts, no word is seldom last
        and ending[word] <= max(3, OFTEN_LAST * texts)
        and ord(word[0]) < LETTERS
    ]
    return np.array(sorted(begins - known), np.uint32), np.array(sorted(never), np.uint32)


def _words(text: str) -> list[tuple[str, bool]]:
    """Return the words of a text, each with whether a mark or a line's end follows it.

    Three dots behind a text do not count: a program may have put them where it cut.
    """
    text = text[:READ].rstrip()
    if text.endswith(("...", "…")):
        text = text.rstrip(".… ")
    return [(w.lower(), bool(stop.strip() or "\n" in stop)) for w, stop in TOKEN.findall(text)]


def _under_ceiling(lengths: np.ndarray, opened: np.ndarray) -> np.ndarray:
    """Mark the texts that end open where these are the longest and are of nearly one length.

    A limit of tokens does that: below it texts end as they should, and nothing is above it.
    """
    out = np.zeros(len(lengths), bool)
    if opened.sum() < CEILING_TEXTS or opened.mean() < limit("cut") or opened.all():
        return out
    low, high = np.quantile(lengths[opened], [0.1, 0.9])
    above = lengths >= low
    if high > CEILING_SPREAD * low or low < LEAST_LENGTH["characters"]:
        return out
    if opened[above].mean() > CEILING_PURE and opened[~above].mean() < 1 - CEILING_PURE:
        out = opened & above
    return out


def _piles(
    scan: Scan, table: WreckTable, column: int, unit: str, inside: np.ndarray
) -> list[tuple[int, np.ndarray]]:
    """Return (length, texts at it) where cut texts pile up at one length of a column."""
    lengths = table.shaped(table.characters if unit == "characters" else table.words)[:, column]
    ends = table.shaped(table.ends)[:, column]
    texts = scan.prompts if column == 0 else scan.answers[:, column - 1]
    _, first = np.unique(texts, return_index=True)  # a text that is repeated counts once
    stops = ((ends & (OPEN | DOTS)) > 0) & ((ends & SIZED) == 0)
    once = first[stops[first]]
    values, counts = np.unique(lengths[once], return_counts=True)
    out = []
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        if count < LEAST_PILE or value < LEAST_LENGTH[unit]:
            continue  # shorter texts count as neighbours alone: a usual length is no pile
        if count < FEW_PILE and count < FEW_SHARE * len(first):
            continue
        reach, beside = max(AROUND * value, NEAR), int(unit == "characters")
        distance = np.abs(values - value)
        near = (distance <= reach) & (distance > beside)
        expected = (1 + counts[near].sum()) / (2 * (int(reach) - beside))
        if len(values) * _tail(count, expected) > CHANCE:
            continue
        rows = np.flatnonzero(stops & (lengths == value))
        others = stops & (lengths != value)
        usual = float(inside[others].mean()) if others.any() else 0.0
        if count < STEEP * expected and _tail(inside[rows].sum(), usual * len(rows)) > DOUBT:
            continue  # a usual length, at which a few more texts than elsewhere end so
        if _looks_cut(scan, column, rows, inside, PILE_RATIO * usual):
            out.append((int(value), rows))
    return out


def _tail(count: int, expected: float) -> float:
    """Bound the chance that a Poisson number reaches a count (Chernoff)."""
    if count <= expected:
        return 1.0
    return float(np.exp(count - expected - count * np.log(count / expected)))


def _looks_cut(scan: Scan, column: int, rows: np.ndarray, inside: np.ndarray, usual: float) -> bool:
    """Return True if texts of one length end as texts do that were cut, not as a template's do."""
    if inside[rows].mean() >= max(limit("cut_inside"), usual):
        return True
    wanted = set(rows.tolist())
    known = [s.example for s in scan.sample if s.row in wanted][:200]
    texts = [e.prompt[-1].content if column == 0 else e.completions[column - 1] for e in known]
    wide = [text.rstrip() for text in texts if text.rstrip() and ord(text.rstrip()[-1]) >= LETTERS]
    # scripts without blanks: the last characters are many, as inside a sentence
    return len(wide) > 0.5 * max(1, len(texts)) and len({t[-1] for t in wide}) > 0.5 * len(wide)
