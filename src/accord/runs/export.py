"""`accord export`: a finished or stopped run's model, from its checkpoint,
in a folder of its own.
"""

from __future__ import annotations

from pathlib import Path

from accord.engine.optimizer import Masters
from accord.models import export
from accord.models.language import LanguageModel
from accord.models.load import load, pick_dtype
from accord.models.trainable import make_trainable, with_objective_head
from accord.objectives.configured import resolve_objective
from accord.runs import checkpoint
from accord.runs.checkpoint import Checkpoint
from accord.runs.folder import RunFolder
from accord.types import Refused, UsageError


def require_base(folder: RunFolder, now: str, saved: Checkpoint) -> None:
    """
    Args:
      now: fingerprint of the base model as it is, in the dtype of the run.

    Raises:
      Refused: it was another one when the run was trained.
    """
    if now != saved.state["identity"]["initial_weights"]:
        raise Refused(
            f"{folder.config().model.name} has other weights than when {folder.path} was trained;"
            " put them back first."
        )


def export_run(
    run: str, output: str | None, *, merge: bool, which: str, dtype: str | None
) -> tuple[Path, str]:
    """Write the model of the newest or best checkpoint; returns the folder and what reading it back
    showed.

    Raises:
      UsageError, CheckpointError, Refused: no such run or checkpoint; a folder that exists; another
        base model.
    """
    if which not in ("latest", "best"):
        raise UsageError(f"--checkpoint {which}: expected latest or best.")
    folder = RunFolder.open(run)
    config = folder.config()
    target = (
        Path(output).expanduser()
        if output
        else folder.path / ("merged" if merge else f"export-{which}")
    )
    if target.exists():
        raise UsageError(f"{target} exists already. Choose another: --output DIR.")
    if merge and config.model.lora is None:
        raise UsageError(
            f"{run} trained all weights: there is nothing to merge. Leave out --merge."
        )
    if dtype not in (None, "float32", "bfloat16"):
        raise UsageError(f"--dtype {dtype}: expected float32 or bfloat16.")
    if dtype is not None and not merge:
        raise UsageError("--dtype says what --merge rounds to; it does nothing without it.")
    model, masters, _ = load_checkpointed(folder, which, device="cpu")
    probe = [
        tuple(model.tokenizer.encode(text))
        for text in ("Hello, how are you?", "The capital of France is")
    ]
    if merge:
        lost = export.merge(
            model, target, probe, pick_dtype(dtype, model.device) if dtype else model.dtype
        )
        return target, f"merged; rounding changed {lost:.2%} of what the adapter does to the logits"
    export.save(model, target, masters.masters)
    return target, f"logits apart by {export.read_back(model, target, probe):.1e} of their spread"


def load_checkpointed(
    folder: RunFolder, which: str, dtype: str | None = None, device: str | None = None
) -> tuple[LanguageModel, Masters, Checkpoint]:
    """A run's model as its "latest" or "best" checkpoint left it, its float32 masters, and the
    checkpoint; see `model_at`.

    Raises:
      CheckpointError: none verifies.
    """
    saved = checkpoint.load(folder.checkpoints, which)
    return *model_at(folder, saved, dtype, device), saved


def model_at(
    folder: RunFolder, saved: Checkpoint, dtype: str | None = None, device: str | None = None
) -> tuple[LanguageModel, Masters]:
    """The run's model with the weights of a checkpoint, and their float32 masters; its reference is
    the one it began with.

    Args:
      dtype, device: instead of the run's own.

    Raises:
      Refused: the base model has other weights than when the run was trained.
    """
    config = folder.config()
    spec = config.model
    model = load(
        spec.name,
        dtype=dtype or spec.dtype,
        device=device or spec.device,
        hub="hub" in config.allow,
    )
    model = with_objective_head(model, resolve_objective(config), config)
    now = make_trainable(config, model)
    if dtype is None:
        require_base(folder, now, saved)
    masters = Masters(model.trainable())
    masters.load(saved.tensors)
    return model, masters
