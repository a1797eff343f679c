"""Comparisons of real runs: the same whatever stopped them, no cell twice, nothing of another
recipe, one measure for all.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from compare.helpers import SILENT, VOLATILE, recipe, starts, steady
from conftest import pair_rows, write_rows
from training.helpers import stopped_after
from typer.testing import CliRunner

from accord.campaign import stages
from accord.campaign.compare import cells, contenders, run
from accord.campaign.compare.run import Terms, compare, sweep
from accord.campaign.log import logged
from accord.cli.app import app
from accord.forward import reference
from accord.pages.comparison import render
from accord.pages.comparison_lines import lines, table
from accord.types import CheckpointError, DataError, Diverged, Interrupted, Refused, UsageError

METHODS = "dpo,kto,sft"


def asked(folder, **changes) -> Terms:
    return Terms(str(folder), **{"seeds": 1, "samples": 2, "sample_tokens": 4} | changes)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(pairs, held-out pairs) of this module's comparisons."""
    folder = tmp_path_factory.mktemp("rows")
    return write_rows(folder / "pairs.jsonl", pair_rows(24)), write_rows(
        folder / "held <b>.jsonl", pair_rows(8, start=100)
    )


@pytest.fixture(scope="module")
def straight(tiny_folder, files, tmp_path_factory):
    """(folder, record) of a comparison that nothing stopped, its reference pass its own."""
    base = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "cache_root", lambda: base / "cache")
        return base / "out", compare(
            recipe(tiny_folder, *files), METHODS, asked(base / "out"), SILENT
        )


def test_what_comes_out(straight):
    folder, record = straight
    assert json.loads((folder / "comparison.json").read_text()) == json.loads(json.dumps(record))
    assert set(record["table"]) == {"dpo", "kto", "sft"} and record["failed"] == {}
    assert {
        len(record["pairwise"][name]) for name in ("change_sum", "change_token", "implicit")
    } == {3}
    assert {cost["updates"] for cost in record["cost"]["cells"].values()} == {2}
    rates = {name: cost["learning_rate"] for name, cost in record["cost"]["cells"].items()}
    assert rates == {"dpo-seed0": 2e-4, "kto-seed0": 4e-4, "sft-seed0": 2e-4}  # each method's own
    assert "kl" not in record["pairwise"]  # the one that spends more of it is not the better one
    said = "\n".join(lines(record))
    assert (
        "the longer answer wins" in said
        and "One seed: nothing is known of what another seed would give" in said
    )


def test_one_reference_pass(straight):
    """kto asks for the rows that dpo has computed, and computes its mismatched ones alone."""
    cost = straight[1]["cost"]["cells"]
    dpo, kto = (cost[f"{name}-seed0"]["reference_rows"] for name in ("dpo", "kto"))
    assert dpo == {"computed": 8, "needed": 8} and cost["sft-seed0"]["reference_rows"] is None
    assert kto["needed"] == 32 and kto["computed"] == 16


def test_the_same_pairs_in_every_method(straight):
    """The pairs of dpo's batches are those of kto's labels,
    through the runs' own records of rows.
    """
    folder, _ = straight
    config = {
        name: (folder / f"cells/{name}-seed0/config.yaml").read_text()
        for name in ("dpo", "kto", "sft")
    }
    assert "batch_size: 8" in config["kto"] and "pair_labels: true" in config["kto"]
    assert "batch_size: 4" in config["dpo"] and "batch_size: 4" in config["sft"]
    assert all("held_out: null" in text for text in config.values())


def test_stopped_and_run_again(straight, tiny_folder, files, tmp_path, monkeypatch):
    """A signal inside the second cell: exit 75; the same command goes on to the same result, no
    cell begun twice.
    """
    base = recipe(tiny_folder, *files)
    # one cell is there already: further ones are welcome
    compare(base, "dpo", asked(tmp_path / "out"), SILENT)
    with (
        stopped_after(monkeypatch, 1),
        pytest.raises(Interrupted, match="Go on with the same command") as stopped,
    ):
        compare(base, METHODS, asked(tmp_path / "out"), SILENT)
    assert stopped.value.code == 75
    assert "accord resume" not in str(stopped.value)  # which would go on with one cell alone
    record = compare(base, METHODS, asked(tmp_path / "out"), SILENT)
    assert steady(record) == steady(straight[1])
    assert starts(tmp_path / "out") == {"dpo-seed0": 1, "kto-seed0": 1, "sft-seed0": 1}
    resumed = [
        entry["cell"] for entry in logged(tmp_path / "out", cells.LOG) if entry["what"] == "resumed"
    ]
    assert resumed == ["kto-seed0"]


KILLED = """
import os, signal, sys
from accord.training import loop
update = loop.make_update
def killing(run):
    update(run)
    if run.folder.path.name.startswith("kto"):
        os.kill(os.getpid(), signal.SIGKILL)
loop.make_update = killing
from accord.cli.app import app
app(sys.argv[1:])
"""


def test_killed_and_run_again(straight, tiny_folder, files, tmp_path):
    """SIGKILL in the middle of the second cell, through the command line."""
    (tmp_path / "recipe.json").write_text(
        json.dumps(
            {
                "model": {"name": str(tiny_folder), "dtype": "float32"},
                "data": {"train": files[0], "held_out": files[1]},
                "train": {"steps": 2, "batch_size": 4},
                "checkpoint": {"every": 1},
            }
        )
    )
    flags = [
        "--methods",
        METHODS,
        "--seeds",
        "1",
        "--samples",
        "2",
        "--sample-tokens",
        "4",
        "--output",
        str(tmp_path / "out"),
    ]
    source = str(Path(__file__).parents[2] / "src")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, "compare", str(tmp_path / "recipe.json"), *flags],
        capture_output=True,
        env={
            **os.environ,
            "PYTHONPATH": source,
            "ACCORD_CACHE": str(tmp_path / "cache"),
            "OMP_NUM_THREADS": "1",
        },
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "recipe.json"), *flags, "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)["result"]
    page = Path(record.pop("page"))
    assert {k: v for k, v in record.items() if k not in (*VOLATILE, "plan")} == {
        k: v for k, v in json.loads(json.dumps(straight[1])).items() if k not in (*VOLATILE, "plan")
    }
    assert max(starts(tmp_path / "out").values()) == 1 and page.is_file()


def test_another_recipe_is_refused(straight, tiny_folder, files):
    """Whatever would make cells that cannot be compared with those that are there; and what differs
    is said.
    """
    folder, _ = straight
    other = recipe(tiny_folder, *files, **{"train.warmup": 0.5})
    with pytest.raises(
        Refused, match=r"dpo-seed0: train.warmup: then 0.1, now 0.5[\s\S]*another folder"
    ):
        compare(other, METHODS, asked(folder), SILENT)
    longer = recipe(tiny_folder, *files, **{"train.steps": 3})
    # cells of both lengths would stand in one table
    with pytest.raises(Refused, match="train.steps: then 2, now 3"):
        compare(longer, METHODS, asked(folder), SILENT)
    rows = write_rows(Path(files[0]).parent / "more.jsonl", pair_rows(25))
    with pytest.raises(Refused, match="data.train: then"):
        compare(recipe(tiny_folder, rows, files[1]), METHODS, asked(folder), SILENT)


def test_one_answered_prompt_has_no_interval(straight, files, tiny_folder, tmp_path):
    """It is null in the record and words on the page."""
    record = compare(
        recipe(tiny_folder, *files), "dpo,sft", asked(tmp_path / "out", samples=1), SILENT
    )
    assert (
        record["table"]["dpo"]["kl"]["high"] is None
        and "Infinity" not in (tmp_path / "out/comparison.json").read_text()
    )
    assert "interval not known" in render(record) and any(
        "interval not known" in line for line in lines(record)
    )
    assert not re.search(r"\)\S", "\n".join(table(record)))  # two blanks between two columns


def test_two_names_that_are_one_on_the_disk(tiny_folder, files, tmp_path):
    """One contender's cells would be measured as the other's."""
    base = recipe(tiny_folder, *files)
    two = [
        contenders.cell(
            base, contenders.Contender(name, {}), 0, tmp_path, tmp_path / "rows.jsonl", 2
        )
        for name in ("mine:f", "mine/f")
    ]
    with pytest.raises(UsageError, match="'mine_f-seed0' on the disk"):
        cells.require_plan(tmp_path, two, {})


def test_a_cell_that_diverged_is_a_row(straight, tiny_folder, files, tmp_path, monkeypatch):
    """The others are compared all the same; it is not tried again."""
    start, tried = stages.start, []

    def start_or_diverge(config, display, command):
        if config.objective["name"] == "ipo":
            tried.append(config.output)
            Path(config.output).mkdir(parents=True)
            (Path(config.output) / "diverged.json").write_text(
                '{"says": "update 1: the loss is nan."}'
            )
            raise Diverged("update 1: the loss is nan.\nStopped.")
        return start(config, display, command)

    monkeypatch.setattr(stages, "start", start_or_diverge)
    for _ in range(2):
        record = compare(recipe(tiny_folder, *files), "ipo,dpo", asked(tmp_path / "out"), SILENT)
        assert record["failed"] == {"ipo-seed0": "update 1: the loss is nan."} and set(
            record["table"]
        ) == {"dpo"}
        assert "ipo-seed0: no model. update 1: the loss is nan." in lines(record)
    assert len(tried) == 1
    with pytest.raises(Refused, match="No cell gave a model"):
        compare(recipe(tiny_folder, *files), "ipo", asked(tmp_path / "out"), SILENT)


def test_trials_see_training_rows_alone(tiny_folder, files, tmp_path):
    """Two learning rates, chosen on prompts that the trials did not train on and the held-out file
    does not have.
    """
    record = compare(recipe(tiny_folder, *files), "dpo", asked(tmp_path / "out", trials=2), SILENT)
    prompts = {
        name: {
            row["prompt"][0]["content"]
            for row in map(json.loads, (tmp_path / f"out/data/{name}.jsonl").open())
        }
        for name in ("train", "trials/train", "trials/held_out", "held_out")
    }
    cut, left = prompts["trials/held_out"], prompts["trials/train"]
    assert (
        cut
        and not cut & left
        and cut | left == prompts["train"]
        and not prompts["train"] & prompts["held_out"]
    )
    assert len(record["trials"]["dpo"]["accuracy"]) == 2
    assert (
        record["cost"]["cells"]["dpo-seed0"]["learning_rate"] == record["trials"]["dpo"]["chosen"]
    )


def test_sweep_with_a_budget(tiny_folder, files, tmp_path):
    """Two betas, a scorer of one's own, and a budget that neither reaches."""
    base = recipe(tiny_folder, *files)
    want = asked(tmp_path / "out", kl_budget=50.0, scorer="compare.scorers:brevity")
    record = sweep(base, ["objective.beta=0.05,0.5"], want, SILENT)
    assert (
        list(record["table"]) == ["beta=0.05", "beta=0.5"]
        and "win_rate" in record["table"]["beta=0.05"]
    )
    assert record["budget"]["beta"] is None and "Add a smaller β" in record["budget"]["says"]
    assert record["cost"]["reference_rows"]["needed"] == 16


def test_the_page_escapes_and_runs_nothing(straight):
    text = render(straight[1])
    assert "held &lt;b&gt;.jsonl" in text and "<b>.jsonl" not in text
    assert (
        "<script" not in text
        and "http:" not in text
        and "https:" not in text
        and "prefers-color-scheme: dark" in text
    )


# ------------------------------------------------------- what is refused before anything is trained


@pytest.fixture
def base(tiny_folder, files):
    return recipe(tiny_folder, *files)


BAD = {
    "unknown method": ("dop", "did you mean 'dpo'"),
    "twice": ("dpo,ipo,dpo", "dpo is named twice"),
    "none": (",", "expected names such as dpo,ipo,kto"),
}


@pytest.mark.parametrize("names, words", BAD.values(), ids=BAD)
def test_bad_methods(names, words, base, tmp_path):
    with pytest.raises(UsageError, match=words):
        compare(base, names, asked(tmp_path / "out"), SILENT)
    assert not (tmp_path / "out").exists()


GRIDS = {
    "unknown field": ("objective.bta=0.1", "did you mean 'beta'"),
    "unknown section": ("trian.warmup=0.1", "did you mean train"),
    "no value": ("objective.beta=", "expected key=value,value"),
    "out of bounds": ("objective.beta=0.1,-1", "beta = -1"),
    "shared by all": ("data.held_out=a,b", "all cells of a sweep share it"),
    "a seed": ("train.seed=1,2", "seeds are --seeds N"),
    "twice": ("train.learning_rate=0.01,1e-2", "given twice"),
}


@pytest.mark.parametrize("assignment, words", GRIDS.values(), ids=GRIDS)
def test_bad_grids(assignment, words, base):
    with pytest.raises(UsageError, match=words):
        contenders.grid(base, [assignment])


def test_a_grid_is_a_product(base):
    points = contenders.grid(base, ["objective.beta=0.1,0.2", "train.learning_rate=1e-4,1e-3,1e-2"])
    assert [point.name for point in points][:2] == [
        "beta=0.1 learning_rate=1e-4",
        "beta=0.1 learning_rate=1e-3",
    ]
    last = contenders.with_change(base, points[5].changes)
    assert len(points) == 6 and (last.objective["beta"], last.train.learning_rate) == (0.2, 1e-2)


def test_a_recipe_s_options_are_its_own_method_s(base):
    """β and learning rate of the recipe's dpo are not ipo's."""
    own = contenders.with_change(
        base, {"objective": {"name": "dpo", "beta": 0.3}, "train.learning_rate": 1e-3}
    )
    dpo, ipo = (
        contenders.with_change(own, point.changes) for point in contenders.methods(own, "dpo,ipo")
    )
    assert (dpo.objective, dpo.train.learning_rate) == ({"name": "dpo", "beta": 0.3}, 1e-3)
    assert (ipo.objective, ipo.train.learning_rate) == ({"name": "ipo"}, None)


def test_what_cannot_be_compared(tiny_folder, files, tmp_path):
    train, held_out = files
    for held, fields, error, words in (
        (held_out, {"monitor.on_flag": "adapt"}, UsageError, "same number of updates"),
        (None, {}, UsageError, "accord split"),
        (train, {}, DataError, "data.leak"),
    ):
        base = recipe(tiny_folder, train, held, **fields)
        with pytest.raises(error, match=words):
            compare(base, "dpo", asked(tmp_path / "out"), SILENT)
    with pytest.raises(UsageError, match="no reward is called 'vadre'"):
        compare(recipe(tiny_folder, *files), "dpo", asked(tmp_path / "out", scorer="vadre"), SILENT)
    with pytest.raises(UsageError, match="--kl-budget"):
        sweep(
            recipe(tiny_folder, *files),
            ["objective.beta=0.1,0.2"],
            asked(tmp_path / "out", kl_budget=-1.0),
            SILENT,
        )


def test_a_folder_that_was_just_begun(tmp_path):
    """Killed before the first row was written whole: that is no folder of someone else's."""
    (tmp_path / "out/.staging-data").mkdir(parents=True)
    with run.comparison_lock(str(tmp_path / "out"), SILENT, ()) as desk:
        assert desk.folder == tmp_path / "out"


def test_folders_that_are_not_a_comparison_s(straight, base, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="a folder with other things in it"):
        compare(base, "dpo", asked(tmp_path), SILENT)
    with pytest.raises(UsageError, match="a run or a file stands there"):
        compare(base, "dpo", asked(straight[0] / "cells/dpo-seed0"), SILENT)
    with (
        run.comparison_lock(str(tmp_path / "busy"), SILENT, ()),
        pytest.raises(CheckpointError, match="another process"),
    ):
        compare(base, "dpo", asked(tmp_path / "busy"), SILENT)


def test_commands_for_people(straight, tiny_folder, files, tmp_path):
    done = CliRunner().invoke(
        app, ["sweep", str(tmp_path / "none.yaml"), "--set", "objective.beta=0.1,0.2"]
    )
    assert done.exit_code == 2 and "no such recipe" in done.stderr
    done = CliRunner().invoke(app, ["frontier"])
    assert done.exit_code == 2 and "--demo" in done.stderr
