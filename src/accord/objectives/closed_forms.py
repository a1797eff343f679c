"""The loss and gradient of each objective for one row, worked out by hand in plain Python floats.

They are written from the papers and apart from the torch code, so that `certificate` can compare a
run's numbers with the objective that its recipe names. One function for each objective: (row,
options, z0) -> loss, and its derivative with respect to the summed log-prob of each of the row's
completions. A loss that weighs an answer's first tokens apart gives the derivatives along those
sums too, after the others.
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
    # where the objective reads it: (policy, reference) in nats, summed over the first tokens alone,
    # as many as the row's shortest answer has
    shared: tuple[float, float] | None = None
    collision: float | None = None  # nats, -log Σ p² of the policy, summed over tokens

    @property
    def ratio(self) -> float:
        return self.policy - self.reference

    @property
    def shared_ratio(self) -> float:
        """Return the log-ratio of the first tokens.

        Raises:
          ValueError: they were not read apart.
        """
        if self.shared is None:
            raise ValueError("the sums over shared tokens were not read")
        return self.shared[0] - self.shared[1]


class Row(NamedTuple):
    """One row in numbers: (chosen, rejected) of a pair, or one answer."""

    says: str  # what this point shows
    answers: tuple[Answer, ...]
    desirable: bool | None = None
    margin: float = 0.0


# loss, d loss / d sum of each answer, and then d loss / d its shared sum where there are any
Value = tuple[float, tuple[float, ...]]
ClosedForm = Callable[[Row, dict, float], Value]  # row, options, z0


def mean_slopes(row: Row, slopes: tuple[float, ...]) -> tuple[float, ...]:
    """Compute d loss / d log-prob of each answer's tokens, their mean over the answer."""
    size = len(row.answers)
    if len(slopes) == size:
        return slopes
    shortest = min(answer.count for answer in row.answers)
    return tuple(
        whole + first * shortest / answer.count
        for whole, first, answer in zip(slopes[:size], slopes[size:], row.answers, strict=True)
    )


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


def rpo(row: Row, options: dict, z0: float) -> Value:
    """Compute -log σ(βh) - α M_w."""
    chosen, beta, alpha = row.answers[0], options["beta"], options["alpha"]
    x = beta * _h(row)
    slope = -beta * _sigmoid(-x)
    loss = _softplus(-x) - alpha * chosen.policy / chosen.count
    return loss, (slope - alpha / chosen.count, -slope)


def dpo_norm(row: Row, options: dict, z0: float) -> Value:
    """Compute -log σ(β (r_w / n_w - r_l / n_l))."""
    chosen, rejected = row.answers
    x = options["beta"] * (chosen.ratio / chosen.count - rejected.ratio / rejected.count)
    slope = -options["beta"] * _sigmoid(-x)
    return _softplus(-x), (slope / chosen.count, -slope / rejected.count)


def ld_dpo(row: Row, options: dict, z0: float) -> Value:
    """Compute -log σ(β (r'_w - r'_l)), r' = r over the shared tokens + α times r over the rest."""
    beta, alpha = options["beta"], options["alpha"]
    chosen, rejected = (
        answer.shared_ratio + alpha * (answer.ratio - answer.shared_ratio) for answer in row.answers
    )
    x = beta * (chosen - rejected)
    slope = -beta * _sigmoid(-x)
    rest, first = alpha * slope, (1 - alpha) * slope
    return _softplus(-x), (rest, -rest, first, -first)


def dpop(row: Row, options: dict, z0: float) -> Value:
    """Compute -log σ(β (h - λ max(0, -r_w))); in the kink at r_w = 0 the slope is DPO's."""
    fallen, penalty = min(0.0, row.answers[0].ratio), options["penalty"]
    x = options["beta"] * (_h(row) + penalty * fallen)
    slope = -options["beta"] * _sigmoid(-x)
    return _softplus(-x), (slope * (1 + (penalty if fallen < 0 else 0.0)), -slope)


def apo_zero(row: Row, options: dict, z0: float) -> Value:
    """Compute 1 - σ(βr_w) + σ(βr_l)."""
    x, y = (options["beta"] * answer.ratio for answer in row.answers)
    return _sigmoid(-x) + _sigmoid(y), (-options["beta"] * _bell(x), options["beta"] * _bell(y))


def apo_down(row: Row, options: dict, z0: float) -> Value:
    """Compute σ(βr_w) + 1 - σ(βh)."""
    beta = options["beta"]
    x, y = beta * row.answers[0].ratio, beta * _h(row)
    slopes = (beta * (_bell(x) - _bell(y)), beta * _bell(y))
    return _sigmoid(x) + _sigmoid(-y), slopes


def nca(row: Row, options: dict, z0: float) -> Value:
    """Compute -log σ(βr_w) - ½ log σ(-βr_w) - ½ log σ(-βr_l)."""
    beta = options["beta"]
    x, y = (beta * answer.ratio for answer in row.answers)
    slopes = (beta * (_sigmoid(x) / 2 - _sigmoid(-x)), beta * _sigmoid(y) / 2)
    return _softplus(-x) + _softplus(x) / 2 + _softplus(y) / 2, slopes


def sppo_hard(row: Row, options: dict, z0: float) -> Value:
    """Compute (r_w - 1/(2β))² + (r_l + 1/(2β))²."""
    target = 0.5 / options["beta"]
    over, under = row.answers[0].ratio - target, row.answers[1].ratio + target
    return over * over + under * under, (2 * over, 2 * under)


def cal_dpo(row: Row, options: dict, z0: float) -> Value:
    """Compute -log σ(h) and the squares of SPPO."""
    loss, (up, down) = sppo_hard(row, options, z0)
    pull = _sigmoid(-_h(row))
    return loss + _softplus(-_h(row)), (up - pull, down + pull)


def exo(row: Row, options: dict, z0: float) -> Value:
    """Compute σ(z) log(σ(z) / (1-ε)) + σ(-z) log(σ(-z) / ε), z = βh; its derivative in z is
    σ(z) σ(-z) (z - logit(1-ε)).
    """
    beta, share = options["beta"], options["label_smoothing"]
    z, rest = beta * _h(row), math.log1p(-share) - math.log(share)
    kept = _sigmoid(z) * (-_softplus(-z) - math.log1p(-share))
    flipped = _sigmoid(-z) * (-_softplus(z) - math.log(share))
    slope = beta * _bell(z) * (z - rest)
    return kept + flipped, (slope, -slope)


def r_dpo(row: Row, options: dict, z0: float) -> Value:
    """Compute -log σ(βh + α (n_w - n_l))."""
    chosen, rejected = row.answers
    x = options["beta"] * _h(row) + options["alpha"] * (chosen.count - rejected.count)
    slope = -options["beta"] * _sigmoid(-x)
    return _softplus(-x), (slope, -slope)


def f_dpo(row: Row, options: dict, z0: float) -> Value:
    """Compute -log σ(β (f'(u_w) - f'(u_l))): d f' / dr is σ(-r) for JS, e^(-αr) for the others."""
    order = {"forward_kl": 1.0, "alpha": options["alpha"]}.get(options["divergence"])
    values, slopes = [], []
    for answer in row.answers:
        if order is None:
            values.append(-_softplus(-answer.ratio))
            slopes.append(_sigmoid(-answer.ratio))
        else:
            power, slope = _expm1(-order * answer.ratio)
            values.append(-power / order)
            slopes.append(slope)
    x = options["beta"] * (values[0] - values[1])
    pull = options["beta"] * _sigmoid(-x)
    return _softplus(-x), (-pull * slopes[0], pull * slopes[1])


def chipo(row: Row, options: dict, z0: float) -> Value:
    """Compute -log σ(clip(β (φ(u_w) - φ(u_l)), ±2R)), φ(e^r) = e^r + r; no slope where it clips."""
    (up, rise), (down, fall) = (_expm1(answer.ratio) for answer in row.answers)
    x, most = options["beta"] * (up - down + _h(row)), 2 * options["limit"]
    pull = options["beta"] * _sigmoid(-x) if abs(x) <= most else 0.0
    return _softplus(-max(-most, min(most, x))), (-pull * (1 + rise), pull * (1 + fall))


def dpo_shift(row: Row, options: dict, z0: float) -> Value:
    """Compute -log σ(β (r_w - λ r_l))."""
    chosen, rejected = row.answers
    x = options["beta"] * (chosen.ratio - options["shift"] * rejected.ratio)
    slope = -options["beta"] * _sigmoid(-x)
    return _softplus(-x), (slope, -slope * options["shift"])


def odpo(row: Row, options: dict, z0: float) -> Value:
    """Compute -log σ(βh - α m), or α log m where there is a margin m."""
    wanted = row.margin
    if options["margin"] == "log":
        wanted = math.log(wanted) if wanted > 0 else 0.0
    x = options["beta"] * _h(row) - options["alpha"] * wanted
    slope = -options["beta"] * _sigmoid(-x)
    return _softplus(-x), (slope, -slope)


def simpo(row: Row, options: dict, z0: float) -> Value:
    """Compute -log σ(β (M_w - M_l) - γ)."""
    chosen, rejected = row.answers
    beta, gamma = options["beta"], options["gamma"]
    if gamma is None:
        gamma = beta * options["gamma_beta_ratio"]
    x = beta * (chosen.policy / chosen.count - rejected.policy / rejected.count) - gamma
    slope = -beta * _sigmoid(-x)
    return _softplus(-x), (slope / chosen.count, -slope / rejected.count)


def alphapo(row: Row, options: dict, z0: float) -> Value:
    """Compute -log σ(β (f(M_w) - f(M_l)) - γ), f(M) = (1 - e^(-αM)) / α."""
    alpha = options["alpha"]
    values, slopes = [], []
    for answer in row.answers:
        mean = answer.policy / answer.count
        value, slope = _expm1(-alpha * mean)
        values.append(-value / alpha if alpha else mean)
        slopes.append(slope / answer.count)
    x = options["beta"] * (values[0] - values[1]) - options["gamma"]
    pull = options["beta"] * _sigmoid(-x)
    return _softplus(-x), (-pull * slopes[0], pull * slopes[1])


def simper(row: Row, options: dict, z0: float) -> Value:
    """Compute 1 - e^(M_w) + e^(M_l)."""
    up, down = (math.exp(answer.policy / answer.count) for answer in row.answers)
    loss = down - math.expm1(row.answers[0].policy / row.answers[0].count)
    return loss, (-up / row.answers[0].count, down / row.answers[1].count)


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


def bco(row: Row, options: dict, z0: float) -> Value:
    """Compute -log σ(βr - δ) if desirable, -log σ(δ - βr) if not; z0 is δ."""
    sign = 1 if row.desirable else -1
    x = sign * (options["beta"] * row.answers[0].ratio - z0)
    return _softplus(-x), (-sign * options["beta"] * _sigmoid(-x),)


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


def _bell(x: float) -> float:
    """Compute the derivative of σ."""
    return _sigmoid(x) * _sigmoid(-x)


def _expm1(x: float) -> tuple[float, float]:
    """Compute exp - 1 and its derivative, the tangent at 30 nats from there on."""
    slope = math.exp(min(x, 30.0))
    return math.expm1(min(x, 30.0)) + slope * max(0.0, x - 30.0), slope
