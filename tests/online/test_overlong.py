"""What becomes of cut answers, and of prompts whose answers all have one reward."""

from collections import Counter

import pytest
import torch

from accord.config.rollouts_section import RolloutsConfig
from accord.objectives.table import resolve
from accord.rollouts.batches import build_batch
from accord.rollouts.dynamic_sampling import further_prompts, informative, replace_flat
from accord.rollouts.estimates import Answers, CarryOver, estimate_advantages
from accord.rollouts.overlong import MASKED, Overlong
from accord.rollouts.pairing import Pairing
from accord.rollouts.record import Answer, Segment
from accord.training.setup.rollouts import cut_answers

PROMPTS = [(1, 2), (3,), (4, 5)]


def answer(prompt, reward, tokens, ended=True, behind=None, expected=None):
    logps = [-0.5] * tokens
    return Answer(
        prompt,
        f"{reward} in {tokens} tokens",
        (Segment("policy", tuple(range(10, 10 + tokens)), (-0.5,) * tokens),),
        ended,
        reward=reward,
        logps=logps,
        reference=logps,
        expected=expected or [],
        behind=behind,
    )


def batch_of(answers, overlong, method="grpo", **options):
    return build_batch(
        answers,
        PROMPTS,
        resolve(method, options),
        Pairing("best_worst", 0.0, 0),
        CarryOver(),
        0,
        overlong,
    )


# ---------------------------------------------------------------- soft


def test_the_soft_penalty_is_dapo_s():
    """Yu et al. 2025, Eq. 13, with L_max = 10 and L_cache = 4: 0 up to 6, then -¼ a token."""
    soft = Overlong("soft", 10, 4)
    assert [soft.penalty(n) for n in (1, 6, 7, 8, 10)] == [0, 0, 0.25, 0.5, 1]
    assert Overlong("keep", 10, 4).penalty(10) == 0
    settings = RolloutsConfig(rewards=["length"], max_new_tokens=50, overlong="soft")
    assert Overlong.of(settings) == Overlong("soft", 50, 10)  # a fifth, as 4,096 of 20,480


def test_the_penalty_makes_advantages_and_leaves_the_recorded_rewards():
    answers = [answer(0, 1.0, 2), answer(0, 1.0, 8)]
    out = batch_of(answers, Overlong("soft", 10, 4), "dr_grpo", max_tokens=10)
    first, second = out.trees[0].advantages.split([2, 8])
    assert first.tolist() == [0.25] * 2 and second.tolist() == [-0.25] * 8
    assert out.figures["rollouts/reward"] == 1 and out.figures["rollouts/length_penalty"] == 0.25
    assert [a.reward for a in answers] == [1, 1]


def test_pairs_are_made_of_penalised_rewards():
    answers = [answer(0, 1.0, 8), answer(0, 1.0, 2)]
    assert not batch_of(answers, Overlong(), "dpo").trees  # a tie
    out = batch_of(answers, Overlong("soft", 10, 4), "dpo")
    assert [len(c) for c in out.trees[0].completions] == [2, 8]


# ---------------------------------------------------------------- mask


def test_a_masked_answer_is_compared_and_not_trained_on():
    """The two that ended keep the advantages that they have beside the cut one."""
    answers = [answer(0, 1.0, 2), answer(0, 0.0, 3), answer(0, 0.0, 4, ended=False)]
    kept, masked = (batch_of(answers, Overlong(kind, 4)) for kind in ("keep", "mask"))
    assert [len(c) for c in masked.trees[0].completions] == [2, 3]
    for name in ("old", "advantages"):
        assert torch.equal(getattr(masked.trees[0], name), getattr(kept.trees[0], name)[:5])
    assert masked.figures["rollouts/masked"] == pytest.approx(1 / 3)
    assert "rollouts/masked" not in kept.figures


def test_prompts_whose_answers_were_all_cut_are_counted():
    cut = [answer(1, 1.0, 4, ended=False), answer(1, 0.0, 4, ended=False)]
    fine = [answer(0, 1.0, 2), answer(0, 0.0, 2)]
    for method in ("grpo", "dpo"):
        out = batch_of(fine + cut, Overlong("mask", 4), method)
        assert len(out.trees) == 1 and out.reasons == Counter({MASKED: 1})
        assert not batch_of(cut, Overlong("mask", 4), method).trees


# ---------------------------------------------------------------- value


def test_the_value_behind_a_cut_stands_for_its_reward():
    """γ = λ = 1: A_t = V_behind - V_t of the cut answer, R - V_t of the other."""
    answers = [
        answer(0, 2.0, 2, expected=[0.5, 1.0]),
        answer(0, 9.0, 2, ended=False, behind=0.75, expected=[0.25, 0.5]),
    ]
    plain = {"beta": 0.0, "lam": 1.0, "whitening": "none"}
    out = batch_of(answers, Overlong("value", 2), "ppo", **plain)
    assert out.trees[0].advantages.tolist() == [1.5, 1.0, 0.5, 0.25]
    assert out.trees[0].returns.tolist() == [2.0, 2.0, 0.75, 0.75]
    assert out.figures["rollouts/reward"] == 5.5  # as they were judged


def test_one_token_more_is_measured_behind_a_cut_alone():
    answers = [answer(0, 1.0, 3, ended=False), answer(0, 1.0, 2)]
    tree = Overlong("value", 3).tree((1, 2), answers, 5)
    assert tree.completions == ((10, 11, 12, 12), (10, 11)) and tree.counts == [4, 2]
    assert (tree.prompt, tree.row) == ((1, 2), 5)
    tree = Overlong("keep", 3).tree((1, 2), answers, 0)
    assert tree.completions == ((10, 11, 12), (10, 11))


def test_behind_a_cut_answer_with_others_tokens_one_more_is_scored():
    own, other = Segment("policy", (10, 11), (-0.5,) * 2), Segment("other", (20,))
    cut = Answer(0, "", (own, other, own), False)
    tree = Overlong("value", 9).tree((1, 2), [cut], 0)
    assert tree.completions == ((10, 11, 20, 10, 11, 11),)
    assert list(tree.scored_in(0)) == [0, 1, 3, 4, 5] and tree.counts == [5]


@pytest.mark.parametrize(
    "kind, words",
    [
        ("mask", "is not trained on itself"),
        ("soft", "a penalty for its length"),
        ("value", "the value head's estimate behind it stands in its place"),
    ],
)
def test_what_is_done_with_them_is_said(kind, words):
    assert words in cut_answers(resolve("ppo", {}), 0.5, 48, kind).says


# ---------------------------------------------------------------- REINFORCE++


def answers_of(rewards, groups, count, logps, reference):
    double = lambda values: torch.tensor(values, dtype=torch.float64)  # noqa: E731
    return Answers(
        double(rewards), torch.tensor(groups), torch.tensor(count), double(logps), double(reference)
    )


def test_reinforce_plus_plus_scales_rewards_to_come_over_the_batch():
    """β = .5, log-ratios .2, .4 | -.2: to come 1 - .3, 1 - .2 | 0 + .1; then mean 0, variance 1."""
    from oracles import policy_gradient as oracle

    known = answers_of([1.0, 0.0], [0, 1], [2, 1], [-1.0, -1.0, -1.0], [-1.2, -1.4, -0.8])
    found, returns, _ = estimate_advantages("whitened", known, {"beta": 0.5}, CarryOver())
    to_come = oracle.rewards_to_come([1, 0], known.logps, known.reference, [2, 1], 0.5)
    assert to_come.tolist() == pytest.approx([0.7, 0.8, 0.1])
    assert found.tolist() == pytest.approx(oracle.whiten(to_come).tolist()) and returns is None


def test_with_baseline_it_takes_the_prompt_s_mean_first():
    """Rewards 1, 0 | 5, 5: less their means ½, -½ | 0, 0, then scaled over the six tokens."""
    known = answers_of([1, 0, 5, 5], [0, 0, 1, 1], [1, 1, 2, 2], [0.0] * 6, [0.0] * 6)
    found, _, _ = estimate_advantages("group_whitened", known, {}, CarryOver())
    scale = (2 * 0.25 / 5) ** 0.5
    assert found.tolist() == pytest.approx([0.5 / scale, -0.5 / scale, 0, 0, 0, 0])


# ---------------------------------------------------------------- dynamic sampling


def group(prompt, *rewards):
    return [answer(prompt, reward, 2) for reward in rewards]


def test_flat_groups_give_way_to_further_prompts():
    """Round 1 finds one of two; round 2 the other; a third is never drawn."""
    made = {5: (1, 1), 6: (0, 1), 7: (1, 0), 8: (0, 1)}
    asked = []

    def draw(prompts, number):
        asked.append((number, list(prompts)))
        return [group(p, *made[p]) for p in prompts]

    start = [group(0, 1, 1), group(1, 0, 1), group(2, 0, 0)]
    out, dropped = replace_flat(start, iter([5, 6, 7, 8]), draw, rounds=5)
    assert asked == [(1, [5, 6]), (2, [7])]
    assert [g[0].prompt for g in out] == [7, 1, 6]
    assert [(d["round"], d["prompt"], d["rewards"]) for d in dropped] == [
        (1, 5, [1, 1]),
        (0, 2, [0, 0]),
        (0, 0, [1, 1]),
    ]


def test_rounds_are_bounded_and_what_no_round_replaced_stays():
    def draw(prompts, number):
        return [group(p, 1, 1) for p in prompts]

    start = [group(0, 1, 1), group(1, 0, 1)]
    out, dropped = replace_flat(start, iter(range(5, 99)), draw, rounds=3)
    assert [g[0].prompt for g in out] == [0, 1] and [d["prompt"] for d in dropped] == [5, 6, 7]
    assert replace_flat(start, iter(()), draw, rounds=3) == (start, [])  # no further prompts
    assert replace_flat(start, iter([5]), draw, rounds=0) == (start, [])


def test_answers_without_rewards_are_not_compared():
    assert not informative(group(0, None, 1)) and not informative(group(0, None, None))
    assert informative(group(0, None, 1, 0))


def test_further_prompts_are_a_function_of_seed_and_batch():
    first = list(further_prompts(20, [3, 4], 1, 0))
    assert sorted(first) == [i for i in range(20) if i not in (3, 4)]
    assert first == list(further_prompts(20, [3, 4], 1, 0))
    assert first != list(further_prompts(20, [3, 4], 1, 1))
    assert first != list(further_prompts(20, [3, 4], 2, 0))
