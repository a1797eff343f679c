"""Win rates of fresh answers: who judges, against whom, and how far the judge can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accord.evaluate.generate import Sample
from accord.evaluate.judges.scored import scoring_judge
from accord.evaluate.judges.verdict import Contest, Judge, Judged
from accord.evaluate.scorers import prompt_text
from accord.evaluate.win_rate import win_rate
from accord.forward.reference import cache_root
from accord.types import Turn, UsageError


@dataclass(frozen=True)
class Judging:
    """What --judge and its kin ask for."""

    judge: str
    model: str | None = None  # that the endpoint serves
    timeout: float = 60.0
    against: str | None = None  # a model or run whose answers are the other side; None: the reference


def make_judge(asked: Judging) -> Judge:
    """The judge by its name: an address, a reward model's folder, or a scorer.

    Raises:
      UsageError: none of them, or an option that it has no use for.
    """
    if not asked.judge.startswith(("http://", "https://")):
        if asked.model is not None:
            raise UsageError(f"--judge-model names what an endpoint serves, and --judge {asked.judge} is none. Leave it out.")
        return scoring_judge(asked.judge)
    if asked.model is None:
        raise UsageError("--judge is an address: name the model that it serves: --judge-model NAME.")
    try:
        from accord.evaluate.judges.endpoint import EndpointJudge, Settings
    except ImportError as error:
        raise UsageError(f"A judge behind an address needs {error.name}: pip install 'accord[judge]'.") from error
    settings = Settings(asked.judge, asked.model, timeout=asked.timeout)
    return EndpointJudge(settings, cache_root().parent / "judge")


def contests_of(turns: Sequence[tuple[Turn, ...]], own: Sequence[Sample], other: Sequence[Sample]) -> list[Contest]:
    return [Contest(prompt_text(t), a.text, b.text) for t, a, b in zip(turns, own, other, strict=True)]


def judged_figures(judge: Judge, against: str, contests: Sequence[Contest], seed: int) -> dict:
    """Ask the judge; win rates over the contests that have a verdict, and the account of the others."""
    judged: Judged = judge(contests)
    places = judged.places
    found = win_rate(
        [judged.scores[i] for i in places], [len(contests[i].one) for i in places], [len(contests[i].other) for i in places], seed=seed
    )
    return {
        "judge": judge.name, "against": against, **found.as_dict(), "contests": len(contests), "judged": len(places),
        "failures": dict(judged.failures), "account": judged.account,
    }  # fmt: skip
