"""Advice on the methods that hold the chosen answers of pairs."""

from __future__ import annotations

from accord.objectives import OBJECTIVES


def why_not_held(kind: str) -> dict[str, str]:
    """Return method -> when it is for, of each that holds the chosen answers: nothing in a file
    tells whether a run will lose them, so none is a first choice.

    Args:
      kind: of the rows. They need pairs.
    """
    if kind != "pairs":
        return {}
    return {
        each.name: f"for a run whose chosen log-prob falls (flag chosen-falling): it {each.holds}"
        for each in OBJECTIVES.values()
        if each.holds
    }
