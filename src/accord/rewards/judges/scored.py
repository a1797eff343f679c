"""A judge that scores each answer on its own, by a scorer's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accord.rewards.judges.verdict import Contest, Judged, by_scores
from accord.rewards.scorers import Scorer, load_scorer


@dataclass(frozen=True)
class ScoringJudge:
    """The answer with the higher score is the better one."""

    name: str
    score: Scorer

    def __call__(self, contests: Sequence[Contest]) -> Judged:
        prompts = [contest.prompt for contest in contests]
        ours = self.score(prompts, [contest.one for contest in contests])
        return by_scores(ours, self.score(prompts, [contest.other for contest in contests]))


def scoring_judge(name: str) -> ScoringJudge:
    """The judge `name`.

    Raises:
      UsageError: no scorer is called so.
    """
    return ScoringJudge(name, load_scorer(name))
