"""Candidates for signatures: beginnings, endings and phrases that one side has more often.

Candidates come from the data. Counts of documents by side choose them; the test on all sampled
rows comes afterwards, and is corrected for how many there were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from accord.auditing.signs.documents import Documents
from accord.auditing.signs.pattern import CLASSES, EDGE, LONGEST, READ, Pattern, tokens

SUPPORT = 4  # documents of a candidate at least
EDGE_TOKENS = 8  # tokens of a beginning before it is grown
GRAMS = 4  # tokens of a phrase before it is grown
SAME = 0.9  # share of the places that must agree when a pattern grows
SHAPES = frozenset(("a", "Aa", "AA"))  # words at level "shape"
STOPS = frozenset(".!?。！？…")
SYMBOLS = frozenset("[]{}()<>#*|=~^@$%&_/\\:+•–—-")


@dataclass(frozen=True)
class Candidate:
    """A pattern with its counts among the documents of the search."""

    pattern: Pattern
    strength: float  # difference of the shares over the root of their sum
    label: bool


def edge_candidates(documents: Documents, where: str, level: str) -> tuple[list[Candidate], int]:
    """Count the first (or last) 1 to 8 tokens of all answers at a level.

    Returns:
      the strongest candidates, and how many had enough documents to be tested.
    """
    counts: tuple[Counter, Counter] = (Counter(), Counter())
    for text, label in zip(documents.texts, documents.labels.tolist(), strict=True):
        if where == "beginning":
            found = tokens(text[:EDGE], level, slice(EDGE_TOKENS))
            counts[label].update(tuple(found[:n]) for n in range(1, len(found) + 1))
        else:
            found = tokens(text[-EDGE:], level, slice(-EDGE_TOKENS, None))
            counts[label].update(tuple(found[-n:]) for n in range(1, len(found) + 1))
    return _strongest(counts, documents.labels, where, level)


def _strongest(
    counts: tuple[Counter, Counter], labels: np.ndarray, where: str, level: str
) -> tuple[list[Candidate], int]:
    sizes = max(1, int((~labels).sum())), max(1, int(labels.sum()))
    out, tried = [], 0
    for key in set(counts[0]) | set(counts[1]):
        one, two = counts[1][key], counts[0][key]
        if one + two < SUPPORT or not is_allowed(key, level):
            continue
        tried += 1
        shares = one / sizes[1], two / sizes[0]
        strength = abs(shares[0] - shares[1]) / (shares[0] + shares[1]) ** 0.5
        out.append(Candidate(Pattern(where, level, key), strength, shares[0] > shares[1]))
    return sorted(out, key=lambda each: (-each.strength, each.pattern.tokens))[:20], tried


def is_allowed(key: Sequence[str], level: str) -> bool:
    """Tell whether a pattern adds something at its level: a number at "digits", marks around a word
    at "shape", as in "(A)", where a word alone would be any word.
    """
    if level == "exact":
        return True
    if level == "digits":
        return not CLASSES.isdisjoint(key)
    return (
        SHAPES.isdisjoint((key[0], key[-1]))
        and not SHAPES.isdisjoint(key)
        and any(token in SYMBOLS or token in ("0", "a0") or is_odd(token) for token in key)
    )


def phrase_candidates(documents: Documents, level: str) -> tuple[list[Candidate], int]:
    """Count phrases of 1 to 4 tokens anywhere; of single tokens only odd ones, for a single word
    is content.
    """
    lists = [tokens(text[:READ], level) for text in documents.texts]
    known: dict[str, int] = {}
    ids = np.array([known.setdefault(t, len(known)) for each in lists for t in each], np.uint64)
    owner = np.repeat(np.arange(len(lists)), [len(each) for each in lists])
    names = list(known)
    out: list[Candidate] = []
    tried = 0
    hashes = ids
    for size in range(1, GRAMS + 1):
        if size > 1:
            hashes = _mix(hashes[:-1]) + ids[size - 1 :]
        if len(hashes) == 0:
            break
        inside = owner[: len(hashes)] == owner[size - 1 :]
        found, count = _by_count(hashes, owner, inside, documents.labels)
        tried += count
        for at, strength, label in found:
            key = tuple(names[int(each)] for each in ids[at : at + size])
            if is_allowed(key, level) and (size > 1 or is_odd(key[0])):
                out.append(Candidate(Pattern("anywhere", level, key), strength, label))
    return sorted(out, key=lambda each: (-each.strength, each.pattern.tokens))[:20], tried


def is_odd(token: str) -> bool:
    """Tell whether a token is a sign beyond ASCII that is no letter, such as an emoji."""
    return not token.isascii() and not token.isalnum()


def _mix(values: np.ndarray) -> np.ndarray:
    values = (values + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    values ^= values >> np.uint64(29)
    return values * np.uint64(0xBF58476D1CE4E5B9)


def _by_count(
    hashes: np.ndarray, owner: np.ndarray, inside: np.ndarray, labels: np.ndarray
) -> tuple[list[tuple[int, float, bool]], int]:
    """Count documents by side of each hash; return the strongest 60 as (position, strength, side)
    and how many had enough documents.
    """
    places = np.flatnonzero(inside)
    if not len(places):
        return [], 0
    h, d = hashes[places], owner[places]
    order = np.lexsort((d, h))
    h, d, places = h[order], d[order], places[order]
    first = np.ones(len(h), bool)
    first[1:] = (h[1:] != h[:-1]) | (d[1:] != d[:-1])
    h, d, places = h[first], d[first], places[first]
    start = np.flatnonzero(np.r_[True, h[1:] != h[:-1]])
    good = np.add.reduceat(labels[d].astype(np.int64), start)
    total = np.diff(np.r_[start, len(h)])
    bad = total - good
    enough = total >= SUPPORT
    shares = good / max(1, int(labels.sum())), bad / max(1, int((~labels).sum()))
    strength = np.abs(shares[0] - shares[1]) / np.sqrt(shares[0] + shares[1])
    # A phrase that both sides have is content or style: only exclusive ones are signatures.
    exclusive = np.maximum(*shares) > 5 * np.minimum(*shares)
    kept = np.flatnonzero(enough & exclusive)
    best = kept[np.argsort(-strength[kept], kind="stable")[:60]]
    found = [
        (int(places[start[at]]), float(strength[at]), bool(shares[0][at] > shares[1][at]))
        for at in best
    ]
    return found, int(enough.sum())


def grow(pattern: Pattern, texts: Iterable[str]) -> Pattern:
    """Grow a pattern to its full length: add the next token while nine in ten of the texts that
    have it agree on it. A phrase that stands at an end of nine in ten becomes a beginning or an
    ending.
    """
    lists = [
        tokens(text[-EDGE:] if pattern.where == "ending" else text[:READ], pattern.level)
        for text in texts
    ]
    spots = [_place(pattern, each) for each in lists]
    places = [(each, at) for each, at in zip(lists, spots, strict=True) if at is not None]
    if not places:
        return pattern
    key = list(pattern.tokens)
    if pattern.where != "ending":
        _grow_right(key, places, pattern.level)
    if pattern.where != "beginning":
        places = _grow_left(key, places, pattern.level)
    where = pattern.where
    if where == "anywhere":
        if sum(at == 0 for _, at in places) >= SAME * len(places):
            where = "beginning"
        elif sum(at + len(key) == len(e) for e, at in places) >= SAME * len(places):
            where = "ending"
    return Pattern(where, pattern.level, _bare(key) if where != "beginning" else tuple(key))


def _bare(key: list[str]) -> tuple[str, ...]:
    """Drop the mark that ends the sentence before the pattern: it belongs to that sentence."""
    at = next((i for i, token in enumerate(key) if token not in STOPS), 0)
    return tuple(key[at:])


def _grow_right(key: list[str], places: list[tuple[list[str], int]], level: str) -> None:
    while len(key) < LONGEST:
        size = len(key)
        following = [each[at + size] for each, at in places if at + size < len(each)]
        token = _agreed(following, len(places), level)
        if token is None:
            return
        places = [(each, at) for each, at in places if each[at + size : at + size + 1] == [token]]
        key.append(token)


def _grow_left(
    key: list[str], places: list[tuple[list[str], int]], level: str
) -> list[tuple[list[str], int]]:
    while len(key) < LONGEST:
        token = _agreed([each[at - 1] for each, at in places if at > 0], len(places), level)
        if token is None:
            break
        places = [(each, at - 1) for each, at in places if at > 0 and each[at - 1] == token]
        key.insert(0, token)
    return places


def _agreed(following: list[str], total: int, level: str) -> str | None:
    """Return the token on which nine in ten places agree; any word has one of three shapes, so
    shapes do not grow.
    """
    if not following:
        return None
    token, count = Counter(following).most_common(1)[0]
    if level == "shape" and token in SHAPES:
        return None
    return token if count >= SAME * total else None


def _place(pattern: Pattern, found: list[str]) -> int | None:
    size, wanted = len(pattern.tokens), list(pattern.tokens)
    if pattern.where == "beginning":
        return 0 if found[:size] == wanted else None
    if pattern.where == "ending":
        return len(found) - size if found[-size:] == wanted else None
    at = -1
    while True:
        try:
            at = found.index(wanted[0], at + 1)
        except ValueError:
            return None
        if found[at : at + size] == wanted:
            return at
