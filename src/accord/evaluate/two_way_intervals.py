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
width is √V times Student's t. The degrees of freedom are Satterthwaite's: with three seeds that
disagree, two; that is what makes an interval of few seeds as wide as it must be. An interval is
never narrower than that of the seeds' mean over prompts alone (evaluate/intervals.py), so that
rows without any spread do not give one of no width. Of two seeds the spread is not estimated:
Student's t with one degree of freedom made "a KL of −8 to 24" of them. Their two values are shown.
One seed: rows alone, and nothing is known of other seeds.

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

from accord.evaluate.bounded_means import bounded_interval
from accord.evaluate.intervals import FEWEST, UNBOUNDED, Estimate, bootstrap_ratio

RESAMPLES = 2_000
TOO_FEW = 2  # seeds whose values are shown in place of an interval


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
    p: float | None  # two-sided, that there is no difference; None for two seeds


def crossed_mean(
    values: ArrayLike,
    clusters: Sequence[Hashable],
    *,
    bounds: tuple[float, float] = UNBOUNDED,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Compute the mean of values [S, N] over seeds and rows, with its interval.

    Args:
      clusters: what each of the N rows belongs to.
      bounds: limits that no value can leave, nor the interval.
      seed: of the resampling.
    """
    return _Table.of(values, clusters).estimate(bounds, confidence, seed)


def crossed_difference(
    one: ArrayLike,
    other: ArrayLike,
    clusters: Sequence[Hashable],
    *,
    bounds: tuple[float, float] = UNBOUNDED,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Compute the mean of `one` minus that of `other`, both [S, N] of the same seeds and rows.

    What is hard for both cancels.

    Args:
      bounds: limits of each side's values, which also limit the difference.
    """
    one, other = np.asarray(one, float), np.asarray(other, float)
    assert one.shape == other.shape, (
        f"paired values come from the same seeds and rows: {one.shape} and {other.shape}"
    )
    table, reach = _Table.of(one - other, clusters), bounds[1] - bounds[0]
    found = table.estimate((-reach, reach), confidence, seed)
    if found.seeds:
        return Difference(found, None)
    spread, value = table.spread(), found.value
    p = 1.0 if value == 0 or not np.isfinite(spread.variance) else 0.0
    if p == 0 and spread.variance > 0:
        p = float(2 * stats.t.sf(abs(value) / np.sqrt(spread.variance), spread.freedom))
    # exchanging the two sides of D prompts gives 2^D tables: no test of them can say less than this
    p = max(p, min(1.0, 2.0 ** (1 - table.differing())))
    # a p-value and its interval give one answer
    if found.low <= 0 <= found.high:
        p = max(p, 1 - confidence)
    return Difference(found, p)


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

    def differing(self) -> int:
        """Count the clusters whose values are not 0 on average."""
        return int(np.count_nonzero(self.sums.mean(0)))

    def estimate(self, bounds: tuple[float, float], confidence: float, seed: int) -> Estimate:
        """Estimate the mean: over prompts for one seed, over prompts and seeds for three or more;
        for two their values.
        """
        value, rows, seeds = self.mean(), self.rows, len(self.sums)
        if seeds == TOO_FEW:
            return Estimate(value, *UNBOUNDED, rows, tuple((self.sums.sum(1) / rows).tolist()))
        low, high = self._over_prompts(bounds, confidence, seed)
        spread = self.spread()
        if seeds > 1 and 0 < spread.variance < np.inf and len(self.counts) >= FEWEST:
            below, above = self._over_both(spread, confidence, seed)
            # without a spread between prompts their interval is all that is possible
            known = np.isfinite((low, high)).all()
            low, high = (min(low, below), max(high, above)) if known else (below, above)
        return Estimate(value, max(bounds[0], low), min(bounds[1], high), rows)

    def _over_prompts(
        self, bounds: tuple[float, float], confidence: float, seed: int
    ) -> tuple[float, float]:
        sums = self.sums.mean(0)
        if not np.isfinite(bounds).all():
            found = bootstrap_ratio(
                sums, self.counts, bounds=bounds, seed=seed, confidence=confidence
            )
            return found.low, found.high
        if len(sums) == 1:
            return bounds
        return bounded_interval(sums, self.counts, bounds, confidence, seed)

    def _over_both(self, spread: Spread, confidence: float, seed: int) -> tuple[float, float]:
        """Compute an interval as wide as the variance by parts says, as lopsided as the
        bootstrap.
        """
        value, tail = self.mean(), (1 - confidence) / 2
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
