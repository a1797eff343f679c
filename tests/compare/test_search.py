"""Searching settings: the same trials whatever stopped it, chosen on validation rows, recorded in
our own file.
"""

import json
import sys

import pytest
from compare.helpers import SILENT, recipe, starts
from conftest import pair_rows, write_rows
from typer.testing import CliRunner

from accord.campaign.compare import search
from accord.campaign.compare.run import Terms, sweep
from accord.campaign.compare.search import plan, run_trials
from accord.cli.app import app
from accord.pages.comparison import render
from accord.pages.comparison_lines import lines
from accord.types import Refused, UsageError

GRID = [
    "objective.beta=log:0.01..1",
    "train.warmup=0.0..0.5",
    "train.batch_size=2..4",
    "train.schedule=linear,cosine",
]


@pytest.fixture
def base(tiny_folder, tmp_path):
    files = (
        write_rows(tmp_path / "pairs.jsonl", pair_rows(24)),
        write_rows(tmp_path / "held.jsonl", pair_rows(8, start=100)),
    )
    return recipe(tiny_folder, *files)


def peak(contender) -> tuple[float | None, str | None]:
    """Best at β = 0.1 and no warm-up; batches of 3 give no model."""
    if contender.changes["train.batch_size"] == 3:
        return None, "the loss is nan"
    return (
        1 - abs(contender.changes["objective.beta"] - 0.1) - contender.changes["train.warmup"],
        None,
    )


# ---------------------------------------------------------------- with a score of our own


def test_asked_in_its_ranges_and_recorded(base, tmp_path):
    pytest.importorskip("optuna")
    trials = run_trials(plan(base, GRID, 12), tmp_path, peak, SILENT)
    assert json.loads((tmp_path / "search.json").read_text()) == trials and len(trials) == 12
    for trial in trials:
        beta, warmup, size, schedule = trial["settings"].values()
        assert (
            0.01 <= beta <= 1
            and 0 <= warmup <= 0.5
            and size in (2, 3, 4)
            and schedule in ("linear", "cosine")
        )
        assert (trial["score"] is None) == (size == 3) == (trial["failed"] == "the loss is nan")
    assert {trial["settings"]["train.schedule"] for trial in trials} == {"linear", "cosine"}
    # evenly in the logarithm, not in β
    assert sum(trial["settings"]["objective.beta"] < 0.1 for trial in trials) > 2


def test_stopped_anywhere_it_goes_on_as_if_not(base, tmp_path):
    """After each trial: those that are recorded are not run again, the others are what they would
    have been.
    """
    pytest.importorskip("optuna")
    wanted, ran = plan(base, GRID, 13), []

    def scored(contender):
        ran.append(contender.name)
        return peak(contender)

    straight = run_trials(wanted, made(tmp_path / "straight"), scored, SILENT)
    names = list(ran)
    for stopped in (2, 7, 12):
        folder = made(tmp_path / f"stopped{stopped}")
        run_trials(plan(base, GRID, stopped), folder, scored, SILENT)
        ran.clear()
        assert run_trials(wanted, folder, scored, SILENT) == straight
        assert ran == names[stopped:]


def made(folder):
    folder.mkdir()
    return folder


def test_the_sampler_learns_from_what_it_is_told(base, tmp_path):
    """With other scores, other settings are proposed once the first ten are in."""
    pytest.importorskip("optuna")
    wanted = plan(base, ["objective.beta=log:0.01..1"], 14)
    found = []
    for sign in (1, -1):
        score = lambda contender, sign=sign: (sign * contender.changes["objective.beta"], None)  # noqa: E731
        found.append(
            [t["settings"] for t in run_trials(wanted, made(tmp_path / str(sign)), score, SILENT)]
        )
    assert found[0][:10] == found[1][:10] and found[0][10:] != found[1][10:]


def test_a_record_of_another_search_is_refused(base, tmp_path):
    pytest.importorskip("optuna")
    run_trials(plan(base, GRID, 2), tmp_path, peak, SILENT)
    other = base.model_copy(update={"train": base.train.model_copy(update={"seed": 5})})
    with pytest.raises(Refused, match=r"search.json: trial 0 was beta=[\s\S]*another seed"):
        run_trials(plan(other, GRID, 2), tmp_path, peak, SILENT)


# ---------------------------------------------------------------- real runs


def test_the_best_against_the_recipe(base, tmp_path):
    """Trials never see the held-out rows; the comparison that follows is of the recipe and the
    best, on all training rows.
    """
    pytest.importorskip("optuna")
    terms = Terms(str(tmp_path / "out"), 1, 2, 2, 4, search="optuna")
    record = sweep(base, ["objective.beta=log:0.01..1"], terms, SILENT)
    trials = record["search"]["trials"]
    best = trials[record["search"]["best"]]
    assert best["score"] == max(trial["score"] for trial in trials) and len(trials) == 2
    assert list(record["table"]) == ["recipe", f"found beta={best['settings']['objective.beta']}"]
    prompts = {
        name: {
            row["prompt"][0]["content"]
            for row in map(json.loads, (tmp_path / f"out/data/{name}.jsonl").open())
        }
        for name in ("trials/train", "trials/held_out", "held_out")
    }
    assert not (prompts["trials/train"] | prompts["trials/held_out"]) & prompts["held_out"]
    configs = [file.read_text() for file in (tmp_path / "out/trials").glob("trial*/config.yaml")]
    assert len(configs) == 2 and all("data/trials/train.jsonl" in text for text in configs)
    assert "2 trials by tpe of optuna" in "\n".join(
        lines(record)
    ) and "What was searched" in render(record)
    more = sweep(
        base,
        ["objective.beta=log:0.01..1"],
        Terms(str(tmp_path / "out"), 1, 3, 2, 4, search="optuna"),
        SILENT,
    )
    assert more["search"]["trials"][:2] == trials and max(starts(tmp_path / "out").values()) == 1
    with pytest.raises(Refused, match="search: then"):
        sweep(base, ["objective.beta=log:0.02..1"], terms, SILENT)
    assert not [
        file for file in (tmp_path / "out").rglob("*") if file.suffix in (".pkl", ".pickle", ".db")
    ]


# ------------------------------------------------------- what is refused before anything is trained

BAD = {
    "no range": (["objective.beta=0.1"], "Nothing to search"),
    "backwards": (["objective.beta=1..0.1"], "a smaller number to a larger one"),
    "no logarithm": (["train.warmup=log:0..0.5"], "both above 0"),
    "two ranges": (["objective.beta=0.1..0.2,0.3..0.4"], "expected one range"),
    "no numbers": (["objective.beta=e..e"], "two numbers"),
    "unknown field": (["objective.bta=0.1..0.2"], "did you mean 'beta'"),
    "out of bounds": (["objective.beta=-1..1"], "beta = -1"),
    "twice": (["objective.beta=0.1..0.2", "objective.beta=0.1"], "given twice"),
    "shared by all": (["train.seed=1..5"], "seeds are --seeds N"),
}


@pytest.mark.parametrize("assignments, words", BAD.values(), ids=BAD)
def test_bad_spaces(assignments, words, base):
    pytest.importorskip("optuna")
    with pytest.raises(UsageError, match=words):
        plan(base, assignments, 5)


def test_optuna_may_be_missing(base, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"pip install 'accord\[optuna\]'"):
        plan(base, GRID, 5)


def test_bad_terms(base, tmp_path):
    for changes, words in (
        ({"search": "random"}, "expected grid or optuna"),
        ({"search": "optuna", "kl_budget": 1.0}, "leave --search out"),
    ):
        with pytest.raises(UsageError, match=words):
            sweep(base, GRID, Terms(str(tmp_path / "out"), 1, 5, **changes), SILENT)
    if pytest.importorskip("optuna"):
        with pytest.raises(UsageError, match="at least 2"):
            search.plan(base, GRID, 1)
    done = CliRunner().invoke(app, ["sweep", base.data.train, "--set", GRID[0], "--trials", "5"])
    assert done.exit_code == 2 and "--search optuna" in done.stderr
