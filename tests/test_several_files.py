"""Several files in a config: how they are written, in every place that takes them, and what is
refused.
"""

import json
from pathlib import Path

import pytest
import yaml
from conftest import pair_rows, write_rows
from typer.testing import CliRunner

import accord
from accord.cli.app import app
from accord.cli.given import named_files
from accord.config.build import build
from accord.config.schema import dump, make_config
from accord.errors import UsageError

TWO = [{"path": "a.jsonl", "weight": 2}, "b.jsonl"]


def test_a_list_becomes_files_and_a_name():
    data = build({"data": {"train": TWO, "held_out": ["x/c.jsonl", "d.jsonl"]}}).data
    assert data.train == "a.jsonl + b.jsonl" and data.held_out == "x/c.jsonl + d.jsonl"
    assert [(each.path, each.weight) for each in data.train_files] == [
        ("a.jsonl", 2.0),
        ("b.jsonl", 1.0),
    ]
    assert data.held_out_paths == ("x/c.jsonl", "d.jsonl")


def test_written_and_read_again_it_is_the_same():
    files = [{"path": "a.jsonl", "weight": 0.5, "columns": "prompt=q", "ignore_columns": "n"}]
    config = build({"data": {"train": [*files, "b.jsonl"], "held_out": ["c", "d"]}})
    written = yaml.safe_load(dump(config))
    assert written["data"]["train"] == [
        {"path": "a.jsonl", "columns": {"prompt": "q"}, "ignore_columns": ["n"], "weight": 0.5},
        {"path": "b.jsonl"},
    ]
    assert make_config(written) == config == make_config(config.model_dump())


def test_one_file_is_written_as_before():
    written = yaml.safe_load(dump(build(data="a.jsonl", held_out="c.jsonl")))["data"]
    assert written["train"] == "a.jsonl" and written["held_out"] == "c.jsonl"
    assert not {"train_files", "held_out_files"} & written.keys()


def test_a_list_on_the_command_line_replaces_the_recipes_file():
    listed = "data.train=[{path: a.jsonl, weight: 2}, {path: b.jsonl}]"
    config = build({"data": {"train": "other.jsonl"}}, assignments=[listed])
    assert config.data == build({"data": {"train": TWO}}).data
    assert build({"data": {"train": TWO}}, data="other.jsonl").data.train_files == ()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (None, None),
        (["a.jsonl"], "a.jsonl"),
        (["a.jsonl=2"], [{"path": "a.jsonl", "weight": 2.0}]),
        (["a.jsonl=.5", "b"], [{"path": "a.jsonl", "weight": 0.5}, {"path": "b"}]),
        (["a=b.jsonl", "c"], [{"path": "a=b.jsonl"}, {"path": "c"}]),
        (["-"], "-"),
    ],
)
def test_files_of_an_option(words, expected):
    assert named_files(words, weights=True) == expected


def test_a_file_with_a_sign_in_its_name(tmp_path):
    path = write_rows(tmp_path / "lr=3", pair_rows(1))
    assert named_files([path], weights=True) == path
    assert named_files(["lr=3"]) == "lr=3"


def test_paths_of_a_list_are_relative_to_the_recipe(tmp_path, monkeypatch):
    for name in ("a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl"):
        write_rows(tmp_path / name, pair_rows(1))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"data": {"train": TWO, "held_out": ["c.jsonl", "d.jsonl"]}}))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    data = build(str(recipe)).data
    assert data.train_paths == (str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"))
    assert data.held_out_paths == (str(tmp_path / "c.jsonl"), str(tmp_path / "d.jsonl"))
    (tmp_path / "a.jsonl").rename(elsewhere / "a.jsonl")
    with pytest.raises(UsageError, match=r"Write there: elsewhere/a\.jsonl"):
        build(str(recipe))


REFUSED = {
    "a weight of zero": ([{"path": "a", "weight": 0}], "train.0.weight: .*leave it out; got 0"),
    "a negative weight": ([{"path": "a", "weight": -1}], "above 0; got -1"),
    "no number": ([{"path": "a", "weight": float("nan")}], "expected a number above 0"),
    "infinite": ([{"path": "a", "weight": float("inf")}], "would come inf times"),
    "a text": ([{"path": "a", "weight": "two"}], "expected a number above 0.*'two'"),
    "true": ([{"path": "a", "weight": True}], "expected a number above 0"),
    "huge": ([{"path": "a", "weight": 1e9}], r"come 1e\+09 times in an epoch; at most 100"),
    "above the limit": ([{"path": "a", "weight": 101}], "come 101 times"),
    "twice": (["a", "./a"], r"a and ./a is the same file twice; give it once, with a weight"),
    "standard input": (["-", "a"], "standard input"),
    "empty": ([], "names no file"),
    "a number": ([3], "3 is no file of a list"),
    "without a path": ([{"weight": 2}], "is no file of a list"),
    "misspelt": ([{"path": "a", "wieght": 2}], "train.0.wieght: unknown key; did you mean weight"),
}


@pytest.mark.parametrize("files, says", REFUSED.values(), ids=REFUSED)
def test_refused_lists(files, says):
    with pytest.raises(UsageError, match=says):
        build({"data": {"train": files}})


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"data": {"train": TWO, "hold_out": 0.1}}, "hold_out.* accord split FILE"),
        ({"data": {"train": TWO, "columns": "prompt=q"}}, "Write columns beside the path"),
        ({"data": {"train": TWO, "ignore_columns": "q"}}, "Write ignore_columns beside the path"),
        ({"data": {"train": "a", "held_out": [{"path": "c", "weight": 2}]}}, "held_out.0.weight"),
        ({"data": {"train": "a", "train_files": TWO}}, "a list under data.train"),
        (
            {"data": {"train": TWO}, "rollouts": {"rewards": ["vader"]}},
            "with rollouts it is a file of prompts",
        ),
        (
            {"data": {"train": "a", "held_out": ["c", "d"]}, "rollouts": {"rewards": ["vader"]}},
            "data.held_out: a list of files is for rows",
        ),
    ],
)
def test_refused_with_other_settings(more, says):
    with pytest.raises(UsageError, match=says):
        build(more)


@pytest.mark.parametrize("command", ["compare", "sweep", "iterate", "rlhf"])
def test_commands_that_take_one_file(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = {
        "data": {"train": TWO, "held_out": "c.jsonl"},
        **({"rollouts": {"rewards": ["vader"]}} if command == "iterate" else {}),
    }
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
    extra = {"compare": ["--methods", "dpo,ipo"], "sweep": ["--set", "objective.beta=0.1,0.2"]}.get(
        command, []
    )
    found = CliRunner().invoke(app, [command, "recipe.yaml", *extra])
    assert found.exit_code == 2 and "list of" in found.output and "file" in found.output


def test_python_takes_files_rows_and_paths_apart(tmp_path):
    """A list of dicts with a path is files; with other keys it is rows, as before."""
    files = [
        {"path": write_rows(tmp_path / "a.jsonl", pair_rows(4)), "weight": 3},
        tmp_path / "b.jsonl",
    ]
    write_rows(tmp_path / "b.jsonl", pair_rows(4, start=10))
    from accord.api.training import config_of

    assert [f.weight for f in config_of(None, {"data": files}, "train").data.train_files] == [3, 1]
    assert config_of(None, {"data": pair_rows(2)}, "train").data.train == "train.jsonl"


def test_the_command_mixes_files(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "a.jsonl", pair_rows(8))
    write_rows(tmp_path / "b.jsonl", pair_rows(8, start=20))
    words = ["train", "--model", str(tiny_folder), "--data", "a.jsonl=2", "--data", "b.jsonl"]
    found = CliRunner().invoke(app, [*words, "--batch-size", "6", "--epochs", "1"])
    assert found.exit_code == 0, found.output
    assert "each epoch takes 24 rows: 16 of a.jsonl" in found.output
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name == "dpo-a-b"
    record = json.loads((run / "data.json").read_text())["train"]
    assert record["path"] == "a.jsonl + b.jsonl"
    assert accord.evaluate(run, data="b.jsonl", samples=0)["pairs"]["accuracy"]["n"] == 8
