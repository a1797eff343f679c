"""Judges that compare rewards: the higher one wins."""

import math

import pytest

from accord.rewards.judges.scored import ScoredJudge
from accord.rewards.judges.verdict import Contest, by_scores
from accord.rewards.load import load_reward
from accord.types import UsageError


def judge(spec):
    return ScoredJudge(spec, load_reward(spec))


def test_the_higher_score_wins():
    judged = judge("vader")(
        [Contest("?", "lovely", "awful"), Contest("?", "awful", "lovely"), Contest("?", "a", "b")]
    )
    assert (
        judged.scores == [1.0, 0.0, 0.5]
        and judged.account["mean_score"] == judged.account["mean_score_other"]
    )


def test_a_negative_weight_turns_it_round():
    contests = [Contest("?", "one two", "one"), Contest("?", "one", "two")]
    assert judge("length")(contests).scores == [1.0, 0.5]
    assert judge("length=-1")(contests).scores == [0.0, 0.5]


def test_an_answer_is_verified_against_its_row():
    """A contest whose row has nothing to verify has no verdict, and is counted with the reason."""
    contests = [
        Contest("2 + 2?", "It is 4", "It is 5", row={"answer": "4"}),
        Contest("2 + 3?", "It is 4", "It is 5", row={"answer": "5"}),
        Contest("?", "It is 4", "It is 5"),
    ]
    judged = judge("final_answer")(contests)
    assert judged.scores == [1.0, 0.0, None] and sum(judged.failures.values()) == 2
    with pytest.raises(UsageError, match="final_answer can score none of 1 contests: the row"):
        judge("final_answer")(contests[2:])


def test_what_a_function_says_when_it_fails_is_shown(tmp_path, monkeypatch):
    name = f"failing_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text("def f(p, a): raise KeyError('model')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"raised KeyError\.\nKeyError: 'model'"):
        judge(f"{name}:f")([Contest("?", "a", "b")])


def test_without_a_score_there_is_no_verdict():
    judged = by_scores([1.0, math.nan, 3.0], [0.0, 1.0, math.nan])
    assert judged.scores == [1.0, None, None] and judged.account == {
        "mean_score": 1.0,
        "mean_score_other": 0.0,
    }
    assert by_scores([math.nan], [1.0]).account == {"mean_score": None, "mean_score_other": None}
