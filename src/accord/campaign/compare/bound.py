"""The best possible reward at a given KL. The curves are estimated from answers of the reference
alone.

Of all policies with KL(π ‖ π_ref) = k, the best is π* ∝ π_ref exp(r/β) for some β, the same for all
prompts. With K answers of the reference to a prompt, and their rewards r_i, π* is estimated by
self-normalised importance weights

    w_i = exp(r_i/β) / Σ_j exp(r_j/β)        E r = Σ w_i r_i
    KL = log K + Σ w_i log w_i, at most log K

The effective number of answers 1/Σ w² tells how many of the K still count. If it is small, the
estimate depends on the few best answers that happened to be drawn, and falls short of the truth.
That part of the curve is marked as unsupported.

Best of n is a policy too, whose KL is at most log n - (n-1)/n.

Sources: Rafailov et al. 2023, arXiv:2305.18290, Eq. 4; Beirami et al. 2024, arXiv:2401.01879,
Theorem 1 (best of n).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, log

import numpy as np

from accord.campaign.compare.verdict import as_dict
from accord.evaluate.intervals import bootstrap_mean

# with fewer effective answers per prompt, on average, the samples do not support a point
ENOUGH = 4.0
POINTS = 25  # points of the curve


def by_prompt(prompts: Sequence[int], scores: Sequence[float]) -> np.ndarray:
    """Arrange scores as [P, K]: K answers to each of P prompts."""
    _, index, counts = np.unique(prompts, return_inverse=True, return_counts=True)
    assert len(set(counts.tolist())) == 1, "each prompt has as many answers"
    return np.asarray(scores, float)[np.argsort(index, kind="stable")].reshape(
        len(counts), counts[0]
    )


def tilt(rewards: np.ndarray, beta: float) -> dict[str, np.ndarray]:
    """Compute the optimum at one β for each prompt: its reward, its KL in nats and its effective
    number of answers, [P] each.

    Args:
      rewards: [P, K] of the reference's own answers.
    """
    logits = rewards / beta
    weights = np.exp(logits - logits.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    entropy = -np.where(
        weights > 0, weights * np.log(np.where(weights > 0, weights, 1.0)), 0.0
    ).sum(1)
    return {
        "reward": (weights * rewards).sum(1),
        "kl": log(rewards.shape[1]) - entropy,
        "effective": 1 / (weights**2).sum(1),
    }


def frontier_bound(rewards: np.ndarray) -> list[dict]:
    """Compute the curve of optima, from no tilt to as much as the answers support. The points are
    means over prompts with intervals.
    """
    spread = max(float(rewards.std()), 1e-9)
    points = []
    for beta in spread * np.geomspace(30, 0.03, POINTS):
        found = tilt(rewards, beta)
        effective = float(found["effective"].mean())
        points.append(
            {
                "beta": float(beta),
                "kl": float(found["kl"].mean()),
                "reward": as_dict(bootstrap_mean(found["reward"])),
                "effective": effective,
                "supported": effective >= ENOUGH,
            }
        )
    return points


def best_of(rewards: np.ndarray) -> list[dict]:
    """Compute best of n for n = 1, 2, 4, … up to half of the answers: the mean over all choices of
    n answers, and the bound on its KL.
    """
    ordered = np.sort(rewards, axis=1)  # [P, K]
    k = ordered.shape[1]
    points = []
    n = 1
    while n == 1 or n <= k // 2:
        # chance that the i-th smallest is the largest
        weights = np.array([comb(i, n - 1) / comb(k, n) for i in range(k)])
        points.append(
            {
                "n": n,
                "kl_at_most": log(n) - (n - 1) / n,
                "reward": as_dict(bootstrap_mean(ordered @ weights)),
            }
        )
        n *= 2
    return points
