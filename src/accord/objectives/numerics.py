"""Arithmetic that several objectives share, written so that value and gradient stay finite."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from accord.types import Logps, PairLogps, PerCompletion, UsageError

# The mean log-prob of an answer that the model is certain of. float32 log-softmax cannot tell a
# probability of 1 from one of 1 - 6e-8, so any mean above -1e-12 is rounding, and log-odds there
# would be infinite.
CERTAIN = -1e-12

# Where exp goes on by its tangent, in nats: e^30 is 1e13, and its products with log-ratios of 1e4
# nats stay within float32. Cutting it off instead (TRL does, at 80) would leave a slope of 0, and
# an answer out there would never come back.
STEEPEST = 30.0


def summed(values: Tensor, count: Tensor) -> Tensor:
    """Sum per-token values [C] over each answer, [N], in float64 whatever their dtype; a gradient
    comes back in the values' own.

    A float32 sum of 5,000 log-probs of 4 nats was off by up to 7.4e-2 nats, since each partial sum
    is rounded to 2e-3 there; the rounding of the terms themselves makes 2.3e-5
    (benchmarks/sums.py, decision 0042).
    """
    # Not index_add, which on a GPU adds in any order: policy and reference must give the same
    # bits. unsafe: a check of the lengths would wait for the GPU
    return torch.segment_reduce(values.double(), "sum", lengths=count, unsafe=True)


def same_rows(*logps: PerCompletion) -> None:
    """Refuse log-probs of unequal numbers of rows: broadcasting would pair each row with a wrong
    one.
    """
    shapes = [tuple(one.sum.shape) for one in logps]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1:
        raise UsageError(
            f"log-probs of shapes {', '.join(map(str, shapes))} do not belong to the same rows. "
            "Expected one number a row, [B], for policy and reference, chosen and rejected alike."
        )


def log_ratio(policy: Logps, reference: Logps | None) -> Tensor:
    """Compute log π(y|x) - log ref(y|x) of each completion, summed over its tokens.

    Args:
      policy, reference: log-probs of the same N completions. No gradient is taken through
        `reference`.

    Returns:
      [N] nats.

    Raises:
      UsageError: the reference is missing or has another number of rows.
    """
    if reference is None:
        raise UsageError("a log-ratio needs the reference's log-probs, and none were given.")
    same_rows(policy, reference)
    return policy.sum - reference.sum.detach()


def pair_log_ratios(policy: PairLogps, reference: PairLogps) -> tuple[Tensor, Tensor]:
    """Compute `log_ratio` of the chosen and of the rejected answers of B pairs, [B] each, in nats.
    Raises UsageError if their numbers of rows differ.
    """
    same_rows(policy.chosen, policy.rejected)
    chosen = log_ratio(policy.chosen, reference.chosen)
    return chosen, log_ratio(policy.rejected, reference.rejected)


def log1mexp(x: Tensor) -> Tensor:
    """Compute log(1 - exp(x)) for x < 0, in two branches that meet at -ln 2.

    Near zero 1 - exp(x) cancels, far from it exp(x) vanishes: each branch is exact where the other
    is not. The branch not taken sees a harmless number, since `where` would turn its infinite
    gradient into NaN.

    Source: Mächler 2012, "Accurately computing log(1 - exp(-|a|))", Eq. 7.
    """
    near = x > -math.log(2)
    far = torch.where(near, torch.full_like(x, -1.0), x)
    return torch.where(near, torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(far)))


def log_odds(mean: Tensor) -> Tensor:
    """Compute log(p / (1 - p)) of an answer's per-token probability p = exp(mean log-prob), in
    nats. [N] to [N].

    It is finite for every mean ≤ 0: means above `CERTAIN` count as `CERTAIN`, and get no gradient.
    """
    mean = mean.clamp(max=CERTAIN)
    return mean - log1mexp(mean)


def expm1_by_tangent(x: Tensor) -> Tensor:
    """Compute exp(x) - 1, continued by its tangent from x = `STEEPEST` on: value and slope are
    finite, and the slope is never 0. [N] to [N].
    """
    beyond = torch.relu(x - STEEPEST)  # its slope at 0 is 0, so the two never add up
    return torch.expm1(x.clamp(max=STEEPEST)) + math.exp(STEEPEST) * beyond
