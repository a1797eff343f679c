"""Objectives for pairs, measured against a reference, that answer DPO's taste for long answers.

DPO sums over tokens, so a long answer moves its margin further than a short one. S is the sum of an
answer's log-probs, n its tokens, r = S - S_ref in nats, h = r_w - r_l, w chosen, l rejected.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from accord.objectives.numerics import log_ratio, pair_log_ratios, same_rows
from accord.objectives.options import Number, bounded
from accord.objectives.pairs import BETA
from accord.types import Logps, LossOutput, PairLogps, UsageError


@bounded(beta=Number(above=0, hint="Tülu 3 uses 5: beta multiplies a mean, not a sum."))
def dpo_norm(policy: PairLogps, reference: PairLogps, *, beta: float = 5.0) -> LossOutput:
    """DPO on log-ratios per token: length no longer counts.

        L = -log σ(β (r_w / n_w - r_l / n_l))

    It has a reference, unlike `simpo`, and no target margin. Log-ratios are means. The loss is ln 2
    at policy = reference, and the pull on an answer's sum β/(2n); it vanishes as the margin grows.

    Args:
      policy, reference: log-probs of the same B pairs. No gradient is taken through `reference`.
      beta: how strongly to stay near the reference, per nat-per-token: about 5, where DPO's is 0.1.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, or log-probs of unequal numbers of rows.

    Source: Lambert et al. 2024 (Tülu 3), arXiv:2411.15124, §5 (length-normalized DPO).
    """
    chosen, rejected = pair_log_ratios(policy, reference)
    margin = chosen / policy.chosen.count - rejected / policy.rejected.count
    return LossOutput(-F.logsigmoid(beta * margin))


@bounded(beta=BETA, alpha=Number(at_least=0, hint="The R-DPO paper tries up to 0.05; 0 is DPO."))
def r_dpo(
    policy: PairLogps, reference: PairLogps, *, beta: float = 0.1, alpha: float = 0.01
) -> LossOutput:
    """DPO with a price on length: the policy is to be optimal for the reward less α a token.

        L = -log σ(βh + α (n_w - n_l))

    The sign follows from that reward: βr is then the reward less α n up to a constant of the
    prompt, so the labels were made by βr + α n. A longer chosen answer counts as preferred for its
    length already, and moves less. Log-ratios are sums. At policy = reference the loss depends on
    the lengths; it is ln 2 for equal ones. The pull vanishes as βh + α (n_w - n_l) grows.

    Args:
      policy, reference: log-probs of the same B pairs. No gradient is taken through `reference`.
      beta: how strongly to stay near the reference, per nat.
      alpha: the price of a token, on the scale of the reward. 0 is DPO.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, or log-probs of unequal numbers of rows.

    Source: Park et al. 2024, arXiv:2403.19159 (regularised DPO). It is not `robust`, which some
    call rDPO.
    """
    chosen, rejected = pair_log_ratios(policy, reference)
    # whole numbers times α would be float32, whatever the log-probs are
    longer = (policy.chosen.count - policy.rejected.count).to(chosen.dtype)
    return LossOutput(-F.logsigmoid(beta * (chosen - rejected) + alpha * longer))


@bounded(
    beta=BETA,
    alpha=Number(
        at_least=0,
        at_most=1,
        hint="1 is DPO; 0 leaves out what goes on past the shorter answer's length.",
    ),
)
def ld_dpo(
    policy: PairLogps, reference: PairLogps, *, beta: float = 0.1, alpha: float = 0.5
) -> LossOutput:
    """DPO with the tokens past the shorter answer's length weighed by α.

        L = -log σ(β (r'_w - r'_l))
        r' = r over the first min(n_w, n_l) tokens + α times r over the rest

    Policy and reference are summed alike. Log-ratios are sums; the loss is ln 2 at policy =
    reference. The pull on a token past the shorter answer's length is α times that on the others;
    both vanish as the margin grows.

    Args:
      policy, reference: log-probs of the same B pairs, with their shared sums. No gradient is taken
        through `reference`.
      beta: how strongly to stay near the reference, per nat.
      alpha: the weight of the longer answer's rest, in [0, 1]. 1 is DPO.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, log-probs of unequal numbers of rows, or without their
        shared sums.

    Source: Liu et al. 2024, arXiv:2409.06411 (LD-DPO).
    """
    same_rows(policy.chosen, policy.rejected)
    chosen = _weighed_ratio(policy.chosen, reference.chosen, alpha)
    return LossOutput(
        -F.logsigmoid(beta * (chosen - _weighed_ratio(policy.rejected, reference.rejected, alpha)))
    )


def ld_dpo_reward(policy: Logps, reference: Logps | None, *, beta: float, alpha: float) -> Tensor:
    """Compute the implicit reward of N completions as LD-DPO weighs their tokens. [N]"""
    return beta * _weighed_ratio(policy, reference, alpha)


def _weighed_ratio(policy: Logps, reference: Logps | None, alpha: float) -> Tensor:
    """Compute the log-ratio of the shared tokens and α times that of the rest, [N] nats."""
    ratio = log_ratio(policy, reference)
    assert reference is not None, "log_ratio refuses that"
    if policy.shared is None or reference.shared is None:
        raise UsageError(
            "ld_dpo weighs the tokens past the shorter answer's length, and the log-probs came"
            " without the sum over those before. Give Logps(sum, count, shared=…), of policy and"
            " reference."
        )
    shared = policy.shared - reference.shared.detach()
    return shared + alpha * (ratio - shared)


def dpo_norm_reward(policy: Logps, reference: Logps | None, *, beta: float) -> Tensor:
    """Compute the implicit reward of N completions per token: β (log π - log ref) / n. [N]"""
    return beta * log_ratio(policy, reference) / policy.count
