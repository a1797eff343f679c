"""Calibration of an implicit reward: does σ(margin) mean what it says?

Under Bradley and Terry σ(r_chosen − r_rejected) is the probability that the chosen answer is
preferred. So of the pairs that a model ranks with confidence 0.9, nine in ten should be ranked
rightly.

N pairs · G clusters · b bins · R draws.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import brentq
from scipy.special import expit

from accord.evaluate.bounded_means import dirichlet
from accord.evaluate.intervals import Estimate, bounded_mean

BINS = 10
FEWEST_A_BIN = 20  # pairs; fewer pairs get fewer bins
SURELY_FAR = 1e6  # times the slope's own scale: an end beyond it is infinite


@dataclass(frozen=True)
class Bin:
    """A bin of pairs of like confidence: the share that the model claims, and the share that is
    right.
    """

    pairs: int
    confidence: float  # mean of max(σ, 1 − σ)
    right: float  # share ranked rightly, ties half


@dataclass(frozen=True)
class Calibration:
    """The measure of how far σ(margin) can be believed."""

    # expected calibration error: mean over pairs of |confidence − share right| of their bin. Noise
    # makes the value too large on average; the interval allows for it
    ece: Estimate
    ece_debiased: float  # the value less the part that noise adds, as far as it can be estimated
    ece_of_chance: float  # its value on so many pairs if every confidence were exactly right
    brier: Estimate  # mean of (1 − σ(margin))²: 0 is perfect, .25 knows nothing
    # the a in σ(a · margin) that fits best: 1 is calibrated, below 1 claims too much; None where
    # all pairs or none are ranked rightly
    slope: Estimate | None
    bins: tuple[Bin, ...]

    def as_dict(self) -> dict:
        return asdict(self) | {
            name: one.as_dict()
            for name in ("ece", "brier", "slope")
            if (one := getattr(self, name)) is not None
        }


def calibration(
    margins: ArrayLike, *, clusters: Sequence[Hashable] | None = None, seed: int = 0
) -> Calibration:
    """Measure the reliability of B pairs' margins.

    Args:
      margins: reward of the chosen minus that of the rejected answer [N], in log-odds, none NaN.
      clusters: what each pair belongs to, such as its prompt; intervals draw or sum whole clusters.
      seed: of the resampling.

    Source: Guo et al. 2017, arXiv:1706.04599 (expected calibration error, here with bins of equally
    many pairs); Brier 1950, Monthly Weather Review 78; Cox 1958, Biometrika 45 (slope).
    """
    margins = np.asarray(margins, dtype=np.float64)
    groups = np.arange(len(margins)) if clusters is None else _numbered(clusters)
    confidence = expit(np.abs(margins))  # [N] in [.5, 1)
    right = np.where(margins == 0, 0.5, margins > 0)
    place = _places(confidence)  # [N] bin of each pair
    ece, debiased = _expected_error(right - confidence, place, groups, seed)
    bins = tuple(
        Bin(int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean()))
        for inside in (place == b for b in range(place.max() + 1))
    )
    return Calibration(
        ece=ece,
        ece_debiased=debiased,
        ece_of_chance=_of_chance(confidence, place, seed),
        brier=bounded_mean((1 - expit(margins)) ** 2, clusters=list(groups)),
        slope=slope(margins, groups),
        bins=bins,
    )


def slope(margins: np.ndarray, clusters: np.ndarray) -> Estimate | None:
    """Find the a that maximises Σ log σ(a · margin), with the score test's interval: the slopes a
    under which so many pairs ranked wrongly are no surprise.

        |Σ m σ(−a m)| ≤ t √(d Σ m² σ(a m) σ(−a m))     d: design effect of the clusters, ≥ 1

    Few wrong pairs make it lopsided, as the likelihood is, and open where they bound nothing. None
    where all pairs are ranked rightly, or
    all wrongly: then a has no bound. None for a single cluster as well.

    Source: Rao 1948, "Large sample tests of statistical hypotheses", Mathematical Proceedings of
    the Cambridge Philosophical Society 44.
    """
    groups = len(set(clusters.tolist()))
    if groups < 2 or (margins >= 0).all() or (margins <= 0).all():
        return None
    a = _steepest(margins)
    pull = margins * expit(-a * margins)  # [N] derivative of each pair's log-likelihood
    between = np.square(np.bincount(clusters, weights=pull)).sum() * groups / (groups - 1)
    effect = max(1.0, between / _information(a, margins))
    # the design effect is known as well as the clusters that hold a wrong pair know it
    few = len(set(clusters[margins < 0].tolist())) if groups < len(margins) else groups
    t = stats.t.ppf(0.975, max(1, min(groups - 1, few))) * np.sqrt(effect)

    def off(at: float) -> float:
        """Return the score in standard errors; it falls with the slope."""
        return float((margins * expit(-at * margins)).sum() / np.sqrt(_information(at, margins)))

    step = 1 / np.abs(margins).max()
    return Estimate(
        float(a),
        _crossing(lambda at: off(at) - t, a, -step),
        _crossing(lambda at: off(at) + t, a, step),
        len(margins),
    )


def _information(a: float, margins: np.ndarray) -> float:
    """Return Fisher's information on the slope, never 0."""
    found = (margins**2 * expit(a * margins) * expit(-a * margins)).sum()
    return max(float(found), 1e-300)


def _crossing(function: Callable[[float], float], start: float, step: float) -> float:
    """Find the zero of a function that changes sign somewhere beyond `start`; infinite where it
    does not.
    """
    sign, far = np.sign(function(start)), step
    while np.sign(function(start + far)) == sign:
        far *= 2
        if abs(far) > SURELY_FAR * abs(step):
            return float(np.sign(step)) * np.inf
    return float(brentq(function, *sorted((start, start + far))))


def _steepest(margins: np.ndarray) -> float:
    """Find the zero of Σ m σ(−a m).

    It falls with a, and lies between two bounds that are widened until it does.
    """
    scale = 1 / np.abs(margins).max()

    def pull(a: float) -> float:
        return float((margins * expit(-a * margins)).sum())

    low, high = -scale, scale
    while pull(low) < 0:
        low *= 2
    while pull(high) > 0:
        high *= 2
    return brentq(pull, low, high)


def _places(confidence: np.ndarray) -> np.ndarray:
    """Return the bin of each pair [N]: bins of equally many pairs in the order of their confidence,
    equal ones together.
    """
    n = len(confidence)
    count = max(1, min(BINS, n // FEWEST_A_BIN))
    edges = np.unique(np.quantile(confidence, np.arange(1, count) / count))
    return np.unique(np.searchsorted(edges, confidence, side="right"), return_inverse=True)[1]


def _expected_error(
    gap: np.ndarray, place: np.ndarray, clusters: np.ndarray, seed: int
) -> tuple[Estimate, float]:
    """Compute Σ_b |Σ gaps in b| / N, with an interval of at least 95 %, and the debiased value.

    An absolute value of a noisy sum is too large on average, so that the percentiles of its
    resamples miss the truth. Instead: |ECE − truth| ≤ Σ_b |error of bin b|, whose 95th percentile
    is estimated over Dirichlet draws. As in `bounded_interval` one more cluster stands for what was
    not seen: it may be wrong altogether, and adds its whole weight to the error. The interval is
    mostly wider than need be (benchmarks/results/coverage.json). One cluster says nothing of the
    spread: the interval is all of [0, 1].

    The debiased value takes off what noise of the same size adds to |gap| of each bin once more. It
    is for bins as they are: gaps inside of a bin that cancel are seen by neither value.

    Source: Kumar, Liang and Ma 2019, arXiv:1909.10155 (debiasing; ours draws clusters).
    """
    n, groups = len(gap), clusters.max() + 1
    sums = np.zeros((groups, place.max() + 1))
    np.add.at(sums, (clusters, place), gap)  # [G, b]
    counts = np.bincount(clusters, minlength=groups)
    found = sums.sum(0) / n  # [b]
    value = float(np.abs(found).sum())
    if groups == 1:
        return Estimate(value, 0.0, 1.0, n), value
    weights = dirichlet(np.ones(groups), seed)  # [R, G + 1]
    rows, added = weights[:, :-1] @ counts, weights[:, -1] * n / groups
    drawn = weights[:, :-1] @ sums  # [R, b]
    errors = np.abs(drawn / (rows + added)[:, None] - found).sum(1) + added / (rows + added)
    reach = float(np.quantile(errors, 0.95))
    more = float(np.abs(drawn / rows[:, None]).sum(1).mean()) - value
    ends = max(0.0, value - reach), min(1.0, value + reach)
    return Estimate(value, *ends, n), max(0.0, value - more)


def _of_chance(confidence: np.ndarray, place: np.ndarray, seed: int) -> float:
    """Simulate the mean expected calibration error of a model whose every confidence is exactly
    right, on as many pairs.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(100):
        gap = (rng.random(len(confidence)) < confidence) - confidence
        found.append(np.abs(np.bincount(place, weights=gap)).sum() / len(confidence))
    return float(np.mean(found))


def _numbered(clusters: Sequence[Hashable]) -> np.ndarray:
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(cluster, len(number)) for cluster in clusters])
