"""Paths in a recipe are relative to the recipe's folder, wherever a command is typed; what lies in
the working directory alone is refused with the line to write.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from accord.campaign.rlhf.phases import Recipe
from accord.config.build import build
from accord.config.recipe_paths import rebased
from accord.errors import UsageError


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a folder `recipes` in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    return tmp_path


def recipe(raw: dict, file: str = "recipes/mine.yaml") -> str:
    Path(file).write_text(yaml.safe_dump(raw))
    return file


def pairs(train: str, **more) -> dict:
    return {"data": {"train": train, **more}}


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("{}")


def test_a_path_begins_beside_the_recipe(place):
    touch("recipes/pairs.jsonl", "data/test.jsonl", "recipes/chat.jinja", "recipes/asked.txt")
    raw = pairs("pairs.jsonl", held_out="../data/test.jsonl", template="chat.jinja")
    raw |= {"model": {"adapter": "old/adapter"}, "monitor": {"prompts": "asked.txt"}}
    config = build(recipe(raw))
    assert config.data.train == "recipes/pairs.jsonl"
    assert config.data.held_out == "recipes/../data/test.jsonl"
    assert config.data.template == "recipes/chat.jinja"
    assert config.model.adapter == "recipes/old/adapter"  # missing: the error names this place
    assert config.monitor.prompts == "recipes/asked.txt"


def test_the_same_recipe_means_the_same_file_elsewhere(place, monkeypatch):
    touch("recipes/pairs.jsonl")
    file = recipe(pairs("pairs.jsonl"))
    monkeypatch.chdir(place / "recipes")
    assert Path(build("mine.yaml").data.train).resolve() == place / "recipes/pairs.jsonl"
    (place / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(place / "deep/er")
    assert Path(build(f"../../{file}").data.train).resolve() == place / "recipes/pairs.jsonl"


def test_a_recipe_of_the_working_directory_is_left_as_it_is(place):
    touch("pairs.jsonl")
    for file in ("mine.yaml", "./mine.yaml", str(place / "mine.yaml")):
        assert build(recipe(pairs("pairs.jsonl"), file)).data.train == "pairs.jsonl"


def test_what_means_the_same_everywhere_is_left_as_it_is(place):
    touch("auto", "recipes/auto", "smollm2/config.json", "recipes/smollm2/config.json")
    raw = pairs("-", held_out=str(place / "test.jsonl"), template="auto")
    config = build(recipe(raw | {"model": {"name": "smollm2"}}))
    assert (config.data.train, config.data.template) == ("-", "auto")
    assert config.data.held_out == str(place / "test.jsonl") and config.model.name == "smollm2"
    assert build(recipe(pairs("~/pairs.jsonl"))).data.train == "~/pairs.jsonl"
    assert build(recipe(pairs("s3://bucket/x.jsonl"))).data.train == "s3://bucket/x.jsonl"


def test_the_output_lies_in_the_working_directory(place):
    assert build(recipe(pairs("x") | {"output": "runs/mine"})).output == "runs/mine"


def test_a_pattern_begins_there_too(place):
    touch("recipes/parts/a.jsonl")
    assert build(recipe(pairs("parts/*.jsonl"))).data.train == "recipes/parts/*.jsonl"
    touch("shards/a.jsonl")
    with pytest.raises(UsageError, match=r"Write there: \.\./shards|shards/\*\.jsonl is in"):
        build(recipe(pairs("shards/*.jsonl")))


def test_a_file_of_the_working_directory_alone_is_refused_with_the_line(place):
    touch("truthfulqa/pairs.jsonl")
    with pytest.raises(UsageError) as error:
        build(recipe(pairs("truthfulqa/pairs.jsonl")))
    assert str(error.value).splitlines() == [
        "recipes/mine.yaml: data.train: truthfulqa/pairs.jsonl is in the working directory and not"
        " beside the recipe. Paths in a recipe are relative to its own folder.",
        "Write there: ../truthfulqa/pairs.jsonl",
        "Or name it with this command: --set data.train=truthfulqa/pairs.jsonl",
    ]
    Path("recipes/mine.yaml").write_text(yaml.safe_dump(pairs("../truthfulqa/pairs.jsonl")))
    assert Path(build("recipes/mine.yaml").data.train).samefile("truthfulqa/pairs.jsonl")


def test_of_two_files_the_one_beside_the_recipe_counts(place):
    touch("pairs.jsonl", "recipes/pairs.jsonl")
    assert build(recipe(pairs("pairs.jsonl"))).data.train == "recipes/pairs.jsonl"


@pytest.mark.parametrize(
    "how",
    [
        {"data": "other.jsonl"},
        {"assignments": ["data.train=other.jsonl"]},
        {"fields": {"data.train": "other.jsonl"}},
        {"assignments": ["data={train: other.jsonl}"]},
    ],
)
def test_what_is_given_with_the_command_is_of_the_working_directory(place, how):
    touch("pairs.jsonl", "other.jsonl")  # the recipe's own would be refused
    assert build(recipe(pairs("pairs.jsonl")), **how).data.train == "other.jsonl"


def test_a_mapping_in_python_is_of_the_working_directory(place):
    touch("pairs.jsonl")
    assert build(pairs("pairs.jsonl")).data.train == "pairs.jsonl"


def model_folder(name: str) -> None:
    touch(f"{name}/config.json")


def test_a_model_s_folder_begins_there_and_a_name_stays_a_name(place):
    model_folder("recipes/base")
    model_folder("models/other")

    def name(of: str) -> str:
        return build(recipe(pairs("x") | {"model": {"name": of}})).model.name

    assert name("base") == "recipes/base" and name("org/model") == "org/model"
    assert name("../models/other") == "recipes/../models/other"
    assert name("./nowhere") == "recipes/nowhere"  # a path by its first sign
    with pytest.raises(UsageError, match=r"model\.name: models/other is in the working directory"):
        name("models/other")


def test_a_reward_s_folder_too_with_its_weight_and_options(place):
    model_folder("recipes/rm")
    (place / "recipes/vader").mkdir()  # a word that is a reward's name, and here no model
    rollouts = {
        "rewards": ["./rm=0.5", "vader=2", "mine.rewards:helpful"],
        "reward_options": {"./rm": {"batch": 4}, "vader": {}},
        "gold": ["http://127.0.0.1:8000/v1#judge"],
    }
    found = build(recipe(pairs("x") | {"rollouts": rollouts})).rollout_settings
    assert found.rewards == ["recipes/rm=0.5", "vader=2", "mine.rewards:helpful"]
    assert list(found.reward_options) == ["recipes/rm", "vader"]
    assert found.gold == ["http://127.0.0.1:8000/v1#judge"]


def test_phases_of_a_campaign_have_paths_of_their_own(place):
    touch("recipes/pairs.jsonl", "recipes/test.jsonl", "recipes/asked.jsonl", "recipes/rm.jsonl")
    raw = pairs("pairs.jsonl", held_out="test.jsonl", prompts="asked.jsonl")
    raw["reward_model"] = {"data": {"train": "rm.jsonl"}}
    read = Recipe.read(recipe(raw), [], [], skip_sft=True, gold=None)
    assert read.shared["data"] == {
        "train": "recipes/pairs.jsonl",
        "held_out": "recipes/test.jsonl",
        "prompts": "recipes/asked.jsonl",
    }
    assert read.own["reward_model"]["data"]["train"] == "recipes/rm.jsonl"
    touch("alone.jsonl")
    raw["reward_model"] = {"data": {"train": "alone.jsonl"}}
    with pytest.raises(UsageError, match=r"reward_model\.data\.train: alone\.jsonl is in"):
        Recipe.read(recipe(raw), [], [], skip_sft=True, gold=None)
    Recipe.read(recipe(raw), ["reward_model.data.train=x"], [], skip_sft=True, gold=None)


def test_what_is_no_section_is_left_to_the_schema(place):
    for raw in ({"data": "pairs.jsonl"}, {"data": None}, {"data": {"train": 5}}, {"model": [1]}):
        with pytest.raises(UsageError):
            build(recipe(raw))


def test_a_recipe_that_a_command_writes_elsewhere_names_its_files(place):
    touch("pairs.jsonl")
    assert rebased("pairs.jsonl", "recipes/mine.yaml") == "../pairs.jsonl"
    assert rebased("pairs.jsonl", "mine.yaml") == "pairs.jsonl"
    assert rebased("org/set", "recipes/mine.yaml") == "org/set"  # a name, not a file
    assert rebased(str(place / "pairs.jsonl"), "recipes/mine.yaml") == str(place / "pairs.jsonl")
