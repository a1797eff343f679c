"""Each command once, as a user types it, on a tiny model: the tier that other versions of the
libraries are tried with (`make test-newest`, `make test-oldest`).

What the commands mean is tested elsewhere; here every one of them must reach its end.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import pair_rows, write_rows
from typer.main import get_command
from typer.testing import CliRunner

from accord.cli.app import app

pytestmark = pytest.mark.versions

SHORT = ["--steps", "2", "--batch-size", "4", "--set", "model.dtype=float32"]
DRAWN = ["--set", "rollouts.rewards=[length]", "--set", "rollouts.max_new_tokens=6"]
# What needs the real model, a browser or another package; tests/demo, tests/play, tests/web and
# tests/online have them.
ELSEWHERE = {"demo", "play", "watch", "frontier", "doctor", "tasks"}


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_folder):
    """A folder with the files that the commands take, and a run."""
    folder = tmp_path_factory.mktemp("commands")
    write_rows(folder / "pairs.jsonl", pair_rows(24))
    write_rows(folder / "test.jsonl", pair_rows(8, start=100))
    write_rows(folder / "prompts.jsonl", [{"prompt": r["prompt"]} for r in pair_rows(8)])
    (folder / "trl.yaml").write_text("model_name_or_path: some/model\nbeta: 0.2\n")
    recipe = {
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": str(folder / "pairs.jsonl"), "held_out": str(folder / "test.jsonl")},
        "train": {"batch_size": 4, "steps": 2},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    rounds = recipe | {"rollouts": {"rewards": ["length"], "max_new_tokens": 6}}
    write_rows(folder / "others.jsonl", [{"prompt": r["prompt"]} for r in pair_rows(4, start=200)])
    rounds["data"] = {
        "train": str(folder / "prompts.jsonl"),
        "held_out": str(folder / "others.jsonl"),
        "max_rejected": 0.9,  # a random model's answers may begin with a blank that merges
    }
    (folder / "rounds.yaml").write_text(json.dumps(rounds))
    drawn = {"rollouts": {"max_new_tokens": 6}}
    weak = {"allow": ["weak_reward"]}  # a random model's reward model ranks nothing
    phases = recipe | weak | {"sft": {}, "reward_model": {}, "ppo": drawn}
    (folder / "phases.yaml").write_text(json.dumps(phases))
    return folder


def accord(*words: object, codes: tuple[int, ...] = (0,), typed: str | None = None) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], input=typed)
    assert done.exit_code in codes, done.output
    return done.output


@pytest.fixture(scope="module")
def trained(place, tiny_folder):
    """A run of two updates."""
    data = ["--data", place / "pairs.jsonl", "--held-out", place / "test.jsonl"]
    accord("train", "--model", tiny_folder, *data, *SHORT, "--output", place / "run")
    return place / "run"


def test_every_command_is_here_or_elsewhere():
    source = Path(__file__).read_text(encoding="utf-8")
    missing = [
        name
        for name in get_command(app).commands  # type: ignore[attr-defined]
        if f'accord("{name}"' not in source and name not in ELSEWHERE
    ]
    assert not missing, missing


@pytest.mark.parametrize("method", ["kto", "simpo", "bradley_terry"])
def test_train(method, place, tiny_folder):
    data = ["--data", place / "pairs.jsonl", "--held-out", place / "test.jsonl"]
    output = ["--method", method, "--output", place / f"run-{method}"]
    accord("train", "--model", tiny_folder, *data, *SHORT, *output)


@pytest.mark.parametrize("method", ["grpo", "ppo", "dpo"])
def test_train_on_its_own_answers(method, place, tiny_folder):
    data = ["--data", place / "prompts.jsonl", "--method", method]
    output = ["--output", place / f"own-{method}"]
    accord("train", "--model", tiny_folder, *data, *SHORT, *DRAWN, *output)


def test_a_run_and_what_is_made_of_it(trained, place):
    accord("resume", trained)
    accord("export", trained, "--merge", "--output", place / "merged")
    accord("report", trained)
    accord("eval", trained)


def test_answers(trained, place, tiny_folder):
    prompts = ["--prompts", place / "prompts.jsonl", "--k", "2", "--max-new-tokens", "6"]
    accord("generate", tiny_folder, *prompts, "--output", place / "generated.jsonl")
    accord("sample", tiny_folder, *prompts, "--output", place / "answers.jsonl")
    scored = ["--reward", "length=-0.001", "--output", place / "scored.jsonl"]
    accord("score", place / "answers.jsonl", *scored)
    accord("pair", place / "scored.jsonl", "--output", place / "own.jsonl")
    assert accord("chat", trained, "--max-new-tokens", "6", "--compare", typed="Hello\n")


def test_the_command_of_a_server(tiny_folder):
    line = accord("serve-policy", tiny_folder, "--max-model-len", "64")
    assert "vllm.entrypoints.openai.api_server" in line and "--enable-lora" in line


def test_data(place, tiny_folder):
    accord("audit", place / "pairs.jsonl", "--model", tiny_folder, codes=(0, 3))
    accord("split", place / "pairs.jsonl", "--share", "0.2", "--output", place / "split")
    converted = ["--to", "openai", "--output", place / "openai.jsonl"]
    accord("convert", place / "pairs.jsonl", *converted)
    accord("advise", place / "pairs.jsonl", "--model", tiny_folder, codes=(0, 3))
    accord("import", place / "trl.yaml", "--output", place / "imported.yaml")
    accord("recipes", "sentiment_dpo", "--output", place / "shipped.yaml")


def test_several_runs(place):
    recipe = place / "recipe.yaml"
    several = ["--methods", "dpo,sft", "--seeds", "1", "--output", place / "comparison"]
    accord("compare", recipe, *several)
    grid = ["--set", "objective.beta=0.1,0.2", "--output", place / "sweep"]
    accord("sweep", recipe, *grid)
    accord("iterate", place / "rounds.yaml", "--rounds", "1", "--output", place / "rounds")
    accord("rlhf", place / "phases.yaml", "--output", place / "rlhf")


def test_what_needs_no_model():
    assert "dpo" in accord("methods")
    assert accord("version").strip()
