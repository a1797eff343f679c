"""The loss and gradient of each objective for one row, worked out by hand in plain Python floats.

They are written from the papers and apart from the torch code, so that `certificate` can compare a
run's numbers with the objective that its recipe names. One function for each objective: (row,
options, z0) -> loss, and its derivative with respect to the summed log-prob of each of the row's
completions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Answer:
    """One completion in numbers."""

    policy: float  # nats, summed over tokens
    reference: float  # nats, summed over tokens
    count: int  # tokens

    @property
    def ratio(self) -> float:
        return self.policy - self.reference


class Row(NamedTuple):
    """One row in numbers: (chosen, rejected) of a pair, or one answer."""

    says: str  # what this point shows
    answers: tuple[Answer, ...]
    desirable: bool | None = None
    margin: float = 0.0


Value = tuple[float, tuple[float, ...]]  # loss, d loss / d sum of each answer
ClosedForm = Callable[[Row, dict, float], Value]  # row, options, z0


def dpo(row: Row, options: dict, z0: float) -> Value:
    """Compute -(1-ε) log σ(βh) - ε log σ(-βh); cDPO is the same."""
    beta, share = options["beta"], options["label_smoothing"]
    x = beta * _h(row)
    slope = beta * (share * _sigmoid(x) - (1 - share) * _sigmoid(-x))
    return (1 - share) * _softplus(-x) + share * _softplus(x), (slope, -slope)


def robust(row: Row, options: dict, z0: float) -> Value:
    """Compute [-(1-ε) log σ(βh) + ε log σ(-βh)] / (1-2ε)."""
    beta, share = options["beta"], options["label_smoothing"]
    x = beta * _h(row)
    slope = -beta * ((1 - share) * _sigmoid(-x) + share * _sigmoid(x)) / (1 - 2 * share)
    return ((1 - share) * _softplus(-x) - share * _softplus(x)) / (1 - 2 * share), (slope, -slope)


def ipo(row: Row, options: dict, z0: float) -> Value:
    """Compute (h - 1/(2β))², h of means or of sums."""
    chosen, rejected = row.answers
    by = (chosen.count, rejected.count) if options["normalize"] == "token_mean" else (1, 1)
    off = chosen.ratio / by[0] - rejected.ratio / by[1] - 0.5 / options["beta"]
    return off * off, (2 * off / by[0], -2 * off / by[1])


def hinge(row: Row, options: dict, z0: float) -> Value:
    """Compute max(0, 1 - βh)."""
    left = 1 - options["beta"] * _h(row)
    slope = -options["beta"] if left > 0 else 0.0
    return max(0.0, left), (slope, -slope)


def simpo(row: Row, options: dict, z0: float) -> Value:
    """Compute -log σ(β (M_w - M_l) - γ)."""
    chosen, rejected = row.answers
    beta, gamma = options["beta"], options["gamma"]
    if gamma is None:
        gamma = beta * options["gamma_beta_ratio"]
    x = beta * (chosen.policy / chosen.count - rejected.policy / rejected.count) - gamma
    slope = -beta * _sigmoid(-x)
    return _softplus(-x), (slope / chosen.count, -slope / rejected.count)


def orpo(row: Row, options: dict, z0: float) -> Value:
    """Compute -M_w + λ · -log σ(logodds_w - logodds_l); d logodds / dM = 1 / (1 - exp M)."""
    means = [answer.policy / answer.count for answer in row.answers]
    odds = [mean - math.log(-math.expm1(mean)) for mean in means]
    slopes = [-1 / math.expm1(mean) for mean in means]
    x = odds[0] - odds[1]
    pull = options["weight"] * _sigmoid(-x)
    chosen, rejected = row.answers
    gradient = ((-1 - pull * slopes[0]) / chosen.count, pull * slopes[1] / rejected.count)
    return -means[0] + options["weight"] * _softplus(-x), gradient


def cpo(row: Row, options: dict, z0: float) -> Value:
    """Compute -log σ(β (S_w - S_l)) - α M_w, or S_w for M_w."""
    chosen, rejected = row.answers
    by = chosen.count if options["nll_normalize"] == "token_mean" else 1
    x = options["beta"] * (chosen.policy - rejected.policy)
    slope = -options["beta"] * _sigmoid(-x)
    loss = _softplus(-x) - options["alpha"] * chosen.policy / by
    return loss, (slope - options["alpha"] / by, -slope)


def kto(row: Row, options: dict, z0: float) -> Value:
    """Compute λ_D (1 - σ(β (r - z0))) if desirable, λ_U (1 - σ(β (z0 - r))) if not."""
    sign, weight = (
        (1, options["desirable_weight"]) if row.desirable else (-1, options["undesirable_weight"])
    )
    x = sign * options["beta"] * (row.answers[0].ratio - z0)
    return weight * _sigmoid(-x), (-weight * sign * options["beta"] * _sigmoid(x) * _sigmoid(-x),)


def sft(row: Row, options: dict, z0: float) -> Value:
    """Compute -S."""
    return -row.answers[0].policy, (-1.0,)


def bradley_terry(row: Row, options: dict, z0: float) -> Value:
    """Compute -log σ(s_w - s_l - m) + c (s_w + s_l)²."""
    chosen, rejected = row.answers
    x = chosen.policy - rejected.policy - (row.margin if options["margin"] == "column" else 0.0)
    both = chosen.policy + rejected.policy
    slope, pull = -_sigmoid(-x), 2 * options["centering"] * both
    return _softplus(-x) + options["centering"] * both * both, (slope + pull, -slope + pull)


def _h(row: Row) -> float:
    chosen, rejected = row.answers
    return chosen.ratio - rejected.ratio


def _softplus(x: float) -> float:
    """Compute log(1 + exp x), which is -log σ(-x)."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _sigmoid(x: float) -> float:
    small = math.exp(-abs(x))
    return (1.0 if x >= 0 else small) / (1 + small)
