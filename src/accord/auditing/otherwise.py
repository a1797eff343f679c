"""Turns that ask two things, though most of their words are the same: another number, month or
name in one place, or another word where a form is filled in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np

from accord.auditing.prompts import LITTLE, slip
from accord.auditing.thresholds import limit

FILLS = 4  # different words between the same neighbours: a form, filled in
MONTHS = frozenset(
    "january february march april may june july august september october november december jan feb"
    " mar apr jun jul aug sep sept oct nov dec monday tuesday wednesday thursday friday saturday"
    " sunday".split()
)
VALUES = frozenset("true false yes no on off null none before after with without".split())
Slot = tuple[tuple[str, ...], tuple[str, ...]]  # two words before and two behind
Replaced = tuple[Slot, list[str], list[str]]
_TOKEN = re.compile(r"\w+")


def ask_otherwise(said: Sequence[bytes] | np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Mark the pairs (i, j) [m, 2] of last user turns that ask two things, [m] bool: another
    number, month or name stands in the same place, or another word where a form is filled in.

    A form is filled in where both words, or `FILLS` different ones, stand between the same
    neighbours in other turns. Turns that were not kept say nothing.
    """
    tokens = {at: _TOKEN.findall(_text(said[at])) for at in np.unique(pairs).tolist() if said[at]}
    found = [
        _replaced(tokens[one], tokens[two]) if one in tokens and two in tokens else []
        for one, two in pairs.tolist()
    ]
    wanted = {slot for each in found for slot, _, _ in each}
    fills = _fills(set(said), wanted) if wanted else {}
    return np.array(
        [
            any(_is_other(*each, fills) for each in found[at])
            or (bool(found[at]) and _changed(found[at], *(tokens[each] for each in pair)))
            for at, pair in enumerate(pairs.tolist())
        ],
        bool,
    )


def _changed(found: list[Replaced], one: list[str], two: list[str]) -> bool:
    """Tell whether more content words stand in place of others than near copies may have. Words
    that were only added are no others: polite ones, or those of a frame.
    """
    longer = max(sum(word.lower() not in LITTLE for word in words) for words in (one, two))
    others = 0
    for _, a, b in found:
        parts = [[w.lower() for w in words if w.lower() not in LITTLE] for words in (a, b)]
        spare = list(parts[1])
        for word in parts[0]:
            near = next((each for each in spare if each == word or slip(word, each)), None)
            if near is not None:
                spare.remove(near)
                parts[1].remove(near)
                parts[0] = [each for each in parts[0] if each != word]
        others += min(map(len, parts))
    return others > limit("near_changed") * longer


def reads_alike(said: Sequence[bytes] | np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Mark the pairs (i, j) [m, 2] of last user turns whose words are the same but for slips,
    [m] bool. Turns that were not kept count as such: their signatures were compared.
    """
    out = np.ones(len(pairs), bool)
    for at, (one, two) in enumerate(pairs.tolist()):
        if said[one] and said[two] and said[one] != said[two]:
            words = [[w.lower() for w in _TOKEN.findall(_text(said[each]))] for each in (one, two)]
            out[at] = _slips_only(*words)
    return out


def _slips_only(one: list[str], two: list[str]) -> bool:
    """Tell whether words agree one by one, but for slips of the pen."""
    return len(one) == len(two) and all(a == b or slip(a, b) for a, b in zip(one, two, strict=True))


def _text(said: bytes) -> str:
    return said.decode("utf-8", "replace")


def _replaced(one: list[str], two: list[str]) -> list[Replaced]:
    """List the places where words of one turn stand in place of others: neighbours, words."""
    low = [[word.lower() for word in words] for words in (one, two)]
    out = []
    for kind, a, b, c, d in SequenceMatcher(None, low[0], low[1], autojunk=False).get_opcodes():
        if kind == "replace":
            slot = tuple(low[0][max(0, a - 2) : a]), tuple(low[0][b : b + 2])
            out.append((slot, one[a:b], two[c:d]))
    return out


def _fills(texts: set[bytes], wanted: set[Slot]) -> dict[Slot, Counter[str]]:
    """Count the single words that stand between the wanted neighbours, over different turns."""
    fills: dict[Slot, Counter[str]] = {slot: Counter() for slot in wanted}
    for text in texts:
        words = [word.lower() for word in _TOKEN.findall(_text(text))]
        for at, word in enumerate(words):
            slot = tuple(words[max(0, at - 2) : at]), tuple(words[at + 1 : at + 3])
            if slot in fills:
                fills[slot][word] += 1
    return fills


def _is_other(slot: Slot, one: list[str], two: list[str], fills: dict[Slot, Counter[str]]) -> bool:
    if all(any(word[0].isdigit() for word in words) for words in (one, two)):
        return True
    if len(one) != len(two):
        return False
    for a, b in zip(one, two, strict=True):
        low = a.lower(), b.lower()
        if MONTHS.issuperset(low) or VALUES.issuperset(low):
            return True
        # the first word of a turn is a capital in any case
        name = slot[0] and a[0].isupper() and b[0].isupper()
        if name and (not slip(*low) or (len(a) < 5 and a[0] != b[0])):  # "Ben" and "Wen"
            return not any(word in LITTLE for word in low)
    low = one[0].lower(), two[0].lower()
    if len(one) > 1 or not any(slot):
        return False
    counts = fills[slot]
    both = min(counts[low[0]], counts[low[1]]) > 1
    if slip(*low):
        return both
    return low[0] not in LITTLE and low[1] not in LITTLE and (both or len(counts) >= FILLS)
