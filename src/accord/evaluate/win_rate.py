"""Win rates of a model's answers against another's: as judged, and with the judge's preference for
length removed.

N prompts · R resamples.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from accord.evaluate.intervals import CELLS_AT_ONCE, Estimate, mean_score

# keeps the fit finite where length separates wins from losses; about a tenth of one prompt's weight
RIDGE = 0.1
RESAMPLES = 1_000
STEPS, CLOSE = 25, 1e-7  # limits of Newton's method; it needs about 6 steps


@dataclass(frozen=True)
class WinRate:
    """The share of prompts on which a model's answer was preferred."""

    rate: Estimate  # (wins + ties/2) / N
    length_controlled: Estimate
    longer: float  # share of prompts whose answer is longer than the other's, ties half
    wins: int
    ties: int
    losses: int

    def as_dict(self) -> dict:
        return asdict(self) | {
            "rate": self.rate.as_dict(),
            "length_controlled": self.length_controlled.as_dict(),
        }


def win_rate(
    scores: ArrayLike,
    lengths: ArrayLike,
    other_lengths: ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> WinRate:
    """Compute the win rates of N prompts.

    Args:
      scores: 1 for a win, ½ for a tie, 0 for a loss; a judge asked in both orders may give ¼ and ¾
        too [N].
      lengths, other_lengths: of the two answers, in any one unit [N].
      clusters: what each prompt belongs to, where some are alike.
      seed: of the resampling.
    """
    scores = np.asarray(scores, dtype=np.float64)
    difference = np.asarray(lengths, dtype=np.float64) - np.asarray(other_lengths, dtype=np.float64)
    rate = mean_score(scores, clusters=clusters)
    return WinRate(
        rate=rate,
        length_controlled=length_controlled(scores, difference, rate, clusters=clusters, seed=seed),
        longer=float(np.where(difference == 0, 0.5, difference > 0).mean()),
        wins=int((scores > 0.5).sum()),
        ties=int((scores == 0.5).sum()),
        losses=int((scores < 0.5).sum()),
    )


def length_controlled(
    scores: np.ndarray,
    difference: np.ndarray,
    rate: Estimate,
    *,
    clusters: Sequence[Hashable] | None,
    seed: int,
) -> Estimate:
    """Estimate the win rate between answers of equal length.

        P(win) = σ(θ + φ · tanh(Δ / sd(Δ)))
                         Δ: difference of the lengths;  the win rate is σ(θ)

    As in AlpacaEval 2's length-controlled win rate: the model, the tanh of the standardised
    difference, and the length term set to zero in the end. Not as there: no term for the difficulty
    of each instruction (AlpacaEval fits it on many models' judgements, here there are two models);
    ties count half in place of a judge's log-prob; a ridge of 0.1 on both coefficients in place of
    a cross-validated one. The figures of a leaderboard cannot be compared with it.

    The interval is the percentile bootstrap over clusters. Where every prompt is won, or every one
    lost, length explains nothing and the interval is that of the plain rate.

    Source: Dubois et al. 2024, "Length-Controlled AlpacaEval", arXiv:2404.04475, §3.
    """
    if np.ptp(scores) == 0 or np.ptp(difference) == 0:
        return rate
    z = np.tanh(difference / difference.std())
    value = float(expit(_fit(scores, z, np.ones((1, len(z))))[0]))
    number: dict[Hashable, int] = {}
    owner = np.array(
        [
            number.setdefault(c, len(number))
            for c in (clusters if clusters is not None else range(len(z)))
        ]
    )
    rng, groups, found = np.random.default_rng(seed), len(number), []
    chunk = max(1, CELLS_AT_ONCE // len(z))
    for start in range(0, RESAMPLES, chunk):
        size = min(chunk, RESAMPLES - start)
        times = np.stack(
            [np.bincount(rng.integers(groups, size=groups), minlength=groups) for _ in range(size)]
        )  # [R, G]
        found.append(expit(_fit(scores, z, times[:, owner])))
    low, high = np.quantile(np.concatenate(found), (0.025, 0.975))
    return Estimate(value, float(low), float(high), len(scores))


def _fit(scores: np.ndarray, z: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit θ of R weighted logistic regressions of the scores on z, [R].

    Args:
      weights: how often each prompt counts [R, N].
    """
    theta, phi = np.zeros(len(weights)), np.zeros(len(weights))
    for _ in range(STEPS):
        p = expit(theta[:, None] + phi[:, None] * z)  # [R, N]
        pull, bend = weights * (scores - p), weights * p * (1 - p)
        g0, g1 = pull.sum(1) - RIDGE * theta, pull @ z - RIDGE * phi
        h00, h01, h11 = bend.sum(1) + RIDGE, bend @ z, bend @ z**2 + RIDGE
        determinant = h00 * h11 - h01**2
        step0, step1 = (h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant
        # far off, Newton overshoots
        shorten = np.minimum(1.0, 2.0 / np.maximum(1e-12, np.maximum(np.abs(step0), np.abs(step1))))
        theta, phi = theta + shorten * step0, phi + shorten * step1
        if max(np.abs(step0).max(), np.abs(step1).max()) < CLOSE:
            break
    return theta
