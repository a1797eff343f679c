"""Any number of processes trains the same model: the same gradients, records and checkpoints, written once."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import pair_rows, write_rows
from safetensors.torch import load_file, save_file
from training.helpers import json_lines, metrics, ready_for, run, stopped_after
from training.test_step import apart, moved
from training.worlds import GONE, in_world, rank, resume, train

import accord
from accord.distributed import joined
from accord.training import checkpoint, loop, prepare
from accord.training.step import accumulate, make_batch
from accord.types import Interrupted, Refused, UsageError


def close(one: dict, other: dict, rel: float) -> None:
    """The same names, and values that differ by no more than rounding."""
    assert one.keys() == other.keys()
    for name in one:
        assert other[name] == pytest.approx(one[name], rel=rel, abs=1e-6), name


def tensors(folder: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(folder / f"checkpoints/step-{step:06d}/tensors.safetensors")


# ---------------------------------------------------------------- the gradient


def gradient_of(ready, folder) -> dict:
    """The gradient of batch 1 that this rank ends with, in a file, and the records of its rows."""
    with joined() as world:
        learner = replace(ready.learner, world=world)
        records = accumulate(learner, make_batch(learner, 1, ready.batch_trees(1)), ready.optimizer.masters)
        save_file(ready.optimizer.masters.gradients(), f"{folder}/gradient-{world.size}-{world.rank}.safetensors")
        return {"rows": records.row, "loss": records["loss"].tolist(), "norm": ready.optimizer.grad_norm(world).item()}


@pytest.mark.parametrize("method", ["dpo", "kto", "sft"])
def test_no_world_changes_the_gradient(method, tiny_folder, tmp_path):
    """7 rows on 1, 2, 4 and 9 ranks: one gradient to 1e-6 on every rank, the rows in the batch's order, z0 of them all."""
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(14))
    ready = moved(ready_for(tiny_folder, data, method=method, batch_size=7, assignments=["train.micro_tokens=120"]))
    alone = gradient_of(ready, tmp_path)
    expected = load_file(tmp_path / "gradient-1-0.safetensors")
    ready.optimizer.masters.forget_gradients()
    for size in (2, 4, 9):
        for place, answer in enumerate(in_world(size, tmp_path / str(size), gradient_of, ready, tmp_path)):
            assert answer["rows"] == alone["rows"] and len(set(answer["rows"])) == len(ready.batch_trees(1))
            assert answer["loss"] == pytest.approx(alone["loss"], rel=1e-6, abs=1e-6)
            assert answer["norm"] == pytest.approx(alone["norm"], rel=1e-6)
            assert apart(expected, load_file(tmp_path / f"gradient-{size}-{place}.safetensors")) < 2e-6


# ---------------------------------------------------------------- whole runs

RUNS = {
    "lora": {"set": {"evaluate.every": 2}},
    "kto": {"method": "kto", "batch_size": 5, "set": {"train.micro_tokens": 64}},
    "sharded": {"lora": False, "batch_size": 5, "set": {"train.micro_tokens": 64, "evaluate.every": 2}},
    "sharded-kto": {"method": "kto", "lora": False, "reference": "frozen", "set": {"train.micro_tokens": 64}},
    "replicated": {"lora": False, "method": "simpo", "set": {"train.parallel": "replicated"}},
    "epochs": {"steps": None, "epochs": 2, "batch_size": 7, "reference": "cached"},
}


@pytest.mark.parametrize("changes", RUNS.values(), ids=RUNS)
def test_no_world_changes_a_run(changes, tiny_folder, pairs_file, held_out_file, tmp_path):
    """1, 2 and 4 processes: the same records line by line, the same weights and moments; every file is written once."""
    changes = {"held_out": held_out_file, **changes}
    alone = {k: v for k, v in changes.items() if k != "set"} | {
        "set": {k: v for k, v in changes.get("set", {}).items() if k != "train.parallel"}
    }
    one = run(tiny_folder, pairs_file, tmp_path / "one", **alone)
    for size in (2, 4):
        out = tmp_path / f"run-{size}"
        answers = in_world(size, tmp_path / str(size), train, tiny_folder, pairs_file, out, changes)
        assert all(answer == answers[0] and "error" not in answer for answer in answers), answers
        lines, expected = json_lines(out / "metrics.jsonl"), json_lines(one.folder / "metrics.jsonl")
        assert len(lines) == len(expected)
        for line, right in zip(lines, expected):
            close(right, line, 2e-5)
        ours, theirs = tensors(out, one.steps), tensors(one.folder, one.steps)
        masters = [name for name in theirs if name.startswith("master/")]
        assert ours.keys() == theirs.keys()
        assert apart({n: theirs[n] for n in masters}, {n: ours[n] for n in masters}) < 1e-4
        assert {f.name for f in out.iterdir()} == {f.name for f in one.folder.iterdir()}
        assert answers[0]["best_step"] == one.best_step
        finding = next(f for f in json.loads((out / "preflight.json").read_text()) if f["check"] == "ranks")
        assert finding["evidence"]["sharded"] == (changes.get("lora") is False and "train.parallel" not in changes["set"])
        assert json.loads((out / "environment.json").read_text())["processes"] == size
