"""A model that a caller has loaded already: saved into a folder, and read from there.

The caller's object is read once and never written: what trains is another copy, from disk.
"""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import Any

from accord import compat
from accord.errors import first_line
from accord.models.embedded import without_progress_bars
from accord.types import CheckpointError, UsageError

# attributes by which transformers and accelerate mark weights that are not whole in memory
QUANTISED = ("is_quantized", "hf_quantizer", "quantization_method", "is_loaded_in_8bit")


def is_loaded(model: object) -> bool:
    """Tell whether a model was given as an object, and not by its name or folder."""
    return hasattr(model, "state_dict") and hasattr(model, "parameters")


def save_given(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save a loaded model and its tokenizer, as `load` reads them.

    Raises:
      UsageError: it is wrapped in adapters, quantised, not whole in memory, or comes without its
        tokenizer. CheckpointError: the folder cannot be written.
    """
    require_plain(model, tokenizer)
    # save_pretrained notes the dtype and the class in the model's own settings
    settings = [
        each
        for name in ("config", "generation_config")
        if (each := getattr(model, name, None)) is not None
    ]
    before = [dict(vars(each)) for each in settings]
    try:
        with without_progress_bars():
            model.save_pretrained(folder, safe_serialization=True)
            tokenizer.save_pretrained(folder)
    except OSError as error:
        raise CheckpointError(f"{folder}: the model cannot be saved: {error}.") from error
    # the class is foreign: what its own save_pretrained raises is not known
    except Exception as error:
        raise UsageError(
            f"model: a {type(model).__name__} that cannot be saved: {first_line(error)}\nSave it"
            " yourself with save_pretrained, and give the folder."
        ) from error
    finally:
        for each, former in zip(settings, before, strict=True):
            vars(each).clear()
            vars(each).update(former)


def require_plain(model: Any, tokenizer: Any) -> None:
    """Require a model that accord can save and load again as it is.

    Raises:
      UsageError: as `save_given`.
    """
    kind = type(model).__name__
    if hasattr(model, "peft_config") or compat.adapters_were_loaded(model):
        raise UsageError(
            f"model: a {kind} with adapters. Save them with model.save_pretrained('adapter'), and"
            " give the base as model= and that folder as adapter=; or merge them first:"
            " model.merge_and_unload()."
        )
    if any(getattr(model, name, None) for name in QUANTISED):
        raise UsageError(
            f"model: a {kind} with quantised weights, which cannot be trained as they are. Load it"
            " without quantisation, or give the folder or name of the whole model."
        )
    if any(parameter.device.type == "meta" for parameter in model.parameters()):
        raise UsageError(
            f"model: some weights of this {kind} are not in memory (offloaded, or on the device"
            " meta). Load it whole, or give its folder."
        )
    if not hasattr(model, "save_pretrained"):
        raise UsageError(
            f"model: of the type {kind}; expected a model of transformers, a folder, or a name."
        )
    if isinstance(tokenizer, (str, PathLike)):
        raise UsageError(
            "tokenizer: a name, and beside a loaded model it is a loaded tokenizer:"
            f" tokenizer=AutoTokenizer.from_pretrained({fspath(tokenizer)!r})."
        )
    if tokenizer is not None and not hasattr(tokenizer, "save_pretrained"):
        raise UsageError(
            f"tokenizer: of the type {type(tokenizer).__name__}; expected a tokenizer of"
            " transformers: tokenizer=AutoTokenizer.from_pretrained(…)."
        )
    if tokenizer is None:
        raise UsageError(
            f"model: a loaded {kind} needs its tokenizer: tokenizer=AutoTokenizer.from_pretrained"
            "(…)."
        )
