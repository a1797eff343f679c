"""Curves of long runs with fewer points, of which none is lost that matters: the least and the
largest value of each stretch stay, where and as they were recorded.

Every k-th point, or a mean of k, would hide a loss of 250 in a single one of 5,000 updates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

Point = tuple[float, float]


def extremes(points: Sequence[Point], most: int) -> list[Point]:
    """Keep at most so many of the points: the first and the newest, and of each of equal stretches
    the least and the largest, in their order. Points whose value is not finite are not among them;
    see `not_finite`.
    """
    kept = finite(points)
    if len(kept) <= most:
        return kept
    values = np.array([value for _, value in kept])
    # two of each stretch, and both ends of the curve
    edges = np.linspace(0, len(kept), max(1, (most - 2) // 2) + 1).astype(int)
    chosen = {0, len(kept) - 1}
    for start, stop in pairwise(edges):
        chosen |= {int(start + find(values[start:stop])) for find in (np.argmin, np.argmax)}
    return [kept[index] for index in sorted(chosen)]


def means(points: Sequence[Point], most: int) -> list[Point]:
    """Average equal stretches of the finite points, if there are too many: a trend, beside the
    extremes.
    """
    kept = finite(points)
    if len(kept) <= most:
        return kept
    table = np.array(kept, dtype=float)
    edges = np.linspace(0, len(kept), most + 1).astype(int)[:-1]
    sizes = np.diff([*edges, len(kept)])
    return [
        (float(step), float(value))
        for step, value in np.add.reduceat(table, edges, axis=0) / sizes[:, None]
    ]


def finite(points: Sequence[Point]) -> list[Point]:
    """Return the points whose value is a finite number."""
    return [(step, value) for step, value in points if math.isfinite(value)]


def not_finite(points: Sequence[Point], most: int) -> list[float]:
    """Return the steps at which a value is NaN or infinite; of too many the first and the newest
    of equal stretches.
    """
    steps = [step for step, value in points if not math.isfinite(value)]
    if len(steps) <= most:
        return steps
    places = np.linspace(0, len(steps) - 1, most).astype(int)
    return [steps[index] for index in places]
