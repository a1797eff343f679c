"""The work of `accord export`: write a finished or stopped run's model, from its checkpoint, into a
folder of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from accord.engine.optimizer import Masters
from accord.models import export
from accord.models import merge as merging
from accord.models.language import LanguageModel
from accord.models.load import load, pick_dtype
from accord.models.trainable import make_trainable, with_objective_head
from accord.objectives.configured import resolve_objective
from accord.runs import checkpoint, files
from accord.runs.checkpoint import Checkpoint
from accord.runs.folder import RunFolder
from accord.runs.made_by import config_with_base, made_by
from accord.runs.progress import Progress
from accord.types import AccordError, Refused, UsageError


def require_base(folder: RunFolder, now: str, saved: Checkpoint) -> None:
    """Check that the base model is the one that the run was trained on.

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


@dataclass(frozen=True)
class Exported:
    """A written model."""

    folder: Path
    says: str  # what reading it back showed
    notes: tuple[str, ...] = ()  # what the user did not ask for


def export_run(
    run: str,
    output: str | None,
    *,
    merge: bool,
    which: str,
    dtype: str | None,
    into: str | None = None,
) -> Exported:
    """Write the model of the newest or best checkpoint. The folder is there when it has been read
    back and found right; a refused or interrupted export leaves nothing.

    Raises:
      UsageError, CheckpointError, Refused: no such run or checkpoint; a folder that exists; another
        base model; a merge that is not exact.
    """
    folder = RunFolder.open(run)
    target = _require_possible(folder, output, merge=merge, which=which, dtype=dtype)
    _require_two_bases(folder, into, merge=merge)
    model, masters, saved = load_checkpointed(folder, which, device="cpu")
    unfinished = _unfinished(folder, saved) if which == "latest" else ()
    made = made_by(folder.config(), saved.state["identity"], folder.path)
    probe = [
        tuple(model.tokenizer.encode(text))
        for text in ("Hello, how are you?", "The capital of France is")
    ]
    with _put_there_when_done(target) as staging:
        if merge:
            wanted = pick_dtype(dtype, model.device) if dtype else None
            done = merging.merge(model, staging, probe, wanted, made, into)
            return Exported(
                target,
                f"merged in {export.name_of(done.dtype)}; rounding changed {done.lost:.2%} of what"
                " the adapter does to the logits",
                (*unfinished, *done.notes),
            )
        export.save(model, staging, masters.masters, made, card=True)
        apart = export.read_back(model, staging, probe)
        return Exported(target, f"logits apart by {apart:.1e} of their spread", unfinished)


def _unfinished(folder: RunFolder, saved: Checkpoint) -> tuple[str, ...]:
    """Say so where the newest checkpoint is not the end of the run."""
    progress, steps = Progress(**saved.state["progress"]), folder.config().train.steps
    if steps is None or progress.taken is not None or saved.step >= steps:
        return ()
    return (
        f"the run is not finished: this is its model after step {saved.step:,} of {steps:,}. Go on"
        f" with it: accord resume {folder.path}",
    )


def _require_possible(
    folder: RunFolder, output: str | None, *, merge: bool, which: str, dtype: str | None
) -> Path:
    """Check the options of an export before anything is loaded; return the folder to write.

    Raises:
      UsageError: an option that is impossible or does nothing; a folder that exists.
    """
    if which not in ("latest", "best"):
        raise UsageError(f"--checkpoint {which}: expected latest or best.")
    target = (
        Path(output).expanduser()
        if output
        else folder.path / ("merged" if merge else f"export-{which}")
    )
    if target.exists():
        raise UsageError(f"{target} exists already. Choose another: --output DIR.")
    if merge and folder.config().model.lora is None:
        raise UsageError(
            f"{folder.path} trained all weights: there is nothing to merge. Leave out --merge."
        )
    if dtype not in (None, "float32", "bfloat16"):
        raise UsageError(f"--dtype {dtype}: expected float32 or bfloat16.")
    if dtype is not None and not merge:
        raise UsageError("--dtype says what --merge rounds to; it does nothing without it.")
    return target


def _require_two_bases(folder: RunFolder, into: str | None, *, merge: bool) -> None:
    """
    Raises:
      UsageError: a base to merge into is named that is none, or where there is no choice.
    """
    if into is None:
        return
    if into not in merging.INTO:
        raise UsageError(f"--merge-into {into}: expected {' or '.join(merging.INTO)}.")
    if not merge:
        raise UsageError("--merge-into names the base that --merge writes; add --merge.")
    if folder.config().model.quantize is None:
        raise UsageError(
            f"--merge-into {into}: {folder.path} was trained on its base as it was saved, so there"
            " is only that one. Leave it out."
        )


@contextmanager
def _put_there_when_done(target: Path) -> Iterator[Path]:
    """Yield an empty folder to fill, beside `target`; give it that name if all goes well, else
    delete it.

    Raises:
      CheckpointError: it cannot be written.
    """
    staging = target.with_name(files.STAGING + target.name)
    try:
        with files.writing(target.parent, "Nothing was exported", "give the command again"):
            yield files.staged(target)
            files.put_in_place(staging, target)
    except AccordError as error:  # the folder's name in the making means nothing to a user
        raise type(error)(str(error).replace(str(staging), str(target))) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def load_checkpointed(
    folder: RunFolder, which: str, dtype: str | None = None, device: str | None = None
) -> tuple[LanguageModel, Masters, Checkpoint]:
    """Load a run's model as its "latest" or "best" checkpoint left it, its float32 masters, and the
    checkpoint; see `model_at`.

    Raises:
      CheckpointError: none verifies.
    """
    saved = checkpoint.load(folder.checkpoints, which)
    return *model_at(folder, saved, dtype, device), saved


def model_at(
    folder: RunFolder, saved: Checkpoint, dtype: str | None = None, device: str | None = None
) -> tuple[LanguageModel, Masters]:
    """Load the run's model with the weights of a checkpoint, and their float32 masters; its
    reference is the one it began with.

    Args:
      dtype, device: instead of the run's own.

    Raises:
      Refused: the base model has other weights than when the run was trained.
    """
    config = config_with_base(folder)
    spec = config.model
    model = load(
        spec.name,
        dtype=dtype or spec.dtype,
        device=device or spec.device,
        hub="hub" in config.allow,
        quantize=spec.quantize,
    )
    model = with_objective_head(model, resolve_objective(config), config)
    now = make_trainable(config, model)
    if dtype is None:
        require_base(folder, now, saved)
    masters = Masters(model.trainable())
    masters.load(saved.tensors)
    return model, masters
