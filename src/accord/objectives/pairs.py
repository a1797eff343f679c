"""Objectives for pairs, measured against a reference: DPO and its relatives.

All depend on one number, h = (log π_w - log ref_w) - (log π_l - log ref_l), w chosen and l
rejected: by how many nats the policy prefers the chosen answer more than the reference does. They
differ in the loss of h.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.objectives.numerics import log_ratio, pair_log_ratios, same_rows
from accord.objectives.options import Choice, Number, bounded
from accord.types import Logps, LossOutput, PairLogps

BETA = Number(above=0, hint="Papers use 0.01 to 0.5.")
FLIPPED = Number(
    at_least=0,
    below=0.5,
    hint=(
        "It is the share of labels taken to be flipped: at one half the labels say nothing, past it"
        " the opposite."
    ),
)
NORMALIZE = Choice(
    ("token_mean", "sequence_sum"), hint="They give beta different meanings; see `ipo`."
)


@bounded(beta=BETA, label_smoothing=FLIPPED)
def dpo(
    policy: PairLogps, reference: PairLogps, *, beta: float = 0.1, label_smoothing: float = 0.0
) -> LossOutput:
    """Direct Preference Optimization: make the policy prefer what people preferred, relative to a
    reference.

        L = -(1 - ε) log σ(βh) - ε log σ(-βh)

    Log-probs are sums over completion tokens, so long answers weigh more; see `simpo` for the mean.

    Args:
      policy, reference: log-probs of the same B pairs. No gradient is taken through `reference`.
      beta: how strongly to stay near the reference, per nat. Larger stays nearer. Papers use 0.01
        to 0.5.
      label_smoothing: assumed share of flipped labels, ε in [0, 0.5). Zero is the original DPO.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, or log-probs of unequal numbers of rows.

    Source: Rafailov et al. 2023, arXiv:2305.18290, Eq. 7.
    ε: Mitchell 2023, ericmitchell.ai/cdpo.pdf, Eq. 3.
    """
    scaled = beta * _margin(policy, reference)
    return LossOutput(
        -(1 - label_smoothing) * F.logsigmoid(scaled) - label_smoothing * F.logsigmoid(-scaled)
    )


@bounded(beta=BETA, label_smoothing=FLIPPED)
def cdpo(
    policy: PairLogps, reference: PairLogps, *, beta: float = 0.1, label_smoothing: float = 0.1
) -> LossOutput:
    """Conservative DPO: `dpo` with an assumed share ε of flipped labels, so that it stops at a
    finite margin.

        L = -(1 - ε) log σ(βh) - ε log σ(-βh)          least at βh = logit(1 - ε)

    Args, returns, errors: as `dpo`. It differs only in that ε is not zero unless you say so.

    Source: Mitchell 2023, ericmitchell.ai/cdpo.pdf, Eq. 3.
    """
    return dpo(policy, reference, beta=beta, label_smoothing=label_smoothing)


@bounded(beta=BETA, label_smoothing=FLIPPED)
def robust(
    policy: PairLogps, reference: PairLogps, *, beta: float = 0.1, label_smoothing: float = 0.1
) -> LossOutput:
    """Robust DPO (rDPO): in expectation over labels flipped at rate ε, the DPO loss of the true
    labels.

        L = [-(1 - ε) log σ(βh) + ε log σ(-βh)] / (1 - 2ε)

    It is unbiased, unlike cDPO, at the price of variance and of losses that may be negative.

    Args, returns, errors: as `dpo`; `label_smoothing` is the flip rate ε in [0, 0.5).

    Source: Chowdhury, Kini and Natarajan 2024, arXiv:2403.00409 (the rDPO loss).
    """
    scaled = beta * _margin(policy, reference)
    kept, flipped = -F.logsigmoid(scaled), -F.logsigmoid(-scaled)
    return LossOutput(
        ((1 - label_smoothing) * kept - label_smoothing * flipped) / (1 - 2 * label_smoothing)
    )


@bounded(beta=BETA, normalize=NORMALIZE)
def ipo(
    policy: PairLogps, reference: PairLogps, *, beta: float = 0.1, normalize: str = "token_mean"
) -> LossOutput:
    """Identity Preference Optimization: bring the margin to 1/(2β) and no further, however certain
    the labels.

        L = (h - 1/(2β))²

    Args:
      policy, reference: log-probs of the same B pairs. No gradient is taken through `reference`.
      beta: the paper's τ. The margin aimed at is 1/(2β), so larger stays nearer to the reference.
      normalize: "token_mean" divides each answer's log-ratio by its tokens, as the authors told TRL
        that they did (huggingface/blog#1785), and β is per nat-per-token; "sequence_sum" is the
        paper's text, β per nat. The two differ by an answer's length, often a hundredfold.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, or log-probs of unequal numbers of rows.

    Source: Azar et al. 2023, arXiv:2310.12036, Eq. 17.
    """
    same_rows(policy.chosen, policy.rejected)
    chosen = _normalized_log_ratio(policy.chosen, reference.chosen, normalize)
    rejected = _normalized_log_ratio(policy.rejected, reference.rejected, normalize)
    return LossOutput((chosen - rejected - 1 / (2 * beta)).square())


@bounded(beta=BETA)
def hinge(policy: PairLogps, reference: PairLogps, *, beta: float = 0.1) -> LossOutput:
    """Hinge on the margin (SLiC's calibration loss, normalised by a reference): zero once βh
    reaches 1.

        L = max(0, 1 - βh)

    Args:
      policy, reference: log-probs of the same B pairs. No gradient is taken through `reference`.
      beta: reciprocal of the margin wanted, per nat.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, or log-probs of unequal numbers of rows.

    Source: Zhao et al. 2023, arXiv:2305.10425 (rank calibration); against a reference: Liu et al.
    2023, arXiv:2309.06657 (hinge-norm).
    """
    return LossOutput(torch.relu(1 - beta * _margin(policy, reference)))


def beta_log_ratio(policy: Logps, reference: Logps | None, *, beta: float, **_: object) -> Tensor:
    """Compute the implicit reward of N completions under DPO, its relatives and KTO: β (log π - log
    ref). [N]
    """
    return beta * log_ratio(policy, reference)


def ipo_reward(policy: Logps, reference: Logps | None, *, beta: float, normalize: str) -> Tensor:
    """Compute the implicit reward of N completions under IPO: β times the log-ratio, normalised as
    in training. [N]
    """
    return beta * _normalized_log_ratio(policy, reference, normalize)


def _margin(policy: PairLogps, reference: PairLogps) -> Tensor:
    """Compute h of each pair, from sums. [B] nats"""
    chosen, rejected = pair_log_ratios(policy, reference)
    return chosen - rejected


def _normalized_log_ratio(policy: Logps, reference: Logps | None, normalize: str) -> Tensor:
    ratio = log_ratio(policy, reference)
    return ratio / policy.count if normalize == "token_mean" else ratio
