"""Importance weights for a sampler that is not quite the trainer: their definitions by hand, and
that a weight of an advantage is one of the loss.
"""

import math

import pytest
import torch

from accord.config.rollouts_section import RolloutsConfig
from accord.objectives import POLICY_OBJECTIVES, resolve
from accord.objectives.corrections import CORRECTIONS
from accord.objectives.policy_gradient import Rollouts
from accord.rollouts.batches import build_batch
from accord.rollouts.estimates import CarryOver
from accord.rollouts.mismatch import Mismatch
from accord.rollouts.pairing import Pairing
from accord.rollouts.record import Answer, Segment
from accord.types import Refused

# log-ratios of trainer and sampler; two answers, of three tokens and of two
APART = [math.log(r) for r in (0.4, 1.5, 6.0, 1.02, 0.97)]
COUNT = torch.tensor([3, 2])
BY_HAND = {
    "tis": [0.4, 1.5, 2.0, 1.02, 0.97],
    "icepop": [0.0, 1.5, 0.0, 1.02, 0.97],
    "mask": [0.0, 0.0, 0.0, 1.0, 1.0],
}


def weights(name, apart, low=None, high=None):
    row = CORRECTIONS[name]
    low, high = (row.low or 0.0) if low is None else low, row.high if high is None else high
    return row.weigh(torch.tensor(apart, dtype=torch.float64), COUNT, low, high)


@pytest.mark.parametrize("name", CORRECTIONS)
def test_weights_by_hand(name):
    assert weights(name, APART).tolist() == pytest.approx(BY_HAND[name])
    assert weights(name, [0.0] * 5).tolist() == [1.0] * 5  # equal log-probs weigh nothing
    far = weights(name, [1e4, -1e4, 0.0, 1e4, -1e4])
    assert far.isfinite().all() and far.max() <= CORRECTIONS[name].high


def test_bounds_are_one_s_own():
    assert weights("tis", APART, high=1.2).tolist() == pytest.approx([0.4, 1.2, 1.2, 1.02, 0.97])
    given = weights("icepop", APART, low=0.3, high=1.6)
    assert given.tolist() == pytest.approx([0.4, 1.5, 0.0, 1.02, 0.97])
    assert weights("mask", APART, high=4.0).tolist() == [1.0] * 5
    # TRL 1.16: token_truncate is a clamp, token_mask a fill with 0 outside of both bounds
    ratio = torch.tensor(APART, dtype=torch.float64).exp()
    assert torch.equal(weights("tis", APART, high=3.0), torch.clamp(ratio, max=3.0))
    outside = (ratio < 0.5) | (ratio > 5.0)
    assert torch.equal(weights("icepop", APART), ratio.masked_fill(outside, 0.0))


def test_mask_looks_at_absolute_differences():
    """Half of the tokens likelier and half rarer is far apart too, and a long answer is not left
    out for its length.
    """
    assert weights("mask", [0.3, -0.3, 0.0, 0.3, -0.3]).tolist() == [0.0] * 5
    many = torch.full((1000,), 0.05, dtype=torch.float64)
    kept = CORRECTIONS["mask"].weigh(many, torch.tensor([1000]), 0.0, 1.1)
    assert kept.min() == 1  # the product of its ratios is e^50


@pytest.mark.parametrize("name", POLICY_OBJECTIVES)
def test_a_weight_of_the_advantage_is_one_of_the_loss(name):
    """For every method, inside the clip and outside: so no method's code knows of corrections."""
    torch.manual_seed(0)
    old = -torch.rand(5, dtype=torch.float64)
    logps = (old + 0.6 * torch.randn(5, dtype=torch.float64)).requires_grad_()
    advantages = torch.randn(5, dtype=torch.float64)
    weight = torch.tensor([0.0, 0.4, 1.0, 1.7, 2.0], dtype=torch.float64)
    expected = weight
    if name == "gspo":  # an answer is one term, with the mean of its tokens' weights
        advantages = advantages[[0, 0, 0, 3, 3]]
        means = torch.segment_reduce(weight, "mean", lengths=COUNT)
        expected = means.repeat_interleave(COUNT)
    objective = resolve(name, {"max_tokens": 5.0} if name == "dr_grpo" else {})

    def slopes(advantages):
        given = Rollouts(logps, old, advantages, COUNT)
        return torch.autograd.grad(objective.losses(given).losses.sum(), logps)[0]

    plain = slopes(advantages)
    assert plain.abs().sum() > 0
    torch.testing.assert_close(slopes(weight * advantages), expected * plain)


def answer(reward, apart):
    """An answer whose trainer's log-probs are `apart` from the sampler's -1."""
    tokens = tuple(range(5, 5 + len(apart)))
    return Answer(
        0,
        "",
        (Segment("policy", tokens, (-1.0,) * len(apart)),),
        True,
        reward=reward,
        logps=[-1.0 + a for a in apart],
        reference=[-1.0] * len(apart),
    )


def batch(mismatch, method="dr_grpo"):
    objective = resolve(method, {"max_tokens": 5.0} if method == "dr_grpo" else {})
    answers = [answer(3.0, APART[:3]), answer(1.0, APART[3:])]
    return build_batch(answers, [(1,)], objective, Pairing(), CarryOver(), 0, mismatch=mismatch)


@pytest.mark.parametrize("name", CORRECTIONS)
def test_a_batch_is_weighed_token_by_token(name):
    """Rewards 3 and 1: advantages 1 and -1, times the weights. The bound and the mean are told."""
    (tree,) = batch(Mismatch(correction=name)).trees
    signs = [1, 1, 1, -1, -1]
    wanted = [w * s for w, s in zip(BY_HAND[name], signs, strict=True)]
    assert tree.advantages.tolist() == pytest.approx(wanted)
    figures = batch(Mismatch(correction=name)).figures
    assert figures["rollouts/correction_weight"] == pytest.approx(sum(BY_HAND[name]) / 5)
    share = {"tis": 1 / 5, "icepop": 2 / 5, "mask": 3 / 5}[name]
    assert figures["rollouts/correction_cut"] == pytest.approx(share)


def test_without_a_correction_nothing_is_touched():
    (tree,) = batch(Mismatch()).trees
    assert tree.advantages.tolist() == [1.0] * 3 + [-1.0] * 2
    assert "rollouts/correction_weight" not in batch(Mismatch()).figures


def test_the_gap_is_measured_and_bounded():
    gaps = [abs(a) for a in APART]
    out = batch(Mismatch(max_gap=0.4))
    assert out.figures["rollouts/sampler_gap_token"] == pytest.approx(sum(gaps) / 5)
    assert out.figures["rollouts/sampler_gap_worst"] == pytest.approx(math.log(6))
    assert out.figures["rollouts/sampler_gap_over"] == pytest.approx(3 / 5)
    with pytest.raises(Refused) as error:
        Mismatch(max_gap=0.4).require_near(7, out.figures)
    said = str(error.value)
    assert "Batch 7" in said and "0.633 nats a token" in said and "worst token 1.79" in said
    assert "60% of the tokens over 0.4" in said and "rollouts.correction=tis" in said
    Mismatch(max_gap=0.4, correction="tis").require_near(7, out.figures)
    Mismatch(max_gap=0.7).require_near(7, out.figures)


@pytest.mark.parametrize(
    "given, rounding, bound", [(None, 1e-4, 0.1), (None, 0.2, 0.2), (0.05, 0.2, 0.05)]
)
def test_the_bound_is_a_tenth_or_rounding_or_as_told(given, rounding, bound):
    settings = RolloutsConfig(rewards=["length"], max_gap=given)
    assert Mismatch.of(settings, rounding).max_gap == bound
