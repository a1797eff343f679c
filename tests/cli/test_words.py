"""The nearest names, two columns, and the folders in which a run is looked for."""

from __future__ import annotations

import os

import pytest

from accord.cli.given import recipe_or_data, runs_to_show
from accord.cli.layout import columns
from accord.environment.nearest import nearest, nearest_path
from accord.errors import UsageError
from accord.runs.nearby import why_no_run


def test_nearest_word():
    assert nearest("trian", ["train", "split"]) == "train"
    assert nearest("DPO", ["dpo", "ipo"]) == "dpo"
    assert nearest("zebra", ["train", "split"]) is None


@pytest.mark.parametrize("typed", ["data/pair.jsonl", "daat/pairs.jsonl", "data/pairs.json"])
def test_nearest_path(typed, tmp_path, monkeypatch):
    """One part of a path is mended, a folder's name as well."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/pairs.jsonl").touch()
    assert nearest_path(typed) == "data/pairs.jsonl"
    assert nearest_path("elsewhere/zebra.csv") is None and nearest_path("a\0b") is None


def test_two_columns():
    laid = columns([("--a", "one two three"), ("--a-long-name", "four")], 20, widest=6)
    assert laid == "  --a     one two\n          three\n  --a-long-name\n          four"


def runs(folder, *names):
    for age, name in enumerate(reversed(names)):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.yaml").touch()
        (folder / name / "metrics.jsonl").touch()
        os.utime(folder / name / "metrics.jsonl", (age, age))
    return folder


def test_the_newest_run_is_taken_and_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs(tmp_path / "runs", "new", "old")
    (tmp_path / "runs/refused").mkdir()
    (tmp_path / "runs/refused/config.yaml").touch()
    for words in ([], ["runs"]):
        said: list[str] = []
        assert runs_to_show(words, said.append) == ["runs/new"]
        assert said == ["runs holds 2 runs; the newest is runs/new"]
    assert runs_to_show(["runs/old"], print) == ["runs/old"]
    assert runs_to_show(["runs/old", "runs/new"], print) == ["runs/old", "runs/new"]


def test_no_run_to_show(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="accord train --data FILE"):
        runs_to_show([], print)


def test_where_the_run_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs(tmp_path / "runs", "new", "old")
    (tmp_path / "runs/new/adapter").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").touch()
    assert why_no_run("runs").endswith("It holds 2 of them; the newest: runs/new")
    assert why_no_run("runs/new/adapter").endswith("inside a run: runs/new")
    assert why_no_run("runs/nwe").endswith("Did you mean runs/new?")
    assert why_no_run("runs/new/config.yaml").endswith("inside a run: runs/new")
    assert "accord eval" in why_no_run("model")


def test_data_or_a_recipe(tmp_path, monkeypatch):
    """The word behind `accord train` is what it holds, not what its name ends in alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    (tmp_path / "rows.json").write_text('[{"prompt": "a", "chosen": "b", "rejected": "c"}]')
    (tmp_path / "recipe.json").write_text('{"data": {"train": "pairs.jsonl"}}')
    (tmp_path / "plain").write_text("data: {train: pairs.jsonl}\n")
    for data in ("pairs.jsonl", "rows.json", "-", "p*.jsonl"):
        assert recipe_or_data(data, None) == (None, data)
    for recipe in ("recipe.json", "plain", "r.yaml", "r.yml"):
        assert recipe_or_data(recipe, "x") == (recipe, "x")
    assert recipe_or_data(None, "x") == (None, "x")
    with pytest.raises(UsageError, match="both are data"):
        recipe_or_data("pairs.jsonl", "other.jsonl")
