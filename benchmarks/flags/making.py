"""One run of the gallery: the tiny base model trained on a case's rows."""

from __future__ import annotations

import json
import random
from contextlib import ExitStack
from pathlib import Path

from cases import RATE, Case, misaligned_reference, no_invariants

import accord


def make(
    case: Case, seed: int, rows: list[dict], held_out: list[dict], base: Path, run: Path
) -> None:
    """Train one run of the gallery."""
    rng = random.Random(seed)
    run.parent.mkdir(exist_ok=True)
    train = write(case.rows(rng.sample(rows, case.count), rng), run.parent / "train.jsonl")
    test = write(
        case.rows(held_out, rng) if case.held_out_too else held_out, run.parent / "held_out.jsonl"
    )
    settings = {"method": "dpo", "epochs": 1, "learning_rate": RATE, **case.settings}
    fields = {
        "evaluate.every": 12,
        "evaluate.rows": 200,
        "monitor.sample_every": 24,
        "model.lora.targets": "all-linear",
        "checkpoint.every": 0,
    }
    with ExitStack() as changed:
        if case.wrong_reference:
            changed.enter_context(misaligned_reference())
        if case.unwatched:
            changed.enter_context(no_invariants())
        accord.train(
            model=str(base),
            data=train,
            held_out=test,
            dtype="float32",
            batch_size=16,
            seed=seed,
            output=str(run),
            set=fields,
            **settings,
        )


def write(rows: list[dict], file: Path) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)
