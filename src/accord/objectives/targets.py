"""Objectives for pairs, measured against a reference, that aim at another margin than DPO does.

DPO would have the margin grow without end. r = log π - log ref in nats, summed over tokens,
h = r_w - r_l, w chosen, l rejected.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from accord.objectives.numerics import pair_log_ratios
from accord.objectives.options import Choice, Number, bounded
from accord.objectives.pairs import BETA
from accord.types import LossOutput, PairLogps, UsageError


@bounded(
    beta=BETA,
    label_smoothing=Number(above=0, below=0.5, hint="The EXO paper uses 0.001; at 0 it diverges."),
)
def exo(
    policy: PairLogps, reference: PairLogps, *, beta: float = 0.1, label_smoothing: float = 1e-3
) -> LossOutput:
    """Efficient Exact Optimization of two answers: KL of the policy's preference from the label's,
    where DPO's loss is the KL the other way round.

        L = σ(z) (log σ(z) - log(1 - ε)) + σ(-z) (log σ(-z) - log ε),   z = βh

    Log-ratios are sums. Least, at 0, where z = logit(1 - ε); -½ log(4 ε (1 - ε)) at policy =
    reference. The pull vanishes there and far away in both directions: a pair that is wrong by a
    large margin is given up, since a reverse KL seeks one mode.

    Args:
      policy, reference: log-probs of the same B pairs. No gradient is taken through `reference`.
      beta: how strongly to stay near the reference, per nat.
      label_smoothing: ε, the label's probability of the rejected answer. It must not be 0.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, or log-probs of unequal numbers of rows.

    Source: Ji et al. 2024, arXiv:2402.00856, Eq. 16.
    """
    chosen, rejected = pair_log_ratios(policy, reference)
    z = beta * (chosen - rejected)
    kept = torch.sigmoid(z) * (F.logsigmoid(z) - math.log1p(-label_smoothing))
    flipped = torch.sigmoid(-z) * (F.logsigmoid(-z) - math.log(label_smoothing))
    return LossOutput(kept + flipped)


@bounded(beta=BETA, shift=Number(above=0, at_most=1, hint="1 is DPO; the paper uses 0.5 to 0.95."))
def dpo_shift(
    policy: PairLogps, reference: PairLogps, *, beta: float = 0.1, shift: float = 0.75
) -> LossOutput:
    """DPO-Shift: the rejected answer counts for less, so that the margin must come from the chosen
    one.

        L = -log σ(β (r_w - λ r_l))

    Log-ratios are sums. The loss is ln 2 at policy = reference, where the rejected answer is pushed
    down with λ times the pull on the chosen one; both vanish as the margin grows.

    Args:
      policy, reference: log-probs of the same B pairs. No gradient is taken through `reference`.
      beta: how strongly to stay near the reference, per nat.
      shift: λ in (0, 1]. 1 is DPO. The paper also lets it change while training; here it is fixed.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, or log-probs of unequal numbers of rows.

    Source: Yang et al. 2025, arXiv:2502.07599 (DPO-Shift, with a fixed λ).
    """
    chosen, rejected = pair_log_ratios(policy, reference)
    return LossOutput(-F.logsigmoid(beta * (chosen - shift * rejected)))


@bounded(
    beta=BETA,
    alpha=Number(above=0, hint="The ODPO paper uses 1."),
    margin=Choice(("log", "column"), hint="column takes a row's margin itself, log its logarithm."),
)
def odpo(
    policy: PairLogps,
    reference: PairLogps,
    *,
    beta: float = 0.1,
    alpha: float = 1.0,
    margin: str = "log",
) -> LossOutput:
    """DPO with an offset: the surer a row's preference, the larger a margin is asked of it.

        L = -log σ(βh - Δ),   Δ = α log m or α m,   m the row's margin

    m is what the data says of the row: the chosen answer's score less the rejected one's. A row
    without a margin, or with one of 0, has Δ = 0; under "log" a margin below 1 asks for less than
    DPO does. Log-ratios are sums. At policy = reference the loss is log(1 + e^Δ). The pull vanishes
    as βh grows past Δ.

    Args:
      policy, reference: log-probs of the same B pairs, `policy` with their margins. No gradient is
        taken through `reference`.
      beta: how strongly to stay near the reference, per nat.
      alpha: scale of the offset.
      margin: "log" takes the logarithm of a row's margin, as the paper does; "column" the margin.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, no margins, or log-probs of unequal numbers of rows.

    Source: Amini, Vieira and Cotterell 2024, arXiv:2402.10571 (the ODPO loss).
    """
    chosen, rejected = pair_log_ratios(policy, reference)
    if policy.margin is None:
        raise UsageError("odpo reads each row's margin, and the rows have none.")
    wanted = policy.margin
    if margin == "log":
        known = wanted > 0
        wanted = torch.where(known, torch.where(known, wanted, 1.0).log(), 0.0)
    return LossOutput(-F.logsigmoid(beta * (chosen - rejected) - alpha * wanted))
