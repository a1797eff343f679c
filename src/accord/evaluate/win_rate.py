"""Win rates of a model's answers against another's: as judged, and with the judge's preference for
length removed.

N prompts · G clusters · R draws.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from accord.evaluate.bounded_means import dirichlet
from accord.evaluate.intervals import CELLS_AT_ONCE, Estimate, bounded_mean

# keeps φ finite where length separates wins from losses; about a tenth of one prompt's weight
RIDGE = 0.1
# the same for θ, and smaller: .1 moved a rate of .99 of 50 prompts to .98, and the interval with it
RIDGE_RATE = 1e-3
FITS = 800  # draws that are fitted: each is a regression, so fewer than DRAWS
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
    same_length: float  # share of prompts whose two answers are of one length

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
    rate = bounded_mean(scores, clusters=clusters)
    return WinRate(
        rate=rate,
        length_controlled=length_controlled(scores, difference, rate, clusters=clusters, seed=seed),
        longer=float(np.where(difference == 0, 0.5, difference > 0).mean()),
        wins=int((scores > 0.5).sum()),
        ties=int((scores == 0.5).sum()),
        losses=int((scores < 0.5).sum()),
        same_length=float((difference == 0).mean()),
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
    ties count half in place of a judge's log-prob; a ridge of 0.1 on φ, and of 0.001 on θ, in place
    of a cross-validated one. The figures of a leaderboard cannot be compared with it.

    The interval is that of `bounded_interval` for a fit in place of a mean: clusters have Dirichlet
    weights, and one more prompt with answers of equal length is lost (for the lower end) or won
    (for the upper one). A percentile bootstrap held the truth in .79 of simulations with 20 prompts
    and 1 % lost. Where every prompt is won, or every one lost, length explains nothing and the
    interval is that of the plain rate.

    Source: Dubois et al. 2024, "Length-Controlled AlpacaEval", arXiv:2404.04475, §3.
    """
    if np.ptp(scores) == 0 or np.ptp(difference) == 0:
        return rate
    z = np.tanh(difference / difference.std())
    value = float(expit(_fit(scores, z, np.ones((1, len(z))))[0]))
    number: dict[Hashable, int] = {}
    named = clusters if clusters is not None else range(len(z))
    owner = np.array([number.setdefault(c, len(number)) for c in named])
    if len(number) == 1:
        return Estimate(value, 0.0, 1.0, len(scores))
    weights = dirichlet(np.ones(len(number)), seed)[:FITS]  # [R, G + 1]
    # the added prompt is as heavy as the mean cluster; all weights sum to the rows and that cluster
    size = len(z) / len(number)
    rows = np.column_stack([weights[:, :-1][:, owner], weights[:, -1] * size])
    rows *= (len(z) + size) / rows.sum(1, keepdims=True)
    ends = [
        float(np.quantile(expit(_fits(np.append(scores, added), np.append(z, 0.0), rows)), tail))
        for added, tail in ((0.0, 0.025), (1.0, 0.975))
    ]
    return Estimate(value, min(ends[0], value), max(ends[1], value), len(scores))


def _fits(scores: np.ndarray, z: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit θ as `_fit` does, some draws at a time."""
    size = max(1, CELLS_AT_ONCE // len(z))
    starts = range(0, len(weights), size)
    return np.concatenate([_fit(scores, z, weights[at : at + size]) for at in starts])


def _fit(scores: np.ndarray, z: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit θ of R weighted logistic regressions of the scores on z, [R].

    Args:
      weights: how often each prompt counts [R, N].
    """
    theta, phi = np.zeros(len(weights)), np.zeros(len(weights))
    for _ in range(STEPS):
        p = expit(theta[:, None] + phi[:, None] * z)  # [R, N]
        pull, bend = weights * (scores - p), weights * p * (1 - p)
        g0, g1 = pull.sum(1) - RIDGE_RATE * theta, pull @ z - RIDGE * phi
        h00, h01, h11 = bend.sum(1) + RIDGE_RATE, bend @ z, bend @ z**2 + RIDGE
        determinant = h00 * h11 - h01**2
        step0, step1 = (h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant
        # far off, Newton overshoots
        shorten = np.minimum(1.0, 2.0 / np.maximum(1e-12, np.maximum(np.abs(step0), np.abs(step1))))
        theta, phi = theta + shorten * step0, phi + shorten * step1
        if max(np.abs(step0).max(), np.abs(step1).max()) < CLOSE:
            break
    return theta
