"""Models of a hub: what is fetched of a repository, what is refused, and what records say."""

import json
import os
from pathlib import Path

import pytest
from conftest import pair_rows, write_rows

import accord
from accord.environment.hub import client
from accord.models import provenance
from accord.models.hub import model_folder
from accord.models.load import load
from accord.types import AccordError, UsageError

STEPS = {"method": "dpo", "steps": 2, "batch_size": 4, "dtype": "float32", "learning_rate": 1e-3}


@pytest.fixture
def model(hub, model_files):
    """A repository with everything that a model's repository has beside the model."""
    beside = {
        "README.md": b"# A model",
        "pytorch_model.bin": b"pickled",
        "modeling_tiny.py": b"raise SystemExit",
        "onnx/model.safetensors": b"of another tool",
        "consolidated.safetensors": b"the same weights in another layout",
        ".gitattributes": b"",
    }
    return hub.add("org/tiny", {**beside, **model_files})


def jsonl(n: int, start: int = 0) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in pair_rows(n, start)).encode()


@pytest.fixture
def pairs(hub):
    return hub.add("org/pairs", {"train.jsonl": jsonl(24), "test.jsonl": jsonl(6, 50)}, "dataset")


def test_a_model_loads_with_its_commit_in_its_name(hub, model, model_files, capsys):
    loaded = load("hub:org/tiny", dtype="float32")
    commit = model.branches["main"]
    assert loaded.source == f"hub:org/tiny@{commit}"
    assert {file.name for file in loaded.folder.iterdir()} == set(model_files)
    said = capsys.readouterr().err
    assert "fetching 1 file" in said and commit in said


def test_nothing_is_fetched_twice(hub, model):
    name = f"hub:org/tiny@{model.branches['main']}"
    load(name)
    client.forget()
    before = len(hub.requests), len(hub.elsewhere)
    load(name)
    assert (len(hub.requests), len(hub.elsewhere)) == before


def test_a_plain_name_needs_permission(hub, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="say so: hub:org/tiny, or --allow hub"):
        load("org/tiny")
    assert load("org/tiny", hub=True).source.startswith("hub:org/tiny@")


def test_a_folder_of_that_name_wins(hub, model, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org").mkdir()
    os.symlink(tiny_folder, tmp_path / "org" / "tiny")
    assert load("org/tiny", hub=True).source == "org/tiny"
    assert not hub.requests


def test_shards_are_those_that_the_index_names(hub, model_files):
    weights = model_files.pop("model.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-2.safetensors"}}
    files = {
        **model_files,
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-00001-of-00002.safetensors": weights,
        "consolidated.safetensors": weights,
    }
    repo = hub.add("org/sharded", files)
    with pytest.raises(UsageError, match="does not have model-2.safetensors: the model is incomp"):
        model_folder("hub:org/sharded")
    repo.commit({**files, "model-2.safetensors": b"x"})
    client.forget()
    with pytest.warns(UserWarning, match="has moved"):
        folder = model_folder("hub:org/sharded")
    assert not (folder / "consolidated.safetensors").exists()
    assert (folder / "model-2.safetensors").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"pytorch_model.bin": b"x", "config.json": b"{}"}, "pickled weights alone"),
        ({"model.ckpt": b"x"}, "pickled weights alone"),
        ({"model-q4.gguf": b"x"}, "GGUF files alone"),
        ({"README.md": b"x"}, "holds no weights"),
    ],
)
def test_what_is_no_model(hub, files, says):
    hub.add("org/other", files)
    with pytest.raises(UsageError, match=says):
        load("hub:org/other")
    assert not hub.elsewhere, "no weights were fetched"


def test_a_data_set_given_as_a_model_is_said(hub, pairs):
    with pytest.raises(UsageError, match="There is a data set of this name.*--data hub:org/pairs"):
        load("hub:org/pairs")


def test_broken_settings_are_the_models_own_fault(hub, model_files):
    hub.add("org/broken", {**model_files, "config.json": b"{"})
    with pytest.raises(AccordError, match="hub:org/broken@"):
        load("hub:org/broken")


# ---------------------------------------------------------------- runs


def train(output: Path, **changes):
    given = {
        "model": "hub:org/tiny",
        "data": "hub:org/pairs#train",
        "held_out": "hub:org/pairs#test",
    }
    return accord.train(output=str(output), **STEPS | given | changes)


def test_a_run_records_the_commits(hub, model, pairs, tmp_path):
    result = train(tmp_path / "run")
    names = {
        "model.name": f"hub:org/tiny@{model.branches['main']}",
        "data.train": f"hub:org/pairs@{pairs.branches['main']}#train",
        "data.held_out": f"hub:org/pairs@{pairs.branches['main']}#test",
    }
    folder = Path(result.folder)
    config = (folder / "config.yaml").read_text()
    assert all(name in config for name in names.values())
    assert json.loads((folder / "environment.json").read_text())["hub"] == names
    data = json.loads((folder / "data.json").read_text())
    assert data["train"]["path"] == names["data.train"]
    assert names["model.name"] in (folder / "README.md").read_text()
    record = provenance.read(folder / "adapter")
    assert record.base == names["model.name"]
    adapter = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "org/tiny"
    assert adapter["revision"] == model.branches["main"]


def test_a_mix_is_pinned_file_by_file(hub, model, pairs, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", pair_rows(12, 200))
    mix = [{"path": "hub:org/pairs#train", "weight": 0.5}, {"path": rows}]
    result = train(tmp_path / "run", data=mix)
    commit = pairs.branches["main"]
    assert (
        f"path: hub:org/pairs@{commit}#train" in (Path(result.folder) / "config.yaml").read_text()
    )
    data = json.loads((Path(result.folder) / "data.json").read_text())
    assert [each["path"] for each in data["train"]["files"]] == [
        f"hub:org/pairs@{commit}#train",
        rows,
    ]


def test_a_run_of_plain_names_with_permission(hub, model, pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = write_rows(tmp_path / "rows.jsonl", pair_rows(12))
    result = train(tmp_path / "run", model="org/tiny", data=rows, held_out=None, allow="hub")
    assert (
        f"hub:org/tiny@{model.branches['main']}"
        in (Path(result.folder) / "config.yaml").read_text()
    )


def test_a_resumed_run_stays_at_its_commits(hub, model, pairs, tmp_path, monkeypatch):
    """Both branches move while a run is stopped; it ends as the uninterrupted one did."""
    from training.helpers import stopped_after

    whole = train(tmp_path / "whole", steps=4)
    with stopped_after(monkeypatch, 2), pytest.raises(AccordError):
        train(tmp_path / "stopped", steps=4)
    files = dict(model.commits[model.branches["main"]])
    model.commit({**files, "config.json": b"{}"})
    pairs.commit({"train.jsonl": jsonl(3, 900), "test.jsonl": jsonl(2, 800)})
    client.forget()
    before = len(hub.requests)
    resumed = accord.resume(str(tmp_path / "stopped"))
    assert len(hub.requests) == before, "all of it is in the cache"
    one, other = (Path(run.saved) / "adapter_model.safetensors" for run in (whole, resumed))
    assert one.read_bytes() == other.read_bytes()


def test_a_new_run_says_that_a_branch_moved(hub, model, pairs, tmp_path):
    train(tmp_path / "one")
    old = pairs.branches["main"]
    pairs.commit({"train.jsonl": jsonl(20, 900), "test.jsonl": jsonl(5, 800)})
    client.forget()
    with pytest.warns(UserWarning, match=f"main has moved since.*@{old}"):
        train(tmp_path / "two")


def test_a_run_is_measured_and_its_adapter_by_itself(hub, model, pairs, tmp_path):
    result = train(tmp_path / "run")
    by_run, by_adapter = (
        accord.evaluate(str(name), data="hub:org/pairs#test", samples=0, dtype="float32")
        for name in (result.folder, result.saved)
    )
    assert by_run["pairs"] == by_adapter["pairs"]


def test_an_adapter_of_a_hub_opens_on_the_base_that_it_names(hub, model, pairs, tmp_path):
    saved = Path(train(tmp_path / "run").saved)
    hub.add("org/adapter", {f.name: f.read_bytes() for f in saved.iterdir() if f.is_file()})
    one = accord.evaluate(str(saved), data="hub:org/pairs#test", samples=0)
    other = accord.evaluate("hub:org/adapter", data="hub:org/pairs#test", samples=0)
    assert one["pairs"] == other["pairs"]


def test_training_goes_on_from_an_adapter_of_a_hub(hub, model, pairs, tmp_path):
    saved = Path(train(tmp_path / "run").saved)
    repo = hub.add("org/adapter", {f.name: f.read_bytes() for f in saved.iterdir() if f.is_file()})
    more = train(tmp_path / "more", adapter="hub:org/adapter")
    config = (Path(more.folder) / "config.yaml").read_text()
    assert f"adapter: hub:org/adapter@{repo.branches['main']}" in config


def test_a_dry_run_and_a_recipe(hub, model, pairs, tmp_path):
    recipe = tmp_path / "below" / "recipe.yaml"
    recipe.parent.mkdir()
    recipe.write_text(
        "model: {name: hub:org/tiny}\n"
        "data:\n  train: hub:org/pairs#train\n  held_out: hub:org/pairs#test\n"
        "train: {steps: 2, batch_size: 4}\n"
    )
    found = accord.dry_run(str(recipe), dtype="float32")
    assert found["rows"]["ledger"]["rows"] == 24


def test_a_comparison_pins_its_recipe(hub, model, pairs, tmp_path):
    found = accord.compare(
        methods=["dpo", "ipo"],
        model="hub:org/tiny",
        data="hub:org/pairs#train",
        held_out="hub:org/pairs#test",
        output=str(tmp_path / "compared"),
        seeds=1,
        samples=1,
        sample_tokens=2,
        **{name: STEPS[name] for name in ("steps", "batch_size", "dtype")},
    )
    assert found
    commit = model.branches["main"]
    configs = list((tmp_path / "compared").rglob("config.yaml"))
    assert len(configs) == 2 and all(f"hub:org/tiny@{commit}" in c.read_text() for c in configs)


def test_other_commands_take_data_of_a_hub(hub, pairs, tmp_path):
    converted = str(tmp_path / "converted.jsonl")
    accord.convert("hub:org/pairs#train", to="trl-explicit", output=converted)
    accord.split("hub:org/pairs#train", output=str(tmp_path / "split"))
    assert (tmp_path / "converted.jsonl").read_text().count("\n") == 24
    assert (tmp_path / "split" / "train.jsonl").is_file()
    assert len(accord.audit("hub:org/pairs#train").scan) == 24


def test_rewards_are_pinned_and_asked_for_at_the_hub(hub, model):
    from accord.config.schema import make_config
    from accord.rewards.load import load_rewards, parse_weighted
    from accord.runs.hub_names import pinned

    assert parse_weighted("hub:org/rm@v1=0.5") == ("hub:org/rm@v1", 0.5)
    with pytest.raises(AccordError, match="has no model org/rm"):
        load_rewards(["hub:org/rm"])
    raw = {
        "data": {"train": "prompts.txt"},
        "rollouts": {
            "rewards": ["hub:org/tiny=0.5", "length"],
            "reward_options": {"hub:org/tiny": {"max_tokens": 64}},
        },
    }
    name = f"hub:org/tiny@{model.branches['main']}"
    settings = pinned(make_config(raw)).rollout_settings
    assert settings.rewards == [f"{name}=0.5", "length"]
    assert settings.reward_options == {name: {"max_tokens": 64}}
