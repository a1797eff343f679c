"""Policy gradients: against numpy, split any way, and on the bandit whose optimum is known."""

import inspect
import math
import re

import numpy as np
import pytest
import torch
from conftest import assert_no_faults
from objectives.test_bandits import FRONTIER, REWARD, UNIFORM, on_exact_preferences
from oracles import policy_gradient as oracle

from accord.objectives import dpo
from accord.objectives.policy_gradient import Rollouts, kl_terms, value_losses, with_kl
from accord.objectives.policy_table import POLICY_OBJECTIVES
from accord.rollouts.advantages import (
    gae,
    group_advantages,
    kl_penalised,
    leave_one_out,
    spread_over_tokens,
)
from accord.types import UsageError

OPTIONS = {"dr_grpo": {"max_tokens": 7.0}}
COUNT = torch.tensor([3, 1, 5, 2])
every_method = pytest.mark.parametrize("name", POLICY_OBJECTIVES)


def rollouts(seed=0, reference=False, apart=0.3):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda: torch.randn(int(COUNT.sum()), dtype=torch.float64, generator=generator)  # noqa: E731
    logps = -1 - draw().abs()
    return Rollouts(
        logps, logps + apart * draw(), draw(), COUNT, logps + draw() if reference else None
    )


def losses(name, given, **options):
    return POLICY_OBJECTIVES[name].function(given, **OPTIONS.get(name, {}), **options).losses


def per_row(values):
    return np.array([piece.sum() for piece in np.split(values, np.cumsum(COUNT.tolist())[:-1])])


# what numpy divides the sum of an answer by; 1 where the step alone divides
DIVISOR = {"grpo": COUNT.numpy(), "dr_grpo": 7.0, "gspo": COUNT.numpy()}
WITH_KL = [name for name, row in POLICY_OBJECTIVES.items() if "kl" in row.function.kinds]


def by_numpy(name, given):
    """The losses of answers, without a KL term."""
    numbers = [v.numpy() for v in (given.logps, given.old, given.advantages)]
    if name in ("rloo", "reinforce"):
        return per_row(-numbers[2] * numbers[0])
    if name == "gspo":
        return oracle.sequence_surrogate(*numbers, COUNT.tolist(), 3e-4, 4e-4)
    if name == "cispo":
        return per_row(oracle.weighed(*numbers, 1.0, 4.0))
    tokens = oracle.surrogate(*numbers, 0.2, 0.28 if name == "dapo" else 0.2)
    return per_row(tokens) / DIVISOR.get(name, 1.0)


@every_method
def test_agrees_with_numpy(name):
    for apart in (0.3, 2.0):  # the second has ratios beyond every clip, and a weight beyond 5
        given = rollouts(apart=apart)
        np.testing.assert_allclose(losses(name, given), by_numpy(name, given), rtol=1e-10)


@pytest.mark.parametrize("correction", ["none", "ratio"])
@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
@pytest.mark.parametrize("name", WITH_KL)
def test_the_kl_term_is_added_by_name(name, kind, correction):
    """GSPO's correction is by the ratio that it has: the whole answer's."""
    given = rollouts(reference=True)
    got = losses(name, given, beta=0.3, kl=kind, kl_correction=correction)
    terms = oracle.kl(kind, given.logps.numpy(), given.reference.numpy())
    if correction == "ratio":
        apart = (given.logps - given.old).numpy()
        if name == "gspo":
            apart = np.repeat(per_row(apart) / COUNT.numpy(), COUNT.numpy())
        terms = terms * np.exp(apart)
    wanted = by_numpy(name, given) + 0.3 * per_row(terms) / DIVISOR.get(name, 1.0)
    np.testing.assert_allclose(got, wanted, rtol=1e-10)


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_kl_terms(kind):
    given = rollouts(reference=True)
    np.testing.assert_allclose(
        kl_terms(given.logps, given.reference, kind).numpy(),
        oracle.kl(kind, given.logps.numpy(), given.reference.numpy()),
        rtol=1e-9,
    )


@every_method
def test_gradients_reach_the_policy_alone(name):
    """Not what sampled, not the advantages, not the reference: each may hang on weights that train,
    as a critic's values do.
    """
    given = rollouts(reference=name in WITH_KL)
    fields = {
        field: value.clone().requires_grad_()
        for field in ("logps", "old", "advantages", "reference")
        if (value := getattr(given, field)) is not None
    }
    options = {"beta": 0.3} if given.reference is not None else {}
    losses(name, Rollouts(**fields, count=COUNT), **options).sum().backward()
    assert {
        field for field, value in fields.items() if value.grad is not None and value.grad.any()
    } == {"logps"}


@every_method
def test_any_split_gives_one_gradient(name):
    """With the denominator that stands beside the method: of the whole batch."""
    given = rollouts()
    total = {"rows": len(COUNT), "tokens": int(COUNT.sum())}[POLICY_OBJECTIVES[name].denominator]
    owner = torch.repeat_interleave(torch.arange(len(COUNT)), COUNT)

    def gradient(groups):
        logps = given.logps.clone().requires_grad_()
        for rows in groups:
            mine = torch.isin(owner, torch.tensor(rows))
            part = Rollouts(logps[mine], given.old[mine], given.advantages[mine], COUNT[rows])
            (losses(name, part).sum() / total).backward()
        return logps.grad

    whole = gradient([[0, 1, 2, 3]])
    assert whole.any()
    for groups in ([[0], [1], [2], [3]], [[0, 1], [2, 3]], [[0], [1, 2, 3]]):
        torch.testing.assert_close(gradient(groups), whole, rtol=1e-12, atol=1e-15)


@every_method
def test_finite_at_absurd_ratios(name):
    for apart in (1e4, -1e4):
        given = rollouts()
        logps = given.logps.float().requires_grad_()
        far = Rollouts(
            logps,
            (given.logps + apart).float(),
            given.advantages.float() * torch.tensor([0.0, 1.0] * 5 + [1.0]),
            COUNT,
        )
        value = losses(name, far).sum()
        assert value.isfinite() and torch.autograd.grad(value, logps)[0].isfinite().all()


def test_clipping_stops_the_gradient_where_it_should():
    """A = 1: above 1 + ε' no pull upwards; below 1 - ε still one. A = -1 the other way round."""
    logps = torch.tensor(
        [math.log(r) for r in (1.5, 0.5, 1.5, 0.5, 1.25)], dtype=torch.float64
    ).requires_grad_()
    given = Rollouts(
        logps,
        torch.zeros_like(logps),
        torch.tensor([1.0, 1, -1, -1, 1], dtype=torch.float64),
        torch.ones(5, dtype=torch.long),
    )
    got = torch.autograd.grad(losses("ppo", given).sum(), logps)[0]
    assert got.tolist() == pytest.approx([0, -0.5, 1.5, 0, 0])
    got = torch.autograd.grad(losses("dapo", given).sum(), logps)[0]
    assert got.tolist() == pytest.approx([0, -0.5, 1.5, 0, -1.25])  # clip-higher lets 1.25 through


def test_value_losses_by_hand():
    values, old, returns = (
        torch.tensor([1.0, 0.5, 3.0]),
        torch.tensor([0.0, 0.4, 3.0]),
        torch.tensor([1.0, 1.0, 1.0]),
    )
    # the first is held at .2
    assert value_losses(values, old, returns).tolist() == pytest.approx([0.32, 0.125, 2.0])
    assert value_losses(values, old, returns, clip=None).tolist() == pytest.approx([0, 0.125, 2.0])


@pytest.mark.parametrize(
    "name, option, refused, accepted",
    [
        ("ppo", "clip", [0, -0.1, 1, math.nan], [0.01, 0.99]),
        ("dapo", "clip_high", [0, -0.1, math.inf], [0.01, 3.0, None]),
        ("grpo", "beta", [-0.1, math.inf], [0]),
        ("grpo", "kl", ["k4", None], ["k1", "k2", "k3"]),
        ("dr_grpo", "max_tokens", [0, -1, None], [0.5]),
        ("gspo", "clip", [0, 1, None], [3e-4]),
        ("cispo", "clip", [0, 1], [None, 0.5]),
        ("cispo", "clip_high", [0, None], [0.3, 4.0]),
        ("gspo", "kl_correction", ["k1", None], ["none", "ratio"]),
    ],
)
def test_bounds_of_options(name, option, refused, accepted):
    """A clip of 0 would hold every ratio at 1: no gradient, and nothing said."""
    kind = POLICY_OBJECTIVES[name].function.kinds[option]
    for value in accepted:
        kind.check(name, option, value)
    for value in refused:
        with pytest.raises(UsageError, match=option):
            kind.check(name, option, value)


def test_a_kl_term_needs_its_reference_and_the_other_way_round():
    for given, options in ((rollouts(), {"beta": 0.1}), (rollouts(reference=True), {})):
        with pytest.raises(UsageError, match="give both"):
            losses("grpo", given, **options)
    with pytest.raises(UsageError, match="11 tokens"):
        Rollouts(torch.zeros(11), torch.zeros(1), torch.zeros(11), COUNT)


def test_docstring_names_its_source_formula_and_denominator():
    def check(name):
        method = POLICY_OBJECTIVES[name]
        text = inspect.getdoc(method.function)
        assert re.search(r"Source: .*(arXiv:\d{4}\.\d{5})", text, re.S) and "L = " in text
        assert {"rows": "batch's answers", "tokens": "batch's tokens"}[
            method.denominator
        ] in " ".join(text.split())

    assert_no_faults(POLICY_OBJECTIVES, check)


# ---------------------------------------------------------------- the gradients of KL estimators


def mean_gradient(kind, corrected=False):
    """E over a policy's own samples of the estimator's gradient, exactly; and both divergences'
    gradients.
    """
    logits = torch.tensor([0.3, -0.2, 0.8, 0.0, -1.0], dtype=torch.float64, requires_grad=True)
    reference = torch.log_softmax(torch.tensor([0.0, 1.0, -0.5, 0.2, 0.1], dtype=torch.float64), 0)
    policy = torch.log_softmax(logits, 0)
    gradient = lambda value: torch.autograd.grad(value, logits, retain_graph=True)[0]  # noqa: E731
    now, nothing = policy.detach(), torch.zeros(5, dtype=torch.float64)
    given = Rollouts(policy, now, nothing, torch.ones(5, dtype=torch.long), reference)
    terms, _ = with_kl(given, nothing, {}, 1.0, kind, "ratio" if corrected else "none")
    estimated = gradient((now.exp() * terms).sum())
    reverse = gradient((policy.exp() * (policy - reference)).sum())
    forward = gradient((reference.exp() * (reference - policy)).sum())
    return estimated, reverse, forward


def test_k2_has_the_gradient_of_the_kl_k1_none_and_k3_that_of_the_other():
    k1, reverse, forward = mean_gradient("k1")
    assert k1.abs().max() < 1e-15
    torch.testing.assert_close(mean_gradient("k2")[0], reverse)
    torch.testing.assert_close(mean_gradient("k3")[0], forward)
    assert (reverse - forward).abs().max() > 0.01


def test_times_the_ratio_k1_and_k3_have_the_gradient_of_the_kl_and_k2_no_longer():
    """Each at ratio 1, where the correction changes no value."""
    for kind in ("k1", "k3"):
        estimated, reverse, _ = mean_gradient(kind, corrected=True)
        torch.testing.assert_close(estimated, reverse)
    estimated, reverse, _ = mean_gradient("k2", corrected=True)
    assert (estimated - reverse).abs().max() > 0.01


# ---------------------------------------------------------------- the bandit of five arms


def natural_steps(gradient_of, beta, steps=60):
    """Ascent along the natural gradient: for a softmax, F⁺g with F = diag(π) - ππᵀ. Halves the
    distance each step.
    """
    logits = torch.zeros(5, dtype=torch.float64)
    for _ in range(steps):
        logits.requires_grad_()
        (g,) = torch.autograd.grad(gradient_of(torch.log_softmax(logits, 0)), logits)
        pi = torch.softmax(logits.detach(), 0)
        logits = (
            logits.detach()
            - 0.5 / beta * torch.linalg.pinv(torch.diag(pi) - torch.outer(pi, pi), rtol=1e-12) @ g
        )
        logits = logits - logits.mean()
    return torch.softmax(logits, 0)


COMPARED = ("grpo", "dr_grpo", "dapo", "gspo", "cispo", "reinforce_plus_plus_baseline")


def advantages_of(name, rewards, groups, values):
    """One-token answers: the advantage that each method is meant for."""
    if name == "ppo":
        return gae(rewards, values, torch.ones_like(groups))[0]
    if name == "rloo":
        return leave_one_out(rewards, groups)
    if name in COMPARED:
        return group_advantages(rewards, groups, scale="none")
    return rewards - values


def expected_loss(name, beta):
    """The loss in expectation over every group of two answers, each with its probability: no
    sampling noise at all.
    """
    arms = torch.tensor([(i, j) for i in range(5) for j in range(5)])  # [25, 2]
    groups = torch.arange(25).repeat_interleave(2)
    flat, ones = arms.flatten(), torch.ones(50, dtype=torch.long)

    def loss(policy):
        now = policy.detach()
        rewards = kl_penalised(REWARD[flat], now[flat], UNIFORM[flat], ones, beta)
        value = (now.exp() * (REWARD - beta * (now - UNIFORM))).sum().expand(50)
        given = Rollouts(policy[flat], now[flat], advantages_of(name, rewards, groups, value), ones)
        options = {"max_tokens": 1.0} if name == "dr_grpo" else {}
        weight = now.exp()[arms].prod(1).repeat_interleave(2) / 2
        # a mean that holds the answer itself shrinks by (K-1)/K
        scale = 2.0 if name in COMPARED else 1.0
        return scale * (weight * POLICY_OBJECTIVES[name].function(given, **options).losses).sum()

    return loss


@every_method
@pytest.mark.parametrize("beta", [0.1, 0.25, 1.0])
def test_exact_gradients_land_where_dpo_lands(name, beta):
    """π* ∝ ref · exp(r/β): PPO, GRPO, RLOO and REINFORCE with KL weight β, and DPO that never sees
    a reward.
    """
    policy = natural_steps(expected_loss(name, beta), beta)
    torch.testing.assert_close(policy, torch.softmax(REWARD / beta, 0), rtol=1e-6, atol=1e-9)
    reward, kl = (policy * REWARD).sum().item(), (policy * (policy.log() - UNIFORM)).sum().item()
    assert (reward, kl) == pytest.approx(FRONTIER[beta], abs=6e-5)
    if beta == 0.25:
        by_pairs = on_exact_preferences(dpo, beta=beta)
        torch.testing.assert_close(policy, by_pairs, rtol=1e-4, atol=1e-7)


def test_k3_in_the_loss_lands_somewhere_else():
    """The optimum of E[r] - β KL(ref‖π) has π = β ref / (λ - r): it never gives an arm up, as π*
    does.
    """
    beta = 0.25

    def loss(policy, kind):
        now, ones = policy.detach(), torch.ones(5, dtype=torch.long)
        given = Rollouts(policy, now, REWARD - (now.exp() * REWARD).sum(), ones, UNIFORM)
        return (
            now.exp() * POLICY_OBJECTIVES["grpo"].function(given, beta=beta, kl=kind).losses
        ).sum()

    right = natural_steps(lambda policy: loss(policy, "k2"), beta)
    torch.testing.assert_close(right, torch.softmax(REWARD / beta, 0), rtol=1e-6, atol=1e-9)
    other = natural_steps(lambda policy: loss(policy, "k3"), 1.0, steps=400)
    multiplier = REWARD + beta * 0.2 / other
    torch.testing.assert_close(multiplier, multiplier.mean().expand(5), rtol=1e-5, atol=1e-6)
    assert (other - right).abs().max() > 0.05


@every_method
def test_samples_land_there_too(name):
    """Drawn answers, 128 groups of four a step, on a policy that drifts from the one that sampled
    by two updates a batch.
    """
    beta, K, generator = 0.25, 4, torch.Generator().manual_seed(0)
    logits = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    groups, ones, tail = (
        torch.arange(128).repeat_interleave(K),
        torch.ones(128 * K, dtype=torch.long),
        [],
    )
    total = 128 * K
    for step in range(250):
        old = torch.log_softmax(logits.detach(), 0)
        arms = torch.multinomial(old.exp(), total, replacement=True, generator=generator)
        rewards = kl_penalised(REWARD[arms], old[arms], UNIFORM[arms], ones, beta)
        advantages = advantages_of(name, rewards, groups, rewards.mean().expand(total))
        for _ in range(1 if name in ("rloo", "reinforce") else 2):
            given = Rollouts(
                torch.log_softmax(logits, 0)[arms],
                old[arms],
                spread_over_tokens(advantages, ones),
                ones,
            )
            # one token: a whole answer's ratio is a token's, and needs a token's clip
            options = {"dr_grpo": {"max_tokens": 1.0}, "gspo": {"clip": 0.2, "clip_high": 0.2}}
            options = options.get(name, {})
            optimizer.zero_grad()
            (POLICY_OBJECTIVES[name].function(given, **options).losses.sum() / total).backward()
            optimizer.step()
        if step >= 150:
            tail.append(torch.softmax(logits.detach(), 0))
    torch.testing.assert_close(
        torch.stack(tail).mean(0), torch.softmax(REWARD / beta, 0), rtol=0, atol=0.02
    )
