"""Judges that score: the higher score wins."""

import math

import pytest

from accord.rewards.judges.scored import scoring_judge
from accord.rewards.judges.verdict import Contest, by_scores
from accord.types import UsageError


def test_the_higher_score_wins():
    judged = scoring_judge("vader")(
        [Contest("?", "lovely", "awful"), Contest("?", "awful", "lovely"), Contest("?", "a", "b")]
    )
    assert (
        judged.scores == [1.0, 0.0, 0.5]
        and judged.account["mean_score"] == judged.account["mean_score_other"]
    )


def test_without_a_score_there_is_no_verdict():
    judged = by_scores([1.0, math.nan, 3.0], [0.0, 1.0, math.nan])
    assert judged.scores == [1.0, None, None] and judged.account == {
        "mean_score": 1.0,
        "mean_score_other": 0.0,
    }
    assert by_scores([math.nan], [1.0]).account == {"mean_score": None, "mean_score_other": None}


def test_an_unknown_scorer_is_said():
    with pytest.raises(UsageError, match="no scorer is called"):
        scoring_judge("vadr")
