"""Area under the ROC curve: the probability that a good answer has a higher value than a bad one.

Two values that differ by no more than the tie width count half. Everything here comes from sorted
values, so it costs O(N log N): a table of all pairs takes 1.9 GB at 8,000 rows on each side.

G good rows · B bad rows · N = G + B.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from accord.evaluate.intervals import Estimate, clopper_pearson


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


def auc_estimate(
    values: np.ndarray,
    good: np.ndarray,
    clusters: Sequence[int] | np.ndarray,
    tie_width: float = 0.0,
) -> Estimate:
    """Estimate the area with an interval from each cluster's influence on it.

    The variance says how many independent trials would know the area as well, and the interval is
    the exact one of so many. It stays inside [0, 1]. Where all good rows are above all bad ones the
    influences vanish, and the clusters of the rarer side are counted: 1.96 standard errors held the
    truth in .21 of simulations with 20 rows and 1 % of them wrong, as did a percentile bootstrap.

    Args:
      values: [N] what the rows are ranked by.
      good: [N] bool.
      clusters: [N] numbers from 0 of what each row belongs to, such as its prompt.

    Source: DeLong et al. 1988; for clusters Obuchowski 1997, Biometrics 53.
    """
    if good.all() or not good.any():
        return Estimate(0.5, 0.0, 1.0, len(values))
    _, owner = np.unique(np.asarray(clusters), return_inverse=True)
    groups = int(owner.max()) + 1
    below = share_below(values[good], values[~good], tie_width)
    above = 1 - share_below(values[~good], values[good], tie_width)
    value = float(below.mean())
    if groups < 2:
        return Estimate(value, 0.0, 1.0, len(values))
    influence = np.empty(len(values))
    influence[good], influence[~good] = (below - value) / len(below), (above - value) / len(above)
    variance = np.square(np.bincount(owner, weights=influence)).sum() * groups / (groups - 1)
    rarer = min(len(np.unique(owner[good])), len(np.unique(owner[~good])))
    return Estimate(value, *clopper_pearson(value, _trials(value, variance, rarer)), len(values))


def _trials(value: float, variance: float, rarer: int) -> float:
    """Return the number of independent trials that know a share of this value as well.

    Few clusters estimate the variance badly: each of them counts at most as often as Student's t
    and the ratio of the variances allow. Near 0 and 1 one row decides, so that the area is known no
    better than the clusters of the rarer side know it.
    """
    spread = value * (1 - value)
    if spread <= 0 or variance <= 0:
        return float(rarer)
    few = (stats.norm.ppf(0.975) / stats.t.ppf(0.975, max(1, rarer - 1))) ** 2
    return float(spread / variance * few)


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
