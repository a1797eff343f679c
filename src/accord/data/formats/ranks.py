"""Ranks beside a list of answers: what they say of each, and what is refused because it could be
read in two ways.

`[1, 2, 0]` may give each answer its rank, or name the answers from the best to the worst. The two
readings prefer different answers, so the column's name or the caller has to say which is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from accord.data.formats import parts
from accord.data.ledger import RowError

RANKS = "ranks|rank|ranking"
ORDER = "order"
LEFT_OUT = "an answer without a rank (-1 or null) is left out"
# texts that say that an answer was not ranked or scored
NONE = frozenset(("", "nan", "none", "null", "n/a", "na", "unranked", "unrated", "-"))


def is_none(value: object) -> bool:
    """Tell whether a value says that there is none."""
    if isinstance(value, str):
        return value.strip().lower() in NONE
    return value is None or value != value


def worths(values: Sequence, name: str, count: int, notes: list[str]) -> list[float | None]:
    """Return the worth of each answer, minus its rank; None where it has no rank.

    Args:
      values: one for each answer; an order may leave answers out.
      name: the column. In `ranks` each answer has its own; in `order` answers are named by index,
        the best first; in the others a list that could be either is refused.

    Raises:
      RowError: a rank is no number, or which convention is meant cannot be known.
    """
    ranks = [_rank(value, name) for value in values]
    found = [rank for rank in ranks if rank is not None]
    if not found:
        raise RowError("not ranked", f"{name} has no rank at all.")
    if name == ORDER:
        return _by_order(found, count, notes)
    if len(found) < len(ranks):
        notes.append(LEFT_OUT)
    base = min(found)
    if _is_ambiguous(ranks, name):
        raise RowError(
            "ranks or an order",
            f"{name} is {[int(rank) for rank in found]!r:.60}: it gives each answer its rank, or"
            " names the answers from the best on, and the two disagree. Say it with --columns"
            f" ranks={name} or --columns order={name}.",
        )
    notes.append(f"rank {base:g} is the best" if base in (0, 1) else "the lowest rank is the best")
    return [None if rank is None else -rank for rank in ranks]


def one_worth(value: object, notes: list[str]) -> float | None:
    """Return the worth of an answer that has its rank inside; None where it has none."""
    rank = _rank(value, "rank")
    notes.append(LEFT_OUT if rank is None else "the lowest rank is the best")
    return None if rank is None else -rank


def compare(scores: Sequence[float | None], ranks: Sequence, notes: list[str]) -> None:
    """Compare the scores of answers with ranks that stand beside them and are not read.

    Raises:
      RowError: every rank says the opposite of the scores, so one of the two counts the other way.
    """
    if len(ranks) != len(scores):
        return
    known = []
    for score, value in zip(scores, ranks, strict=True):
        if score is None or isinstance(value, (bool, list, dict)) or is_none(value):
            continue
        rank = parts.number(value, "rank")
        known += [(score, rank)] if rank >= 0 else []
    agrees = [
        (one[0] > other[0]) == (one[1] < other[1])
        for one, other in combinations(known, 2)
        if one[0] != other[0] and one[1] != other[1]
    ]
    if agrees and not any(agrees):
        raise RowError(
            "scores against ranks",
            "by the ranks (the lowest is the best) the order of the answers is the opposite of that"
            " by the scores (the highest is the best); which of them is meant is not said. Leave"
            " one out of the file, or name it: --ignore-columns COLUMN.",
        )
    if not all(agrees):
        notes.append("ranks and scores disagree on some answers: the scores are read")


def _rank(value: object, name: str) -> float | None:
    if is_none(value):
        return None
    rank = parts.number(value, name)
    if rank < -1 or (rank < 0 and rank != -1):
        raise RowError("wrong type", f"{name} has {value!r:.40}; a rank is 0 or more.")
    return None if rank == -1 else rank


def _is_ambiguous(ranks: list[float | None], name: str) -> bool:
    """Tell whether a full permutation names other answers as an order than it does as ranks.

    From 1 on, `rank` is by custom the rank of each answer; `ranking` is not.
    """
    if name == "ranks" or None in ranks:
        return False
    full = [int(rank) for rank in ranks if rank is not None]
    base = min(full)
    if full != ranks or base not in (0, 1) or (base == 1 and name == "rank"):
        return False
    places = [rank - base for rank in full]
    if sorted(places) != list(range(len(places))):
        return False
    return any(places[places[at]] != at for at in range(len(places)))


def _by_order(found: list[float], count: int, notes: list[str]) -> list[float | None]:
    """Return the worth of each answer, where they are named by index from the best on."""
    if 0 not in found and count not in found:
        raise RowError(
            "ranks or an order",
            "order names some of the answers, and whether it counts from 0 or 1 is not said.",
        )
    base = 0 if 0 in found else 1
    places = [int(index) - base for index in found]
    if len(set(places)) < len(places) or places != [index - base for index in found]:
        raise RowError("wrong type", "order names an answer twice, or by a fraction.")
    if not all(0 <= place < count for place in places):
        raise RowError("wrong type", f"order names an answer that is not among the {count}.")
    notes.append(f"order names the best answer first, counting from {base}")
    if len(places) < count:
        notes.append(LEFT_OUT)
    ranked = {place: -float(at) for at, place in enumerate(places, 1)}
    return [ranked.get(place) for place in range(count)]
