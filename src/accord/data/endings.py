"""Endings of the answers of a row, where the row names them: by the model's own end token, or cut
at a limit of tokens.

`accord pair` writes `chosen_ended` and `rejected_ended`. An answer that was cut has no end: with an
end token behind it, the policy would be taught to stop in the middle of a sentence.
"""

from __future__ import annotations

from accord.types import Example, Pair

OF_PAIR = ("chosen_ended", "rejected_ended")
ALONE = "completion_ended"
COLUMNS = (*OF_PAIR, ALONE)


def was_cut(example: Example) -> tuple[bool, ...]:
    """Tell of each answer whether its row says that it was cut. A row that says nothing has whole
    answers.
    """
    names = OF_PAIR if isinstance(example, Pair) else (ALONE,)
    return tuple(example.extra.get(name) is False for name in names)


def extra_of_side(extra: dict, side: int) -> dict:
    """Return a pair's other columns for one of its answers alone: how this one ended."""
    if not any(name in extra for name in OF_PAIR):
        return extra
    own = {name: value for name, value in extra.items() if name not in OF_PAIR}
    return own | ({ALONE: extra[OF_PAIR[side]]} if OF_PAIR[side] in extra else {})


def endings_alone(extra: dict) -> dict:
    """Return the columns that say how answers ended, without the others."""
    return {name: extra[name] for name in COLUMNS if name in extra}
