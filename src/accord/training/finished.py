"""Resuming a finished run: there is nothing to do, so nothing is done. No byte of its folder
changes.
"""

from __future__ import annotations

import struct
from pathlib import Path

from safetensors import SafetensorError, safe_open

from accord.config.schema import Config
from accord.runs import checkpoint
from accord.runs.checkpoint import Checkpoint
from accord.runs.files import FORMER, STAGING, read_json
from accord.runs.folder import RunFolder
from accord.runs.identity import differences, trajectory
from accord.runs.progress import Progress

SAVED_AS = ("adapter", "final")  # the folder of a finished run's weights
CARD = "README.md"  # the last file that a run writes


def finished(folder: RunFolder) -> dict | None:
    """Read what a finished run gave; None for one that has work left.

    Work is left where the card or the weights are not there or cannot be read, a kill left
    something half done, no checkpoint verifies, or the config was edited since: the ordinary way
    then goes on, or says what differs.
    """
    saved = next((p for name in SAVED_AS if (p := folder.path / name).is_dir()), None)
    if saved is None or not (folder.path / CARD).is_file() or _half_done(folder, saved):
        return None
    newest = next(checkpoint.verified_checkpoints(folder.checkpoints, []), None)
    pointed = checkpoint.pointed_checkpoint(folder.checkpoints, "LATEST")
    if newest is None or newest.path != pointed or _edited(folder.config(), newest):
        return None
    progress = Progress(**newest.state["progress"])
    steps = folder.config().train.steps or progress.step
    ended = progress.taken if progress.taken is not None else progress.step
    if progress.taken is None and progress.step < steps:
        return None
    return {
        "saved": str(saved),
        "steps": steps,
        "ended": ended,
        "before": progress.before,
        "after": figures_at(folder, ended),
        "best_step": progress.best_step,
        "findings": read_json(folder.path / "preflight.json", []),
    }


def figures_at(folder: RunFolder, step: int) -> dict:
    """Return the newest held-out figures that were recorded at a step; empty where there are
    none.
    """
    return next(
        (
            line
            for line in reversed(folder.metrics())
            if line["step"] == step and any(name.startswith("eval_") for name in line)
        ),
        {},
    )


def _half_done(folder: RunFolder, saved: Path) -> bool:
    """Tell whether a kill left something, or the weights cannot be read."""
    left = [
        file
        for place in (folder.path, folder.checkpoints)
        for file in place.glob(".*")
        if file.name.startswith((STAGING, FORMER))
    ]
    weights = sorted(saved.glob("*.safetensors"))
    return bool(left) or not weights or not all(map(_whole, weights))


def _whole(file: Path) -> bool:
    """Tell whether a file of tensors has a header, and all the bytes that it speaks of."""
    try:
        with safe_open(file, "pt") as tensors:
            return bool(tensors.keys())
    except (OSError, SafetensorError, struct.error):
        return False


def _edited(config: Config, saved: Checkpoint) -> bool:
    """Tell whether the config now asks for another run than the checkpoint is of."""
    identity = saved.state.get("identity", {})
    if not isinstance(identity.get("config"), dict):
        return True
    return bool(differences(identity, {**identity, "config": trajectory(config)}, "then", "now"))
