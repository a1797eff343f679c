"""Objectives for pairs that stay near the reference by another divergence than DPO's reverse KL.

DPO's implicit reward is β log u of the ratio u = π / ref. Under the divergence of f it is β f'(u):
the same comparison on another scale. r = log π - log ref in nats, summed over tokens, and u = e^r.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from accord.objectives.numerics import expm1_by_tangent, log_ratio, pair_log_ratios
from accord.objectives.options import Choice, Number, bounded
from accord.objectives.pairs import BETA
from accord.types import Logps, LossOutput, PairLogps, UsageError

DIVERGENCES = ("forward_kl", "js", "alpha")
DIVERGENCE = Choice(DIVERGENCES, hint="Reverse KL is `dpo`.")
ORDER = Number(above=0, below=1, optional=True, hint="0 would be dpo, 1 forward_kl.")


@bounded(beta=BETA, divergence=DIVERGENCE, alpha=ORDER)
def f_dpo(
    policy: PairLogps,
    reference: PairLogps,
    *,
    beta: float = 0.1,
    divergence: str = "js",
    alpha: float | None = None,
) -> LossOutput:
    """DPO under another divergence from the reference than reverse KL.

        L = -log σ(β (f'(u_w) - f'(u_l))),   u = e^r
        forward_kl   f'(u) = 1 - 1/u
        js           f'(u) = log(2u / (1 + u))
        alpha        f'(u) = (1 - u^-α) / α             α → 0 is DPO, α → 1 is forward_kl

    Log-ratios are sums. The loss is ln 2 at policy = reference, where each divergence pulls as DPO
    does (JS half as much). The pull on the chosen answer vanishes as it rises, since f' flattens;
    the pull on an answer that falls grows, for forward_kl with e^-r, which long answers make
    enormous. From 30 nats on that exponential goes on by its tangent, so that it stays finite.

    Args:
      policy, reference: log-probs of the same B pairs. No gradient is taken through `reference`.
      beta: how strongly to stay near the reference, in this divergence.
      divergence: "forward_kl", "js" or "alpha".
      alpha: the order α of "alpha", in (0, 1); 0.5 if nothing is given. TRL's
        `f_alpha_divergence_coef` is 1 - α.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, an alpha that the divergence does not have, or log-probs
        of unequal numbers of rows.

    Source: Wang et al. 2023, arXiv:2309.16240 (the f-DPO loss, and its table of f').
    """
    order = order_of(divergence, alpha)
    chosen, rejected = (
        _slope(ratio, divergence, order) for ratio in pair_log_ratios(policy, reference)
    )
    return LossOutput(-F.logsigmoid(beta * (chosen - rejected)))


@bounded(beta=BETA, limit=Number(above=0, hint="The largest reward R; the margin stops at 2 R."))
def chipo(
    policy: PairLogps, reference: PairLogps, *, beta: float = 0.1, limit: float = 1.0
) -> LossOutput:
    """χPO: DPO with χ² beside KL, which does not believe in answers that the reference never gives.

        L = -log σ(clip(β (φ(u_w) - φ(u_l)), ±2R)),   φ(u) = u + log u,   u = e^r

    Log-ratios are sums. The loss is ln 2 at policy = reference, where it pulls twice as hard as
    DPO. An answer that rises is pulled with 1 + e^r, one that falls as by DPO. The pull is exactly
    0 where the clip holds, on either side: a pair that is wrong by more than 2R is given up. From
    30 nats on e^r goes on by its tangent.

    Args:
      policy, reference: log-probs of the same B pairs. No gradient is taken through `reference`.
      beta: how strongly to stay near the reference, per nat.
      limit: R, the largest difference that the rewards are taken to have.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, or log-probs of unequal numbers of rows.

    Source: Huang et al. 2024, arXiv:2407.13399, Algorithm 1.
    """
    chosen, rejected = map(_mixed, pair_log_ratios(policy, reference))
    margin = (beta * (chosen - rejected)).clamp(-2 * limit, 2 * limit)
    return LossOutput(-F.logsigmoid(margin))


def order_of(divergence: str, alpha: float | None) -> float:
    """Return the order of the α-divergence. Raises UsageError if another one is given an order."""
    if alpha is not None and divergence != "alpha":
        raise UsageError(
            f"f_dpo: alpha = {alpha:g} is the order of the α-divergence, and divergence ="
            f" {divergence} has none: it would do nothing. Say divergence = alpha, or leave it out."
        )
    return 0.5 if alpha is None else alpha


def f_dpo_options(options: dict) -> dict:
    """Complete the options of `f_dpo` with the order of its divergence, where it has one."""
    order = order_of(options["divergence"], options["alpha"])
    return options | ({"alpha": order} if options["divergence"] == "alpha" else {})


def f_dpo_reward(
    policy: Logps, reference: Logps | None, *, beta: float, divergence: str, alpha: float | None
) -> Tensor:
    """Compute the implicit reward of N completions under `f_dpo`: β f'(u), 0 at the reference.
    [N]
    """
    order = order_of(divergence, alpha)
    return beta * _slope(log_ratio(policy, reference), divergence, order)


def chipo_reward(policy: Logps, reference: Logps | None, *, beta: float, **_: object) -> Tensor:
    """Compute the implicit reward of N completions under χPO: β (φ(u) - 1), 0 at the reference.
    [N]
    """
    return beta * _mixed(log_ratio(policy, reference))


def _slope(ratio: Tensor, divergence: str, alpha: float) -> Tensor:
    """Compute f'(e^r), less its value at r = 0, which cancels in a margin."""
    if divergence == "js":
        return math.log(2) + F.logsigmoid(ratio)
    order = 1.0 if divergence == "forward_kl" else alpha
    return -expm1_by_tangent(-order * ratio) / order


def _mixed(ratio: Tensor) -> Tensor:
    """Compute φ(e^r) - 1 = e^r - 1 + r."""
    return expm1_by_tangent(ratio) + ratio
