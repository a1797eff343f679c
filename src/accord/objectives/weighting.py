"""WPO: a pair's loss times how likely the policy is to give both of its answers.

    L' = w_w w_l L,    w = exp(mean over tokens of log p - log Σ p²), no gradient through w

p is the policy's prediction of a token. Pairs that the policy would not write itself count less. An
answer drawn from the policy has a weight near 1, whatever the entropy: that is what log Σ p² is
for. Any loss of pairs may be weighed so: `wpo` is DPO, and `wpo*ipo` IPO.

Source: Zhou et al. 2024, arXiv:2406.11827, Eq. 2 with sampled alignment. The product has no upper
bound, as in TRL from 0.29 on; up to 0.28 it was cut off at 1.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import wraps

import torch
from torch import Tensor

from accord.config.objective_list import WPO
from accord.objectives.closed_forms import ClosedForm, Row, Value
from accord.objectives.objective import Objective
from accord.objectives.options import bounded, with_kinds
from accord.objectives.pairs import BETA, FLIPPED, dpo
from accord.types import Logps, LossOutput, PairLogps, UsageError


@bounded(beta=BETA, label_smoothing=FLIPPED)
def wpo(
    policy: PairLogps, reference: PairLogps, *, beta: float = 0.1, label_smoothing: float = 0.0
) -> LossOutput:
    """DPO, each pair weighed by how likely the policy is to give both of its answers.

        L = -w_w w_l log σ(βh),    w = exp(mean over tokens of log p - log Σ p²)

    Log-ratios are sums, weights are means. The loss at policy = reference is w_w w_l ln 2. The pull
    vanishes for answers that the policy hardly gives, and as the margin grows.

    Args:
      policy: log-probs of B pairs, with their collision entropies. No gradient is taken through
        the weights.
      reference: log-probs of the same pairs. No gradient is taken through it.
      beta, label_smoothing: as in `dpo`.

    Returns:
      losses [B], not reduced; metric `weight`, [B].

    Raises:
      UsageError: a keyword out of bounds, log-probs of unequal numbers of rows, or without their
        collision entropies.

    Source: Zhou et al. 2024, arXiv:2406.11827, Eq. 2.
    """
    return _weighed(dpo(policy, reference, beta=beta, label_smoothing=label_smoothing), policy)


def weighted(part: Objective) -> Objective:
    """Return an objective of pairs whose rows' losses are weighed by WPO.

    Raises:
      UsageError: it is no objective of pairs' log-probs, or is weighed so already.
    """
    if part.rows != "pairs" or part.needs != "logps":
        raise UsageError(
            f"{WPO} weighs pairs by the log-probs of both answers; {part.name} is no objective of"
            " those. Weigh one that is: wpo*dpo."
        )
    if "collision" in part.columns:
        raise UsageError(f"{part.name} has the weights of {WPO} already. Leave {WPO}* out.")
    function = part.function

    @wraps(function)
    def losses(policy: PairLogps, *rest: PairLogps, **options: object) -> LossOutput:
        return _weighed(function(policy, *rest, **options), policy)

    return replace(
        part,
        function=with_kinds(losses, part.kinds),
        convention=lambda options: weighed_in_words(part.convention(options)),
        columns=part.columns | {"collision"},
        # it depends on how likely the answers are
        at_reference=lambda options: None,
        closed_form=None if part.closed_form is None else weighed_form(part.closed_form),
    )


def weighed_in_words(convention: str) -> str:
    """Return the line of an objective that is weighed so."""
    return (
        f"{convention}; each pair weighed by the policy's probability of both answers per token,"
        " without a gradient"
    )


def _weighed(output: LossOutput, policy: PairLogps) -> LossOutput:
    weights = pair_weights(policy)
    return LossOutput(weights * output.losses, {**output.metrics, "weight": weights})


def pair_weights(policy: PairLogps) -> Tensor:
    """Compute the weight of each pair, [B], without a gradient.

    Raises:
      UsageError: the collision entropies were not computed.
    """
    return torch.exp(_log_weight(policy.chosen) + _log_weight(policy.rejected))


def _log_weight(answer: Logps) -> Tensor:
    if answer.collision is None:
        raise UsageError(
            "WPO's weights need the collision entropy of every prediction, and the log-probs came"
            " without it. Give Logps(sum, count, collision=…): its sum over tokens of -log Σ p²."
        )
    return (answer.sum.detach() + answer.collision) / answer.count


def weighed_form(part: ClosedForm) -> ClosedForm:
    """Return the closed form of an objective that is weighed so."""

    def form(row: Row, options: dict, z0: float) -> Value:
        weight = math.exp(sum((a.policy + _collision(a.collision)) / a.count for a in row.answers))
        loss, slopes = part(row, options, z0)
        return weight * loss, tuple(weight * slope for slope in slopes)

    return form


def _collision(value: float | None) -> float:
    if value is None:
        raise ValueError("the collision entropies were not read")
    return value
