"""Every objective once more, from its paper, as naively as the formula reads.

Nothing here is numerically careful and nothing is shared with accord: σ(x) is 1 / (1 + exp(-x)),
and an answer is the list of its tokens' log-probs. Run with `numpy` on ordinary numbers, and with
mpmath at 240 digits (whose exponents have no bounds) on any: the caller passes the module, for its
exp and log.

An answer is a pair of lists: (log-probs under the policy, log-probs under the reference), one
number a token.
"""

from collections.abc import Callable
from typing import NamedTuple

import mpmath

DIGITS = 240  # log(1 + e^-460), the smallest that is compared, is 1e-200


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


def logistic(xp, x):
    """-log σ(x)."""
    return -xp.log(sigma(xp, x))


def rpo(xp, chosen, rejected, beta, alpha):
    """Pang et al. 2024, Eq. 1, with the weight on the NLL term."""
    return logistic(xp, beta * h(chosen, rejected)) - alpha * mean(chosen[0])


def dpo_norm(xp, chosen, rejected, beta):
    """Lambert et al. 2024, §5: DPO of mean log-ratios."""
    won, lost = (log_ratio(one) / len(one[0]) for one in (chosen, rejected))
    return logistic(xp, beta * (won - lost))


def dpop(xp, chosen, rejected, beta, penalty):
    """Pal et al. 2024, Eq. 3."""
    fall = max(0, -log_ratio(chosen))
    return logistic(xp, beta * (h(chosen, rejected) - penalty * fall))


def apo_zero(xp, chosen, rejected, beta):
    """D'Oosterlinck et al. 2024, Eq. 7."""
    won, lost = (sigma(xp, beta * log_ratio(one)) for one in (chosen, rejected))
    return (1 - won) + lost


def apo_down(xp, chosen, rejected, beta):
    """D'Oosterlinck et al. 2024, Eq. 8."""
    return sigma(xp, beta * log_ratio(chosen)) + 1 - sigma(xp, beta * h(chosen, rejected))


def nca(xp, chosen, rejected, beta):
    """Chen et al. 2024, of two answers with the rewards 1 and 0."""
    won, lost = (beta * log_ratio(one) for one in (chosen, rejected))
    return logistic(xp, won) + (logistic(xp, -won) + logistic(xp, -lost)) / 2


def sppo_hard(xp, chosen, rejected, beta):
    """Wu et al. 2024, Eq. 4.7, at probabilities of 1 and 0."""
    return (log_ratio(chosen) - 1 / (2 * beta)) ** 2 + (log_ratio(rejected) + 1 / (2 * beta)) ** 2


def cal_dpo(xp, chosen, rejected, beta):
    """Xiao et al. 2024."""
    return logistic(xp, h(chosen, rejected)) + sppo_hard(xp, chosen, rejected, beta)


def exo(xp, chosen, rejected, beta, label_smoothing):
    """Ji et al. 2024, Eq. 16: KL of (σ(z), σ(-z)) from (1-ε, ε)."""
    wins = sigma(xp, beta * h(chosen, rejected))
    loses = sigma(xp, beta * h(rejected, chosen))
    return wins * xp.log(wins / (1 - label_smoothing)) + loses * xp.log(loses / label_smoothing)


def r_dpo(xp, chosen, rejected, beta, alpha):
    """Park et al. 2024: the reward behind a label is the implicit one plus α for each token."""
    won, lost = (beta * log_ratio(one) + alpha * len(one[0]) for one in (chosen, rejected))
    return logistic(xp, won - lost)


def ld_dpo(xp, chosen, rejected, beta, alpha):
    """Liu et al. 2024: the tokens past the shorter answer's length weigh α, in both models."""
    shared = min(len(chosen[0]), len(rejected[0]))

    def weighed(answer):
        policy, reference = answer
        ratios = [p - r for p, r in zip(policy, reference, strict=True)]
        return sum(ratios[:shared]) + alpha * sum(ratios[shared:])

    return logistic(xp, beta * (weighed(chosen) - weighed(rejected)))


def wpo(xp, chosen, rejected, pair_weight, beta, label_smoothing):
    """Zhou et al. 2024, Eq. 2; the caller has the weight, which is a constant."""
    return pair_weight * dpo(xp, chosen, rejected, beta, label_smoothing)


def exp_by_tangent(xp, x):
    """e^x up to 30, from there on its tangent."""
    return xp.exp(x) if x <= 30 else xp.exp(30) * (1 + x - 30)


def f_dpo(xp, chosen, rejected, beta, divergence, alpha):
    """Wang et al. 2023: f' of each divergence at u = e^r."""

    def slope(ratio):
        if divergence == "js":
            return xp.log(2 * sigma(xp, ratio))
        order = 1 if divergence == "forward_kl" else alpha
        return (1 - exp_by_tangent(xp, -order * ratio)) / order

    return logistic(xp, beta * (slope(log_ratio(chosen)) - slope(log_ratio(rejected))))


def chipo(xp, chosen, rejected, beta, limit):
    """Huang et al. 2024, Algorithm 1."""
    won, lost = (exp_by_tangent(xp, log_ratio(one)) + log_ratio(one) for one in (chosen, rejected))
    return logistic(xp, max(-2 * limit, min(2 * limit, beta * (won - lost))))


def dpo_shift(xp, chosen, rejected, beta, shift):
    """Yang et al. 2025, with a fixed λ."""
    return logistic(xp, beta * (log_ratio(chosen) - shift * log_ratio(rejected)))


def odpo(xp, chosen, rejected, row_margin, beta, alpha, margin):
    """Amini et al. 2024; 0 where a row has no margin."""
    offset = row_margin
    if margin == "log":
        offset = xp.log(row_margin) if row_margin > 0 else 0
    return logistic(xp, beta * h(chosen, rejected) - alpha * offset)


def alphapo(xp, chosen, rejected, beta, alpha, gamma):
    """Gupta et al. 2025; α = 0 is SimPO."""

    def bent(values):
        return (1 - exp_by_tangent(xp, -alpha * mean(values))) / alpha if alpha else mean(values)

    return logistic(xp, beta * (bent(chosen[0]) - bent(rejected[0])) - gamma)


def simper(xp, chosen, rejected):
    """Xiao et al. 2025, plus 1."""
    return 1 - xp.exp(mean(chosen[0])) + xp.exp(mean(rejected[0]))


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


def bco(xp, answer, desirable, delta, beta):
    """Jung et al. 2024: the cross-entropy of a classifier whose logit is the shifted reward."""
    good = sigma(xp, beta * log_ratio(answer) - delta)
    return -xp.log(good if desirable else 1 - good)


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
    "rpo": Expected(rpo, {"beta": 0.1, "alpha": 1.0}, ({"beta": 0.3, "alpha": 0.25},)),
    "dpop": Expected(dpop, {"beta": 0.3, "penalty": 50.0}, ({"beta": 0.1, "penalty": 5.0},)),
    "apo_zero": Expected(apo_zero, {"beta": 0.1}, ({"beta": 0.4},)),
    "apo_down": Expected(apo_down, {"beta": 0.1}, ({"beta": 0.4},)),
    "nca": Expected(nca, {"beta": 0.1}, ({"beta": 0.4},)),
    "sppo_hard": Expected(sppo_hard, {"beta": 0.1}, ({"beta": 0.4},)),
    "cal_dpo": Expected(cal_dpo, {"beta": 0.1}, ({"beta": 0.4},)),
    "exo": Expected(
        exo, {"beta": 0.1, "label_smoothing": 1e-3}, ({"beta": 0.4, "label_smoothing": 0.2},)
    ),
    "dpo_norm": Expected(dpo_norm, {"beta": 5.0}, ({"beta": 2.0},)),
    "r_dpo": Expected(
        r_dpo, {"beta": 0.1, "alpha": 0.01}, ({"beta": 0.4, "alpha": 0.1}, {"alpha": 0.0})
    ),
    "ld_dpo": Expected(
        ld_dpo, {"beta": 0.1, "alpha": 0.5}, ({"beta": 0.4, "alpha": 0.0}, {"alpha": 1.0})
    ),
    "wpo": Expected(
        wpo, {"beta": 0.1, "label_smoothing": 0.0}, ({"beta": 0.4, "label_smoothing": 0.2},)
    ),
    "f_dpo": Expected(
        f_dpo,
        {"beta": 0.1, "divergence": "js", "alpha": None},
        ({"beta": 0.4, "divergence": "forward_kl"}, {"divergence": "alpha", "alpha": 0.3}),
    ),
    "chipo": Expected(chipo, {"beta": 0.1, "limit": 1.0}, ({"beta": 0.4, "limit": 0.75},)),
    "dpo_shift": Expected(dpo_shift, {"beta": 0.1, "shift": 0.75}, ({"beta": 0.4, "shift": 0.5},)),
    "odpo": Expected(
        odpo,
        {"beta": 0.1, "alpha": 1.0, "margin": "log"},
        ({"beta": 0.4, "alpha": 0.5, "margin": "column"},),
    ),
    "alphapo": Expected(
        alphapo,
        {"beta": 2.5, "alpha": 0.25, "gamma": 0.25},
        ({"beta": 2.0, "alpha": -0.5, "gamma": 1.0}, {"alpha": 0.0}),
    ),
    "simper": Expected(simper, {}),
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
    "bco": Expected(bco, {"beta": 0.1}, ({"beta": 0.4},), rate=4e-4),
    "sft": Expected(sft, {}),
    "bradley_terry": Expected(
        bradley_terry,
        {"centering": 0.0, "margin": "column"},
        ({"centering": 0.05}, {"margin": "none"}),
    ),
}


def exact(name, *answers, **options):
    """The loss to 240 digits, as an mpmath number. Floats count as the exact binary numbers that
    they are.
    """
    with mpmath.workdps(DIGITS):
        wide = [
            tuple([mpmath.mpf(token) for token in side] for side in answer) for answer in answers
        ]
        return +EXPECTED[name].oracle(mpmath, *wide, **_wide(options))


def exact_slopes(name, *answers, **options):
    """d loss / d log-prob of the first policy token of each answer, by central differences at 240
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
