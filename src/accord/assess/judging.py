"""Win rates of fresh answers: who judges, against whom, and how far the judge can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accord.evaluate.win_rate import win_rate
from accord.forward.reference import cache_root
from accord.rewards.judges.scored import scoring_judge
from accord.rewards.judges.verdict import Contest, Judge, Judged, by_scores
from accord.rewards.model import ModelReward
from accord.rewards.scorers import prompt_text
from accord.sampling.sampler import Sample
from accord.types import Turn, UsageError


@dataclass(frozen=True)
class Judging:
    """What --judge and its kin ask for."""

    judge: str
    model: str | None = None  # that the endpoint serves
    timeout: float = 60.0
    # a model or run whose answers are the other side; None: the reference
    against: str | None = None


def make_judge(asked: Judging) -> Judge:
    """The judge by its name: an address, a reward model's folder, or a scorer.

    Raises:
      UsageError: none of them, or an option that it has no use for.
    """
    if not asked.judge.startswith(("http://", "https://")):
        if asked.model is not None:
            raise UsageError(
                f"--judge-model names what an endpoint serves, and --judge {asked.judge} is none."
                " Leave it out."
            )
        return (
            RewardJudge.open(asked.judge)
            if Path(asked.judge).expanduser().is_dir()
            else scoring_judge(asked.judge)
        )
    if asked.model is None:
        raise UsageError(
            "--judge is an address: name the model that it serves: --judge-model NAME."
        )
    try:
        from accord.rewards.judges.endpoint import EndpointJudge, Settings
    except ImportError as error:
        raise UsageError(
            f"A judge behind an address needs {error.name}: pip install 'accord[judge]'."
        ) from error
    settings = Settings(asked.judge, asked.model, timeout=asked.timeout)
    return EndpointJudge(settings, cache_root().parent / "judge")


@dataclass(frozen=True)
class RewardJudge:
    """The answer to which a trained reward model gives the higher score, read at the token that
    rollouts are rewarded at.
    """

    name: str
    reward: ModelReward

    @classmethod
    def open(cls, folder: str) -> RewardJudge:
        """
        Raises:
          UsageError, Refused: no reward model there.
        """
        return cls(folder, ModelReward(folder))

    def __call__(self, contests: Sequence[Contest]) -> Judged:
        """
        Raises:
          UsageError: it can score no contest.
        """
        turns = [contest.turns or (Turn("user", contest.prompt),) for contest in contests]
        sides = [
            self.reward(
                turns, [getattr(contest, side) for contest in contests], [{}] * len(contests)
            )
            for side in ("one", "other")
        ]
        failures = sides[0].reasons + sides[1].reasons
        one, other = (side.values.tolist() for side in sides)
        judged = by_scores(one, other, failures)
        if contests and not judged.places:
            raise UsageError(
                f"The reward model {self.name} can score none of {len(contests):,} contests:"
                f" {'; '.join(failures)}."
            )
        return judged


def contests_of(
    turns: Sequence[tuple[Turn, ...]], own: Sequence[Sample], other: Sequence[Sample]
) -> list[Contest]:
    return [
        Contest(prompt_text(t), a.text, b.text, tuple(t))
        for t, a, b in zip(turns, own, other, strict=True)
    ]


def judged_figures(judge: Judge, against: str, contests: Sequence[Contest], seed: int) -> dict:
    """Ask the judge; win rates over the contests that have a verdict, and the account of the
    others.
    """
    judged: Judged = judge(contests)
    places = judged.places
    found = win_rate(
        [score for score in judged.scores if score is not None],
        [len(contests[i].one) for i in places],
        [len(contests[i].other) for i in places],
        seed=seed,
    )
    return {
        "judge": judge.name,
        "against": against,
        **found.as_dict(),
        "contests": len(contests),
        "judged": len(places),
        "failures": dict(judged.failures),
        "account": judged.account,
    }
