"""Answers labelled good or bad, one at a time, each compared with the reference:
Kahneman-Tversky Optimization and Binary Classifier Optimization.

What a row is compared with beside the reference is passed in, so this file needs no process group,
and splitting a batch into micro-batches changes nothing: KTO's baseline z0 is computed by the step
over the whole batch (HALOs: over a micro-batch), BCO's shift from the updates before it (TRL: its
own micro-batch and those before).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.objectives.numerics import log_ratio
from accord.objectives.options import Number, bounded
from accord.types import LabelledLogps, Logps, LossOutput, UsageError

# λ_D n_D / (λ_U n_U). Ethayarajh et al. 2024, arXiv:2402.01306, §4.2: [1, 3/2] in version 5, which
# is the newest; earlier versions said [1, 4/3]. The audit and `accord advise` judge by the same
# bounds.
BALANCE = (1.0, 1.5)

WEIGHT = Number(
    above=0,
    hint="Keep weight × count of good over weight × count of bad between"
    f" {BALANCE[0]:g} and {BALANCE[1]:g}.",
)


@bounded(
    beta=Number(above=0, hint="Papers use 0.01 to 0.5."),
    desirable_weight=WEIGHT,
    undesirable_weight=WEIGHT,
)
def kto(
    policy: LabelledLogps,
    reference: LabelledLogps,
    *,
    z0: Tensor,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> LossOutput:
    """Kahneman-Tversky Optimization: raise the utility of good answers and lower that of bad ones.

        L = λ_D (1 - σ(β (r - z0)))   if desirable
            λ_U (1 - σ(β (z0 - r)))   if not
        r = log π(y|x) - log ref(y|x), summed over tokens

    Args:
      policy, reference: log-probs of the same B labelled answers. No gradient is taken through
        `reference`.
      z0: the baseline, a scalar in nats: `kto_baseline` of the whole batch. No gradient is taken
        through it.
      beta: how quickly utility saturates, per nat.
      desirable_weight, undesirable_weight: λ_D and λ_U. With n_D good and n_U bad answers, λ_D n_D
        / (λ_U n_U) belongs in [1, 1.5] (`BALANCE`).

    Returns:
      losses [B], not reduced; metric `kl`, the baseline, named as in TRL.

    Raises:
      UsageError: a keyword out of bounds, or unequal numbers of rows.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306, Eq. 8.
    """
    gain = beta * (log_ratio(policy.completion, reference.completion) - z0.detach())  # [B]
    # 1 - σ(x) is written σ(-x): in float32 the difference is 0 from x = 17 on, and its gradient is
    # lost.
    losses = torch.where(
        policy.desirable,
        desirable_weight * torch.sigmoid(-gain),
        undesirable_weight * torch.sigmoid(gain),
    )
    return LossOutput(losses, {"kl": z0.detach().expand_as(losses)})


def kto_baseline(policy: Logps, reference: Logps) -> Tensor:
    """Estimate KTO's reference point z0: KL(π‖ref) from answers to *other* prompts, never below
    zero.

        z0 = max(0, mean over n of log π(y'|x) - log ref(y'|x))

    Args:
      policy, reference: log-probs of n mismatched rows, each prompt with an answer to another
        prompt, of the whole batch over all ranks.

    Returns:
      a scalar in nats, detached.

    Raises:
      UsageError: there are fewer than two rows, so none can be mismatched.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306, §4.1; matched rows would estimate something
    else.
    """
    if len(policy) < 2:
        raise UsageError(
            "KTO estimates its baseline from answers to other prompts, and a batch of"
            f" {len(policy)} has none. Use a batch of at least 2; papers use 8 to 128"
            " (train.batch_size)."
        )
    return log_ratio(policy, reference).detach().mean().clamp(min=0)


@bounded(beta=Number(above=0, hint="Papers use 0.01 to 0.5."))
def bco(
    policy: LabelledLogps, reference: LabelledLogps, *, delta: Tensor, beta: float = 0.1
) -> LossOutput:
    """Binary Classifier Optimization: tell good answers from bad ones by their implicit reward.

        L = -log σ(β r - δ)       if desirable
            -log σ(-(β r - δ))    if not
        r = log π(y|x) - log ref(y|x), summed over tokens

    The paper's weights for good and bad answers of different prompts (underlying distribution
    matching) are left out: they need a classifier of prompts.

    Args:
      policy, reference: log-probs of the same B labelled answers. No gradient is taken through
        `reference`.
      delta: the reward shift, a scalar: half way between the mean rewards β r of good and of bad
        answers, here over the updates so far. No gradient is taken through it.
      beta: how strongly to stay near the reference, per nat. Larger stays nearer.

    Returns:
      losses [B], not reduced; metric `delta`, the shift, named as in TRL.

    Raises:
      UsageError: a keyword out of bounds, or unequal numbers of rows.

    Source: Jung et al. 2024, arXiv:2404.04656.
    """
    ratio = log_ratio(policy.completion, reference.completion)  # [B]
    shift = delta.detach().to(ratio)
    gain = beta * ratio - shift
    losses = -F.logsigmoid(torch.where(policy.desirable, gain, -gain))
    return LossOutput(losses, {"delta": shift.expand_as(losses)})


# Sums and counts of the rewards of good and of bad answers, of the rows of all updates so far.
NO_REWARDS = {"good": 0.0, "goods": 0.0, "bad": 0.0, "bads": 0.0}


def bco_shift(state: Mapping[str, float]) -> dict[str, Tensor]:
    """Compute BCO's reward shift: half way between the mean rewards of good and of bad answers.

        δ = (mean of β r over good answers + mean of β r over bad answers) / 2

    A label that has not come yet has no mean, and the other's stands alone. Before the first update
    δ is 0, which is exact where the policy is the reference.

    Args:
      state: sums and counts as `after_bco` keeps them.

    Returns:
      keyword `delta`, a float64 scalar.

    Source: Jung et al. 2024, arXiv:2404.04656, reward shift.
    """
    sums = ((state["good"], state["goods"]), (state["bad"], state["bads"]))
    means = [total / count for total, count in sums if count]
    shift = sum(means) / len(means) if means else 0.0
    return {"delta": torch.tensor(shift, dtype=torch.float64)}


def after_bco(state: Mapping[str, float], records: Mapping[str, Tensor]) -> dict[str, float]:
    """Add the rewards of an update's rows to BCO's sums; their order changes no bit.

    Args:
      records: columns `rewards/chosen` and `rewards/rejected`, [B], NaN where a row lacks the side.
    """
    found = dict(state)
    for side, name in (("chosen", "good"), ("rejected", "bad")):
        rewards = records[f"rewards/{side}"].double()
        rewards = rewards[~rewards.isnan()]
        found[name] += math.fsum(rewards.tolist())
        found[f"{name}s"] += len(rewards)
    return found
