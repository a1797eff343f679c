"""Search for signatures: take the strongest, take it out of the texts, and search again.

What goes away with the first is a symptom of it and is not named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from accord.auditing.signs.candidates import Candidate, edge_candidates, grow, phrase_candidates
from accord.auditing.signs.documents import Contrast, Documents, contrast, spread, subset
from accord.auditing.signs.habits import HABITS, STOPS, Habit
from accord.auditing.signs.pattern import LEVELS, READ, Pattern, example
from accord.auditing.thresholds import limit

ROUNDS = 8  # signatures of one file at most
TRIED = 12  # candidates of one round that are tested on all rows
CHARACTERS = 1_500_000  # of all texts of a search: about a second for each round
SEARCHED = (400, 3_000)  # rows of a search
ALPHA = 0.001  # chance that a file without any signature shows one, before the limits on shares
CLOSE = set(STOPS + "\"'“”‘’«»`;,:~-–—")  # marks that a habit names better than a pattern
STRONG = 0.3  # difference of the shares that is an accuracy of .65, the limit for any rule


@dataclass(frozen=True)
class Signature:
    """A pattern or a habit of one side."""

    check: str
    label: bool  # the side that has it: True for chosen or desirable
    contrast: Contrast
    verdict: str
    name: str  # the habit, or "" for a pattern
    shown: str  # the pattern as it stands in one answer
    has: Callable[[str], bool]
    without: Callable[[str], str]
    rows: np.ndarray  # rows of the scan that have it on its side


def search(documents: Documents, seed: int) -> list[Signature]:
    """Find the signatures of a file, the strongest first."""
    small = subset(documents, CHARACTERS, SEARCHED, READ, seed)
    found: list[Signature] = []
    refused: set[Pattern] = set()
    for _ in range(ROUNDS):
        best = _strongest(small, documents, refused)
        if best is None:
            break
        found.append(best)
        documents, small = documents.without(best.without), small.without(best.without)
    return found


def _strongest(small: Documents, documents: Documents, refused: set[Pattern]) -> Signature | None:
    """Return the strongest candidate that is a signature."""
    candidates, tried = _candidates(small)
    level = ALPHA / (tried + len(HABITS))
    queue: list[tuple[float, Habit | Candidate]] = list(_habits(small))
    queue += [(each.strength * _bonus(each.pattern), each) for each in candidates]
    queue.sort(key=lambda item: -item[0])
    tests = 0
    for strength, each in queue:
        if strength < limit("signature") ** 0.5 / 2 or tests >= TRIED:
            break
        if isinstance(each, Habit):
            found = _test_habit(each, documents, level)
        else:
            pattern = _grown(each, small)
            if _is_known(pattern, refused):
                continue
            found = _test_pattern(pattern, documents, level)
            if found is None:
                refused.add(pattern)
        if found is not None:
            return found
        tests += 1
    return None


def _is_known(pattern: Pattern, refused: set[Pattern]) -> bool:
    """Tell whether a pattern, or a longer one that holds it, was tested already."""
    size = len(pattern.tokens)
    return any(
        pattern.tokens == each.tokens[at : at + size]
        for each in refused
        if each.level == pattern.level and each.where == pattern.where
        for at in range(len(each.tokens) - size + 1)
    )


def _candidates(small: Documents) -> tuple[list[Candidate], int]:
    out: list[Candidate] = []
    tried = 0
    for level in LEVELS:
        for where in ("beginning", "ending"):
            found, count = edge_candidates(small, where, level)
            out, tried = out + found, tried + count
    for level in ("exact", "digits"):
        found, count = phrase_candidates(small, level)
        out, tried = out + found, tried + count
    return out, tried


def _habits(small: Documents) -> Iterator[tuple[float, Habit]]:
    """Weigh each habit as a candidate."""
    for habit in HABITS:
        has = small.holds(habit.has)
        shares = has[small.labels].mean(), has[~small.labels].mean()
        if has.any():
            strength = float(abs(shares[0] - shares[1]) / (shares[0] + shares[1]) ** 0.5)
            yield strength * 1.06, habit  # before a pattern of the same marks


def _bonus(pattern: Pattern) -> float:
    """Prefer the longer of two candidates of equal strength, and words before marks."""
    words = sum(token[0].isalnum() for token in pattern.tokens)
    exact = {"exact": 0.02, "digits": 0.01, "shape": 0.0}[pattern.level]
    return 1.0 + (0.04 + exact if words else 0.0) + 0.01 * min(len(pattern.tokens), 8)


def _grown(candidate: Candidate, small: Documents) -> Pattern:
    pattern = candidate.pattern
    texts = [
        text
        for text, label in zip(small.texts, small.labels.tolist(), strict=True)
        if label == candidate.label and pattern.find(text) is not None
    ]
    return grow(pattern, texts)


def _test_habit(habit: Habit, documents: Documents, level: float) -> Signature | None:
    has = documents.holds(habit.has)
    found = contrast(has, documents)
    # An answer that is longer has more of everything, so a habit of the inside must be exclusive.
    verdict = _verdict(found, level, not habit.content, habit.anywhere)
    if verdict is None:
        return None
    return Signature(
        habit.check,
        found.label,
        found,
        verdict,
        habit.name,
        "",
        habit.has,
        habit.without,
        documents.rows[has & (documents.labels == found.label)],
    )


def _test_pattern(pattern: Pattern, documents: Documents, level: float) -> Signature | None:
    has = documents.holds(lambda text: pattern.find(text) is not None)
    if not has.any():
        return None
    found = contrast(has, documents)
    own = has & (documents.labels == found.label)
    texts = [documents.texts[at] for at in np.flatnonzero(own)]
    if all(token in CLOSE for token in pattern.tokens):
        added = True
    else:
        added = _is_added(pattern, texts, found.share)
    verdict = _verdict(
        found, level, added, pattern.where == "anywhere", stock=_is_stock(pattern, texts)
    )
    if verdict is None:
        return None
    shown = example(pattern, texts[:1])
    return Signature(
        _check(pattern, shown),
        found.label,
        found,
        verdict,
        "",
        shown,
        lambda text: pattern.find(text) is not None,
        pattern.without,
        documents.rows[own],
    )


def _verdict(
    found: Contrast, level: float, added: bool, exclusive_only: bool = False, stock: bool = False
) -> str | None:
    """Judge a property of one side by its share, its exclusiveness, and whether it was added."""
    if found.p > level or found.share < limit("signature"):
        return None
    exclusive = found.ratio >= limit("signature_ratio")
    gap = found.share - found.other >= limit("habit_gap") and found.ratio >= limit("habit_ratio")
    if exclusive_only and not exclusive and not (added and gap and found.ratio >= 4):
        return None
    strong = found.score.low > limit("shortcut_note") and found.score.value > limit("shortcut")
    if stock:
        return "note" if exclusive or strong else None
    if found.score.low > limit("shortcut_unfit"):
        return "refused"
    if strong or (added and (exclusive or gap)):
        return "warning"
    # A phrase inside sentences that fewer than 30 % have is content, as "is no" in truthfulqa.
    return "note" if exclusive and not exclusive_only else None


def _is_stock(pattern: Pattern, texts: list[str]) -> bool:
    """Tell whether the pattern is the whole answer in most answers that have it, as in "I have no
    comment.": such an answer is content.
    """
    rests = [_rest(pattern, text) for text in texts[:500]]
    return sum(not any(map(str.isalnum, rest)) for rest in rests) > 0.5 * len(rests)


def _rest(pattern: Pattern, text: str) -> str:
    place = pattern.find(text)
    return text if place is None else text[: place[0]] + text[place[1] :]


def _is_added(pattern: Pattern, texts: list[str], share: float) -> bool:
    """Tell whether the pattern is a unit that was put beside answers of many kinds.

    What an author writes goes on: "There is no" is followed by the rest of its sentence. What was
    added stands between ends of sentences, or is a stamp or a mark.
    """
    texts = texts[:500]
    if spread([_rest(pattern, text) for text in texts]) < 0.5:
        return False
    if pattern.level != "exact" or not any(token.isalnum() for token in pattern.tokens):
        return True
    left = right = 0
    for text in texts:
        place = pattern.find(text)
        if place is None:
            continue
        left += _is_end(text[: place[0]]) or not pattern.tokens[0].isalnum()
        right += _is_start(text[place[1] :]) or not pattern.tokens[-1].isalnum()
    if min(left, right) >= 0.8 * len(texts):
        return True
    words = sum(token.isalnum() for token in pattern.tokens)
    return pattern.where == "anywhere" and words >= 3 and share >= 2 * limit("signature")


def _is_end(before: str) -> bool:
    """Tell whether a sentence or a line ends here."""
    bare = before.rstrip()
    return not bare or not bare[-1].isalnum() or "\n" in before[len(bare) :]


def _is_start(after: str) -> bool:
    """Tell whether a sentence or a line begins here."""
    bare = after.lstrip()
    blank = after[: len(after) - len(bare)]
    return not bare or "\n" in blank or not bare[0].islower()


def _check(pattern: Pattern, shown: str) -> str:
    """Name the kind of a pattern."""
    text = shown.strip()
    if "Month" in pattern.tokens or pattern.tokens.count("0") >= 3:
        return "shortcuts.dates"
    if text.startswith("<") and ">" in text:
        return "shortcuts.think"
    if pattern.where == "anywhere":
        return "shortcuts.phrase"
    if text and all(c in CLOSE for c in text) and pattern.where == "ending":
        return "shortcuts.punctuation"
    if text and all(c in "\"'“”‘’«»`" for c in text):
        return "shortcuts.quotes"
    return f"shortcuts.{pattern.where}"
