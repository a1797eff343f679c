"""Endings of sampled answers on their way into pairs: by the model, or cut at the limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from accord.data.endings import OF_PAIR
from accord.errors import plural
from accord.types import DataError


def ended_of(row: Mapping, texts: Sequence[str], path: str, line: int) -> list[bool | None]:
    """Return how each answer of a line ended: by the model, cut at the limit, or None where the
    file does not say.

    Raises:
      DataError: `ended` is there, and is not one switch for each answer.
    """
    ended = row.get("ended")
    if ended is None:
        return [None] * len(texts)
    if not isinstance(ended, list) or len(ended) != len(texts) or {*map(type, ended)} - {bool}:
        raise DataError(
            f"{path}:{line}: expected `ended` to say true or false of each of the"
            f" {len(texts)} answers, as accord sample writes it. Make the file again, or take the"
            " column out."
        )
    return ended


def endings(pairs: int, cut: int, unknown: int) -> list[str]:
    """Say how the answers of the pairs ended, where that changes what is trained."""
    said = []
    if cut:
        said.append(
            f"{'!' if 2 * cut > pairs else ' '} {cut:,} of {2 * pairs:,} answers in pairs were cut"
            " at the limit of the draw; accord train gives them no end token. To have them end:"
            " accord sample --max-new-tokens N, with a larger N"
        )
    if unknown:
        said.append(
            f"  {plural(unknown, 'pair does', 'pairs do')} not say how the answers ended (no"
            " column `ended`):"
            " each is"
            " trained on as a whole answer, with an end token"
        )
    return said


def ended_columns(row: Mapping, good: int, bad: int) -> dict[str, bool]:
    """Return how the two answers ended, as `accord train` reads it."""
    ended = row.get("ended")
    return dict(zip(OF_PAIR, (ended[good], ended[bad]), strict=True)) if ended else {}
