"""Checkpoints are whole or not there; what is damaged is said and passed over."""

import errno
import json
import os
import shutil

import pytest
import torch
from training.helpers import run

import accord
from accord.training import checkpoint, files
from accord.types import CheckpointError

TENSORS = {"master/w": torch.arange(6.0).reshape(2, 3), "exp_avg/w": torch.zeros(2, 3)}


def saved(folder, *steps):
    return [checkpoint.save(folder, step, {**TENSORS, "n": torch.tensor(step)}, {"progress": {"step": step}}) for step in steps]


def test_round_trip(tmp_path):
    path = saved(tmp_path, 3)[0]
    got = checkpoint.load(tmp_path)
    assert (got.path, got.step, got.passed_over) == (path, 3, []) and got.state == {"progress": {"step": 3}, "step": 3}
    assert all(torch.equal(tensor, got.tensors[name]) for name, tensor in TENSORS.items())
    assert (tmp_path / "LATEST").read_text() == "step-000003\n"
    assert {f.name for f in path.iterdir()} == {"tensors.safetensors", "state.json", "MANIFEST.json"}


def flip_bit(path):
    file = path / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 4
    file.write_bytes(data)


def truncate(path):
    file = path / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def swapped_step(path):
    """An older checkpoint under a newer one's name: every hash fits, the step does not."""
    older = path.with_name("step-000002")
    shutil.rmtree(path)
    shutil.copytree(older, path)


def manifest(**changes):
    def damage(path):
        file = path / "MANIFEST.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return damage


DAMAGE = {
    "bit flip": (flip_bit, "sha256"),
    "truncated": (truncate, "bytes, expected"),
    "state changed": (lambda p: (p / "state.json").write_text((p / "state.json").read_text().replace("4", "5")), "state.json"),
    "missing file": (lambda p: (p / "state.json").unlink(), "state.json is missing"),
    "missing manifest": (lambda p: (p / "MANIFEST.json").unlink(), "MANIFEST.json is missing"),
    "empty manifest": (lambda p: (p / "MANIFEST.json").write_text(""), "unreadable"),
    "empty object": (lambda p: (p / "MANIFEST.json").write_text("{}"), "unreadable"),
    "binary manifest": (lambda p: (p / "MANIFEST.json").write_bytes(b"\xff\xfe\x00"), "unreadable"),
    "manifest of nothing": (manifest(files={}), "does not name the files"),
    "step of another type": (manifest(step="four"), "unreadable"),
    "size of another type": (manifest(files={"state.json": {"bytes": "big", "sha256": ""}}), "unreadable"),
    "swapped step": (swapped_step, "is of step 2"),
}  # fmt: skip


@pytest.mark.parametrize("damage, words", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_passed_over_aloud(damage, words, tmp_path):
    newest = saved(tmp_path, 2, 4)[1]
    damage(newest)
    got = checkpoint.load(tmp_path)
    assert got.step == 2 and len(got.passed_over) == 1
    assert "step-000004" in got.passed_over[0] and words in got.passed_over[0]


def test_nothing_usable(tmp_path):
    with pytest.raises(CheckpointError, match="there is none"):
        checkpoint.load(tmp_path)
    for path in saved(tmp_path, 1, 2):
        flip_bit(path)
    with pytest.raises(CheckpointError, match="(?s)step-000002.*step-000001") as error:
        checkpoint.load(tmp_path)
    assert error.value.code == 6


def test_killed_while_staging(tmp_path):
    """A half-written staging folder is no checkpoint, and the next save of that step clears it."""
    saved(tmp_path, 2)
    staging = tmp_path / ".staging-step-000004"
    staging.mkdir()
    (staging / "tensors.safetensors").write_bytes(b"half")
    assert checkpoint.load(tmp_path).step == 2 and checkpoint.load(tmp_path).passed_over == []
    saved(tmp_path, 4)
    assert checkpoint.load(tmp_path).step == 4 and not staging.exists()


def test_manifest_is_written_last(tmp_path, monkeypatch):
    """Whatever is in the staging folder when the manifest is written is what it names."""
    order = []
    write = type(tmp_path).write_text
    monkeypatch.setattr(type(tmp_path), "write_text", lambda file, *a, **k: (order.append(file.name), write(file, *a, **k))[1])
    path = saved(tmp_path, 1)[0]
    assert order[:2] == ["state.json", "MANIFEST.json"]
    assert set(json.loads((path / "MANIFEST.json").read_text())["files"]) == {"tensors.safetensors", "state.json"}


def test_every_file_is_flushed_before_the_rename(tmp_path, monkeypatch):
    events = []
    flush, rename = files.flush, type(tmp_path).rename
    monkeypatch.setattr(files, "flush", lambda path: (events.append(path.name), flush(path)))
    monkeypatch.setattr(type(tmp_path), "rename", lambda self, to: (events.append("rename"), rename(self, to))[1])
    saved(tmp_path, 1)
    before = events[: events.index("rename")]
    assert {"tensors.safetensors", "state.json", "MANIFEST.json", ".staging-step-000001"} <= set(before)
    assert tmp_path.name in events[events.index("rename") :]


def test_prune_keeps_newest_best_and_the_one_just_written(tmp_path):
    paths = saved(tmp_path, 1, 2, 3, 4)
    checkpoint.mark_best(tmp_path, paths[1])
    checkpoint.prune(tmp_path, 1)
    assert {p.name for p in tmp_path.glob("step-*")} == {"step-000002", "step-000004"}
    assert checkpoint.load(tmp_path, "best").step == 2
    flip_bit(paths[3])  # found damaged: the run goes on from 2 and saves 3
    saved(tmp_path, 3)
    checkpoint.prune(tmp_path, 1)
    assert checkpoint.load(tmp_path).step == 3


def test_no_best(tmp_path):
    saved(tmp_path, 1)
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        checkpoint.load(tmp_path, "best")
    (tmp_path / "BEST").write_text("../elsewhere\n")
    assert checkpoint.pointed(tmp_path, "BEST") is None


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["save_file", "os.fsync"])
def test_disk_full(where, tmp_path, monkeypatch):
    """Exit 6 in words; the former checkpoint is as it was, no debris is left."""
    saved(tmp_path, 1)
    before = sorted(p.name for p in tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(*((checkpoint, "save_file") if where == "save_file" else (os, "fsync")), full)
        with pytest.raises(CheckpointError, match="the disk is full.*\n.*Earlier checkpoints are intact") as error:
            saved(tmp_path, 2)
    assert error.value.code == 6
    assert sorted(p.name for p in tmp_path.iterdir()) == before and checkpoint.load(tmp_path).step == 1


def test_disk_full_in_a_run(tiny_folder, pairs_file, tmp_path, monkeypatch):
    """The second checkpoint finds no room; with room again the run goes on from the first."""
    save_file, calls = checkpoint.save_file, []

    def second_fails(*args, **kwargs):
        calls.append(1)
        return full() if len(calls) == 2 else save_file(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", second_fails)
        with pytest.raises(CheckpointError, match="disk is full"):
            run(tiny_folder, pairs_file, tmp_path / "run", set={"checkpoint.every": 1}, steps=2)
    assert accord.resume(str(tmp_path / "run")).steps == 2


def test_room_is_asked_for_before_training(tiny_folder, pairs_file, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(CheckpointError, match="(?s)0 MB free.*checkpoint.keep=1"):
        run(tiny_folder, pairs_file, tmp_path / "run")
    assert not (tmp_path / "run/metrics.jsonl").exists()
