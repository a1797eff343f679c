"""The nearest right name for one that does not exist: of a word, and of a file."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from itertools import islice, takewhile
from pathlib import Path

MOST = 2_000  # entries of a folder that are compared


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Find the known word that is most like this one; capitals make no difference. A word with
    two neighbouring letters exchanged comes first (`dop` is dpo, not dpop); of words that are as
    like it, the one that begins as it does.
    """
    by_small = {each.lower(): each for each in known}
    small = word.lower()
    close = difflib.get_close_matches(small, list(by_small), n=4, cutoff=cutoff)

    def likeness(other: str) -> tuple[bool, float, int]:
        ratio = difflib.SequenceMatcher(None, other, small).ratio()
        # not strict: up to the end of the shorter one
        alike = (a == b for a, b in zip(other, small, strict=False))
        return _exchanged(other, small), ratio, sum(takewhile(bool, alike))

    return by_small[max(close, key=likeness)] if close else None


def _exchanged(one: str, other: str) -> bool:
    """Tell whether two words differ by two neighbouring letters that changed places."""
    places = [i for i in range(min(len(one), len(other))) if one[i] != other[i]]
    if len(one) != len(other) or len(places) != 2 or places[1] != places[0] + 1:
        return False
    first, second = places
    return one[first] == other[second] and one[second] == other[first]


def nearest_path(path: str) -> str | None:
    """Find the file or folder that is most like a path which does not exist.

    One wrong part of the path is mended; the rest must be right.
    """
    place = Path(path).expanduser()
    for depth, part in enumerate(reversed(place.parts)):
        above = Path(*place.parts[: len(place.parts) - depth - 1])
        rest = place.parts[len(place.parts) - depth :]
        try:
            if not above.is_dir():
                continue
            with os.scandir(above) as found:
                names = [entry.name for entry in islice(found, MOST)]
        except (OSError, ValueError):  # a folder that may not be read; a NUL in the name
            return None
        close = nearest(part, names)
        mended = above.joinpath(close, *rest) if close else None
        return str(mended) if mended is not None and mended.exists() else None
    return None


def did_you_mean(path: str) -> str:
    """Return a sentence with the nearest path; nothing where there is none."""
    close = nearest_path(path)
    return f" Did you mean {close}?" if close else ""
