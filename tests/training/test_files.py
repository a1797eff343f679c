"""Files and folders that are whole or not there, case by case; benchmarks/torture.py kills whole
runs in between.
"""

import errno
import json
import math
import os
import shutil
from types import SimpleNamespace

import pytest
from safetensors import SafetensorError

from accord.runs import files
from accord.types import CheckpointError


def folder(path, **contents):
    path.mkdir(parents=True)
    for name, text in contents.items():
        (path / name).write_text(text)
    return path


def names(path):
    return sorted(p.name for p in path.iterdir())


def refusing(number):
    def refuse(*given, **named):
        raise OSError(number, os.strerror(number))

    return refuse


# ---------------------------------------------------------------- one file


def test_json_is_written_in_one_form():
    assert files.as_json({"a": [1, "é"]}) == '{\n "a": [\n  1,\n  "\\u00e9"\n ]\n}\n'
    assert math.isnan(json.loads(files.as_json(float("nan"))))


def test_a_file_is_replaced_in_one_step_and_flushed(tmp_path, monkeypatch):
    """What the new name holds is on the disk before it has the name; then the name is."""
    file, events = tmp_path / "LATEST", []
    file.write_text("old")
    flush = files.flush
    monkeypatch.setattr(
        files, "flush", lambda path: (events.append((path.name, file.read_text())), flush(path))
    )
    files.write_json(file, [1])
    assert events == [(".staging-LATEST", "old"), (tmp_path.name, "[\n 1\n]\n")] and names(
        tmp_path
    ) == ["LATEST"]


def test_a_write_that_fails_leaves_the_old_text(tmp_path, monkeypatch):
    (tmp_path / "LATEST").write_text("old")
    monkeypatch.setattr(files, "flush", refusing(errno.EIO))
    with pytest.raises(CheckpointError, match=f"{tmp_path} cannot be written: Input/output error"):
        files.write_text(tmp_path / "LATEST", "new")
    assert (tmp_path / "LATEST").read_text() == "old"


def test_flushing_asks_the_disk_and_closes_the_file(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "fsync", asked.append)
    files.flush(tmp_path)
    assert len(asked) == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(asked[0])


def test_the_hash_is_sha256_of_the_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert (
        files.digest(str(tmp_path / "f"))
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


# ---------------------------------------------------------------- folders


def test_a_staged_folder_is_empty_whatever_was_there(tmp_path):
    target = tmp_path / "new/step-1"
    folder(tmp_path / "new/.staging-step-1", half="x")
    assert (
        files.staged(target) == tmp_path / "new/.staging-step-1"
        and names(tmp_path / "new/.staging-step-1") == []
    )
    assert names(tmp_path / "new") == [".staging-step-1"]
    assert files.staged(tmp_path / "far/away/step-1").is_dir()  # parents are made


def test_a_folder_in_place_replaces_the_former_one(tmp_path):
    target = folder(tmp_path / "final", old="1")
    folder(tmp_path / ".former-final", older="0")  # of a kill in an earlier replacement
    staging = folder(files.staged(target) / "in", a="2").parent
    shutil.rmtree(staging / "in")
    (staging / "new").write_text("2")
    files.put_in_place(staging, target)
    assert names(tmp_path) == ["final"] and names(target) == ["new"]


def test_a_folder_that_cannot_have_its_name_leaves_the_former_one(tmp_path, monkeypatch):
    target = folder(tmp_path / "final", old="1")
    staging = files.staged(target)
    rename = type(tmp_path).rename

    def refused_for_the_new(self, to):
        return refusing(errno.EIO)() if self == staging else rename(self, to)

    monkeypatch.setattr(type(tmp_path), "rename", refused_for_the_new)
    with pytest.raises(OSError, match="Input/output"):
        files.put_in_place(staging, target)
    assert names(target) == ["old"] and not (tmp_path / ".former-final").exists()
    shutil.rmtree(target)
    # without a former one too, the first error is the one that is told
    with pytest.raises(OSError, match="Input/output"):
        files.put_in_place(staging, target)


def test_a_folder_in_place_is_on_the_disk(tmp_path, monkeypatch):
    """Files, then their folder, then its new name."""
    flushed, flush = [], files.flush
    monkeypatch.setattr(files, "flush", lambda path: (flushed.append(path.name), flush(path)))
    staging = files.staged(tmp_path / "final")
    (staging / "a").write_text("1")
    files.put_in_place(staging, tmp_path / "final")
    assert flushed == ["a", ".staging-final", tmp_path.name]


def test_deleting_goes_by_another_name(tmp_path, monkeypatch):
    """A kill while the files go leaves no half of the folder under its name; a disk that refuses
    leaves it whole.
    """
    victim = folder(tmp_path / "step-1", a="1")
    folder(tmp_path / ".staging-step-1", rest="of an earlier kill")
    gone = []
    rmtree = shutil.rmtree
    monkeypatch.setattr(
        shutil,
        "rmtree",
        lambda path, **options: (
            gone.append((path.name, victim.exists())),
            rmtree(path, **options),
        ),
    )
    files.remove(victim)
    assert gone == [(".staging-step-1", True), (".staging-step-1", False)] and names(tmp_path) == []
    stays = folder(tmp_path / "step-2", a="1")
    monkeypatch.setattr(type(tmp_path), "rename", refusing(errno.EROFS))
    files.remove(stays)
    assert names(stays) == ["a"]


def test_a_folder_is_put_in_order_after_a_kill(tmp_path):
    folder(tmp_path / ".former-final", old="1")  # the kill came between the two renames
    folder(tmp_path / ".former-step-1", old="1")  # it came before the former one was deleted
    folder(tmp_path / "step-1", new="2")
    folder(tmp_path / ".staging-step-2", half="3")
    (tmp_path / ".staging-LATEST").write_text("st")
    (tmp_path / ".tmpGhoBms").write_text("safetensors was writing")
    files.recover(tmp_path)
    assert names(tmp_path) == ["final", "step-1"]
    assert names(tmp_path / "final") == ["old"] and names(tmp_path / "step-1") == ["new"]


def test_an_order_that_cannot_be_made_is_said(tmp_path, monkeypatch):
    (tmp_path / ".staging-LATEST").write_text("st")
    monkeypatch.setattr(type(tmp_path), "unlink", refusing(errno.EROFS))
    with pytest.raises(CheckpointError, match="cannot be written: Read-only file system"):
        files.recover(tmp_path)


# ---------------------------------------------------------------- words, and room


@pytest.mark.parametrize(
    ("error", "cause", "advice"),
    [
        (OSError(errno.ENOSPC, "x"), "the disk is full", "Free some room"),
        (OSError(errno.EDQUOT, "x"), "the disk is full", "Free some room"),
        (OSError(errno.EFBIG, "x"), "the disk is full", "Free some room"),
        (
            SafetensorError("IoError: No space left on device\n(os error 28)"),
            "the disk is full",
            "Free some room",
        ),
        (
            OSError(errno.EROFS, "Read-only file system"),
            "Read-only file system",
            "Make the folder writable",
        ),
        (
            SafetensorError("the header is odd\nand more"),
            "the header is odd",
            "Make the folder writable",
        ),
    ],
)
def test_a_write_that_fails_is_said_in_words(error, cause, advice, tmp_path):
    with pytest.raises(CheckpointError) as told, files.writing(tmp_path):
        raise error
    assert (
        str(told.value)
        == f"{tmp_path} cannot be written: {cause}.\nEarlier checkpoints are intact. {advice}, then"
        " `accord resume`."
    )
    assert told.value.__cause__ is error


def test_room_is_that_of_the_disk_the_folder_will_be_on(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: (asked.append(path), SimpleNamespace(free=5))[1]
    )
    assert files.free_bytes(tmp_path / "not/yet") == 5 == files.free_bytes(tmp_path) and asked == [
        tmp_path,
        tmp_path,
    ]


def test_room_that_just_suffices_does(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "free_bytes", lambda folder: 2_000_000)
    files.require_room(tmp_path, 2_000_000)
    with pytest.raises(
        CheckpointError, match=f"^{tmp_path}: 2 MB free, and this run needs about 3 MB for"
    ):
        files.require_room(tmp_path, 3_000_000)
    with pytest.raises(CheckpointError):
        files.require_room(tmp_path, 2_000_001)


@pytest.mark.parametrize("damage", ["", "{", "[" * 100_000, '"text"', "\xff", "null"])
def test_a_damaged_record_is_named(damage, tmp_path):
    """Of whatever kind: an object is not a list, and nesting without end is no reason for a
    traceback.
    """
    file = tmp_path / "record.json"
    assert files.read_json(file, {"a": 1}) == {"a": 1} and files.read_json(file, []) == []
    files.write_json(file, [1])
    assert files.read_json(file, []) == [1]
    with pytest.raises(CheckpointError, match=r"record\.json: damaged: expected an object"):
        files.read_json(file, {})
    file.write_bytes(damage.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"record\.json: damaged: expected a list"):
        files.read_json(file, [])
