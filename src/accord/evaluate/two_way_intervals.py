"""Intervals where both rows and seeds were drawn: another set of prompts, or another seed, would
have given other numbers.

    value[s, i] = μ + seed[s] + cluster[c(i)] + rest[s, i]
                                    S seeds · N rows in C clusters, such as prompts

Seeds and clusters are crossed: every seed was measured on every row. Resampling both at random, as
is often done, counts the rest twice, and knows nothing of how little three seeds say. So the
variance is estimated by parts,

    V = V_seeds + V_clusters - V_rest        V_seeds = var of the S seed means / S,
                                             V_clusters likewise, V_rest of what is left

and the bootstrap, which draws seeds and clusters, says alone how lopsided the interval is: its
width is √V times Student's t (two seeds give a bootstrap of three values, whose quantiles say
nothing). The degrees of freedom are Satterthwaite's: with three seeds that disagree, two; that is
what makes an interval of few seeds as wide as it must be. One seed: rows alone, and nothing is
known of other seeds.

Sources: Owen and Eckles 2012, "Bootstrapping data arrays of arbitrary order", Annals of Applied
Statistics 6; Cameron, Gelbach and Miller 2011, "Robust inference with multiway clustering", JBES
29; Satterthwaite 1946, Biometrics 2.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from accord.evaluate.intervals import Estimate, wilson

RESAMPLES = 2_000


@dataclass(frozen=True)
class Spread:
    """The variance of a mean, and the degrees of freedom of that variance."""

    variance: float
    freedom: float

    def quantile(self, confidence: float) -> float:
        """Return Student's t for a two-sided interval."""
        return float(stats.t.ppf((1 + confidence) / 2, self.freedom))


@dataclass(frozen=True)
class Difference:
    """The difference between two things on the same rows and seeds, with its interval."""

    estimate: Estimate
    p: float  # two-sided, that there is no difference


def crossed_mean(
    values: ArrayLike,
    clusters: Sequence[Hashable],
    *,
    share: bool = False,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Compute the mean of values [S, N] over seeds and rows, with its interval.

    Args:
      clusters: what each of the N rows belongs to.
      share: the values are in [0, 1]: Wilson's interval of the effective number of rows, which
        stays inside.
      seed: of the resampling.
    """
    table = _Table.of(values, clusters)
    spread = table.spread()
    value = table.mean()
    if share:
        low, high = _wilson(value, table, spread, confidence)
    else:
        low, high = table.interval(spread, confidence, seed)
    return Estimate(value, low, high, table.rows)


def crossed_difference(
    one: ArrayLike,
    other: ArrayLike,
    clusters: Sequence[Hashable],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Compute the mean of `one` minus that of `other`, both [S, N] of the same seeds and rows.

    What is hard for both cancels.
    """
    one, other = np.asarray(one, float), np.asarray(other, float)
    assert one.shape == other.shape, (
        f"paired values come from the same seeds and rows: {one.shape} and {other.shape}"
    )
    table = _Table.of(one - other, clusters)
    spread, value = table.spread(), table.mean()
    low, high = table.interval(spread, confidence, seed)
    if spread.variance > 0:
        p = float(2 * stats.t.sf(abs(value) / np.sqrt(spread.variance), spread.freedom))
    else:
        p = 1.0 if value == 0 else 0.0
    return Difference(Estimate(value, low, high, table.rows), p)


def holm(values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the chance of even one false difference among them is kept, in the
    order given.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6.
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    adjusted, worst = [0.0] * len(values), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = worst
    return adjusted


# ---------------------------------------------------------------- sums by seed and cluster


@dataclass(frozen=True)
class _Table:
    sums: np.ndarray  # [S, C]
    counts: np.ndarray  # [C] rows of each cluster

    @classmethod
    def of(cls, values: ArrayLike, clusters: Sequence[Hashable]) -> _Table:
        values = np.asarray(values, float)
        assert values.ndim == 2 and values.size, (
            f"expected seeds by rows, at least one of each; got shape {values.shape}"
        )
        assert values.shape[1] == len(clusters), (
            f"one cluster for each row: {len(clusters)} and {values.shape[1]}"
        )
        assert not np.isnan(values).any(), "a NaN would spoil the mean: it must be caught before"
        number: dict[Hashable, int] = {}
        index = np.array([number.setdefault(cluster, len(number)) for cluster in clusters])
        sums = np.stack([np.bincount(index, weights=row, minlength=len(number)) for row in values])
        return cls(sums, np.bincount(index).astype(float))

    @property
    def rows(self) -> int:
        return int(self.counts.sum())

    def mean(self) -> float:
        return float(self.sums.mean(0).sum() / self.counts.sum())

    def spread(self) -> Spread:
        """Compute the variance of the mean by parts; unequal clusters enter through the ratio's
        linear form.
        """
        seeds, groups = self.sums.shape
        moved = (
            (self.sums - self.counts * self.mean()) * groups / self.counts.sum()
        )  # [S, C], mean 0
        of_seeds, of_groups = moved.mean(1), moved.mean(0)
        between_groups = of_groups.var(ddof=1) / groups if groups > 1 else np.inf
        if seeds == 1:
            return Spread(float(between_groups), max(groups - 1, 1))
        between_seeds = of_seeds.var(ddof=1) / seeds
        if groups == 1:
            return Spread(np.inf, 1)
        rest = moved - of_seeds[:, None] - of_groups + moved.mean()
        left = (rest**2).sum() / ((seeds - 1) * (groups - 1)) / (seeds * groups)
        variance = max(between_seeds + between_groups - left, between_seeds, between_groups)
        parts = between_seeds**2 / (seeds - 1) + between_groups**2 / (groups - 1)
        freedom = variance**2 / parts if parts > 0 else seeds * groups - 1
        return Spread(float(variance), float(min(freedom, groups - 1)))

    def interval(self, spread: Spread, confidence: float, seed: int) -> tuple[float, float]:
        """Compute an interval as wide as the variance by parts says, as lopsided as the
        bootstrap.
        """
        value = self.mean()
        if spread.variance == 0:
            return value, value
        if not np.isfinite(spread.variance):
            return -np.inf, np.inf
        tail = (1 - confidence) / 2
        below, above = np.abs(np.quantile(self._resampled(seed) - value, (tail, 1 - tail)))
        lean = 2 / (below + above) if below + above > 0 else 0.0
        half = np.sqrt(spread.variance) * spread.quantile(confidence)
        return float(value - half * lean * below), float(value + half * lean * above)

    def _resampled(self, seed: int) -> np.ndarray:
        """Compute means of draws of seeds and of clusters, both with replacement, [RESAMPLES]."""
        rng = np.random.default_rng(seed)
        seeds, groups = self.sums.shape
        of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds  # [R, S]
        of_groups = rng.multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)  # [R, C]
        return ((of_seeds @ self.sums) * of_groups).sum(1) / (of_groups @ self.counts)


def _wilson(value: float, table: _Table, spread: Spread, confidence: float) -> tuple[float, float]:
    """Compute Wilson's interval for as many independent rows as would know the share this well;
    never more than there are values.
    """
    if not np.isfinite(spread.variance):
        return 0.0, 1.0
    groups = table.sums.shape[1]
    independent = value * (1 - value) / spread.variance if spread.variance > 0 else groups
    n = min(independent, table.sums.shape[0] * table.rows) if value * (1 - value) > 0 else groups
    return wilson(value, n, z=spread.quantile(confidence))
