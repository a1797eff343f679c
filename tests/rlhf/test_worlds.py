"""accord iterate and accord rlhf on several processes: the files and figures of one."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from conftest import pair_rows, write_rows
from rlhf.helpers import prompts
from safetensors.torch import load_file
from training.helpers import json_lines
from training.worlds import GONE, in_world, rank

from accord.campaign.rlhf import pipeline, rounds
from accord.campaign.rlhf.phases import Recipe
from accord.config.build import build
from accord.runs.display import SilentDisplay
from accord.sampling.local import LocalSampler

SILENT = SilentDisplay()


def fields(tiny_folder, folder) -> dict:
    return {
        "model.name": str(tiny_folder),
        "model.dtype": "float32",
        "data.train": prompts(folder / "train.jsonl", 12, "tree"),
        "data.held_out": prompts(folder / "held.jsonl", 3, "house"),
        "train.batch_size": 4,
        "train.learning_rate": 1e-2,
        "train.steps": 2,
        "monitor.samples": 0,
        "rollouts.rewards": ["length"],
        "rollouts.num_generations": 3,
        "rollouts.max_new_tokens": 6,
    }


def iterated(given: dict, output: str) -> dict:
    return rounds.iterate(build({}, fields=given), rounds.Terms(output, 2), SILENT)


def tuned(recipe: str, output: str) -> dict:
    read = Recipe.read(recipe, (), (), skip_sft=True, gold="length")
    return pipeline.rlhf(read, pipeline.Terms(output, "dpo"), SILENT)


def same_files(one: Path, other: Path) -> None:
    """Answers and rewards to the byte, weights but for rounding, which AdamW magnifies where a
    gradient is hardly there: a hundredth of an update at most.
    """
    lines = [
        sorted(f.relative_to(each) for f in each.rglob("*.jsonl") if f.name != "log.jsonl")
        for each in (one, other)
    ]
    assert lines[0] == lines[1]
    for name in lines[0]:
        for mine, theirs in zip(json_lines(one / name), json_lines(other / name), strict=True):
            for column in ("prompt", "completions", "ended", "tokens", "chosen", "rejected"):
                assert mine.get(column) == theirs.get(column), (name, column)
            if "rewards" in mine:
                assert mine["rewards"] == pytest.approx(theirs["rewards"], abs=1e-5), name
    weights = [
        sorted(f.relative_to(each) for f in each.rglob("*.safetensors")) for each in (one, other)
    ]
    assert weights[0] == weights[1] and weights[0]
    for name in (name for name in weights[0] if "checkpoints" not in name.parts):
        tensors, others = load_file(one / name), load_file(other / name)
        assert tensors.keys() == others.keys()
        for key in tensors:
            mine, theirs = tensors[key].double(), others[key].double()
            torch.testing.assert_close(mine, theirs, rtol=0, atol=3e-5, msg=f"{name}: {key}")


def test_iterate(tiny_folder, tmp_path):
    """Two rounds: the second draws by the policy of the first, asked by both processes. One of them
    is killed while it draws; the same command goes on.
    """
    given = fields(tiny_folder, tmp_path)
    one = iterated(given, str(tmp_path / "one"))
    left, gone = in_world(2, tmp_path / "dying", dying, given, str(tmp_path / "two"))
    assert gone == GONE and left["error"] == "PeerLost" and left["code"] == 75
    assert "lost rank 1 of 2" in left["says"] and "Go on with the same command" in left["says"]
    assert not (tmp_path / "two/round-1/answers.jsonl").exists()
    told = in_world(2, tmp_path / "ranks", iterated, given, str(tmp_path / "two"))
    assert told[0] == told[1] and "error" not in told[0], told
    same_files(tmp_path / "one", tmp_path / "two")
    for mine, theirs in zip(told[0]["rounds"], one["rounds"], strict=True):
        assert mine["held_out"]["kl"]["value"] == pytest.approx(
            theirs["held_out"]["kl"]["value"], abs=1e-4
        )
    begun = [entry["stage"] for entry in json_lines(tmp_path / "two/log.jsonl")]
    straight = [entry["stage"] for entry in json_lines(tmp_path / "one/log.jsonl")]
    assert list(dict.fromkeys(begun)) == list(dict.fromkeys(straight))
    assert begun.count("round-1/sample") == 4 and begun.count("round-1/score") == 2


def dying(given: dict, output: str) -> dict:
    """Rounds in which the second process is killed at its second draw, in round 1."""
    sample, drawn = LocalSampler.sample, []

    def killed(*arguments, **options):
        drawn.append(1)
        if rank() == 1 and len(drawn) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return sample(*arguments, **options)

    LocalSampler.sample = killed
    return iterated(given, output)


def test_rlhf(tiny_folder, tmp_path):
    raw = {
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "train": {"batch_size": 4, "steps": 2, "learning_rate": 3e-3},
        "data": {
            "train": write_rows(tmp_path / "pairs.jsonl", pair_rows(12)),
            "held_out": write_rows(tmp_path / "held.jsonl", pair_rows(3, start=100)),
        },
        "allow": ["weak_reward"],
        "monitor": {"samples": 0, "audit_rows": 0},
        "ppo": {"rollouts": {"num_generations": 2, "max_new_tokens": 5}},
    }
    (tmp_path / "recipe.json").write_text(json.dumps(raw))
    recipe = str(tmp_path / "recipe.json")
    one = tuned(recipe, str(tmp_path / "one"))
    told = in_world(2, tmp_path / "ranks", tuned, recipe, str(tmp_path / "two"))
    assert told[0] == told[1] and "error" not in told[0], told
    same_files(tmp_path / "one", tmp_path / "two")
    for model, figures in one["seeds"][0]["models"].items():
        theirs = told[0]["seeds"][0]["models"][model]
        assert theirs["reward"]["value"] == pytest.approx(figures["reward"]["value"], abs=1e-4)
        assert theirs["gold"]["value"] == figures["gold"]["value"]


def test_a_folder_that_a_process_does_not_see(tiny_folder, tmp_path):
    """Machines without a common disk are told so by name, before any work."""
    given = fields(tiny_folder, tmp_path)
    told = in_world(2, tmp_path / "ranks", blind, given, str(tmp_path / "two"))
    assert all("rank 1 of 2" in each["says"] and each["code"] == 2 for each in told[:1])
    assert "on a disk that all of them see" in told[1]["says"]


def blind(given: dict, output: str) -> dict:
    if rank():
        is_dir = Path.is_dir
        Path.is_dir = lambda self: str(self) != output and is_dir(self)
    return iterated(given, output)
