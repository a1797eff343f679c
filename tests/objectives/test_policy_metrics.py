"""The policy/* metrics are what their names are in the field; and no token is without a slope."""

import math

import pytest
import torch

from accord.engine.rollout_losses import sampled_losses, summarise_sampled
from accord.evaluate.records import Records
from accord.forward.logps import TokenLogps
from accord.objectives.policy_gradient import FURTHEST, Rollouts, kl_terms, ppo, reinforce
from accord.objectives.table import resolve
from accord.types import Rollout

COUNT = (1, 3)  # a short answer and a long one: means over answers are not means over tokens
MOVED = torch.tensor([0.0, 0.5, -0.5, 0.05])  # log-ratios; the clip is at 1 ± 0.2
ADVANTAGES = torch.tensor([1.0, 1.0, 1.0, -1.0])


def summary(name="ppo", **options):
    """Metrics of one update on the two answers above."""
    old = torch.tensor([-1.0, -2.0, -3.0, -4.0])
    expected, returns = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.ones(4)
    tree = Rollout(
        (1,),
        tuple((2,) * n for n in COUNT),
        0,
        old=old,
        advantages=ADVANTAGES,
        reference=old - 0.25,
        expected=expected,
        returns=returns,
    )
    count = torch.tensor(COUNT)
    owner = torch.repeat_interleave(torch.arange(len(COUNT)), count)
    entropy = torch.tensor([4.0, 1.0, 1.0, 1.0])
    tokens = TokenLogps(old + MOVED, entropy, owner, count, expected)
    objective, records = resolve(name, options), Records()
    sampled_losses(objective, [tree], tokens, records)
    return summarise_sampled(records, objective)


def test_policy_metrics_are_means_over_all_tokens_by_the_field_s_definitions():
    found = summary(value_weight=0.3, value_clip=None)
    # outside the clip are tokens 1 (e^.5, advantage +: cut) and 2 (e^-.5, advantage +: not cut)
    assert found["policy/clip_ratio"] == pytest.approx(1 / 4)
    k3 = [math.expm1(x) - x for x in MOVED.tolist()]
    assert found["policy/approx_kl"] == pytest.approx(sum(k3) / 4)
    assert found["policy/ratio_gap"] == pytest.approx(MOVED.abs().mean().item())
    assert found["entropy"] == pytest.approx(7 / 4)
    # without its weight, as PPO's code reports it
    squares = [(1 - v) ** 2 / 2 for v in (0.1, 0.2, 0.3, 0.4)]
    assert found["policy/value_loss"] == pytest.approx(sum(squares) / 4, rel=1e-6)


def test_the_kl_in_the_loss_is_reported_before_its_weight():
    found = summary("grpo", beta=0.3, kl="k1")
    assert found["policy/kl"] == pytest.approx((MOVED + 0.25).mean().item(), rel=1e-6)


@pytest.mark.parametrize("beyond", [0.5, 5.0, 1e4])
def test_a_token_far_beyond_the_ratio_s_reach_still_has_a_slope(beyond):
    """An answer that must become rarer, and is e^20 and more times likelier than when it was drawn:
    a clamp took its gradient away.
    """
    logps = torch.tensor([-1.0], requires_grad=True)
    old = torch.tensor([-1.0 - FURTHEST - beyond])
    ppo(Rollouts(logps, old, torch.tensor([-1.0]), torch.tensor([1]))).losses.sum().backward()
    assert logps.grad.item() == pytest.approx(math.exp(FURTHEST), rel=1e-5)


@pytest.mark.parametrize("beyond", [0.5, 5.0, 1e4])
def test_k3_far_from_the_reference_still_pulls_back(beyond):
    logps = torch.tensor([-1.0 - FURTHEST - beyond], requires_grad=True)
    value = kl_terms(logps, torch.tensor([-1.0]), "k3")
    value.sum().backward()
    assert logps.grad.item() == pytest.approx(-math.exp(FURTHEST), rel=1e-5)
    # it rises on: the value at the edge, and its slope times what lies beyond
    edge = math.expm1(FURTHEST) - FURTHEST
    rises = edge + (math.exp(FURTHEST) - 1) * beyond
    assert value.item() == pytest.approx(rises, rel=1e-5)


def test_ratio_and_k3_are_whole_up_to_the_edge():
    x = torch.linspace(-30, FURTHEST, 101, dtype=torch.float64)
    exact = [math.expm1(v) - v for v in x.tolist()]
    assert kl_terms(-x, torch.zeros_like(x), "k3").tolist() == pytest.approx(exact, rel=1e-12)
    given = Rollouts(x, torch.zeros_like(x), -torch.ones_like(x), torch.tensor([101]))
    above = ppo(given).losses.item()
    assert above == pytest.approx(sum(max(math.exp(v), 0.8) for v in x.tolist()), rel=1e-12)
    assert reinforce(given).losses.item() == pytest.approx(x.sum().item())
