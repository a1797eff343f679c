"""Policy gradients that weigh an answer otherwise than PPO: by one ratio of the whole answer, by a
weight without a gradient, or by advantages that are normalised over the batch.

They are of the same kind as those of `policy_gradient`: N answers, one loss each, from its own
tokens alone.

N answers · C their tokens, laid end to end in the order of the answers.
"""

from __future__ import annotations

import math

import torch

from accord.objectives.options import Number, bounded
from accord.objectives.policy_gradient import (
    BETA,
    CLIP,
    CLIP_HIGH,
    KL,
    KL_CORRECTION,
    Rollouts,
    approx_kl,
    bounded_exp,
    clipped_losses,
    surrogate,
    with_kl,
)
from accord.types import LossOutput

# A whole answer's ratio, to the power of one over its length, moves far less than a token's.
SEQUENCE_CLIP = Number(above=0, below=1, hint="GSPO's paper uses 3e-4 below and 4e-4 above.")
LOWEST_WEIGHT = Number(above=0, below=1, optional=True, hint="The paper has no lower bound.")
HIGHEST_WEIGHT = Number(above=0, hint="The weight is at most 1 + this; ScaleRL uses 4.")


@bounded(clip=SEQUENCE_CLIP, clip_high=CLIP_HIGH, beta=BETA, kl=KL, kl_correction=KL_CORRECTION)
def gspo(
    rollouts: Rollouts,
    *,
    clip: float = 3e-4,
    clip_high: float | None = 4e-4,
    beta: float = 0.0,
    kl: str = "k2",
    kl_correction: str = "none",
) -> LossOutput:
    """Group Sequence Policy Optimization: one ratio for a whole answer, the geometric mean of its
    tokens' ratios. Divide by the batch's answers.

        L = -min(s A, clip(s, 1 - ε, 1 + ε') A) + β/|y| Σ_t KL_t    s = (π(y) / π_old(y))^(1/|y|)

    A is the answer's advantage (`group_advantages`); of tokens with different ones, their mean. The
    clip takes a whole answer out of the gradient, or none of it. With one advantage for all tokens
    of an answer GSPO-token (Eq. 13) has the same value and the same gradient.

    Args:
      rollouts: N answers; with `reference` if beta is above 0.
      clip, clip_high: bounds of s below and above.
      beta, kl: as `grpo`; the paper has no KL term.
      kl_correction: "ratio" multiplies the KL term of each token by s.

    Returns:
      losses [N], not reduced; metrics as `grpo`, with 0 or 1 for an answer's `clip_ratio`.

    Source: Zheng et al. 2025, arXiv:2507.18071, Eqs. 5 to 7.
    """
    ratio = bounded_exp(rollouts.means(rollouts.logps - rollouts.old.detach()))
    advantages = rollouts.means(rollouts.advantages.detach())
    losses, clipped = clipped_losses(ratio, advantages, clip, clip_high)
    metrics = {"clip_ratio": clipped, "approx_kl": approx_kl(rollouts)}
    of_tokens = torch.repeat_interleave(ratio, rollouts.count)
    nothing = torch.zeros_like(of_tokens)
    terms, metrics = with_kl(rollouts, nothing, metrics, beta, kl, kl_correction, of_tokens)
    return LossOutput(losses + rollouts.means(terms), metrics)


@bounded(
    clip=LOWEST_WEIGHT, clip_high=HIGHEST_WEIGHT, beta=BETA, kl=KL, kl_correction=KL_CORRECTION
)
def cispo(
    rollouts: Rollouts,
    *,
    clip: float | None = None,
    clip_high: float = 4.0,
    beta: float = 0.0,
    kl: str = "k2",
    kl_correction: str = "none",
) -> LossOutput:
    """Clipped importance sampling: REINFORCE's log-prob, weighed by a clipped ratio that no
    gradient goes through. Divide by the batch's tokens.

        L = Σ_t -sg[clip(ρ_t, 1 - ε, 1 + ε')] A_t log π(y_t | …) + β KL_t

    A clip bounds a token's weight and takes no token out of the gradient: PPO's silences exactly
    the rare words that the policy just found. The value of the loss means nothing by itself.

    Args:
      rollouts: N answers; with `reference` if beta is above 0.
      clip: the weight is at least 1 less this; None sets no lower bound, as in the paper.
      clip_high: the weight is at most 1 plus this. TRL's `epsilon_high` is the bound itself: its 5
        is 4 here.
      beta, kl, kl_correction: as `grpo`; the paper has no KL term.

    Returns:
      losses [N], not reduced; metrics as `grpo`; `clip_ratio` is the share of tokens whose weight
      is clipped.

    Source: MiniMax 2025, arXiv:2506.13585, Eqs. 4 and 5; the bound of 5: Khatri et al. 2025,
    arXiv:2510.13786.
    """
    log_ratio = (rollouts.logps - rollouts.old).detach()
    held = log_ratio.clamp(max=math.log1p(clip_high))
    if clip is not None:
        held = held.clamp(min=math.log1p(-clip))
    losses = -held.exp() * rollouts.advantages.detach() * rollouts.logps
    clipped = (held != log_ratio).to(losses.dtype)
    metrics = {"clip_ratio": rollouts.means(clipped), "approx_kl": approx_kl(rollouts)}
    losses, metrics = with_kl(rollouts, losses, metrics, beta, kl, kl_correction)
    return LossOutput(rollouts.sums(losses), metrics)


@bounded(clip=CLIP, clip_high=CLIP_HIGH)
def reinforce_plus_plus(
    rollouts: Rollouts, *, clip: float = 0.2, clip_high: float | None = None
) -> LossOutput:
    """REINFORCE++: PPO's clipped surrogate without a value head. Divide by the batch's tokens.

        L = Σ_t -min(ρ_t A_t, clip(ρ_t, 1 - ε, 1 + ε') A_t)

    A_t is the answer's reward less β times the log-ratio to the reference of this token and those
    that follow, scaled over all tokens of the batch to mean 0 and variance 1. No prompt is compared
    with itself, so one answer each would do.

    Returns:
      losses [N], not reduced; metrics as `ppo`.

    Source: Hu et al. 2025, arXiv:2501.03262, §3 (REINFORCE++).
    """
    losses, metrics = surrogate(rollouts, clip, clip_high)
    return LossOutput(rollouts.sums(losses), metrics)


@bounded(clip=CLIP, clip_high=CLIP_HIGH, beta=BETA, kl=KL, kl_correction=KL_CORRECTION)
def reinforce_plus_plus_baseline(
    rollouts: Rollouts,
    *,
    clip: float = 0.2,
    clip_high: float | None = None,
    beta: float = 0.0,
    kl: str = "k2",
    kl_correction: str = "none",
) -> LossOutput:
    """REINFORCE++ with a baseline: the clipped surrogate and a KL term in the loss. Divide by the
    batch's tokens.

        L = Σ_t [-min(ρ_t A, clip(ρ_t, 1 - ε, 1 + ε') A) + β KL_t]

    A is the answer's reward less its group's mean, scaled over all tokens of the batch: an easy
    group does not weigh as much as one that is half right, as it does with GRPO's own deviation of
    each group.

    Args:
      rollouts: N answers; with `reference` if beta is above 0.
      beta, kl, kl_correction: as `grpo`; the paper takes k2.

    Returns:
      losses [N], not reduced; metrics as `grpo`.

    Source: Hu et al. 2025, arXiv:2501.03262, §3 (REINFORCE++ with baseline).
    """
    losses, metrics = surrogate(rollouts, clip, clip_high)
    losses, metrics = with_kl(rollouts, losses, metrics, beta, kl, kl_correction)
    return LossOutput(rollouts.sums(losses), metrics)
