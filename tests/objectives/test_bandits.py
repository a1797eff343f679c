"""Small worlds whose answer is known, solved through the real objectives.

A bandit has one prompt and one-token answers: the policy is a softmax over arms. Optimisers run to
convergence in float64, so the numbers are those of the papers and not of a learning rate.
"""

import math

import pytest
import torch
from objectives.rows import pairs

from accord.objectives import OBJECTIVES, chipo, dpo, f_dpo, ipo, resolve
from accord.objectives.closed_forms import Answer, Row


def compare(policy, reference, comparisons):
    """The pairs (winner, loser) of arms, as rows for an objective. Log-probs of arms are [arms]."""
    winners, losers = torch.tensor(comparisons).T
    return pairs(policy[winners], policy[losers]), pairs(reference[winners], reference[losers])


def settle(loss_of, start):
    """The logits that minimise the loss, by L-BFGS."""
    logits = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [logits],
        max_iter=300,
        tolerance_grad=1e-12,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        loss = loss_of(torch.log_softmax(logits, 0))
        loss.backward()
        return loss

    optimizer.step(closure)
    return torch.softmax(logits.detach(), 0)


# --------------------------------------------------------- five arms: the frontier of reward and KL

REWARD = torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64)
UNIFORM = torch.full((5,), -math.log(5), dtype=torch.float64)
# β: expected reward and KL of π* ∝ ref · exp(r/β)
FRONTIER = {
    0.05: (0.9983, 1.5688),
    0.1: (0.9776, 1.3003),
    0.25: (0.8630, 0.6095),
    0.5: (0.7264, 0.2152),
    1.0: (0.6217, 0.0601),
    5.0: (0.5250, 0.0025),
}


def on_exact_preferences(objective, **options):
    """The optimum when each pair of arms is labelled by Bradley-Terry with the true rewards, in
    exact shares.
    """
    comparisons = [(i, j) for i in range(5) for j in range(5) if i != j]
    shares = torch.stack([torch.sigmoid(REWARD[i] - REWARD[j]) for i, j in comparisons])
    return settle(
        lambda logp: (
            shares * objective(*compare(logp, UNIFORM, comparisons), **options).losses
        ).sum(),
        torch.zeros(5, dtype=torch.float64),
    )


@pytest.mark.parametrize("beta", FRONTIER)
def test_dpo_lands_on_the_optimum_of_reward_under_kl(beta):
    """DPO never sees a reward, and ends where RLHF with KL weight β would: at ref · exp(r/β)."""
    policy = on_exact_preferences(dpo, beta=beta)
    reward = (policy * REWARD).sum().item()
    kl = (policy * (policy.log() - UNIFORM)).sum().item()
    assert (reward, kl) == pytest.approx(FRONTIER[beta], abs=6e-5)
    torch.testing.assert_close(policy, torch.softmax(REWARD / beta, 0), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("objective", "options", "slope"),
    [
        (f_dpo, {"divergence": "forward_kl"}, lambda u: -1 / u),
        (f_dpo, {"divergence": "js"}, lambda u: (2 * u / (1 + u)).log()),
        (f_dpo, {"divergence": "alpha", "alpha": 0.5}, lambda u: (1 - u**-0.5) / 0.5),
        (chipo, {"limit": 50.0}, lambda u: u + u.log()),
    ],
)
def test_another_divergence_lands_on_its_own_optimum(objective, options, slope):
    """Where E[r] - β D_f(π‖ref) is largest the reward is β f'(π / ref) and a constant: f-DPO, which
    never sees a reward, has the same differences there.
    """
    policy = on_exact_preferences(objective, beta=0.5, **options)
    implicit = 0.5 * slope(policy / UNIFORM.exp())
    torch.testing.assert_close(implicit - implicit[0], REWARD, rtol=0, atol=1e-5)


# ---------------------------------------------------------------- three arms: the IPO paper, §5.4

A, B, C = range(3)
ORDERED = [(A, B), (B, C), (A, C)]  # D1: a ≻ b ≻ c, each seen once, never contradicted
# D3 as printed leaves c without a gradient; with b ≻ c as well it shows what the paper claims.
CONTRADICTED = [(A, B), (B, A), (A, C), (B, C)]
NOTHING = torch.full((3,), -math.log(3), dtype=torch.float64)


@pytest.mark.parametrize(
    ("tau", "expected"),
    [
        (0.1, (0.9644, 0.0344, 0.0012)),
        (0.5, (0.5627, 0.2889, 0.1483)),
        (1.0, (0.4484, 0.3213, 0.2302)),
    ],
)
def test_ipo_stays_near_the_reference_on_sure_labels(tau, expected):
    """From ten starts: IPO's optimum depends on τ and on nothing else."""
    for seed in range(10):
        start = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        policy = settle(
            lambda logp: ipo(*compare(logp, NOTHING, ORDERED), beta=tau).losses.mean(), start
        )
        assert policy.tolist() == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize(("tau", "least_likely"), [(0.1, 0.0034), (0.5, 0.1554), (1.0, 0.2327)])
def test_ipo_keeps_an_arm_that_never_won(tau, least_likely):
    policy = settle(
        lambda logp: ipo(*compare(logp, NOTHING, CONTRADICTED), beta=tau).losses.mean(),
        torch.zeros(3, dtype=torch.float64),
    )
    assert policy[C].item() == pytest.approx(least_likely, abs=6e-5)
    assert policy[A].item() == pytest.approx(policy[B].item(), abs=1e-6)


def dpo_after(steps, beta, comparisons):
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(steps):
        loss = dpo(
            *compare(torch.log_softmax(logits, 0), NOTHING, comparisons), beta=beta
        ).losses.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.softmax(logits.detach(), 0)


def test_dpo_runs_away_on_sure_labels_whatever_beta():
    """π(a) goes on to 1 at β = .1 and at 1, where IPO rested at .9644 and .4484; at β = 10 it is
    only slower.
    """
    early, late = dpo_after(100, 10.0, ORDERED), dpo_after(400, 10.0, ORDERED)
    assert early[A] < late[A]
    for beta in (0.1, 1.0):
        assert dpo_after(400, beta, ORDERED)[A] > 0.98
    assert dpo_after(400, 1.0, CONTRADICTED)[C] < 0.005 < 0.2327  # where IPO keeps .2327


# ---------------------------------------------------------------- likelihood displacement


def test_likelihood_displacement():
    """The margin grows and accuracy stays perfect, while a third answer, never in the data, takes
    all probability.

    A log-linear policy in two features, where the chosen and the rejected answer look alike and the
    third looks more chosen than the chosen. Gradient descent with rate .5, β = .5. (Razin et al.
    2024, arXiv:2410.08847, in miniature.)
    """
    features = torch.tensor(
        [(1, 0.3), (1, 0), (0.2, 1), (-0.6, 0.4), (0, -0.8)], dtype=torch.float64
    )
    reference = torch.tensor([0.35, 0.35, 0.1, 0.1, 0.1], dtype=torch.float64).log()
    weights = torch.zeros(2, dtype=torch.float64)
    seen = {}
    for step in range(2001):
        weights.requires_grad_()
        policy = torch.log_softmax(reference + features @ weights, 0)
        rows = compare(policy, reference, [(0, 1)])
        if step in (0, 100, 2000):
            # the reference's margin is 0
            scaled = 0.5 * (rows[0].chosen.sum - rows[0].rejected.sum).item()
            seen[step] = (scaled, policy[0].exp().item(), policy[2].exp().item())
        (slope,) = torch.autograd.grad(dpo(*rows, beta=0.5).losses.sum(), weights)
        weights = weights.detach() - 0.5 * slope
    assert seen[0] == pytest.approx((0, 0.35, 0.1))
    assert seen[100] == pytest.approx((0.49, 0.22, 0.61), abs=5e-3)
    assert seen[2000] == pytest.approx((3.02, 0.00, 1.00), abs=5e-3)


HOLDING = ("rpo", "dpop", "apo_zero", "nca", "sppo_hard", "cal_dpo")


def displaced(name):
    """By how many nats the chosen answer has moved in the world of test_likelihood_displacement,
    by small steps of gradient descent on the objective's closed form.
    """
    features = torch.tensor([(1, 0.3), (1, 0), (0.2, 1), (-0.6, 0.4), (0, -0.8)]).double()
    reference = torch.tensor([0.35, 0.35, 0.1, 0.1, 0.1], dtype=torch.float64).log()
    row, weights = OBJECTIVES[name], torch.zeros(2, dtype=torch.float64)
    asked = {"beta": 0.5, "penalty": 5.0} if name == "dpop" else {"beta": 0.5}
    options = resolve(name, asked).options
    for _ in range(1000):
        policy = torch.log_softmax(reference + features @ weights, 0)
        answers = tuple(Answer(policy[i].item(), reference[i].item(), 10) for i in (0, 1))
        _, slopes = row.closed_form(Row("", answers), options, 0.0)
        lean = features[:2] - policy.exp() @ features  # d log π of the two by the weights
        weights = weights - 0.1 * torch.tensor(slopes, dtype=torch.float64) @ lean
    return (policy - reference)[0].item()


@pytest.mark.parametrize("name", ("dpo", *HOLDING))
def test_what_holds_the_chosen_answer(name):
    """apo_zero loses some on the way, since its pull fades as the answer falls; no other does."""
    moved = displaced(name)
    if name == "dpo":
        assert moved < -1.8
    else:
        assert moved > (-0.45 if name == "apo_zero" else -0.03)


def test_who_pays_for_a_fall_of_both_answers():
    """With a margin that dpo is content with, and the chosen answer 2 nats under the reference,
    the losses that hold it gain by raising both answers alike; the others gain next to nothing.
    """
    # answers of one length, all of whose tokens are shared
    row = Row(
        "",
        (
            Answer(-12.0, -10.0, 10, (-12.0, -10.0), 2.5),
            Answer(-72.0, -10.0, 10, (-72.0, -10.0), 2.5),
        ),
    )
    gains = {
        each.name: -sum(each.closed_form(row, resolve(each.name, {}).options, 0.0)[1])
        for each in OBJECTIVES.values()
        if each.rows == "pairs" and each.reference
    }
    assert {name for name, gain in gains.items() if gain > 0.01} == set(HOLDING)
    assert {each.name for each in OBJECTIVES.values() if each.holds} == set(HOLDING)
