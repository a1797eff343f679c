"""Which answers become a pair: by hand, and what makes none is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.rollouts.pairing import FEW, POLICIES, SAME, TIED, Pairing
from accord.types import UsageError

REWARDS = [0.5, 2.0, None, 1.0, 0.5]
TEXTS = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("policy", "margin", "pairs"),
    [
        ("best_worst", 0, [(1, 4)]),
        ("best_worst", 1.5, [(1, 4)]),
        ("best_worst", 1.6, []),
        ("hard", 0, [(1, 3)]),
        ("hard", 1.1, [(1, 0)]),
        ("margin", 0, [(1, 3), (1, 0), (1, 4), (3, 0), (3, 4)]),
        ("margin", 1.0, [(1, 3), (1, 0), (1, 4)]),
    ],
)
def test_by_hand(policy, margin, pairs):
    assert Pairing(policy, margin).pairs(REWARDS, TEXTS, 0) == (pairs, "" if pairs else TIED)


def test_best_against_a_random_one_is_drawn_by_seed_and_prompt():
    drawn = {Pairing("best_random").pairs(REWARDS, TEXTS, group)[0][0] for group in range(40)}
    assert drawn == {(1, 3), (1, 0), (1, 4)}
    assert Pairing("best_random").pairs(REWARDS, TEXTS, 7) == Pairing("best_random").pairs(
        REWARDS, TEXTS, 7
    )
    assert (
        len(
            {Pairing("best_random", seed=seed).pairs(REWARDS, TEXTS, 7)[0][0] for seed in range(40)}
        )
        == 3
    )
    assert {
        Pairing("best_random", 1.2, seed).pairs(REWARDS, TEXTS, 7)[0][0] for seed in range(20)
    } == {(1, 0), (1, 4)}


@pytest.mark.parametrize("policy", POLICIES)
def test_what_makes_no_pair_is_said(policy):
    pairing = Pairing(policy)
    assert pairing.pairs([1.0, None], ["a", "b"], 0) == ([], FEW)
    assert pairing.pairs([1.0, 1.0, None], ["a", "b", "c"], 0) == ([], TIED)
    assert pairing.pairs([1.0, 2.0], ["a", "a"], 0) == ([], SAME)


@pytest.mark.parametrize("policy", POLICIES)
@given(
    rewards=st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=1, max_size=6),
    margin=st.floats(0, 3),
)
def test_a_chosen_answer_is_always_better_by_the_margin(policy, rewards, margin):
    pairs, why = Pairing(policy, margin).pairs(rewards, [str(i) for i in range(len(rewards))], 3)
    assert bool(pairs) != bool(why)
    assert all(
        rewards[good] > rewards[bad] and rewards[good] - rewards[bad] >= margin
        for good, bad in pairs
    )


def test_bad_settings_are_refused():
    for settings in ({"policy": "best"}, {"margin": -1.0}, {"margin": float("nan")}):
        with pytest.raises(UsageError):
            Pairing(**settings)
