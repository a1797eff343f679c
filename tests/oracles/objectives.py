"""Every objective once more, from its paper, as naively as the formula reads.

Nothing here is numerically careful and nothing is shared with accord: σ(x) is 1 / (1 + exp(-x)),
and an answer is the list of its tokens' log-probs. Run with `numpy` on ordinary numbers, and with
mpmath at 60 digits (whose exponents have no bounds) on any: the caller passes the module, for its
exp and log.

An answer is a pair of lists: (log-probs under the policy, log-probs under the reference), one
number a token.
"""

from collections.abc import Callable
from typing import NamedTuple

import mpmath

DIGITS = 60


def sigma(xp, x):
    return 1 / (1 + xp.exp(-x))


def log_ratio(answer):
    policy, reference = answer
    return sum(policy) - sum(reference)


def mean(values):
    return sum(values) / len(values)


def h(chosen, rejected):
    return log_ratio(chosen) - log_ratio(rejected)


def dpo(xp, chosen, rejected, beta, label_smoothing):
    """Rafailov et al. 2023, Eq. 7; ε as in Mitchell 2023, Eq. 3."""
    for_label = -xp.log(sigma(xp, beta * h(chosen, rejected)))
    against_label = -xp.log(sigma(xp, beta * h(rejected, chosen)))
    return (1 - label_smoothing) * for_label + label_smoothing * against_label


def robust(xp, chosen, rejected, beta, label_smoothing):
    """Chowdhury et al. 2024: the combination of both losses whose mean under flips at rate ε is the
    true label's.
    """
    for_label = dpo(xp, chosen, rejected, beta, 0)
    against_label = dpo(xp, rejected, chosen, beta, 0)
    return ((1 - label_smoothing) * for_label - label_smoothing * against_label) / (
        1 - 2 * label_smoothing
    )


def ipo(xp, chosen, rejected, beta, normalize):
    """Azar et al. 2023, Eq. 17, with τ for β; "token_mean" averages each answer's log-ratio."""
    if normalize == "token_mean":
        margin = mean(chosen[0]) - mean(chosen[1]) - (mean(rejected[0]) - mean(rejected[1]))
    else:
        margin = h(chosen, rejected)
    return (margin - 1 / (2 * beta)) ** 2


def hinge(xp, chosen, rejected, beta):
    """Zhao et al. 2023, with log-ratios for log-probs."""
    return max(1 - beta * h(chosen, rejected), 0)


def simpo(xp, chosen, rejected, beta, gamma, gamma_beta_ratio):
    """Meng et al. 2024, Eq. 6."""
    gamma = beta * gamma_beta_ratio if gamma is None else gamma
    return -xp.log(sigma(xp, beta * mean(chosen[0]) - beta * mean(rejected[0]) - gamma))


def orpo(xp, chosen, rejected, weight):
    """Hong et al. 2024, Eqs. 3 to 7: odds(y|x) = P / (1 - P) with P = exp(mean log-prob)."""
    p_chosen, p_rejected = xp.exp(mean(chosen[0])), xp.exp(mean(rejected[0]))
    odds_ratio = (p_chosen / (1 - p_chosen)) / (p_rejected / (1 - p_rejected))
    return -mean(chosen[0]) - weight * xp.log(sigma(xp, xp.log(odds_ratio)))


def cpo(xp, chosen, rejected, beta, alpha, nll_normalize):
    """Xu et al. 2024, Eq. 3 and the NLL regulariser."""
    preference = -xp.log(sigma(xp, beta * sum(chosen[0]) - beta * sum(rejected[0])))
    nll = -(mean(chosen[0]) if nll_normalize == "token_mean" else sum(chosen[0]))
    return preference + alpha * nll


def kto(xp, answer, desirable, z0, beta, desirable_weight, undesirable_weight):
    """Ethayarajh et al. 2024, Eq. 8: λ_y - v(x, y)."""
    if desirable:
        return desirable_weight - desirable_weight * sigma(xp, beta * (log_ratio(answer) - z0))
    return undesirable_weight - undesirable_weight * sigma(xp, beta * (z0 - log_ratio(answer)))


def sft(xp, answer):
    """Negative log-likelihood."""
    return -sum(answer[0])


def bradley_terry(xp, chosen, rejected, row_margin, centering, margin):
    """Touvron et al. 2023, Eq. 2, with the auxiliary term of Eisenstein et al. 2023, §2. The first
    list is the score.
    """
    won_by = sum(chosen[0]) - sum(rejected[0])
    if margin == "column":
        won_by -= row_margin
    return -xp.log(sigma(xp, won_by)) + centering * (sum(chosen[0]) + sum(rejected[0])) ** 2


class Expected(NamedTuple):
    """Everything that the tests must know of an objective."""

    oracle: Callable
    # those that the papers or their reference code use; to change one is to change every run that
    # names none
    defaults: dict
    moved: tuple[dict, ...] = ()  # further options for the battery: each one moved once at least
    rate: float = 2e-4  # as measured for LoRA on SmolLM2-135M


EXPECTED = {
    "dpo": Expected(
        dpo, {"beta": 0.1, "label_smoothing": 0.0}, ({"beta": 0.5, "label_smoothing": 0.2},)
    ),
    "cdpo": Expected(
        dpo, {"beta": 0.1, "label_smoothing": 0.1}, ({"beta": 0.3, "label_smoothing": 0.05},)
    ),
    "robust": Expected(
        robust, {"beta": 0.1, "label_smoothing": 0.1}, ({"beta": 0.5, "label_smoothing": 0.3},)
    ),
    "ipo": Expected(
        ipo, {"beta": 0.1, "normalize": "token_mean"}, ({"beta": 0.4, "normalize": "sequence_sum"},)
    ),
    "hinge": Expected(hinge, {"beta": 0.1}, ({"beta": 0.03},)),
    "simpo": Expected(
        simpo,
        {"beta": 2.0, "gamma": None, "gamma_beta_ratio": 0.5},
        ({"beta": 2.5, "gamma": 0.75}, {"beta": 10.0, "gamma_beta_ratio": 0.3}),
        rate=4e-4,
    ),
    "orpo": Expected(orpo, {"weight": 0.1}, ({"weight": 1.5},)),
    "cpo": Expected(
        cpo,
        {"beta": 0.1, "alpha": 1.0, "nll_normalize": "token_mean"},
        ({"beta": 0.2, "alpha": 0.4, "nll_normalize": "sequence_sum"},),
        rate=1e-4,
    ),
    "kto": Expected(
        kto,
        {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0},
        ({"beta": 0.4, "desirable_weight": 1.5, "undesirable_weight": 0.75},),
        rate=4e-4,
    ),
    "sft": Expected(sft, {}),
    "bradley_terry": Expected(
        bradley_terry,
        {"centering": 0.0, "margin": "column"},
        ({"centering": 0.05}, {"margin": "none"}),
    ),
}


def exact(name, *answers, **options):
    """The loss to 60 digits, as an mpmath number. Floats count as the exact binary numbers that
    they are.
    """
    with mpmath.workdps(DIGITS):
        wide = [
            tuple([mpmath.mpf(token) for token in side] for side in answer) for answer in answers
        ]
        return +EXPECTED[name].oracle(mpmath, *wide, **_wide(options))


def exact_slopes(name, *answers, **options):
    """d loss / d log-prob of the first policy token of each answer, by central differences at 60
    digits.
    """
    slopes = []
    with mpmath.workdps(DIGITS):
        step = mpmath.mpf(10) ** -20
        for index in range(len(answers)):
            up, down = (_moved(answers, index, side) for side in (step, -step))
            high = EXPECTED[name].oracle(mpmath, *up, **_wide(options))
            low = EXPECTED[name].oracle(mpmath, *down, **_wide(options))
            slopes.append(float((high - low) / (2 * step)))
    return slopes


def _moved(answers, index, step):
    wide = [tuple([mpmath.mpf(token) for token in side] for side in answer) for answer in answers]
    wide[index][0][0] += step
    return wide


def _wide(options):
    return {
        key: mpmath.mpf(value) if isinstance(value, float) else value
        for key, value in options.items()
    }
