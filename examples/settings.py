"""What the examples share: model, updates, files. The environment changes them; the tests do, to
run in seconds.
"""

from __future__ import annotations

import os
from pathlib import Path

import accord

MODEL = os.environ.get("ACCORD_EXAMPLE_MODEL", "smollm2")  # the embedded 135M model, or a folder
STEPS = int(os.environ.get("ACCORD_EXAMPLE_STEPS", "20"))
OUTPUT = Path(os.environ.get("ACCORD_EXAMPLE_OUTPUT", "runs/examples"))

DATA = Path(__file__).parent / "data"
TRAIN, HELD_OUT = str(DATA / "train.jsonl"), str(DATA / "held_out.jsonl")


def fresh(name: str) -> str:
    """A folder or file below OUTPUT that does not exist: accord never writes over anything."""
    taken = {entry.name for entry in OUTPUT.iterdir()} if OUTPUT.is_dir() else set()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    stem, dot, end = name.partition(".")
    names = [name, *(f"{stem}-{number}{dot}{end}" for number in range(2, len(taken) + 3))]
    return str(OUTPUT / next(each for each in names if each not in taken))


def a_run() -> str:
    """A finished run to look at: the first one below OUTPUT, or a new one."""
    there = OUTPUT / "a-run"
    if not (there / "adapter").is_dir():
        accord.train(
            model=MODEL,
            data=TRAIN,
            held_out=HELD_OUT,
            steps=STEPS,
            batch_size=8,
            dtype="float32",
            output=str(there),
        )
    return str(there)
