"""Intervals: no share and no mean is shown without one.

Rows that share a prompt are not independent: they come as a cluster, and intervals are as wide as
clusters demand.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from accord.evaluate.bounded_means import bounded_interval

UNBOUNDED = (-math.inf, math.inf)
AT_LEAST_ZERO = (0.0, math.inf)  # KL, nats of texts, lengths
CELLS_AT_ONCE = 1_000_000  # resampled indices in memory at once: 8 MB, and some such tables
FEWEST = 3  # clusters under which a spread is not estimated: with two, Student's t is 12.7
WIDEST = 3.0  # times Student's t: beyond it the quantiles of few clusters are noise


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number measured on n rows, with its interval; infinite where nothing is known of an end."""

    value: float
    low: float
    high: float
    n: int
    # the value of each of two seeds: they are shown in place of an interval, which needs three
    seeds: tuple[float, ...] = ()

    def as_dict(self) -> dict:
        """Return the estimate for JSON, which has no infinity: an end of which nothing is known is
        None.
        """
        ends = {
            name: end if math.isfinite(end) else None
            for name, end in (("low", self.low), ("high", self.high))
        }
        seeds = {"seeds": list(self.seeds)} if self.seeds else {}
        return {"value": self.value, **ends, "n": self.n, **seeds}

    def __str__(self) -> str:
        return f"{format_interval(self.as_dict())[:-1]}, n = {self.n:,})"


def format_interval(found: Mapping, digits: int = 3) -> str:
    """Format an estimate's record: 0.712 (0.650 to 0.769)."""
    value = _fixed(found["value"], digits)
    if seeds := found.get("seeds"):
        values = " and ".join(_fixed(one, digits) for one in seeds)
        return f"{value} ({len(seeds)} seeds: {values})"
    if found["low"] is None or found["high"] is None:
        return f"{value} (interval not known)"
    return f"{value} ({_fixed(found['low'], digits)} to {_fixed(found['high'], digits)})"


def _fixed(value: float, digits: int) -> str:
    """Format a number; one that rounds to zero has no sign."""
    return f"{value:z.{digits}f}"


def format_short_interval(estimate: dict | None) -> str:
    """Format for a table: 0.712 (0.650 to 0.769), large values with one place."""
    if estimate is None:
        return "–"
    return format_interval(estimate, 3 if abs(estimate["value"]) < 10 else 1)


def clopper_pearson(share: float, n: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the exact interval for a share of n independent trials: inside [0, 1], and of
    sensible width at 0 and 1.

    It holds the truth at least as often as it says. Wilson's, which is shorter, held it in .91 of
    samples of 50 where 1 % are wrong, and in .85 of samples of 20 where .8 % are.

    Args:
      share: in [0, 1]; need not be a whole number of n-ths.
      n: trials, above 0; fractional where it is an effective number.
      confidence: of the two-sided interval.

    Source: Clopper and Pearson 1934, Biometrika 26.
    """
    tail, hits = (1 - confidence) / 2, share * n
    low = stats.beta.ppf(tail, hits, n - hits + 1) if hits > 0 else 0.0
    high = stats.beta.ppf(1 - tail, hits + 1, n - hits) if hits < n else 1.0
    return float(low), float(high)


def accuracy(
    margins: ArrayLike,
    *,
    tie_width: float = 0.0,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Compute the share of pairs ranked rightly, (wins + ties/2) / n, with its interval.

    Before training a policy equals its reference and every margin is 0: that is .5, not 0.

    Args:
      margins: chosen minus rejected [N], none NaN.
      tie_width: margins within ± this are ties; use the noise floor of the numbers.
      clusters: what each row belongs to, N of them, such as its prompt; see `bounded_mean`.
    """
    margins = _numbers(margins)
    scores = np.where(np.abs(margins) <= tie_width, 0.5, margins > 0)  # [N] in {0, 1/2, 1}
    return bounded_mean(scores, clusters=clusters, confidence=confidence)


def bounded_mean(
    values: ArrayLike,
    bounds: tuple[float, float] = (0.0, 1.0),
    *,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Compute the mean of values that cannot leave the bounds, with an interval that cannot either
    and that is never of no width; see evaluate/bounded_means.py.

    One cluster says nothing of the spread between clusters: its interval is all that is possible.
    """
    values = _numbers(values)
    assert bounds[0] <= values.min() and values.max() <= bounds[1], (
        f"values from {values.min()} to {values.max()} leave the bounds {bounds}"
    )
    sums, counts = _by_cluster(values, range(len(values)) if clusters is None else clusters)
    ends = bounds if len(sums) == 1 else bounded_interval(sums, counts, bounds, confidence)
    return Estimate(float(values.mean()), *ends, len(values))


def effective_rows(values: ArrayLike, clusters: Sequence[Hashable]) -> float:
    """Return the effective number of rows, at most N.

    So many independent rows would know the mean of the values as well as these clustered ones do.
    """
    values = _numbers(values)
    sums, counts = _by_cluster(values, clusters)
    return 1.0 if len(sums) == 1 else _effective(values, sums, counts)


def bootstrap_mean(
    values: ArrayLike, *, clusters: Sequence[Hashable] | None = None, **options
) -> Estimate:
    """Compute the mean with its interval. Options are those of `bootstrap_ratio`.

    Args:
      values: [N], none NaN.
      clusters: what each row belongs to, N of them; every row for itself when None.
    """
    return bootstrap_ratio(values, np.ones(len(np.asarray(values))), clusters=clusters, **options)


def bootstrap_ratio(
    totals: ArrayLike,
    counts: ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    bounds: tuple[float, float] = UNBOUNDED,
    seed: int = 0,
    resamples: int = 1_000,
    confidence: float = 0.95,
) -> Estimate:
    """Compute a sum over a sum, such as all rows' nats over all their tokens, with the bootstrap-t
    interval over clusters.

    Each end is at least Student's t away. A percentile bootstrap of skewed (log-normal) values
    held the truth in .88 of simulations with 20 rows and .91 with 50, this one in .94 and .94.
    Under FEWEST clusters, or where all of them are alike, nothing is known of the spread: the ends
    are the bounds, infinite where there are none.

    Args:
      totals, counts: [N] each, none NaN; counts above 0.
      clusters: as in `bootstrap_mean`.
      bounds: limits that the figure cannot leave.
      seed: the same seed gives the same interval.

    Source: Efron 1981, "Nonparametric standard errors and confidence intervals", Canadian Journal
    of Statistics 9; Hall 1988, Annals of Statistics 16.
    """
    totals, counts = _numbers(totals), _numbers(counts)
    assert len(totals) == len(counts), (
        f"both come from the same rows: {len(totals)} and {len(counts)}"
    )
    n, value = len(totals), float(totals.sum() / counts.sum())
    if clusters is not None:
        totals, counts = _by_cluster(totals, clusters)[0], _by_cluster(counts, clusters)[0]
    error = float(_standard_error(totals, counts))
    # of constant values rounding leaves a spread of about 1e-16 of them
    if len(totals) < FEWEST or error <= 1e-12 * abs(value):
        return Estimate(value, *bounds, n)
    below, above = _reach(totals, counts, seed, resamples, confidence)
    low, high = value - below * error, value + above * error
    return Estimate(value, max(bounds[0], low), min(bounds[1], high), n)


def _reach(
    sums: np.ndarray, counts: np.ndarray, seed: int, resamples: int, confidence: float
) -> tuple[float, float]:
    """Return how many standard errors the ends lie below and above the value: the quantiles of the
    studentised resamples, from Student's t to WIDEST times it.
    """
    value, groups = sums.sum() / counts.sum(), len(sums)
    rng = np.random.default_rng(seed)
    found = np.empty(resamples)
    chunk = max(1, CELLS_AT_ONCE // groups)
    for start in range(0, resamples, chunk):
        part = found[start : start + chunk]
        drawn = rng.integers(groups, size=(len(part), groups))
        sums_drawn, counts_drawn = sums[drawn], counts[drawn]
        off = sums_drawn.sum(1) / counts_drawn.sum(1) - value
        with np.errstate(divide="ignore", invalid="ignore"):  # a draw of one cluster alone
            part[:] = off / _standard_error(sums_drawn, counts_drawn)
    found, tail = found[np.isfinite(found)], (1 - confidence) / 2
    t = float(stats.t.ppf(1 - tail, groups - 1))
    if not len(found):
        return t, t
    low, high = np.quantile(found, (tail, 1 - tail))
    # a resample whose error lies below its value tells how far the truth may lie above
    return float(np.clip(high, t, WIDEST * t)), float(np.clip(-low, t, WIDEST * t))


def _standard_error(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the standard error of Σ sums / Σ counts over the clusters of the last axis."""
    groups, rows = sums.shape[-1], counts.sum(-1)
    if groups < 2:
        return np.zeros(sums.shape[:-1])
    off = sums - (sums.sum(-1) / rows)[..., None] * counts
    return np.sqrt(groups / (groups - 1) * np.square(off).sum(-1)) / rows


def bootstrap_difference(after: ArrayLike, before: ArrayLike, **options) -> Estimate:
    """Compute the mean of `after` minus that of `before`, measured on the same rows, with its
    interval.

    What makes a row easy or hard for both cancels: the interval is that of the row-wise
    differences. Options are those of `bootstrap_ratio`.
    """
    after, before = _numbers(after), _numbers(before)
    assert len(after) == len(before), (
        f"paired values come from the same rows: {len(after)} and {len(before)}"
    )
    return bootstrap_mean(after - before, **options)


def _numbers(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    assert values.ndim == 1 and len(values), (
        f"expected a list of numbers, at least one; got shape {values.shape}"
    )
    assert not np.isnan(values).any(), (
        "a NaN would count as a loss or spoil the mean: it must be caught before"
    )
    return values


def _by_cluster(values: np.ndarray, clusters: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of the values and the number of rows of each cluster, in order of first
    appearance.
    """
    assert len(clusters) == len(values), (
        f"one cluster for each row: {len(clusters)} and {len(values)}"
    )
    number: dict[Hashable, int] = {}
    index = np.array([number.setdefault(cluster, len(number)) for cluster in clusters])
    return np.bincount(index, weights=values), np.bincount(index).astype(np.float64)


def _effective(scores: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> float:
    """Return the effective number of rows: the ratio of the two variances, times n.

    So many independent rows know the mean as well as these clusters do. No spread at all tells
    nothing of how alike the rows of a cluster are; then clusters are counted.
    """
    n, groups = len(scores), len(sums)
    if np.ptp(scores) == 0:
        return float(groups)
    # variance of the mean
    between = groups / (groups - 1) * np.square(sums - counts * scores.mean()).sum() / n**2
    independent = scores.var() / n
    return float(n * min(1.0, independent / between)) if between > 0 else float(n)
