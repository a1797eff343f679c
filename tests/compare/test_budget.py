"""A β for a budget of KL: between measured points, with an interval, never beyond."""

from types import SimpleNamespace

import numpy as np
import pytest

from accord.campaign.compare.budget import is_falling, read_off, recommend, require_beta
from accord.campaign.compare.contenders import Contender
from accord.types import UsageError

BETAS = np.array([0.01, 0.1, 1.0])


def points():
    return [Contender(f"beta={beta:g}", {"objective.beta": float(beta)}) for beta in BETAS]


def results(kl, noise=0.05, seeds=3, prompts=30):
    """One result a β with mean KL as given, and the start whose prompts they share."""
    rng = np.random.default_rng(0)
    found = [
        SimpleNamespace(
            name=p.name,
            measured=[
                SimpleNamespace(kl=mean + noise * rng.normal(size=prompts)) for _ in range(seeds)
            ],
        )
        for p, mean in zip(points(), kl, strict=True)
    ]
    return found, SimpleNamespace(prompt=list(range(prompts)))


def test_between_points():
    """Half-way in KL is half-way in log β."""
    assert read_off(BETAS, np.array([8.0, 4.0, 2.0]), 3.0) == pytest.approx(10**-0.5)
    assert read_off(BETAS, np.array([8.0, 4.0, 2.0]), 4.0) == pytest.approx(0.1)


def test_beyond_points():
    assert read_off(BETAS, np.array([8.0, 4.0, 2.0]), 9.0) == -np.inf
    assert read_off(BETAS, np.array([8.0, 4.0, 2.0]), 1.0) == np.inf


def test_noise_that_rises_is_pooled():
    assert is_falling(np.array([5.0, 2.0, 4.0, 1.0])).tolist() == [5, 3, 3, 1]
    assert is_falling(np.array([1.0, 2.0, 3.0])).tolist() == [2, 2, 2]


def test_recommended():
    found = recommend(*results([8, 4, 2]), points(), 3.0)
    assert (
        found["beta"] == pytest.approx(10**-0.5, rel=0.1)
        and found["low"] < found["beta"] < found["high"]
    )
    assert "95 % interval" in found["says"]


def test_two_seeds_give_words():
    """Their own readings in place of an interval."""
    found = recommend(*results([8, 4, 2], seeds=2), points(), 3.0)
    assert found["low"] is None and found["high"] is None and found["beta"] is not None
    assert "no interval of 2 seeds (alone they give 0.3" in found["says"]


@pytest.mark.parametrize("seeds", [3])
def test_few_seeds_make_a_wide_interval(seeds):
    """The truth lies inside at least as often as is said; one seed is said to know nothing of
    others.
    """
    rng, truth, covered = np.random.default_rng(1), 10**-0.5, 0
    for trial in range(60):
        prompts = rng.normal(size=40)
        found = [
            SimpleNamespace(
                name=p.name,
                measured=[
                    SimpleNamespace(kl=mean + prompts - prompts.mean() + rng.normal(0, 0.4))
                    for _ in range(seeds)
                ],
            )
            for p, mean in zip(points(), (8.0, 4.0, 2.0), strict=True)
        ]
        said = recommend(found, SimpleNamespace(prompt=list(range(40))), points(), 3.0, trial)
        covered += (said["low"] or 0) <= truth <= (said["high"] or 9)
    assert covered / 60 >= 0.93 and f"over prompts and {seeds} seeds" in said["says"]


def test_one_seed_is_said():
    assert (
        "over prompts alone: one seed"
        in recommend(*results([8, 4, 2], seeds=1), points(), 3.0)["says"]
    )


def test_the_interval_says_where_the_grid_ends():
    found = recommend(*results([8, 4, 2], noise=3.0), points(), 2.05)
    assert found["high"] is None and "above 1, the end of what was measured" in found["says"]


@pytest.mark.parametrize(
    "budget, words", [(9.0, "Add a smaller β, such as 0.0033"), (1.0, "Add a larger β, such as 3")]
)
def test_no_curve_is_drawn_on(budget, words):
    found = recommend(*results([8, 4, 2]), points(), budget)
    assert (
        found["beta"] is None
        and words in found["says"]
        and "lies outside what was measured" in found["says"]
    )


def test_what_a_budget_needs():
    require_beta(points())
    for others in (points()[:1], [*points(), Contender("x", {"train.warmup": 0.2})]):
        with pytest.raises(UsageError, match="vary β alone"):
            require_beta(others)
