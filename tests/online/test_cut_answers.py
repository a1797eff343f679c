"""Answers that were cut at the limit: what they count as is said before the first update."""

import pytest
import torch

from accord.objectives.table import resolve
from accord.rollouts.estimates import Answers, CarryOver, estimate_advantages
from accord.training.setup.rollouts import cut_answers, equal_rewards


@pytest.mark.parametrize(
    "ended, verdict", [(1.0, "ok"), (0.6, "ok"), (0.25, "note"), (0.0, "note")]
)
def test_the_share_of_cut_answers_is_said_with_the_limit(ended, verdict):
    found = cut_answers(resolve("ppo", {}), ended, 48)
    assert found.verdict == verdict and f"{1 - ended:.0%} of the first answers" in found.says
    assert "cut at 48 tokens, the limit" in found.says
    assert "GAE takes a value of 0 behind it" in found.says
    assert ("max_new_tokens=96" in found.remedy) == (verdict == "note")
    assert "GAE" not in cut_answers(resolve("grpo", {}), ended, 48).says


def test_gae_takes_nothing_behind_a_cut():
    """The advantage of an answer's last token is its reward less what was expected: no estimate of
    what would have followed is added to a reward that was given.
    """
    values = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    none = torch.zeros(3, dtype=torch.float64)
    answers = Answers(
        torch.tensor([2.0], dtype=torch.float64),
        torch.tensor([0]),
        torch.tensor([3]),
        none,
        none,
        values,
    )
    settings = {"beta": 0.0, "gamma": 1.0, "lam": 1.0, "whitening": "none", "kl_target": None}
    advantages, returns, _ = estimate_advantages("gae", answers, settings, CarryOver())
    assert advantages.tolist() == [1.75, 1.5, 1.25] and returns.tolist() == [2.0, 2.0, 2.0]


def test_rewards_that_are_all_equal_are_said():
    alike = equal_rewards({"rollouts/reward": 0.0, "rollouts/reward_std": 0.0})
    assert (
        alike.verdict == "warning" and "all have one reward, 0: no answer is better" in alike.says
    )
    assert equal_rewards({"rollouts/reward": 0.5, "rollouts/reward_std": 0.1}).verdict == "ok"
