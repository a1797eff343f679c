"""What the tests of comparing share: a recipe of the two-layer model that trains in no time."""

from __future__ import annotations

from pathlib import Path

from accord.config import Config
from accord.flags import build
from accord.training.display import SilentDisplay


def recipe(folder: Path, pairs: str, held_out: str | None, **fields) -> Config:
    """3 updates of 4 pairs on the tiny model."""
    values = {
        "train.steps": 3, "train.batch_size": 4, "model.dtype": "float32", "train.learning_rate": None,
        "checkpoint.every": 1, **fields,
    }  # fmt: skip
    return build(model=str(folder), data=pairs, held_out=held_out, fields=values)


SILENT = SilentDisplay()
