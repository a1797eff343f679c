"""Estimate the share of flipped labels from texts alone: how sure may a classifier be before the
labels contradict it?

    P(label | margin) = ε + (1 - 2ε) σ(a·margin)          ε flips, margins cross-fitted

The disagreement between a cross-fitted classifier and the labels mixes two things: flips, and rows
that the classifier cannot judge. They differ in the tail. On rows where the classifier is sure,
even a weak classifier errs rarely, but labels flipped at random still contradict it at the rate ε.
So ε is read from the level at which the curve of right labels against margin flattens. The interval
is the profile likelihood's, widened for rows that share a prompt.

The estimate covers flips that do not depend on the text. Disagreement of people on hard pairs is no
flip in this sense. If no classifier is sure of any row, the curve does not flatten, and the
interval is wide. Identification by rows that are certain: Northcutt et al. 2021, arXiv:1911.00068;
Patrini et al. 2017, arXiv:1609.03683.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from accord.auditing.checks.probes import Probed
from accord.evaluate.intervals import Estimate

GRID = np.linspace(0.0, 0.49, 99)
CHI2 = 3.841  # 95 % quantile of χ² with one degree of freedom


def flipped_share(probed: Probed, groups: np.ndarray) -> Estimate:
    """Estimate ε with its 95 % profile-likelihood interval, in [0, .49].

    Args:
      probed: cross-fitted margins in favour of each row's own label.
      groups: prompt of each row [n].
    """
    margins = probed.margins / max(1e-12, float(np.abs(probed.margins).mean()))
    profile = np.array([_best(share, margins) for share in GRID])
    # A quasi-likelihood over clustered rows is too sharp by the design effect (Rao and Scott 1984).
    allowed = profile.min() + 0.5 * CHI2 * _design_effect(margins, groups)
    inside = GRID[profile <= allowed]
    return Estimate(
        float(GRID[profile.argmin()]), float(inside.min()), float(inside.max()), len(margins)
    )


def _best(share: float, margins: np.ndarray) -> float:
    """Return the smallest negative log-likelihood over the scale a, at this share of flips."""
    return float(
        minimize_scalar(
            lambda log_a: _loss(share, log_a, margins), bounds=(-6, 4), method="bounded"
        ).fun
    )


def _loss(share: float, log_a: float, margins: np.ndarray) -> float:
    right = 0.5 * (1 + np.tanh(0.5 * np.exp(log_a) * margins))
    return float(-np.log(np.maximum(share + (1 - 2 * share) * right, 1e-12)).sum())


def _design_effect(margins: np.ndarray, groups: np.ndarray) -> float:
    """Compute the factor by which clustering increases the variance of a mean over these rows; at
    least 1.
    """
    right = (margins > 0) + 0.5 * (margins == 0)
    rest = right - right.mean()
    _, group = np.unique(groups, return_inverse=True)
    own = float(np.square(rest).sum())
    return max(1.0, float(np.square(np.bincount(group, weights=rest)).sum()) / own) if own else 1.0
