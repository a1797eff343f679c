"""Rows and models that a caller has in memory, under names that the rest of accord can read.

A run keeps them in its folder, so that `resume`, `evaluate` and `report` find them there; every
other function has them in a temporary folder while it works.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from accord.config.schema import Config
from accord.data.memory import as_named, write_rows
from accord.runs import files
from accord.types import UsageError

# names of what a run keeps, in its folder
ROWS, MODEL = "data", "model"
FILES = {"train": "train.jsonl", "held_out": "held_out.jsonl"}


def path_or_none(path: Any) -> str | None:
    """Return a path as text; None stays None."""
    return None if path is None else fspath(path)


def model_name(model: Any, tokenizer: Any) -> str | None:
    """Return the name of a model, or None where it is a loaded one.

    Raises:
      UsageError: a tokenizer beside a name, or a loaded model that cannot be used.
    """
    if model is None or isinstance(model, (str, PathLike)):
        if tokenizer is not None:
            raise UsageError(
                "tokenizer: a folder and a name bring their own. It belongs to a loaded model:"
                " model=…, tokenizer=…."
            )
        return path_or_none(model)
    from accord.models.given import is_loaded, require_plain

    if not is_loaded(model):
        raise UsageError(
            f"model: of the type {type(model).__name__}; expected a folder, a name, or a model of"
            " transformers."
        )
    require_plain(model, tokenizer)
    return None


@contextmanager
def named_model(model: Any, tokenizer: Any = None) -> Iterator[str]:
    """Give a model a name: its own, or that of a temporary folder that it is saved into."""
    name = model_name(model, tokenizer)
    if name is not None:
        yield name
        return
    if model is None:
        raise UsageError("model: give a run, a folder, a name, or a loaded model.")
    from accord.models.given import save_given

    with tempfile.TemporaryDirectory(prefix="accord-") as folder:
        save_given(model, tokenizer, Path(folder) / MODEL)
        yield str(Path(folder) / MODEL)


def filler(
    model: Any, tokenizer: Any, data: Any, held_out: Any
) -> Callable[[Config, Path], Config] | None:
    """Return what puts the caller's objects into a run's folder; None where all are names."""
    rows = {
        side: given
        for side, given in (("train", data), ("held_out", held_out))
        if given is not None and as_named(given) is None
    }
    loaded = model is not None and not isinstance(model, (str, PathLike))
    if not rows and not loaded:
        return None

    def fill(config: Config, folder: Path) -> Config:
        named = {}
        with files.writing(folder):
            for side, given in rows.items():
                file = folder / ROWS / FILES[side]
                file.parent.mkdir(exist_ok=True)
                write_rows(given, file, {"train": "data"}.get(side, side))
                named[side] = str(file)
        data = config.data.model_copy(update=named)
        config = config.model_copy(update={"data": data, "output": str(folder)})
        if loaded:
            from accord.models.given import save_given

            save_given(model, tokenizer, folder / MODEL)
            own = config.model.model_copy(update={"name": str(folder / MODEL)})
            config = config.model_copy(update={"model": own})
        return config

    return fill
