"""Win rates of fresh answers: the judge, the opponent, and how far the judge can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from accord.environment.installing import install_line
from accord.errors import AccordError
from accord.evaluate.win_rate import win_rate
from accord.rewards.judge import is_address, judge_cache, split_address
from accord.rewards.judges.scored import ScoredJudge
from accord.rewards.judges.verdict import Contest, Judge, Judged
from accord.rewards.load import load_reward, parse_weighted
from accord.rewards.reward import prompt_text
from accord.sampling.sampler import Sample
from accord.types import Turn, UsageError


@dataclass(frozen=True)
class Judging:
    """The options of --judge and its companions."""

    judge: str
    model: str | None = None  # the model that the endpoint serves
    timeout: float | None = None  # seconds for one reply of the endpoint; its own default
    # the model or run that gives the other answers; None takes the reference
    against: str | None = None
    # keyword arguments of a reward, by its name
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    max_tokens: int | None = None  # limit of one reply of the endpoint; its own default


def judging_of(
    judge: str | None,
    model: str | None = None,
    *,
    timeout: float | None = None,
    max_tokens: int | None = None,
    against: str | None = None,
    options: Mapping[str, Mapping[str, object]] | None = None,
) -> Judging | None:
    """Return what the judge's options ask for; None where nothing is judged.

    Raises:
      UsageError: an option that would do nothing, or seconds that make no sense.
    """
    if judge is None:
        given = {
            "--judge-model": model,
            "--judge-timeout": timeout,
            "--judge-max-tokens": max_tokens,
            "--against": against,
            "--judge-set": options or None,
        }
        if idle := [name for name, value in given.items() if value is not None]:
            raise UsageError(
                f"{' and '.join(idle)}: nothing is judged. Give a judge: --judge vader."
            )
        return None
    if timeout is not None and not timeout > 0:
        raise UsageError(f"--judge-timeout {timeout}: expected seconds, above 0.")
    return Judging(judge, model, timeout, against, options or {}, max_tokens)


def make_judge(asked: Judging) -> Judge:
    """Make the judge by its name: an address, which compares two answers itself, or any reward.

    Raises:
      UsageError: no such judge, or an option that it has no use for.
    """
    name, _ = parse_weighted(asked.judge)
    if is_address(name):
        return _endpoint_judge(asked, weighted=name != asked.judge)
    for flag, value in (
        ("--judge-model", asked.model),
        ("--judge-timeout", asked.timeout),
        ("--judge-max-tokens", asked.max_tokens),
    ):
        if value is not None:
            raise UsageError(
                f"{flag} is of an endpoint that compares answers, and --judge {asked.judge} is"
                " none. Leave it out."
            )
    reward = load_reward(asked.judge, asked.options, flag="--judge-set")
    return ScoredJudge(asked.judge, reward, remote=name == "judge")


def _endpoint_judge(asked: Judging, weighted: bool) -> Judge:
    """Make a judge from an endpoint's address.

    Raises:
      UsageError: no model is named, or two, or options that verdicts have no use for.
    """
    url, model = split_address(asked.judge)
    scores = "--judge judge --judge-set judge.url=URL --judge-set judge.model=NAME"
    if weighted or asked.options:
        raise UsageError(
            "--judge with an address asks for verdicts on pairs: they have no weight, and no"
            " options but --judge-model, --judge-timeout and --judge-max-tokens. Leave the others"
            f" out, or compare scores: {scores}."
        )
    if model is not None and asked.model not in (None, model):
        raise UsageError(f"--judge names the model {model}, and --judge-model {asked.model}.")
    if (served := model or asked.model) is None:
        raise UsageError(
            "--judge is an address: name the model that it serves: --judge-model NAME, or"
            " --judge URL#NAME."
        )
    try:
        from accord.rewards.judges.endpoint import EndpointJudge, Settings
    except ImportError as error:
        raise UsageError(
            f"A judge behind an address needs {error.name}: {install_line('accord[judge]')}"
        ) from error
    settings = Settings(url, served)
    if asked.timeout is not None:
        settings = replace(settings, timeout=asked.timeout)
    if asked.max_tokens is not None:
        settings = replace(settings, max_tokens=asked.max_tokens)
    return EndpointJudge(settings, judge_cache())


def contests_of(
    turns: Sequence[tuple[Turn, ...]],
    own: Sequence[Sample],
    other: Sequence[Sample],
    rows: Sequence[Mapping[str, object]],
) -> list[Contest]:
    """Pair two answers to each prompt, with the other columns of its row."""
    return [
        Contest(prompt_text(t), a.text, b.text, tuple(t), row)
        for t, a, b, row in zip(turns, own, other, rows, strict=True)
    ]


def judged_figures(judge: Judge, against: str, contests: Sequence[Contest], seed: int) -> dict:
    """Ask the judge. Return win rates over the contests that have a verdict, and an account of the
    others. A judge that fails is recorded with its words: what was measured before it stays.
    """
    about = {"judge": judge.name, "against": against, "contests": len(contests)}
    try:
        judged: Judged = judge(contests)
    except AccordError as error:
        return about | {"judged": 0, "failed": str(error)}
    places = judged.places
    found = win_rate(
        [score for score in judged.scores if score is not None],
        [len(contests[i].one) for i in places],
        [len(contests[i].other) for i in places],
        seed=seed,
    )
    return {
        **about,
        **found.as_dict(),
        "judged": len(places),
        "failures": dict(judged.failures),
        "account": judged.account,
    }
