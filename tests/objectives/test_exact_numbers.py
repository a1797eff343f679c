"""Numbers that a person can check on paper."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from objectives.rows import Case, baseline, labelled, logps, pairs
from torch.testing import assert_close

from accord.objectives import (
    alphapo,
    apo_zero,
    cdpo,
    chipo,
    cpo,
    dpo,
    dpop,
    exo,
    f_dpo,
    hinge,
    ipo,
    kto,
    kto_baseline,
    nca,
    odpo,
    orpo,
    r_dpo,
    resolve,
    robust,
    sft,
    simper,
    simpo,
    sppo_hard,
)
from accord.types import DemonstrationLogps, UsageError

AT_REFERENCE = [
    ("dpo", {}, math.log(2)),
    ("cdpo", {"label_smoothing": 0.3}, math.log(2)),
    ("robust", {"label_smoothing": 0.3}, math.log(2)),
    ("ipo", {"beta": 0.1}, 25.0),
    ("ipo", {"beta": 0.5, "normalize": "sequence_sum"}, 1.0),
    ("hinge", {}, 1.0),
    ("kto", {}, 0.5),
    ("kto", {"desirable_weight": 3, "undesirable_weight": 3}, 1.5),
    ("kto", {"desirable_weight": 3}, None),
    ("bco", {}, math.log(2)),
    ("simpo", {}, None),
    ("orpo", {}, None),
    ("cpo", {}, None),
    ("sft", {}, None),
    ("rpo", {}, None),
    ("dpop", {"penalty": 5}, math.log(2)),
    ("apo_zero", {}, 1.0),
    ("apo_down", {}, 1.0),
    ("nca", {}, 2 * math.log(2)),
    ("sppo_hard", {"beta": 0.1}, 50.0),
    ("cal_dpo", {"beta": 0.1}, 50 + math.log(2)),
    ("exo", {"label_smoothing": 1e-3}, 2.761230709097915),
    ("dpo_norm", {}, math.log(2)),
    ("r_dpo", {}, None),
    ("r_dpo", {"alpha": 0}, math.log(2)),
    ("ld_dpo", {}, math.log(2)),
    ("wpo", {}, None),
    ("f_dpo", {"divergence": "forward_kl"}, math.log(2)),
    ("chipo", {}, math.log(2)),
    ("dpo_shift", {}, math.log(2)),
    ("odpo", {}, None),
    ("alphapo", {}, None),
    ("simper", {}, None),
]


@pytest.mark.parametrize(("name", "options", "loss"), AT_REFERENCE)
def test_loss_where_policy_equals_reference(name, options, loss):
    """Before the first update: ln 2, 1/(4β²), 1, λ/2. What an objective states is what a run is
    held against.
    """
    assert resolve(name, options).at_reference == (
        None if loss is None else pytest.approx(loss, rel=1e-12)
    )


def test_dpo_by_hand():
    """h = 0, 10, 20 nats and β = 0.1 give log(1 + e^0), log(1 + e^-1), log(1 + e^-2)."""
    policy = pairs(chosen=[-0.5, -10.0, -1.0], rejected=[-0.5, -30.0, -21.0])
    reference = pairs(chosen=[-0.5, -10.0, -1.0], rejected=[-0.5, -20.0, -1.0])
    expected = torch.tensor([0.0, -1.0, -2.0], dtype=torch.float64).exp().log1p()
    assert_close(dpo(policy, reference, beta=0.1).losses, expected)


def test_dpo_pulls_with_half_beta_at_the_reference():
    """d L / d h = -β/2 where h = 0: the chosen answer's log-prob goes up, the rejected one's as
    much down.
    """
    chosen = torch.tensor([-3.0], requires_grad=True)
    rejected = torch.tensor([-5.0], requires_grad=True)
    loss = dpo(pairs(chosen, rejected), pairs([-3.0], [-5.0]), beta=0.3).losses.sum()
    assert [g.item() for g in torch.autograd.grad(loss, (chosen, rejected))] == pytest.approx(
        [-0.15, 0.15]
    )


def test_dpo_takes_sums_and_ipo_means():
    """Twice the tokens at the same mean: DPO's margin doubles, IPO's (by token) stays."""
    short = pairs([-2.0], [-6.0], [4], [4]), pairs([-4.0], [-4.0], [4], [4])
    long = pairs([-4.0], [-12.0], [8], [8]), pairs([-8.0], [-8.0], [8], [8])
    assert dpo(*short, beta=1.0).losses.item() == pytest.approx(math.log1p(math.exp(-4)))
    assert dpo(*long, beta=1.0).losses.item() == pytest.approx(math.log1p(math.exp(-8)))
    assert (
        ipo(*short, beta=1.0).losses.item()
        == ipo(*long, beta=1.0).losses.item()
        == pytest.approx(0.25)
    )
    assert ipo(*short, beta=1.0, normalize="sequence_sum").losses.item() == pytest.approx(3.5**2)
    assert ipo(*long, beta=1.0, normalize="sequence_sum").losses.item() == pytest.approx(7.5**2)


@pytest.mark.parametrize("margin", [-800.0, -3.0, 0.0, 0.25, 40.0, 800.0])
def test_swapping_the_labels_costs_the_margin(margin):
    """L(-m) - L(m) = m for DPO, m = βh."""
    there = dpo(pairs([margin], [0.0]), pairs([0.0], [0.0]), beta=1.0).losses.item()
    back = dpo(pairs([0.0], [margin]), pairs([0.0], [0.0]), beta=1.0).losses.item()
    assert back - there == pytest.approx(margin)


@pytest.mark.parametrize("name", ["dpo", "cdpo", "robust", "hinge", "ipo"])
def test_a_constant_on_both_reference_log_probs_changes_nothing(name):
    """The partition function of the prompt cancels. IPO by token only for equal lengths, so by sum
    here.
    """
    case = Case(name, {"normalize": "sequence_sum"} if name == "ipo" else {})
    assert_close(case.losses(reference=case.reference + 17.5), case.losses())


@pytest.mark.parametrize("name", ["simpo", "orpo"])
@pytest.mark.parametrize("times", [2, 7])
def test_repeating_each_answer_changes_nothing(name, times):
    """SimPO and ORPO see the mean alone. DPO would see `times` as much."""
    case = Case(name)
    assert_close(case.losses(policy=case.policy * times, counts=case.counts * times), case.losses())


def test_simpo_by_hand():
    """M_w = -1, M_l = -2, β = 2, γ = 1: -log σ(2 - 1)."""
    policy = pairs([-4.0], [-6.0], [4], [3])
    expected = math.log1p(math.exp(-1))
    assert simpo(policy, beta=2.0, gamma=1.0).losses.item() == pytest.approx(expected)
    assert simpo(policy, beta=2.0, gamma_beta_ratio=0.5).losses.item() == pytest.approx(expected)
    assert simpo(policy).losses.item() == pytest.approx(expected)  # the defaults are these
    assert simpo(policy, beta=2.0, gamma=0.0).losses.item() == pytest.approx(
        math.log1p(math.exp(-2))
    )


def test_orpo_by_hand():
    """Mean probabilities 1/2 and 1/3 have odds 1 and 1/2:
    log-odds differ by ln 2, σ(ln 2) = 2/3.
    """
    policy = pairs([3 * math.log(1 / 2)], [5 * math.log(1 / 3)], [3], [5])
    output = orpo(policy, weight=0.25)
    assert output.losses.item() == pytest.approx(math.log(2) + 0.25 * math.log(3 / 2))
    assert output.metrics["nll_loss"].item() == pytest.approx(math.log(2))
    assert output.metrics["log_odds_chosen"].item() == pytest.approx(math.log(2))
    assert output.metrics["log_odds_ratio"].item() == pytest.approx(math.log(2 / 3))


def test_orpo_is_no_hinge_on_length():
    """Sums of -120 and -150 nats over 100 tokens: from sums the gradient was 9e-14, and exactly 1
    when reversed.
    """
    for chosen, rejected in [(-120.0, -150.0), (-150.0, -120.0)]:
        at = torch.tensor([rejected], dtype=torch.float64, requires_grad=True)
        loss = orpo(pairs([chosen], at, [100], [100]), weight=1.0).losses.sum()
        assert 0.003 < torch.autograd.grad(loss, at)[0].item() < 0.01


def test_cpo_by_hand():
    """S = -8 and -12, β = ½: -log σ(2), and an NLL of 8 over 4 tokens."""
    policy = pairs([-8.0], [-12.0], [4], [9])
    preference = math.log1p(math.exp(-2))
    assert cpo(policy, beta=0.5).losses.item() == pytest.approx(preference + 2)
    assert cpo(policy, beta=0.5, alpha=0.25).losses.item() == pytest.approx(preference + 0.5)
    assert cpo(policy, beta=0.5, alpha=0.0).losses.item() == pytest.approx(preference)
    by_sum = cpo(policy, beta=0.5, nll_normalize="sequence_sum")
    assert by_sum.losses.item() == pytest.approx(preference + 8)
    assert by_sum.metrics["nll_loss"].item() == 8


def test_sft_is_the_sum_over_tokens():
    """The step divides by the tokens of the whole batch; a mean here would weigh short answers
    more.
    """
    assert sft(DemonstrationLogps(logps([-8.0, -3.0], [4, 1]))).losses.tolist() == [8.0, 3.0]
    assert resolve("sft").denominator == "tokens"


def test_kto_by_hand():
    """r - z0 = 2 at β = ½: a good answer costs λ_D σ(-1), a bad one λ_U σ(1)."""
    policy = labelled([-5.0, -5.0], [True, False], [3, 30])
    reference = labelled([-8.0, -8.0], [True, False], [3, 30])
    output = kto(
        policy,
        reference,
        z0=torch.tensor(1.0),
        beta=0.5,
        desirable_weight=2.0,
        undesirable_weight=3.0,
    )
    sigma = 1 / (1 + math.e)
    assert output.losses.tolist() == pytest.approx([2 * sigma, 3 * (1 - sigma)])
    assert output.metrics["kl"].tolist() == [1.0, 1.0]


def test_kto_keeps_the_gradient_of_a_saturated_answer():
    """A good answer 30 nats above the baseline costs e^-30. Written 1 - σ(30) it would cost 0 in
    float32.
    """
    at = torch.tensor([30.0], requires_grad=True)
    loss = kto(
        labelled(at, [True]), labelled(torch.zeros(1), [True]), z0=torch.tensor(0.0), beta=1.0
    ).losses.sum()
    assert loss.item() == pytest.approx(math.exp(-30), rel=1e-5, abs=0)
    assert torch.autograd.grad(loss, at)[0].item() == pytest.approx(-math.exp(-30), rel=1e-5, abs=0)


def test_kto_baseline_is_a_mean_and_never_negative():
    up, down = (
        (logps([-1.0, -2.0], [5, 9]), logps([-3.0, -1.0], [5, 9])),
        (logps([-3.0, -2.0]), logps([-1.0, -1.0])),
    )
    assert kto_baseline(*up).item() == pytest.approx(0.5)
    assert kto_baseline(*down).item() == 0.0


def test_kto_baseline_is_detached_and_refuses_a_batch_of_one():
    case = Case("kto")
    assert not baseline(case, case.policy[0].requires_grad_(), case.reference[0]).requires_grad
    with pytest.raises(UsageError, match="batch of 1"):
        kto_baseline(logps([-1.0]), logps([-2.0]))


# ----------------------------------------------------- where an objective comes to rest on one pair


def pull(function, h, preference, **options):
    """Expected d L / d h on one pair of single tokens that is labelled w ≻ l with that
    probability.
    """
    at = torch.tensor([h], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    nothing = pairs(zero, zero)
    for_label = function(pairs(at, zero), nothing, **options).losses
    against = function(pairs(zero, at), nothing, **options).losses
    return torch.autograd.grad((preference * for_label + (1 - preference) * against).sum(), at)[
        0
    ].item()


def logit(p):
    return math.log(p / (1 - p))


RESTS = [
    (dpo, {"beta": 0.1}, 0.75, 10.986),
    (dpo, {"beta": 0.5}, 0.75, 2.197),
    (dpo, {"beta": 1.0}, 0.75, 1.0986),
    (ipo, {"beta": 0.1}, 0.75, 0.5 / 0.2),
    (ipo, {"beta": 1.0, "normalize": "sequence_sum"}, 0.9, 0.8 / 2),
    (cdpo, {"beta": 1.0, "label_smoothing": 0.1}, 1.0, 2.1972),
    (cdpo, {"beta": 0.2, "label_smoothing": 0.25}, 1.0, logit(0.75) / 0.2),
    # Labels of a true preference .8, flipped at rate .1, are seen as .8·.9 + .2·.1 = .74; robust
    # recovers the .8.
    (robust, {"beta": 0.5, "label_smoothing": 0.1}, 0.74, logit(0.8) / 0.5),
    # with one token each, length and its price do not count
    (r_dpo, {"beta": 0.5, "alpha": 0.1}, 0.75, 2.197),
    (exo, {"beta": 0.5, "label_smoothing": 0.1}, 1.0, logit(0.9) / 0.5),
]


@pytest.mark.parametrize(("function", "options", "preference", "h"), RESTS)
def test_optimum_on_one_pair(function, options, preference, h):
    """The pull vanishes at the optimum and points to it from both sides."""
    assert pull(function, h, preference, **options) == pytest.approx(0, abs=1e-4)
    assert pull(function, h - 0.1, preference, **options) < -1e-4
    assert pull(function, h + 0.1, preference, **options) > 1e-4


def test_cdpo_loss_at_its_optimum():
    """ε = .1: the entropy of a coin at .1, .3251 nats."""
    rest = pairs([2.1972], [0.0]), pairs([0.0], [0.0])
    assert cdpo(*rest, beta=1.0, label_smoothing=0.1).losses.item() == pytest.approx(
        0.3251, abs=5e-5
    )


def test_hinge_is_done_once_the_scaled_margin_is_one():
    losses = hinge(pairs([4.0, 5.5, 50.0], [0.0] * 3), pairs([0.0] * 3, [0.0] * 3), beta=0.2).losses
    assert losses.tolist() == pytest.approx([0.2, 0.0, 0.0])
    assert pull(hinge, 4.9, 1.0, beta=0.2) == pytest.approx(-0.2)
    assert pull(hinge, 5.1, 1.0, beta=0.2) == 0


def test_robust_is_unbiased_under_flips():
    """Over labels flipped at rate ε the expected loss is DPO's on the true label, for any
    log-probs.
    """
    right = pairs([-3.0, -9.0], [-4.0, -2.0]), pairs([-5.0, -1.0], [-2.0, -2.5])
    flipped = tuple(type(side)(side.rejected, side.chosen) for side in right)
    expected = (
        0.7 * robust(*right, label_smoothing=0.3).losses
        + 0.3 * robust(*flipped, label_smoothing=0.3).losses
    )
    assert_close(expected, dpo(*right).losses)


@pytest.mark.parametrize("ratio", [-3.0, 0.0, 7.0])
def test_kto_flips_where_the_weighted_labels_balance(ratio):
    """An answer found good with probability p neither rises nor falls at p = λ_U / (λ_D + λ_U), for
    any ratio.
    """

    def slope(p):
        at = torch.tensor([ratio, ratio], dtype=torch.float64, requires_grad=True)
        rows = labelled(at, [True, False]), labelled([0.0, 0.0], [True, False])
        good, bad = kto(
            *rows, z0=torch.tensor(0.5), desirable_weight=1.0, undesirable_weight=3.0
        ).losses
        return torch.autograd.grad(p * good + (1 - p) * bad, at)[0].sum().item()

    assert slope(0.75) == pytest.approx(0, abs=1e-15)
    assert slope(0.7) > 0 > slope(0.8)  # descent lowers it under the balance and raises it above


# ------------------------------------------------------------------ values computed elsewhere

# [loss, d L / d S_w, d L / d S_l] at three points, to 12 digits, computed with 40: the project's
# shared/losses/vectors.json
VECTORS = json.loads((Path(__file__).parents[1] / "oracles/loss_vectors.json").read_text())
OURS = {
    "fdpo_forward": ("f_dpo", {"divergence": "forward_kl"}),
    "fdpo_js": ("f_dpo", {"divergence": "js"}),
    "exo_pair": ("exo", {}),
    "nca_pair": ("nca", {}),
    "rdpo": ("r_dpo", {}),
}
POINTS = (
    ((-12.0, -7.5, -20.0), (-11.0, -9.0, -26.0), (4, 2, 7), (5, 3, 6)),
    ((-12.5, -7.0, -22.0), (-10.0, -9.5, -25.0), (4, 2, 7), (5, 3, 6)),
)


@pytest.mark.parametrize("vector", VECTORS)
def test_values_computed_elsewhere(vector):
    known = VECTORS[vector]
    name, more = OURS.get(vector, (vector, {}))
    bound = resolve(name, known["options"] | more)
    assert bound.reference == known["reference"]
    sums = [torch.tensor(one, dtype=torch.float64, requires_grad=True) for one in POINTS[0][:2]]
    policy = pairs(*sums, *POINTS[0][2:])
    against = pairs(*POINTS[1]) if bound.reference else None
    losses = bound.losses(policy, against).losses
    slopes = torch.autograd.grad(losses.sum(), sums)
    found = torch.stack([losses.detach(), *slopes], 1)
    expected = torch.tensor(known["loss,dLdSw,dLdSl"], dtype=torch.float64)
    assert_close(found, expected, rtol=1e-10, atol=1e-12)
    if bound.reference:
        start = pairs([-9.0], [-7.0], [4], [5])
        at_reference = bound.losses(start, start).losses.item()
        assert at_reference == pytest.approx(known["at_reference(S_w=-9/4,S_l=-7/5)"], rel=1e-12)


# ---------------------------------------------------------- where a gradient changes, or vanishes


def slopes_of(function, ratios, counts=(1, 1), **options):
    """d L / d S_w and d L / d S_l where the log-ratios (or sums, without a reference) are these."""
    at = [torch.tensor([one], dtype=torch.float64, requires_grad=True) for one in ratios]
    zero = pairs([0.0], [0.0], *([n] for n in counts))
    rows = (pairs(*at, *([n] for n in counts)),)
    if resolve(function.__name__).reference:
        rows += (zero,)
    found = torch.autograd.grad(function(*rows, **options).losses.sum(), at)
    return tuple(one.item() for one in found)


def test_the_kink_of_dpop():
    """A hair above the reference the chosen answer is pulled with β/2, a hair below 51 times."""
    above, below = (slopes_of(dpop, (x, 0.0), beta=0.3)[0] for x in (1e-9, -1e-9))
    assert above == pytest.approx(-0.15) and below == pytest.approx(-0.15 * 51, rel=1e-6)
    assert slopes_of(dpop, (0.0, 0.0), beta=0.3)[0] == pytest.approx(-0.15)
    assert slopes_of(dpop, (-1e-9, 0.0), beta=0.3, penalty=0.0)[0] == pytest.approx(-0.15)


def test_the_clip_of_chipo():
    """At R = 1 the pull stops past a margin of 2, on either side: β (e + 1 + 1 - 1) is under it at
    β = .5, and 3 times that is over it.
    """
    inside = slopes_of(chipo, (1.0, 0.0), beta=0.5)
    assert inside[0] == pytest.approx(-0.5 * (1 + math.e) / (1 + math.exp(0.5 * math.e)))
    for ratios in ((2.0, 0.0), (0.0, 2.0)):
        assert slopes_of(chipo, ratios, beta=0.5) == (0.0, 0.0)
        assert slopes_of(chipo, ratios, beta=0.5, limit=3.0)[0] < 0


@pytest.mark.parametrize(
    ("options", "steepest"),
    [({"divergence": "forward_kl"}, -40.0), ({"divergence": "alpha", "alpha": 0.5}, -80.0)],
)
def test_an_answer_that_fell_far_is_still_pulled(options, steepest):
    """Past 30 nats the exponential goes on by its tangent: its slope stays at e^30, in float32 as
    well. A cut exponent has none, and neither loss nor gradient would say so.
    """
    there, further = (slopes_of(f_dpo, (x, 0.0), beta=0.1, **options)[0] for x in (steepest, -1e4))
    assert there == further == pytest.approx(-0.1 * math.exp(30))


def test_an_anchored_answer_is_given_up_or_held():
    """At 1,000 nats under the reference: apo_zero lets the chosen answer go, nca and sppo_hard pull
    it with all they have.
    """
    assert slopes_of(apo_zero, (-1000.0, 0.0))[0] == pytest.approx(0, abs=1e-40)
    assert slopes_of(nca, (-1000.0, 0.0))[0] == pytest.approx(-0.1)
    assert slopes_of(nca, (math.log(2) / 0.1, 0.0))[0] == pytest.approx(0, abs=1e-15)
    assert slopes_of(sppo_hard, (-1000.0, 0.0))[0] == -2010.0
    assert slopes_of(sppo_hard, (5.0, -5.0)) == (0.0, 0.0)


def test_simper_hardly_pulls_improbable_answers():
    """Means of -1 and -10 nats over 4 tokens."""
    near, far = slopes_of(simper, (-4.0, -40.0), (4, 4))
    assert near == pytest.approx(-math.exp(-1) / 4) and far == pytest.approx(math.exp(-10) / 4)


def test_alphapo_becomes_simpo():
    rows = pairs([-4.0], [-6.0], [4], [3])
    expected = simpo(rows, beta=2.0, gamma=0.5).losses
    for alpha, rtol in ((0.0, 0), (1e-9, 1e-8), (-1e-9, 1e-8)):
        assert_close(
            alphapo(rows, beta=2.0, gamma=0.5, alpha=alpha).losses, expected, rtol=rtol, atol=0
        )


def test_f_dpo_lies_between_dpo_and_forward_kl():
    rows = pairs([-4.0], [-6.0]), pairs([-4.5], [-5.0])
    forward = f_dpo(*rows, divergence="forward_kl").losses
    ends = [f_dpo(*rows, divergence="alpha", alpha=one).losses for one in (1e-9, 1 - 1e-9)]
    assert_close(ends[0], dpo(*rows).losses, rtol=1e-8, atol=0)
    assert_close(ends[1], forward, rtol=1e-8, atol=0)
    with pytest.raises(UsageError, match="order of the α-divergence"):
        resolve("f_dpo", {"divergence": "js", "alpha": 0.5})


def test_the_sign_of_r_dpo():
    """Of two pairs with equal log-ratios the one with the longer chosen answer is pulled less."""
    rows = {n: pairs([-4.0], [-6.0], [n], [5]) for n in (2, 9)}
    losses = {n: r_dpo(one, one, beta=0.1, alpha=0.05).losses.item() for n, one in rows.items()}
    assert losses[9] == pytest.approx(math.log1p(math.exp(-0.2))) and losses[9] < losses[2]


def test_odpo_by_hand():
    """Margins of 0, 1 and e, α = 2: offsets of 0, 0 and 2, or of 0, 2 and 2e."""
    zero = pairs([0.0] * 3, [0.0] * 3)
    rows = replace(zero, margin=torch.tensor([0.0, 1.0, math.e], dtype=torch.float64))
    for margin, offsets in (("log", (0, 0, 2)), ("column", (0, 2, 2 * math.e))):
        expected = [math.log1p(math.exp(one)) for one in offsets]
        assert odpo(rows, zero, alpha=2.0, margin=margin).losses.tolist() == pytest.approx(expected)
    with pytest.raises(UsageError, match="the rows have none"):
        odpo(zero, zero)
