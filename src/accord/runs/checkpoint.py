"""Checkpoints that are whole or not there: staged, hashed, flushed, renamed, and verified before
use.

    checkpoints/step-000120/{tensors.safetensors, state.json, MANIFEST.json}
    checkpoints/LATEST, checkpoints/BEST

MANIFEST.json names every file with its size and sha256, has a seal of its own, and is written last.
A checkpoint whose manifest does not fit is reported and skipped for the next older one.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from accord.environment.digests import file_digest, text_digest
from accord.runs.files import (
    STAGING,
    as_json,
    free_bytes,
    put_in_place,
    remove,
    staged,
    write_text,
    writing,
)
from accord.runs.refused import why_without_updates
from accord.types import CheckpointError

MANIFEST, TENSORS, STATE = "MANIFEST.json", "tensors.safetensors", "state.json"
SLACK = 1 << 16  # bytes that the small files of a checkpoint take


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint."""

    path: Path
    step: int  # updates made
    state: dict
    passed_over: list[str] = field(default_factory=list)  # newer ones that are damaged, and how

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Read the tensors when they are first asked for."""
        return load_file(self.path / TENSORS)


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], state: dict) -> Path:
    """Write `folder`/step-…, all or nothing, and point LATEST to it.

    Raises:
      CheckpointError: no room, or the folder cannot be written. Former checkpoints are as they
        were.
    """
    target = folder / name_of(step)
    tensors = {key: value.detach().contiguous().cpu() for key, value in tensors.items()}
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _require_room(folder, sum(tensor.nbytes for tensor in tensors.values()) + SLACK)
            staging = staged(target)
            save_file(tensors, staging / TENSORS)
            (staging / STATE).write_text(as_json({**state, "step": step}), encoding="utf-8")
            files = {
                f.name: {"bytes": f.stat().st_size, "sha256": file_digest(f)}
                for f in sorted(staging.iterdir())
            }
            (staging / MANIFEST).write_text(_sealed(step, files), encoding="utf-8")
            put_in_place(staging, target)
            write_text(folder / "LATEST", target.name + "\n")
    except CheckpointError:
        shutil.rmtree(folder / (STAGING + target.name), ignore_errors=True)
        raise
    return target


def name_of(step: int) -> str:
    return f"step-{step:06d}"


def mark_best(folder: Path, checkpoint: Path) -> None:
    """Point BEST to a checkpoint; `prune` leaves it alone."""
    write_text(folder / "BEST", checkpoint.name + "\n")


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints and the best one.

    Those after LATEST do not count: they were damaged, and the run continued from an older one.
    """
    latest = pointed_checkpoint(folder, "LATEST")
    reached = [path for path in _all(folder) if latest is None or _step(path) <= _step(latest)]
    for old in reached[keep:]:
        if old != pointed_checkpoint(folder, "BEST"):
            remove(old)


def stand_at(folder: Path, newest: Path, best_step: int | None, keep: int) -> None:
    """Restore the folder as it was when `newest` had just been written.

    A kill may have come before the last of it was written.
    """
    write_text(folder / "LATEST", newest.name + "\n")
    if best_step is not None and (best := folder / name_of(best_step)).is_dir():
        mark_best(folder, best)
    prune(folder, keep)


def verified_checkpoints(folder: Path, problems: list[str]) -> Iterator[Checkpoint]:
    """Yield the checkpoints that verify, newest first.

    Each is verified when it is asked for; `problems` collects what is wrong with those that were
    skipped.
    """
    for path in _all(folder):
        problem = verify(path)
        if problem is None:
            state = json.loads((path / STATE).read_text(encoding="utf-8"))
            yield Checkpoint(path, state["step"], state, problems)
        else:
            problems.append(f"{path.name}: {problem}")


def load(folder: Path, which: str = "latest") -> Checkpoint:
    """Load the newest checkpoint that verifies, or the best one.

    Raises:
      CheckpointError: none verifies; the message says what is wrong with each.
    """
    problems: list[str] = []
    best = pointed_checkpoint(folder, "BEST")
    found = (
        c for c in verified_checkpoints(folder, problems) if which == "latest" or c.path == best
    )
    if (newest := next(found, None)) is None:
        raise unusable_error(folder, problems)
    return newest


def unusable_error(folder: Path, problems: list[str]) -> CheckpointError:
    """Make the error of a folder without one checkpoint to continue from.

    A run that was refused or stopped before its first update has none; its folder says why.
    """
    if not problems and (why := why_without_updates(folder.parent)) is not None:
        return CheckpointError(why)
    found = "\n".join(problems) if problems else "there is none"
    return CheckpointError(f"{folder}: no usable checkpoint.\n{found}")


def verify(path: Path) -> str | None:
    """Describe what is wrong with a checkpoint; None if it is whole."""
    try:
        text = (path / MANIFEST).read_text(encoding="utf-8")
        manifest = json.loads(text)
        step, files = int(manifest["step"]), manifest["files"]
        expected = {(name, int(entry["bytes"]), entry["sha256"]) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"{MANIFEST} is missing or unreadable ({type(error).__name__})"
    if set(files) != {TENSORS, STATE}:
        return f"{MANIFEST} does not name the files that a checkpoint has"
    if path.name != name_of(step):
        return f"{MANIFEST} is of step {step}, the folder is {path.name}"
    if text != _sealed(step, files):
        return f"{MANIFEST} is not as it was written"
    for name, size, digest in sorted(expected):
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} is damaged: {file.stat().st_size:,} bytes, expected {size:,}"
        if file_digest(file) != digest:
            return f"{name} does not have the content that was saved (sha256)"
    return None


def _sealed(step: int, files: dict) -> str:
    """Return the manifest's text. Its seal tells a damaged manifest from a damaged file."""
    content = {"step": step, "files": files}
    return as_json({**content, "seal": text_digest(as_json(content))})


def pointed_checkpoint(folder: Path, name: str) -> Path | None:
    """Return the checkpoint that LATEST or BEST names, if it is there."""
    try:
        path = folder / (folder / name).read_text(encoding="utf-8").strip()
        return path if path in _all(folder) else None
    except (OSError, ValueError):  # ValueError: bytes that are no text
        return None


def _all(folder: Path) -> list[Path]:
    """List the checkpoints, newest first. LATEST is for people: only what is on disk and verifies
    counts.
    """
    found = [
        p for p in folder.glob("step-*") if re.fullmatch(r"step-\d{6,}", p.name) and p.is_dir()
    ]
    return sorted(found, key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _require_room(folder: Path, needed: int) -> None:
    free = free_bytes(folder)
    if free < needed:
        raise CheckpointError(
            f"{folder} cannot be written: the disk is full ({free / 1e6:,.1f} MB free, a checkpoint"
            f" takes {needed / 1e6:,.1f} MB).\nEarlier checkpoints are intact. Free some room, then"
            " `accord resume`."
        )
