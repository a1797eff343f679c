"""Objectives for pairs that look at each answer by itself, and not at their difference alone.

DPO is content when the margin grows, even if both answers fall. These hold the chosen answer, or
both, where they belong. S is the sum and M the mean of an answer's log-probs, r = S - S_ref in
nats, h = r_w - r_l, w chosen, l rejected.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from accord.objectives.numerics import pair_log_ratios
from accord.objectives.options import Number, bounded
from accord.objectives.pairs import BETA
from accord.types import LossOutput, PairLogps

STRENGTH = Number(at_least=0, hint="0 leaves the term out.")


@bounded(beta=BETA, alpha=STRENGTH)
def rpo(
    policy: PairLogps, reference: PairLogps, *, beta: float = 0.1, alpha: float = 1.0
) -> LossOutput:
    """DPO with imitation of the chosen answer, so that its log-prob does not fall.

        L = -log σ(βh) - α M_w

    The preference term sums over tokens, the NLL term is the mean over the row's own tokens: the
    mean over a micro-batch's tokens, which other tools take, depends on how a batch is split.
    At policy = reference the loss is ln 2 - α M_w. The pull of the preference term vanishes as βh
    grows, that of the NLL term (α / n_w) nowhere.

    Args:
      policy, reference: log-probs of the same B pairs. No gradient is taken through `reference`.
      beta: how strongly to stay near the reference, per nat.
      alpha: weight of the NLL of the chosen answer. The paper puts its weight on the DPO term
        instead; with 1, as there, the two are the same.

    Returns:
      losses [B], not reduced; metric `nll_loss`.

    Raises:
      UsageError: a keyword out of bounds, or log-probs of unequal numbers of rows.

    Source: Pang et al. 2024, arXiv:2404.19733, Eq. 1.
    """
    chosen, rejected = pair_log_ratios(policy, reference)
    nll = -policy.chosen.mean
    return LossOutput(
        -F.logsigmoid(beta * (chosen - rejected)) + alpha * nll, {"nll_loss": nll.detach()}
    )


@bounded(beta=BETA, penalty=STRENGTH)
def dpop(
    policy: PairLogps, reference: PairLogps, *, beta: float = 0.3, penalty: float = 50.0
) -> LossOutput:
    """DPO-Positive: a chosen answer that falls under the reference costs as much as `penalty`
    times the fall.

        L = -log σ(β (h - λ max(0, -r_w)))

    Log-ratios are sums. At policy = reference the loss is ln 2, in a kink: above it the chosen
    answer is pulled as by DPO (β/2), below it 1 + λ times as strongly. The pull vanishes where the
    margin is large and r_w is not below 0.

    Args:
      policy, reference: log-probs of the same B pairs. No gradient is taken through `reference`.
      beta: how strongly to stay near the reference, per nat. The paper uses 0.3.
      penalty: λ. The paper uses 5 to 500, mostly 50.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, or log-probs of unequal numbers of rows.

    Source: Pal et al. 2024, arXiv:2402.13228, Eq. 3.
    """
    chosen, rejected = pair_log_ratios(policy, reference)
    return LossOutput(-F.logsigmoid(beta * (chosen - rejected - penalty * torch.relu(-chosen))))


@bounded(beta=BETA)
def apo_zero(policy: PairLogps, reference: PairLogps, *, beta: float = 0.1) -> LossOutput:
    """Anchored Preference Optimization, zero: raise the chosen answer and lower the rejected one,
    each against the reference.

        L = 1 - σ(βr_w) + σ(βr_l)

    Log-ratios are sums. The loss is 1 at policy = reference, where each side is pulled with β/4.
    The pull on an answer vanishes far from the reference in either direction, so a chosen answer
    that has fallen far is not brought back.

    Args:
      policy, reference: log-probs of the same B pairs. No gradient is taken through `reference`.
      beta: how soon an answer has moved enough, per nat.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, or log-probs of unequal numbers of rows.

    Source: D'Oosterlinck et al. 2024, arXiv:2408.06266, Eq. 7.
    """
    chosen, rejected = pair_log_ratios(policy, reference)
    # 1 - σ(x) is written σ(-x): in float32 the difference is 0 from x = 17 on, as in `kto`
    return LossOutput(torch.sigmoid(-beta * chosen) + torch.sigmoid(beta * rejected))


@bounded(beta=BETA)
def apo_down(policy: PairLogps, reference: PairLogps, *, beta: float = 0.1) -> LossOutput:
    """Anchored Preference Optimization, down: lower both answers, the rejected one further. It is
    for chosen answers that are worse than the model's own.

        L = σ(βr_w) + 1 - σ(βh)

    Log-ratios are sums. The loss is 1 at policy = reference, where the chosen answer is not pulled
    at all (its two slopes, β/4 each, cancel) and the rejected one falls with β/4. The pulls vanish
    far from the reference.

    Args:
      policy, reference: log-probs of the same B pairs. No gradient is taken through `reference`.
      beta: how soon an answer has moved enough, per nat.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, or log-probs of unequal numbers of rows.

    Source: D'Oosterlinck et al. 2024, arXiv:2408.06266, Eq. 8.
    """
    chosen, rejected = pair_log_ratios(policy, reference)
    return LossOutput(torch.sigmoid(beta * chosen) + torch.sigmoid(-beta * (chosen - rejected)))


@bounded(beta=BETA)
def nca(policy: PairLogps, reference: PairLogps, *, beta: float = 0.1) -> LossOutput:
    """Noise Contrastive Alignment of two answers: tell each of them from an answer of the
    reference.

        L = -log σ(βr_w) - ½ log σ(-βr_w) - ½ log σ(-βr_l)

    Log-ratios are sums. The loss is 2 ln 2 at policy = reference. The chosen answer rests at
    βr_w = ln 2, and is pulled back from both sides however far it is; the pull on the rejected one
    vanishes as it falls.

    Args:
      policy, reference: log-probs of the same B pairs. No gradient is taken through `reference`.
      beta: how near to the reference the chosen answer rests, per nat.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, or log-probs of unequal numbers of rows.

    Source: Chen et al. 2024, arXiv:2402.05369 (NCA for two answers with the rewards 1 and 0).
    """
    chosen, rejected = (beta * ratio for ratio in pair_log_ratios(policy, reference))
    return LossOutput(
        -F.logsigmoid(chosen) - 0.5 * (F.logsigmoid(-chosen) + F.logsigmoid(-rejected))
    )


@bounded(beta=BETA)
def sppo_hard(policy: PairLogps, reference: PairLogps, *, beta: float = 0.1) -> LossOutput:
    """Self-Play Preference Optimization with certain labels: bring each answer to a log-ratio of
    its own.

        L = (r_w - 1/(2β))² + (r_l + 1/(2β))²

    Log-ratios are sums. The loss is 1/(2β²) at policy = reference. The pull grows with the
    distance and vanishes at the two targets alone: a chosen answer that falls is pulled harder.

    Args:
      policy, reference: log-probs of the same B pairs. No gradient is taken through `reference`.
      beta: the targets are ±1/(2β) nats, so larger stays nearer to the reference. It is 1/η of the
        paper.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, or log-probs of unequal numbers of rows.

    Source: Wu et al. 2024, arXiv:2405.00675, Eq. 4.7, with probabilities of 1 and 0.
    """
    chosen, rejected = pair_log_ratios(policy, reference)
    target = 1 / (2 * beta)
    return LossOutput((chosen - target).square() + (rejected + target).square())


@bounded(beta=BETA)
def cal_dpo(policy: PairLogps, reference: PairLogps, *, beta: float = 0.1) -> LossOutput:
    """Calibrated DPO: a preference term without scale, and log-ratios that are brought to the true
    rewards, ±1/2, over β.

        L = -log σ(h) + (r_w - 1/(2β))² + (r_l + 1/(2β))²

    Log-ratios are sums, and the preference term has no β. The loss is ln 2 + 1/(2β²) at policy =
    reference, where the squares pull each answer with 1/β and the preference with 1/2. The pull
    vanishes a little past the two targets, and grows on both sides of them.

    Args:
      policy, reference: log-probs of the same B pairs. No gradient is taken through `reference`.
      beta: the targets are ±1/(2β) nats, so larger stays nearer to the reference.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, or log-probs of unequal numbers of rows.

    Source: Xiao et al. 2024, arXiv:2412.14516 (the Cal-DPO loss).
    """
    chosen, rejected = pair_log_ratios(policy, reference)
    calibrated = sppo_hard(policy, reference, beta=beta).losses
    return LossOutput(-F.logsigmoid(chosen - rejected) + calibrated)
