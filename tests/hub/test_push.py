"""Exports that are sent to a hub: what lies there afterwards, and what is refused before."""

import json
from pathlib import Path

import pytest
import yaml
from conftest import pair_rows, write_rows
from hub.server import Hub
from hub.test_data import jsonl

import accord
from accord.types import AccordError, UsageError

TOKEN = "hf_" + "c3D4" * 8
STEPS = {"method": "dpo", "steps": 2, "batch_size": 4, "dtype": "float32", "learning_rate": 1e-3}


@pytest.fixture
def secret(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture
def run(hub, model_files, tmp_path):
    """A run on a model of the hub, with rows of this machine."""
    hub.add("org/tiny", model_files)
    rows = write_rows(tmp_path / "rows.jsonl", pair_rows(12))
    held = write_rows(tmp_path / "held.jsonl", pair_rows(4, 50))
    given = {"model": "hub:org/tiny", "data": rows, "held_out": held}
    return accord.train(output=str(tmp_path / "run"), **given, **STEPS)


def pushed(hub: Hub, name: str = "me/mine", branch: str = "main") -> dict[str, bytes]:
    repo = hub.repos["model", name]
    return repo.commits[repo.branches[branch]]


def head_of(card: bytes) -> dict:
    return yaml.safe_load(card.decode().split("---")[1])


def test_an_adapter_is_sent_with_its_card_and_no_place_of_this_machine(hub, run, secret, tmp_path):
    folder = accord.export(run, output=str(tmp_path / "out"), push="hub:me/mine")
    files = pushed(hub)
    own = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    assert set(own) | {".gitattributes"} == set(files)
    assert files["adapter_model.safetensors"] == own["adapter_model.safetensors"]
    assert not [name for name, content in files.items() if str(tmp_path).encode() in content]
    assert not [name for name, content in files.items() if TOKEN.encode() in content]
    head = head_of(files["README.md"])
    assert head == {"library_name": "peft", "base_model": "org/tiny", "tags": ["accord", "dpo"]}
    card = files["README.md"].decode()
    assert 'from_pretrained("me/mine")' in card and "rows.jsonl" in card
    assert hub.repos["model", "me/mine"].private
    record = json.loads(files["accord.json"])
    assert record["base"].startswith("hub:org/tiny@") and record["run"] == "run"


def test_a_mix_names_its_sets_and_no_place_of_this_machine(hub, model_files, secret, tmp_path):
    hub.add("org/tiny", model_files)
    hub.add("org/pairs", {"train.jsonl": jsonl(12)}, "dataset")
    rows = write_rows(tmp_path / "rows.jsonl", pair_rows(12, 100))
    held = [write_rows(tmp_path / f"held{n}.jsonl", pair_rows(4, 50 + 9 * n)) for n in range(2)]
    mix = [{"path": rows, "weight": 2}, {"path": "hub:org/pairs#train"}]
    made = {"model": "hub:org/tiny", "data": mix, "held_out": held, "output": str(tmp_path / "mix")}
    run = accord.train(**made, **STEPS)
    accord.export(run, output=str(tmp_path / "out"), push="hub:me/mix")
    files = pushed(hub, "me/mix")
    assert head_of(files["README.md"])["datasets"] == ["org/pairs"]
    assert not [name for name, content in files.items() if str(tmp_path).encode() in content]
    card = files["README.md"].decode()
    assert all(name in card for name in ("rows.jsonl", "hub:org/pairs@"))


def test_what_was_sent_opens_from_the_hub(hub, run, secret, tmp_path):
    accord.export(run, output=str(tmp_path / "out"), push="hub:me/mine")
    options = {"data": str(tmp_path / "held.jsonl"), "samples": 0, "dtype": "float32"}
    there = accord.evaluate("hub:me/mine", **options)
    assert there["pairs"] == accord.evaluate(str(tmp_path / "out"), **options)["pairs"]


def test_a_merged_model_is_sent_with_how_to_load_it(hub, run, secret, tmp_path):
    accord.export(run, output=str(tmp_path / "out"), merge=True, push="hub:me/mine")
    files = pushed(hub)
    card = files["README.md"].decode()
    assert 'AutoModelForCausalLM.from_pretrained("me/mine")' in card and "AutoPeft" not in card
    assert head_of(files["README.md"])["library_name"] == "transformers"
    assert "model.safetensors" in files and str(tmp_path) not in card


def test_a_branch_can_be_named_and_other_files_stay(hub, run, secret, tmp_path):
    hub.add("me/mine", {"notes.txt": b"mine", ".gitattributes": b""})
    accord.export(run, output=str(tmp_path / "out"), push="hub:me/mine@trial")
    assert "adapter_config.json" in pushed(hub, branch="trial")
    assert pushed(hub, branch="trial")["notes.txt"] == b"mine"
    assert "adapter_config.json" not in pushed(hub)


def test_the_token_goes_to_the_hub_alone(hub, run, secret, tmp_path):
    accord.export(run, output=str(tmp_path / "out"), push="hub:me/mine")
    assert {each.token for each in hub.requests if each.method == "POST"} == {f"Bearer {TOKEN}"}
    sent = [each for each in hub.elsewhere if each.method == "PUT"]
    assert sent and not any(each.token for each in sent)
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file


@pytest.mark.parametrize(
    ("push", "says"),
    [
        ("me/mine", "--push me/mine: expected a name of a hub: --push hub:org/name|push="),
        ("hub:me/mine#train", "a model has no splits"),
        (f"hub:me/mine@{'0' * 40}", "a commit does not change"),
        ("hub:a/b/c", "no name of a hub"),
    ],
)
def test_names_that_nothing_can_be_sent_to(hub, run, secret, tmp_path, push, says):
    with pytest.raises(UsageError, match=says):
        accord.export(run, output=str(tmp_path / "out"), push=push)
    assert not (tmp_path / "out").exists()


def test_without_a_token_nothing_is_exported(hub, run, tmp_path):
    with pytest.raises(UsageError, match="takes nothing without a token.*HF_TOKEN"):
        accord.export(run, output=str(tmp_path / "out"), push="hub:me/mine")
    assert not (tmp_path / "out").exists()


def test_an_adapter_of_a_base_of_this_machine_is_not_sent(hub, tiny_folder, secret, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", pair_rows(12))
    run = accord.train(model=str(tiny_folder), data=rows, output=str(tmp_path / "run"), **STEPS)
    with pytest.raises(UsageError, match="others cannot get from a hub"):
        accord.export(run, output=str(tmp_path / "out"), push="hub:me/mine")
    accord.export(run, output=str(tmp_path / "whole"), merge=True, push="hub:me/mine")
    files = pushed(hub)
    assert "base_model" not in head_of(files["README.md"])
    assert not [name for name, content in files.items() if str(tmp_path).encode() in content]
    assert not [name for name, content in files.items() if str(tiny_folder).encode() in content]


def test_a_token_that_may_not_write(hub, run, tmp_path, monkeypatch):
    hub.add("me/mine", {".gitattributes": b""}, gated=True, token=TOKEN)
    monkeypatch.setenv("HF_TOKEN", TOKEN[::-1])
    with pytest.raises(AccordError, match="may not write") as caught:
        accord.export(run, output=str(tmp_path / "out"), push="hub:me/mine")
    assert TOKEN[::-1] not in str(caught.value) and "The export itself is whole" in str(
        caught.value
    )
    assert (tmp_path / "out" / "adapter_config.json").is_file()


def test_a_hub_that_keeps_something_else(hub, run, secret, tmp_path, monkeypatch):
    from hub import server

    def lossy(repo, files, branch="main", commit=server.Repo.commit):
        return commit(repo, {**files, "accord.json": b"{}"}, branch)

    monkeypatch.setattr(server.Repo, "commit", lossy)
    with pytest.raises(AccordError, match="accord.json is not on the hub as it was sent"):
        accord.export(run, output=str(tmp_path / "out"), push="hub:me/mine")
