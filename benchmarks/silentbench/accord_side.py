"""One small real run of accord, and what it said: errors and warnings alone."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import torch

import accord
from accord.errors import AccordError, CheckpointError, Diverged, UsageError
from accord.forward import reference
from benchmarks.silentbench.fault import Outcome, Spoil
from benchmarks.silentbench.world import World

DEFAULTS = {
    "method": "dpo",
    "steps": 10,
    "batch_size": 4,
    "dtype": "float32",
    "learning_rate": 1e-3,
}
PLACES = (
    ("running.", "running"),
    ("step0.", "step 0"),
    ("model.", "load"),
    ("data.", "data"),
    ("came back (", "step 0"),
)


def run(world: World, spoil: Spoil) -> Outcome:
    """Spoil the world, train ten updates, evaluate before and after, save."""
    output = world.folder / "run"
    error, crash = None, ""
    with world.stack:
        world.patch(reference, "cache_root", lambda: world.folder / "cache")
        try:
            spoil(world)
            train(world, output)
        except AccordError as caught:
            error = caught
        except Exception:  # a traceback is what no user should see; it names nothing
            crash = traceback.format_exc()
    messages = [str(error)] if error is not None else []
    where = [_place(error)] if error is not None else []
    for name in ("preflight.json", "events.jsonl"):
        for finding in _findings(output / name):
            if finding["verdict"] in ("warning", "refused"):
                messages.append(f"{finding['check']}: {finding['says']}")
                where.append("running" if name == "events.jsonl" else _named(finding["check"]))
    return Outcome(messages, where, _steps(output), crash)


def train(world: World, output: Path) -> None:
    torch.manual_seed(0)
    options = DEFAULTS | world.options
    held = {"held_out": world.held_file()} if world.held else {}
    accord.train(
        model=str(world.model),
        data=world.train_file(),
        output=str(output),
        set=world.settings,
        **held,
        **options,
    )


def _findings(file: Path) -> list[dict]:
    if not file.exists():
        return []
    text = file.read_text()
    return (
        json.loads(text)
        if file.suffix == ".json"
        else [json.loads(line) for line in text.splitlines()]
    )


def _steps(output: Path) -> int:
    file = output / "metrics.jsonl"
    return (
        max((json.loads(line)["step"] for line in file.read_text().splitlines()), default=0)
        if file.exists()
        else 0
    )


def _place(error: AccordError) -> str:
    if isinstance(error, (UsageError, Diverged, CheckpointError)):
        return {UsageError: "config", Diverged: "running", CheckpointError: "save"}[type(error)]
    return _named(str(error))


def _named(text: str) -> str:
    return next(
        (place for prefix, place in PLACES if prefix in text),
        "step 0" if "forward path" in text else "data",
    )
