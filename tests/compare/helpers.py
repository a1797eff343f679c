"""What the tests of comparing share: a recipe of the two-layer model that trains in no time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from accord.campaign.compare import cells
from accord.campaign.log import logged
from accord.config.build import build
from accord.config.schema import Config
from accord.runs.display import SilentDisplay

SILENT = SilentDisplay()
VOLATILE = ("cost", "command")  # of a record: what another run of the same may have otherwise


def recipe(folder: Path, pairs: str, held_out: str | None, **fields) -> Config:
    """2 updates of 4 pairs on the tiny model."""
    values = {
        "train.steps": 2,
        "train.batch_size": 4,
        "model.dtype": "float32",
        "checkpoint.every": 1,
        **fields,
    }
    return build(model=str(folder), data=pairs, held_out=held_out, fields=values)


def starts(folder: Path) -> Counter:
    """How often each cell was begun anew."""
    return Counter(
        entry["cell"] for entry in logged(folder, cells.LOG) if entry["what"] == "started"
    )


def steady(record: dict) -> dict:
    """What must be the same however often a comparison was stopped."""
    return {name: value for name, value in record.items() if name not in VOLATILE}
