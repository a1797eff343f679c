"""Advantages against numpy, and rewards on the right token."""

import numpy as np
import pytest
import torch
from oracles import policy_gradient as oracle

from accord.objectives.numerics import summed
from accord.rollouts.advantages import (
    AdaptiveKL,
    RunningBaseline,
    gae,
    group_advantages,
    kl_penalised,
    leave_one_out,
    on_last_token,
    spread_over_tokens,
    whiten,
)
from accord.types import UsageError

COUNT = torch.tensor([3, 1, 4])


def random(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_a_reward_lands_on_its_answers_last_token():
    assert on_last_token(tensor(1, 2, 3), COUNT).tolist() == [0, 0, 1, 2, 0, 0, 0, 3]


def test_the_kl_penalty_is_on_every_token_and_the_reward_on_the_last():
    logps, reference = random(8), random(8, seed=1)
    got = kl_penalised(tensor(1, 2, 3), logps, reference, COUNT, 0.5)
    wanted = -0.5 * (logps - reference) + tensor(0, 0, 1, 2, 0, 0, 0, 3)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(
        summed(got, COUNT), tensor(1, 2, 3) - 0.5 * summed(logps - reference, COUNT)
    )
    assert spread_over_tokens(tensor(1, 2, 3), COUNT).tolist() == [1, 1, 1, 2, 3, 3, 3, 3]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.97, 0.0)])
def test_gae_is_the_double_sum(gamma, lam):
    rewards, values, after = random(8), random(8, seed=1), tensor(0, 0.3, -0.7)
    got, returns = gae(rewards, values, COUNT, gamma=gamma, lam=lam, after=after)
    wanted = oracle.gae(
        rewards.tolist(), values.tolist(), COUNT.tolist(), gamma, lam, after.tolist()
    )
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-12)
    torch.testing.assert_close(returns, got + values)


def test_gae_by_hand():
    """Two tokens, reward 1 on the last, V = (.5, .25): δ = (-.25, .75), λ = ½: A = (.125, .75)."""
    advantages, returns = gae(
        tensor(0, 1), tensor(0.5, 0.25), torch.tensor([2]), gamma=1.0, lam=0.5
    )
    assert advantages.tolist() == [0.125, 0.75] and returns.tolist() == [0.625, 1.0]


def test_answers_do_not_see_each_other():
    rewards, values = random(8), random(8, seed=1)
    whole, _ = gae(rewards, values, COUNT)
    alone, _ = gae(rewards[3:4], values[3:4], COUNT[1:2])
    torch.testing.assert_close(whole[3:4], alone)


def test_whitening():
    values = random(50) * 3 + 2
    np.testing.assert_allclose(whiten(values).numpy(), oracle.whiten(values.tolist()), rtol=1e-6)
    torch.testing.assert_close(whiten(values, shift=False).mean(), values.mean())
    assert whiten(tensor(3)).tolist() == [3]
    torch.testing.assert_close(whiten(tensor(1, 3)), tensor(-1, 1) / 2**0.5)
    assert whiten(tensor(2, 2, 2)).tolist() == [0, 0, 0]


def test_groups_by_hand():
    """Rewards 0, 1, 2 of one prompt and 5, 5 of another, in any order."""
    rewards, groups = tensor(0, 5, 1, 2, 5), torch.tensor([0, 1, 0, 0, 1])
    assert group_advantages(rewards, groups, scale="none").tolist() == [-1, 0, 0, 1, 0]
    torch.testing.assert_close(group_advantages(rewards, groups), tensor(-1, 0, 0, 1, 0) / 1.0001)
    assert leave_one_out(rewards, groups).tolist() == [-1.5, 0, 0, 1.5, 0]


@pytest.mark.parametrize("function", [group_advantages, leave_one_out])
def test_a_group_of_one_is_refused(function):
    with pytest.raises(UsageError, match="one answer alone"):
        function(tensor(0, 1, 2), torch.tensor([0, 0, 1]))


def test_a_running_baseline_is_of_former_batches():
    first = RunningBaseline(decay=0.5)
    assert first.advantages(tensor(1, 3)).tolist() == [-1, 1]
    second = first.after(tensor(1, 3))
    assert second.advantages(tensor(1, 3)).tolist() == [-1, 1] and second.value == 2
    assert second.after(tensor(4, 4)).value == 3


def test_the_adaptive_kl_weight_goes_the_right_way_and_no_further():
    kl = AdaptiveKL(0.1, target=6)
    assert kl.after(6).beta == 0.1
    assert kl.after(6.6).beta == pytest.approx(0.101)
    assert kl.after(600).beta == pytest.approx(0.102) and kl.after(0).beta == pytest.approx(0.098)
