"""The recipes that ship with accord: listed, written to a file of one's own, and found by name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import assert_no_faults
from typer.testing import CliRunner

from accord.cli.app import app
from accord.config.build import build
from accord.config.shipped import FOLDER, shipped
from accord.objectives.configured import resolve_objective

RECIPES = list(shipped().values())


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def accord(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["recipes", *words])
    assert done.exit_code == code, done.output
    return done.output


def test_each_says_what_it_shows_needs_takes_and_promises():
    """The objective resolves; the data is there, or the rows are the reader's own."""

    def check(recipe):
        assert recipe.shows and recipe.rows and recipe.minutes
        assert re.search(r"\d\.\d", recipe.expect), "a recipe without expected numbers is a draft"
        assert f"#   accord train {recipe.name}.yaml\n" in recipe.text
        config = build(str(FOLDER / f"{recipe.name}.yaml"))
        resolve_objective(config)
        files = (config.data.train, config.data.held_out)
        ships = [Path(file).is_file() for file in files]
        assert ships == ["shipped" in recipe.rows] * 2 and ships[0] != ("yours" in recipe.rows)

    assert len(RECIPES) == 9
    assert_no_faults(RECIPES, check, lambda recipe: recipe.name)


def test_the_list_is_a_line_each_and_fits_a_terminal():
    lines = accord().splitlines()
    assert [line.split()[0] for line in lines[1:10]] == [recipe.name for recipe in RECIPES]
    assert max(map(len, lines)) <= 80
    assert re.search(r"sentiment_dpo +2  335 pairs, shipped +DPO", lines[2])
    made = json.loads(CliRunner().invoke(app, ["recipes", "--json"]).stdout)["result"]
    assert [one["name"] for one in made] == [recipe.name for recipe in RECIPES]
    assert set(made[0]) == {"name", "shows", "rows", "minutes", "expect"}


def test_the_rows_that_it_says_are_those_that_there_are():
    for recipe in RECIPES:
        if "shipped" in recipe.rows:
            config = build(str(FOLDER / f"{recipe.name}.yaml"))
            rows = len(Path(config.data.train).read_text().splitlines())
            assert recipe.rows.startswith(f"{rows} ")


def test_one_is_printed():
    text = accord("sentiment_dpo")
    assert text == accord("sentiment_dpo.yaml") == accord("recipes/sentiment_dpo.yaml")
    assert "objective: {name: dpo, beta: 0.1}" in text and "../demo" not in text


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_one_is_written_and_trains_from_any_folder(recipe, tmp_path, monkeypatch):
    said = accord(recipe.name, "--output", "mine/first.yaml")
    assert "next: accord train mine/first.yaml" in said
    assert "#   accord train mine/first.yaml\n" in Path("mine/first.yaml").read_text()
    written, own = build("mine/first.yaml"), build(str(FOLDER / f"{recipe.name}.yaml"))
    assert written.objective == own.objective and written.train == own.train
    if "shipped" in recipe.rows:
        assert Path(written.data.train).samefile(own.data.train)
        assert Path(written.data.held_out).samefile(own.data.held_out)
    else:
        assert written.data.train.startswith("mine/")


def test_nothing_is_overwritten():
    Path("mine.yaml").write_text("mine")
    said = accord("sentiment_dpo", "--output", "mine.yaml", code=2)
    assert "mine.yaml exists. Give --output a new name." in said
    assert Path("mine.yaml").read_text() == "mine"


def test_a_file_that_cannot_be_written_is_said():
    Path("file").write_text("")
    said = accord("sentiment_dpo", "--output", "file/mine.yaml", code=2)
    assert "file/mine.yaml: cannot be written" in said and "Name another --output" in said


def test_an_unknown_name_gets_the_nearest_and_the_list():
    said = accord("sentiment_dop", code=2)
    assert "Did you mean sentiment_dpo?" in said and "truthfulqa_kto" in said
    assert "Did you mean" not in accord("xyz", code=2)


def test_a_file_without_a_name_is_refused():
    assert "accord recipes sentiment_dpo --output mine.yaml" in accord(
        "--output", "mine.yaml", code=2
    )


@pytest.mark.parametrize("typed", ["sentiment_dpo.yaml", "recipes/sentiment_dpo.yaml"])
def test_training_a_shipped_recipe_that_is_not_here_says_how_to_get_it(typed):
    done = CliRunner().invoke(app, ["train", typed])
    assert done.exit_code == 2
    assert f"{typed}: no such recipe. It ships with accord." in done.output
    assert "  accord recipes sentiment_dpo --output sentiment_dpo.yaml\n" in done.output
    assert "  accord train sentiment_dpo.yaml\n" in done.output


def test_any_other_missing_recipe_leads_to_the_list():
    done = CliRunner().invoke(app, ["train", "mine.yaml"])
    assert done.exit_code == 2 and "mine.yaml: no such recipe" in done.output
    assert "accord recipes lists" in done.output
