"""Checkpoints are whole or not there; what is damaged is said and passed over."""

import errno
import json
import os
import shutil

import pytest
import torch
from training.helpers import run

import accord
from accord.runs import checkpoint, files
from accord.types import CheckpointError

TENSORS = {"master/w": torch.arange(6.0).reshape(2, 3), "exp_avg/w": torch.zeros(2, 3)}


def saved(folder, *steps):
    return [
        checkpoint.save(
            folder, step, {**TENSORS, "n": torch.tensor(step)}, {"progress": {"step": step}}
        )
        for step in steps
    ]


def test_round_trip(tmp_path):
    path = saved(tmp_path, 3)[0]
    got = checkpoint.load(tmp_path)
    assert (got.path, got.step, got.passed_over) == (path, 3, []) and got.state == {
        "progress": {"step": 3},
        "step": 3,
    }
    assert all(torch.equal(tensor, got.tensors[name]) for name, tensor in TENSORS.items())
    assert (tmp_path / "LATEST").read_text() == "step-000003\n"
    assert {f.name for f in path.iterdir()} == {
        "tensors.safetensors",
        "state.json",
        "MANIFEST.json",
    }


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
    "state changed": (
        lambda p: (p / "state.json").write_text((p / "state.json").read_text().replace("4", "5")),
        "state.json",
    ),
    "missing file": (lambda p: (p / "state.json").unlink(), "state.json is missing"),
    "missing manifest": (lambda p: (p / "MANIFEST.json").unlink(), "MANIFEST.json is missing"),
    "empty manifest": (lambda p: (p / "MANIFEST.json").write_text(""), "unreadable"),
    "empty object": (lambda p: (p / "MANIFEST.json").write_text("{}"), "unreadable"),
    "binary manifest": (lambda p: (p / "MANIFEST.json").write_bytes(b"\xff\xfe\x00"), "unreadable"),
    "manifest of nothing": (manifest(files={}), "does not name the files"),
    "step of another type": (manifest(step="four"), "unreadable"),
    "size of another type": (
        manifest(files={"state.json": {"bytes": "big", "sha256": ""}}),
        "unreadable",
    ),
    "swapped step": (swapped_step, "is of step 2"),
}


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
    monkeypatch.setattr(
        type(tmp_path),
        "write_text",
        lambda file, *a, **k: (order.append(file.name), write(file, *a, **k))[1],
    )
    path = saved(tmp_path, 1)[0]
    assert order[:2] == ["state.json", "MANIFEST.json"]
    assert set(json.loads((path / "MANIFEST.json").read_text())["files"]) == {
        "tensors.safetensors",
        "state.json",
    }


def test_every_file_is_flushed_before_the_rename(tmp_path, monkeypatch):
    events = []
    flush, rename = files.flush, type(tmp_path).rename
    monkeypatch.setattr(files, "flush", lambda path: (events.append(path.name), flush(path)))
    monkeypatch.setattr(
        type(tmp_path), "rename", lambda self, to: (events.append("rename"), rename(self, to))[1]
    )
    saved(tmp_path, 1)
    before = events[: events.index("rename")]
    assert {"tensors.safetensors", "state.json", "MANIFEST.json", ".staging-step-000001"} <= set(
        before
    )
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
    assert checkpoint.pointed_checkpoint(tmp_path, "BEST") is None


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["save_file", "os.fsync"])
def test_disk_full(where, tmp_path, monkeypatch):
    """Exit 6 in words; the former checkpoint is as it was, no debris is left."""
    saved(tmp_path, 1)
    before = sorted(p.name for p in tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(*((checkpoint, "save_file") if where == "save_file" else (os, "fsync")), full)
        with pytest.raises(
            CheckpointError, match="the disk is full.*\n.*Earlier checkpoints are intact"
        ) as error:
            saved(tmp_path, 2)
    assert error.value.code == 6
    assert (
        sorted(p.name for p in tmp_path.iterdir()) == before and checkpoint.load(tmp_path).step == 1
    )


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
    with pytest.raises(CheckpointError, match='(?s)0 MB free.*checkpoint.keep": 1'):
        run(tiny_folder, pairs_file, tmp_path / "run")
    assert not (tmp_path / "run/metrics.jsonl").exists()


# ------------------------------------------------------------ room, pointers and order, to the byte


def test_room_for_a_checkpoint_that_just_suffices_does(tmp_path, monkeypatch):
    """24 bytes of a float32 [2, 3], twice, 8 of a step, and the slack for small files."""
    needed = 24 + 24 + 8 + checkpoint.SLACK
    monkeypatch.setattr(checkpoint, "free_bytes", lambda folder: needed)
    saved(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "free_bytes", lambda folder: needed - 1)
    with pytest.raises(
        CheckpointError, match=r"the disk is full \(0.1 MB free, a checkpoint takes 0.1 MB\)"
    ):
        saved(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["LATEST", "step-000001"]


def test_room_is_told_in_megabytes(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "free_bytes", lambda folder: 2_500_000)
    with pytest.raises(CheckpointError, match=r"2.5 MB free, a checkpoint takes 12,345.7 MB"):
        checkpoint._require_room(tmp_path, 12_345_678_901)


def test_tensors_of_any_layout_are_saved_as_they_look(tmp_path):
    """Transposed, and with a gradient."""
    tensors = {"t": torch.arange(6.0).reshape(2, 3).T, "p": torch.nn.Parameter(torch.ones(2))}
    checkpoint.save(tmp_path / "made/on/the/way", 1, tensors, {})
    got = checkpoint.load(tmp_path / "made/on/the/way").tensors
    assert (
        torch.equal(got["t"], tensors["t"])
        and torch.equal(got["p"], tensors["p"])
        and not got["p"].requires_grad
    )


def test_the_newest_is_the_one_of_most_steps(tmp_path):
    """A million steps have seven digits; what is no checkpoint does not count."""
    saved(tmp_path, 999_999, 1_000_000)
    (tmp_path / "step-12").mkdir()
    (tmp_path / "step-0000013x").mkdir()
    (tmp_path / "step-2000000").write_text("a file")
    assert (
        checkpoint.load(tmp_path).step == 1_000_000 and checkpoint.load(tmp_path).passed_over == []
    )


@pytest.mark.parametrize("content", [b"\xff\xfe", b"step-000009\n", b"", b"../elsewhere"])
def test_a_pointer_to_nothing(content, tmp_path):
    saved(tmp_path, 1)
    assert checkpoint.pointed_checkpoint(tmp_path, "LATEST") == tmp_path / "step-000001"
    assert checkpoint.pointed_checkpoint(tmp_path, "BEST") is None
    (tmp_path / "LATEST").write_bytes(content)
    assert checkpoint.pointed_checkpoint(tmp_path, "LATEST") is None


@pytest.mark.parametrize(
    ("keep", "latest", "left"),
    [(2, 4, {1, 3, 4}), (2, 3, {1, 2, 3, 4}), (1, 2, {1, 2, 3, 4}), (1, None, {1, 4})],
)
def test_what_is_kept(keep, latest, left, tmp_path):
    """1 is the best; checkpoints after LATEST are damaged ones, which do not count among those
    kept.
    """
    paths = saved(tmp_path, 1, 2, 3, 4)
    checkpoint.mark_best(tmp_path, paths[0])
    (
        (tmp_path / "LATEST").unlink()
        if latest is None
        else (tmp_path / "LATEST").write_text(f"step-{latest:06d}\n")
    )
    checkpoint.prune(tmp_path, keep)
    assert {int(p.name[-1]) for p in tmp_path.glob("step-*")} == left


def test_a_folder_stands_where_its_newest_checkpoint_does(tmp_path):
    paths = saved(tmp_path, 1, 2, 3)
    checkpoint.mark_best(tmp_path, paths[2])
    checkpoint.stand_at(tmp_path, paths[1], 1, 1)
    assert (tmp_path / "LATEST").read_text() == "step-000002\n" and (
        tmp_path / "BEST"
    ).read_text() == "step-000001\n"
    assert {p.name for p in tmp_path.glob("step-*")} == {
        "step-000001",
        "step-000002",
        "step-000003",
    }
    for best in (None, 9):  # no best one so far; one that is gone
        checkpoint.stand_at(tmp_path, paths[2], best, 1)
        assert (tmp_path / "BEST").read_text() == "step-000001\n"
    assert {p.name for p in tmp_path.glob("step-*")} == {"step-000001", "step-000003"}


def test_a_manifest_that_was_edited_is_told_from_a_damaged_file(tmp_path):
    path = saved(tmp_path, 1)[0]
    made = json.loads((path / "MANIFEST.json").read_text())
    made["files"]["state.json"]["sha256"] = "0" * 64
    (path / "MANIFEST.json").write_text(files.as_json(made))
    assert checkpoint.verify(path) == "MANIFEST.json is not as it was written"


def test_each_damage_has_its_own_words(tmp_path):
    path = saved(tmp_path, 1)[0]
    assert checkpoint.verify(path) is None
    size = (path / "state.json").stat().st_size
    with (path / "state.json").open("a") as stream:
        stream.write("\n")
    assert (
        checkpoint.verify(path) == f"state.json is damaged: {size + 1:,} bytes, expected {size:,}"
    )
