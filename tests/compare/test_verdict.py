"""Sentences about who is better: nobody who was told apart is left out of them, and nobody else is
in them.
"""

from __future__ import annotations

import pytest

from accord.campaign.compare.verdict import summary_sentence, verdict_sentence


def judged(one: str, other: str, value: float, adjusted: float) -> dict:
    better = None if adjusted >= 0.05 else one if value > 0 else other
    difference = {"value": value, "low": value - 0.1, "high": value + 0.1}
    return {
        "one": one,
        "other": other,
        "difference": difference,
        "p": adjusted / 2,
        "adjusted": adjusted,
        "better": better,
    }


ENTRIES = [
    judged("dpo", "ipo", 0.01, 1.0),
    judged("dpo", "orpo", 0.18, 0.002),
    judged("dpo", "sft", 0.17, 0.003),
    judged("ipo", "orpo", 0.16, 0.006),
    judged("ipo", "sft", 0.2, 0.0254),
    judged("orpo", "sft", -0.12, 0.04),
]


def test_those_better_than_the_same_share_a_sentence():
    assert summary_sentence(ENTRIES) == [
        "dpo and ipo are better than orpo and sft, by 0.160 to 0.200, adjusted p at most 0.0254",
        "sft is better than orpo, by 0.120, adjusted p 0.04",
        "not to be told apart: dpo and ipo",
    ]


def test_a_difference_is_told_from_the_winner_on():
    assert "sft is better than orpo by 0.120 (0.020 to 0.220), adjusted p 0.04" in verdict_sentence(
        ENTRIES
    )


@pytest.mark.parametrize("entries", [[], [judged("a", "b", 0.3, 0.5)]])
def test_where_nobody_is_better_nobody_is_said_to_be(entries):
    assert (
        summary_sentence(entries)
        == verdict_sentence(entries)
        == ([] if not entries else ["not to be told apart: a and b"])
    )


def test_where_no_two_can_be_told_apart():
    """Said once, not fifteen times; against one rule, each name stays."""
    alike = [judged(one, other, 0.1, 1.0) for one, other in (("a", "b"), ("a", "c"), ("b", "c"))]
    assert (
        verdict_sentence(alike)
        == summary_sentence(alike)
        == ["no two of them can be told apart: a, b and c"]
    )
    rule = [judged(one, "longer", 0.1, 1.0) for one in "ab"]
    assert verdict_sentence(rule) == ["not to be told apart: a and longer; b and longer"]
