"""A run from config to saved model: new or resumed. What the command line and Python both call."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import torch

from accord.config import Config
from accord.models import export
from accord.training import checkpoint
from accord.training.card import model_card
from accord.training.display import Display
from accord.training.folder import RunFolder
from accord.training.loop import Progress, Run, train
from accord.training.prepare import Ready, prepare
from accord.training.signals import stop_on_signals
from accord.types import AccordError, CheckpointError, Finding, Refused

# Bytes of a checkpoint per trained parameter: master and two moments in float32.
CHECKPOINT_BYTES = 12


@dataclass(frozen=True)
class Result:
    """What a finished run leaves."""

    folder: Path
    saved: Path  # adapter/ or final/, loadable by transformers and PEFT
    steps: int
    before: dict  # held-out metrics before the first update; empty without held-out rows
    after: dict
    best_step: int | None
    findings: list[Finding] = field(repr=False, default_factory=list)

    def as_dict(self) -> dict:
        """For --json."""
        return {
            "folder": str(self.folder), "saved": str(self.saved), "steps": self.steps, "best_step": self.best_step,
            "before": self.before, "after": self.after,
        }  # fmt: skip


def start(config: Config, display: Display, command: Sequence[str] = ()) -> Result:
    """Train a new run.

    Raises:
      AccordError: of the class that its cause has; a refused run's folder says why and can be used again.
    """
    folder = RunFolder.create(config)
    folder.write_config(config)
    folder.write_environment(command)
    with closing(display), stop_on_signals() as stop:
        try:
            ready = prepare(config, display, stop, folder=folder)
            checkpoint.require_room(folder.path, _room(ready))
        except AccordError as error:
            folder.refuse(str(error))
            raise
        folder.write_preflight(ready.findings)
        announce(ready, folder, display)
        return _finish(Run(ready, folder, display, stop), command)


def resume(path: str, display: Display, command: Sequence[str] = ()) -> Result:
    """Go on from the newest checkpoint that verifies; bit for bit what the uninterrupted run would have done.

    Raises:
      CheckpointError: no checkpoint verifies. Refused: the data, the model or the reference is not the same.
    """
    folder = RunFolder.open(path)
    config = folder.config()
    saved = checkpoint.load(folder.checkpoints)
    for problem in saved.passed_over:
        display.line(f"! damaged checkpoint passed over: {problem}")
    with closing(display), stop_on_signals() as stop:
        ready = prepare(config, display, stop)
        _require_same(saved.state["identity"], ready.identity(), folder)
        ready.load_state(saved.tensors, saved.step)
        folder.rewind(saved.step)
        display.line(f"resumed at step {saved.step} of {ready.steps} from {saved.path}")
        progress = Progress(**saved.state["progress"])
        return _finish(Run(ready, folder, display, stop, progress, first_step=saved.step), command)


def dry_run(config: Config, display: Display) -> Ready:
    """All checks and proofs, nothing written, no update."""
    with closing(display), stop_on_signals() as stop:
        return prepare(config, display, stop, dry_run=True)


def announce(ready: Ready, folder: RunFolder, display: Display) -> None:
    """What is about to happen, one line each."""
    objective = ready.learner.objective
    for finding in ready.findings:
        display.line(f"  {MARKS[finding.verdict]} {finding.check:<22} {finding.says}")
    display.line(f"  objective: {objective.name}; {objective.convention}")
    display.line(
        f"  {len(ready.rows.trees):,} {objective.rows}, {ready.steps:,} updates of {ready.order.batch_size} rows, "
        f"peak learning rate {ready.peak:g}; run in {folder.path}"
    )


MARKS = {"ok": "✓", "note": "·", "warning": "!", "refused": "✗"}


def _finish(run: Run, command: Sequence[str]) -> Result:
    """The loop, then the saved model, read back, and its card."""
    train(run)
    ready, folder = run.ready, run.folder
    saved = folder.path / ("adapter" if ready.model.peft is not None else "final")
    try:
        shutil.rmtree(saved, ignore_errors=True)
        export.save(ready.model, saved, ready.optimizer.masters.masters)
    except OSError as error:
        raise checkpoint.unwritable(saved, error) from error
    apart = export.read_back(ready.model, saved, probe_ids(ready))
    run.display.line(f"saved {saved}; read back from disk, logits apart by {apart:.1e} of their spread")
    after = next((m for m in reversed(folder.metrics()) if m["step"] == ready.steps and any(k.startswith("eval_") for k in m)), {})
    card = model_card(ready, saved, run.progress.before, after, list(command), apart)
    checkpoint.write_text(folder.path / "README.md", card)
    checkpoint.write_text(saved / "README.md", card)
    return Result(folder.path, saved, ready.steps, run.progress.before, after, run.progress.best_step, ready.findings)


def probe_ids(ready: Ready) -> list[tuple[int, ...]]:
    """A few whole conversations, to compare logits on."""
    return [(*tree.prompt, *tree.completions[0])[:256] for tree in ready.rows.trees[:3]]


def _room(ready: Ready) -> int:
    trained = sum(p.numel() for p in ready.model.trainable().values())
    return trained * CHECKPOINT_BYTES * (ready.config.checkpoint.keep + 2) + trained * 4


def _require_same(then: dict, now: dict, folder: RunFolder) -> None:
    names = {
        "train_data": "the training data", "held_out_data": "the held-out data", "initial_weights": "the starting model",
        "tokenizer": "the tokenizer or its chat template", "reference": "the reference",
        "forward": "the forward path", "trees": "the number of usable rows",
    }  # fmt: skip
    lines = [
        f"  {names[n]}: then {str(then.get(n))[:16]}, now {str(now.get(n))[:16]}" for n in names if then.get(n) != now.get(n)
    ] + [f"  {path}: then {was}, now {value}" for path, was, value in _differences(then["config"], now["config"])]
    if lines:
        raise Refused(
            f"{folder.path} cannot be resumed: since its checkpoint was written, something else has changed.\n"
            + "\n".join(lines) + "\nPut it back, or start a new run."
        )  # fmt: skip


def _differences(then: dict, now: dict) -> list[tuple[str, object, object]]:
    """(path, value then, value now) of each field of the config that is not the same."""
    paths = [*then, *(path for path in now if path not in then)]
    return [(path, then.get(path), now.get(path)) for path in paths if then.get(path) != now.get(path)]
