"""Columns beside the texts. Some describe the two sides (scores, votes, models), some the row
(source).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

SCORES = ("score", "rating", "reward", "rank")
VOTES = ("votes", "vote", "agree")
LONGEST = 80  # characters: a longer text is no category
MOST = 200  # values: a column with more is no category


def side_columns(extra: dict) -> list[tuple[str, object, object]]:
    """List (name, value of the chosen side, value of the rejected side) of each column that both
    sides have.
    """
    out = []
    for name in extra:
        if not is_name(name) or "chosen" not in name:
            continue
        other = name.replace("chosen", "rejected", 1)
        if other in extra:
            out.append((name.replace("chosen", "").strip("_- ") or name, extra[name], extra[other]))
    return out


def side_numbers(extra: dict, names: tuple[str, ...]) -> tuple[float, float]:
    """Find the first numeric column of both sides whose name has one of these words; NaN if there
    is none.

    The sign of a rank is reversed, so that more is better.
    """
    for name, one, two in side_columns(extra):
        word = next((word for word in names if word in name.lower()), None)
        if word and not math.isnan(figure(one)) and not math.isnan(figure(two)):
            sign = -1 if word == "rank" else 1
            return sign * figure(one), sign * figure(two)
    return math.nan, math.nan


def figure(value: object) -> float:
    """Read a finite number from a column beside the texts; else NaN. The number may be a text, as
    in a CSV file.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        found = float(value) if not isinstance(value, str) or len(value) <= 40 else math.nan
    except (ValueError, OverflowError):
        return math.nan
    return found if math.isfinite(found) else math.nan


FLIP = re.compile(r"flip|nois|swap|corrupt", re.IGNORECASE)
MARKS = ("selected", "flipped", "applied", "swapped", "noisy", "corrupted")


def declared_flip(extra: dict) -> int:
    """Return 1 if the row's own columns say that its label was flipped, 0 if they say that it was
    not, else -1.

    Such columns are in files made for experiments: `is_flipped: true`, or `noise: {selected: true,
    …}`.
    """
    for name, value in extra.items():
        if not isinstance(name, str) or not FLIP.search(name):
            continue
        if isinstance(value, dict):
            value = next((value[mark] for mark in MARKS if mark in value), None)
        if isinstance(value, bool):
            return int(value)
    return -1


@dataclass
class Categories:
    """The values of one categorical column, numbered in order of appearance. It gives up if there
    are too many.
    """

    codes: dict[str, int] = field(default_factory=dict)
    given_up: bool = False

    def code(self, value: object) -> int:
        """Return the value's number; -1 if it has none."""
        if self.given_up or not isinstance(value, str) or not value or len(value) > LONGEST:
            return -1
        found = self.codes.setdefault(value, len(self.codes))
        self.given_up = len(self.codes) > MOST
        return found

    @property
    def names(self) -> list[str]:
        return list(self.codes)


def is_name(name: object) -> bool:
    """Tell whether a column's name is safe to show. Dataset text must not control a terminal."""
    return isinstance(name, str) and name.isprintable() and len(name) <= LONGEST


def is_category(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST
