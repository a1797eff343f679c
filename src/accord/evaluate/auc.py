"""Area under the ROC curve: the probability that a good answer has a higher value than a bad one.

Two values that differ by no more than the tie width count half. Everything here comes from sorted
values, so it costs O(N log N): a table of all pairs takes 1.9 GB at 8,000 rows on each side.

G good rows · B bad rows · N = G + B.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from accord.evaluate.intervals import Estimate


def auc(good: np.ndarray, bad: np.ndarray, tie_width: float = 0.0) -> float:
    """Compute P(good > bad) + P(tie) / 2 of G good and B bad rows; NaN where a side is empty."""
    if not len(good) or not len(bad):
        return math.nan
    below, not_above = _ranks(good, np.sort(bad), tie_width)
    return float((below + not_above).sum() / (2 * len(good) * len(bad)))  # whole numbers: exact


def share_below(values: np.ndarray, others: np.ndarray, tie_width: float = 0.0) -> np.ndarray:
    """Compute for each of `values` the share of `others` below it, ties half."""
    below, not_above = _ranks(values, np.sort(others), tie_width)
    return (below + not_above) / (2 * len(others))


def auc_by_variance(
    values: np.ndarray,
    good: np.ndarray,
    clusters: Sequence[int] | np.ndarray,
    tie_width: float = 0.0,
) -> Estimate:
    """Estimate the area with an interval from each cluster's influence on it.

    Args:
      values: [N] what the rows are ranked by.
      good: [N] bool.
      clusters: [N] numbers from 0 of what each row belongs to, such as its prompt.

    Source: DeLong et al. 1988; for clusters Obuchowski 1997, Biometrics 53.
    """
    if good.all() or not good.any():
        return Estimate(0.5, 0.0, 1.0, len(values))
    below = share_below(values[good], values[~good], tie_width)
    above = 1 - share_below(values[~good], values[good], tie_width)
    value = float(below.mean())
    influence = np.empty(len(values))
    influence[good], influence[~good] = (below - value) / len(below), (above - value) / len(above)
    half = 1.96 * float(np.sqrt(np.square(np.bincount(clusters, weights=influence)).sum()))
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), len(values))


def auc_by_bootstrap(
    values: np.ndarray,
    good: np.ndarray,
    clusters: Sequence[int] | np.ndarray,
    seed: int,
    tie_width: float = 0.0,
    resamples: int = 1_000,
) -> Estimate:
    """Estimate the area with percentiles over clusters drawn with replacement.

    The ranks are the same in every draw: a draw only says how often each row counts.
    """
    order = np.argsort(values[~good], kind="stable")
    below, not_above = _ranks(values[good], values[~good][order], tie_width)

    def weighted(times: np.ndarray) -> float:
        """Compute the area where row i counts times[i] times; NaN without a good or a bad one."""
        up_to = np.concatenate([[0], np.cumsum(times[~good][order])])
        pairs = times[good].sum() * up_to[-1]
        won = (times[good] * (up_to[below] + up_to[not_above]) / 2).sum()
        return float(won / pairs) if pairs else math.nan

    _, owner = np.unique(np.asarray(clusters), return_inverse=True)
    rng, groups = np.random.default_rng(seed), owner.max() + 1
    drawn = [
        weighted(np.bincount(rng.integers(groups, size=groups), minlength=groups)[owner])
        for _ in range(resamples)
    ]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return Estimate(weighted(np.ones(len(values))), float(low), float(high), len(values))


def _ranks(
    values: np.ndarray, others: np.ndarray, tie_width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Count for each value the sorted others that lie below it, and those that do not lie above.

    Others within the tie width are in the second count alone. Their distance is what floating point
    gives for the difference, as in a table of all pairs: the search bisects on that difference.
    """
    with np.errstate(invalid="ignore"):  # ∞ - ∞ counts as a loss, not a tie
        return (
            _bisect(others, len(values), lambda other: values - other > tie_width),
            _bisect(others, len(values), lambda other: values - other >= -tie_width),
        )


def _bisect(others: np.ndarray, count: int, passed: Callable) -> np.ndarray:
    """Find for each of `count` values how many of the sorted others satisfy `passed`.

    It must be true of the first ones and false of all that follow.
    """
    low = np.zeros(count, dtype=np.int64)
    high = np.full(count, len(others))
    for _ in range(len(others).bit_length()):
        middle = (low + high) // 2
        inside = (low < high) & passed(others[np.minimum(middle, len(others) - 1)])
        low, high = np.where(inside, middle + 1, low), np.where(inside, high, middle)
    return low
