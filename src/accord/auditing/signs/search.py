"""Search for signatures: take the strongest, take it out of the texts, and search again.

What goes away with the first is a symptom of it and is not named. What is found in the rest must
be true of the texts as they stand too: every count, share, row and quotation is of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from accord.auditing.findings import RANK
from accord.auditing.signs.candidates import (
    Candidate,
    edge_candidates,
    grow,
    is_odd,
    phrase_candidates,
)
from accord.auditing.signs.documents import Contrast, Documents, contrast, spread, subset
from accord.auditing.signs.habits import HABITS, STOPS, TAG, Habit
from accord.auditing.signs.pattern import LEVELS, READ, Pattern, examples, is_stamp, kind
from accord.auditing.thresholds import limit

ROUNDS = 8  # signatures of one file at most
TRIED = 12  # candidates of one round that are tested on all rows
CHARACTERS = 1_500_000  # of all texts of a search: about a second for each round
SEARCHED = (400, 3_000)  # rows of a search
ALPHA = 0.001  # chance that a file without any signature shows one, before the limits on shares
CLOSE = set(STOPS + "\"'“”‘’«»`;,:~-–—")  # marks that a habit names better than a pattern
OPENING, CLOSING = frozenset("([{<"), frozenset(")]}>")


@dataclass(frozen=True)
class Signature:
    """A pattern or a habit of one side."""

    check: str
    label: bool  # the side that has it: True for chosen or desirable
    contrast: Contrast
    verdict: str
    name: str  # the habit, or "" for a pattern
    shown: str  # the pattern as it stands in an answer; where it varies, the commonest
    has: Callable[[str], bool]
    without: Callable[[str], str]
    rows: np.ndarray  # rows of the scan that have it on its side
    source: Pattern | Habit
    asked: str = ""  # the word by which prompts ask for it
    kind: str = ""  # of a pattern that varies: words for it, for what is shown is not of all


def search(documents: Documents, seed: int, raw: Documents | None = None) -> list[Signature]:
    """Find the signatures of a file, the strongest first.

    What is only worth a note is content and stays in the texts.

    Args:
      raw: the texts as they stand, where something was taken out of the documents already.
    """
    raw = documents if raw is None else raw
    small = subset(documents, CHARACTERS, SEARCHED, READ, seed)
    found: list[Signature] = []
    known: set[Pattern | Habit] = set()
    for _ in range(ROUNDS):
        best = _strongest(small, documents, raw, known, found)
        if best is None:
            break
        found.append(best)
        if best.verdict != "note":
            documents, small = documents.without(best.without), small.without(best.without)
    return found


def _strongest(
    small: Documents,
    documents: Documents,
    raw: Documents,
    known: set[Pattern | Habit],
    found: list[Signature],
) -> Signature | None:
    """Return the strongest candidate that is a signature, and remember those that are none."""
    candidates, tried = _candidates(small)
    level = ALPHA / (tried + len(HABITS))
    queue: list[tuple[float, Habit | Candidate]] = list(_habits(small))
    queue += [(each.strength * _bonus(each.pattern), each) for each in candidates]
    queue.sort(key=lambda item: -item[0])
    tests = 0
    for strength, each in queue:
        if strength < limit("signature") ** 0.5 / 2 or tests >= TRIED:
            break
        tested = each if isinstance(each, Habit) else _grown(each, small)
        if _is_known(tested, known) or any(tested == each.source for each in found):
            continue
        tests += 1
        new = _test(tested, documents, raw, level)
        if new is None or new.verdict == "note":
            known.add(tested)
        if new is not None and not (new.verdict == "note" and _is_repeated(new, found)):
            return new
    return None


def _test(
    tested: Pattern | Habit, documents: Documents, raw: Documents, level: float
) -> Signature | None:
    """Test a candidate on what is left of the texts, and on the texts as they stand."""

    def test(texts: Documents) -> Signature | None:
        if isinstance(tested, Habit):
            return _test_habit(tested, texts, level)
        return _test_pattern(tested, texts, level)

    left = test(documents)
    if left is None or documents is raw:
        return left
    whole = test(raw)
    if whole is None or whole.label != left.label:
        return None  # "end with a full stop" after the mark behind it was taken out
    return replace(whole, verdict=max(left.verdict, whole.verdict, key=RANK.__getitem__))


def _is_repeated(new: Signature, found: list[Signature]) -> bool:
    """Tell whether most rows of a note have another note already: "no comment" in "I have no
    comment.".
    """
    notes = [each.rows for each in found if each.verdict == "note" and each.label == new.label]
    return bool(notes) and float(np.isin(new.rows, np.concatenate(notes)).mean()) > 0.5


def _is_known(new: Pattern | Habit, known: set[Pattern | Habit]) -> bool:
    """Tell whether a candidate, or a longer pattern that holds it, was tested already."""
    if isinstance(new, Habit):
        return new in known
    size = len(new.tokens)
    return any(
        new.tokens == each.tokens[at : at + size]
        for each in known
        if isinstance(each, Pattern) and each.level == new.level and each.where == new.where
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
            # before a pattern of the same marks; a block goes as a whole, not only its tag
            yield strength * (1.2 if habit.check == "shortcuts.think" else 1.06), habit


def _bonus(pattern: Pattern) -> float:
    """Prefer the longer of two candidates of equal strength, and words before marks."""
    if pattern.level == "shape":  # any word has its shape: the shortest that explains
        return 1.0 - 0.01 * len(pattern.tokens)
    words = sum(token[0].isalnum() for token in pattern.tokens)
    exact = 0.02 if pattern.level == "exact" else 0.03
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
        habit,
    )


def _test_pattern(pattern: Pattern, documents: Documents, level: float) -> Signature | None:
    if pattern.where == "anywhere" and not _is_phrase(pattern):
        return None
    has = documents.holds(lambda text: pattern.find(text) is not None)
    if not has.any():
        return None
    found = contrast(has, documents)
    own = has & (documents.labels == found.label)
    texts = [documents.texts[at] for at in np.flatnonzero(own)]
    if all(token in CLOSE for token in pattern.tokens):
        added = pattern.tokens != ("?",)  # a question asks back: content, as the habit says
    else:
        added = _is_added(pattern, texts, found.share)
    verdict = _verdict(
        found, level, added, pattern.where == "anywhere", stock=_is_stock(pattern, texts)
    )
    if verdict is None:
        return None
    shown = examples(pattern, texts)
    return Signature(
        _check(pattern, shown[0]),
        found.label,
        found,
        verdict,
        "",
        shown[0],
        lambda text: pattern.find(text) is not None,
        pattern.without,
        documents.rows[own],
        pattern,
        kind=kind(pattern.tokens, pattern.level) if len(shown) > 1 else "",
    )


def _is_phrase(pattern: Pattern) -> bool:
    """Tell whether a pattern inside the text is more than a word of the content or a mark of a
    list: it has two words, a sign such as an emoji, or brackets around it.
    """
    key = pattern.tokens
    return (
        sum(token[0].isalnum() for token in key) >= 2
        or any(map(is_odd, key))
        or (key[0] in OPENING and key[-1] in CLOSING)
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
    if pattern.level != "exact" and is_stamp(pattern.tokens):
        return "shortcuts.dates"
    if pattern.where == "beginning" and TAG.match(text):
        return "shortcuts.think"
    if pattern.where == "anywhere":
        return "shortcuts.phrase"
    if text and all(c in CLOSE for c in text) and pattern.where == "ending":
        return "shortcuts.punctuation"
    if text and all(c in "\"'“”‘’«»`" for c in text):
        return "shortcuts.quotes"
    return f"shortcuts.{pattern.where}"
