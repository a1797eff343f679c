"""Checkpoints that are whole or not there: staged, hashed, flushed, renamed; verified before they are believed.

    checkpoints/step-000120/{tensors.safetensors, state.json, MANIFEST.json}      checkpoints/LATEST, checkpoints/BEST

MANIFEST.json names every file with its size and sha256, and is written last. A checkpoint whose manifest does not fit
is reported and passed over for the next older one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from accord.types import CheckpointError

MANIFEST = "MANIFEST.json"


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint, read."""

    path: Path
    step: int  # updates made
    tensors: dict[str, Tensor]
    state: dict
    passed_over: list[str] = field(default_factory=list)  # newer ones that are damaged, and how


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], state: dict) -> Path:
    """Write `folder`/step-…, all or nothing, and point LATEST to it.

    Raises:
      CheckpointError: no room, or the folder cannot be written. Former checkpoints are as they were.
    """
    name = f"step-{step:06d}"
    staging = folder / f".staging-{name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        save_file({key: value.detach().contiguous().cpu() for key, value in tensors.items()}, staging / "tensors.safetensors")
        write_json(staging / "state.json", {**state, "step": step})
        files = {f.name: {"bytes": f.stat().st_size, "sha256": sha256(f)} for f in sorted(staging.iterdir())}
        write_json(staging / MANIFEST, {"step": step, "files": files})
        for file in staging.iterdir():
            flush(file)
        flush(staging)
        former = folder / f".former-{name}"  # one of the same step, from before a resume
        if (folder / name).exists():
            (folder / name).rename(former)
        staging.rename(folder / name)
        flush(folder)
        shutil.rmtree(former, ignore_errors=True)
        write_text(folder / "LATEST", name + "\n")
    except (OSError, SafetensorError) as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise unwritable(folder, error) from error
    return folder / name


def mark_best(folder: Path, checkpoint: Path) -> None:
    """Point BEST to a checkpoint; `prune` leaves it alone."""
    write_text(folder / "BEST", checkpoint.name + "\n")


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints, the best one and the one just written.

    The last is not among the newest where later ones were found damaged, and the run went on from an older one.
    """
    spared = {pointed(folder, "BEST"), pointed(folder, "LATEST")}
    for old in _all(folder)[keep:]:
        if old not in spared:
            shutil.rmtree(old, ignore_errors=True)


def load(folder: Path, which: str = "latest") -> Checkpoint:
    """The newest checkpoint that verifies, or the best one.

    Raises:
      CheckpointError: none verifies; the message says what is wrong with each.
    """
    candidates = _all(folder)
    if which == "best":
        best = pointed(folder, "BEST")
        candidates = [best] if best else []
    problems = []
    for path in candidates:
        problem = verify(path)
        if problem is None:
            state = json.loads((path / "state.json").read_text())
            return Checkpoint(path, state["step"], load_file(path / "tensors.safetensors"), state, problems)
        problems.append(f"{path.name}: {problem}")
    found = "\n".join(problems) if problems else "there is none"
    raise CheckpointError(f"{folder}: no usable checkpoint.\n{found}")


def verify(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        step, files = int(manifest["step"]), manifest["files"]
        expected = {(name, int(entry["bytes"]), entry["sha256"]) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} is missing or unreadable ({type(error).__name__})"
    if {"tensors.safetensors", "state.json"} - set(files):
        return f"{MANIFEST} does not name the files that a checkpoint has"
    if path.name != f"step-{step:06d}":
        return f"{MANIFEST} is of step {step}, the folder is {path.name}"
    for name, size, digest in sorted(expected):
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size:,} bytes, expected {size:,}"
        if sha256(file) != digest:
            return f"{name} does not have the content that was saved (sha256)"
    return None


def pointed(folder: Path, name: str) -> Path | None:
    """The checkpoint that LATEST or BEST names, if it is there."""
    try:
        path = folder / (folder / name).read_text().strip()
    except OSError:
        return None
    return path if path.parent == folder and path.is_dir() else None


def _all(folder: Path) -> list[Path]:
    """Checkpoints, newest first. LATEST is for people: what is on disk and verifies is what counts."""
    return sorted((p for p in folder.glob("step-*") if p.is_dir()), reverse=True)


# ---------------------------------------------------------------- files


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(file: Path, value) -> None:
    file.write_text(json.dumps(value, indent=1, allow_nan=True) + "\n", encoding="utf-8")


def write_text(file: Path, text: str) -> None:
    """Replace a small file in one step, so that a reader sees the old text or the new one."""
    staging = file.with_name(f".{file.name}.{os.getpid()}")
    staging.write_text(text, encoding="utf-8")
    flush(staging)
    staging.replace(file)
    flush(file.parent)


def flush(path: Path) -> None:
    """fsync a file or folder: after a rename, a power cut must not leave an empty file under the new name."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unwritable(folder: Path, error: Exception) -> CheckpointError:
    """The error of a write that failed, in words."""
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
    cause = "the disk is full" if full else str(error).splitlines()[0]
    advice = "Free some room" if full else "Make the folder writable"
    return CheckpointError(f"{folder} cannot be written: {cause}.\nEarlier checkpoints are intact. {advice}, then `accord resume`.")


def require_room(folder: Path, needed: int) -> None:
    """Refuse before training what would fill the disk at the first checkpoint.

    Raises:
      CheckpointError: fewer free bytes than `needed`.
    """
    parent = folder
    while not parent.exists():
        parent = parent.parent
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise CheckpointError(
            f"{folder}: {free / 1e6:,.0f} MB free, and this run needs about {needed / 1e6:,.0f} MB for its checkpoints "
            "and its final weights.\nFree some room, keep fewer (--set checkpoint.keep=1), or write elsewhere (--output)."
        )
