"""The best possible reward at a KL: exact where answers can be enumerated; best of n against brute
force.
"""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize

from accord.campaign.compare.bound import ENOUGH, best_of, by_prompt, frontier_bound, tilt
from accord.campaign.compare.frontier import Point, over_optimised, steps_of
from accord.campaign.compare.measure import Measured
from accord.types import UsageError

REWARDS = np.array([-1.0, 0.0, 0.2, 0.5, 2.0])
REFERENCE = np.array([0.3, 0.3, 0.2, 0.15, 0.05])


def exact(beta):
    """Reward and KL of π* ∝ π_ref exp(r/β), by enumeration."""
    policy = REFERENCE * np.exp(REWARDS / beta)
    policy /= policy.sum()
    return policy @ REWARDS, policy @ np.log(policy / REFERENCE)


@pytest.mark.parametrize("beta", [5.0, 1.0, 0.5])
def test_tilted_finds_the_enumerated_optimum(beta):
    """20,000 answers drawn from the reference give the reward and KL of the optimum."""
    drawn = np.random.default_rng(0).choice(REWARDS, p=REFERENCE, size=(1, 20_000))
    found = tilt(drawn, beta)
    reward, kl = exact(beta)
    assert found["reward"][0] == pytest.approx(reward, abs=0.03) and found["kl"][
        0
    ] == pytest.approx(kl, abs=0.03)


def test_nothing_beats_it():
    """Any other policy over the answers with that KL has less reward: searched for with scipy."""
    uniform = np.full(5, 0.2)
    found = tilt(REWARDS[None], 0.7)
    kl = found["kl"][0]

    def policy(x):
        p = np.exp(x - x.max())
        return p / p.sum()

    constraint = {
        "type": "ineq",
        "fun": lambda x: kl - policy(x) @ np.log(np.maximum(policy(x), 1e-300) / uniform),
    }
    best = minimize(
        lambda x: -policy(x) @ REWARDS,
        np.linspace(0, 1, 5),
        constraints=[constraint],
        method="SLSQP",
    )
    assert -best.fun == pytest.approx(found["reward"][0], abs=1e-4)


def test_support_is_said():
    """Sharply tilted, one answer of ten counts: no evidence, and the KL ends at log 10."""
    points = frontier_bound(np.random.default_rng(0).normal(size=(30, 10)))
    assert [p["kl"] for p in points] == sorted(p["kl"] for p in points)
    assert points[0]["supported"] and points[0]["effective"] > 9.5
    assert (
        not points[-1]["supported"]
        and points[-1]["effective"] < ENOUGH
        and points[-1]["kl"] <= np.log(10)
    )


def test_best_of_n_is_the_mean_over_all_choices():
    rewards = np.array([[0.3, -1.0, 2.0, 0.5]])
    one, two = best_of(rewards)
    assert one["reward"]["value"] == pytest.approx(rewards.mean()) and one["kl_at_most"] == 0
    assert two["reward"]["value"] == pytest.approx(
        np.mean([max(c) for c in itertools.combinations(rewards[0], 2)])
    )
    assert two["kl_at_most"] == pytest.approx(np.log(2) - 0.5)


def test_equal_rewards_are_no_error():
    assert frontier_bound(np.zeros((3, 4)))[-1]["reward"]["value"] == 0


def test_scores_by_prompt():
    assert by_prompt([1, 0, 1, 0], [1.0, 2.0, 3.0, 4.0]).tolist() == [[2, 4], [1, 3]]


def point(step, score, kl, prompts=40):
    rng = np.random.default_rng(step)
    noise = rng.normal(size=(2, prompts)) * 0.1
    return Point("dpo", step, [Measured(score=list(score + noise[0]), kl=list(kl + noise[1]))])


def test_over_optimised():
    """Less reward for more KL, both beyond noise; not where only one is, nor where it is noise."""
    best = point(10, 0.6, 3.0)
    clusters = range(40)
    assert over_optimised(point(20, 0.3, 6.0), [best], clusters) == "dpo, step 10"
    assert over_optimised(point(21, 0.9, 6.0), [best], clusters) is None
    assert over_optimised(point(22, 0.3, 1.0), [best], clusters) is None
    assert not any(
        over_optimised(point(step, 0.57, 6.0), [best], clusters) for step in range(30, 38)
    )
    assert over_optimised(best, [best], clusters) is None


def test_steps_to_look_at():
    assert (
        steps_of(24, 3) == [8, 16, 24] and steps_of(25, 3) == [9, 17, 25] and steps_of(5, 1) == [5]
    )
    with pytest.raises(UsageError, match="makes 5 updates"):
        steps_of(5, 6)
