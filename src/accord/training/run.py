"""A run from config to saved model: new or resumed. What the command line and Python both call."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from accord.config import Config
from accord.distributed import joined
from accord.environment import ranks
from accord.models import export
from accord.models.language import LanguageModel
from accord.training import checkpoint, memory, pairs
from accord.training.card import model_card
from accord.training.display import MARKS, Display
from accord.training.folder import RunFolder
from accord.training.loop import Progress, Run, train
from accord.training.prepare import Ready, differences, prepare
from accord.training.ranks import created, heard, opened, require_fit
from accord.training.sharding import whole_model
from accord.training.signals import stop_on_signals
from accord.types import AccordError, Finding, Refused, UsageError

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
    with closing(display), stop_on_signals() as stop, joined() as world:
        require_fit(config, world)
        display = heard(display, world)
        folder = created(config, world)
        folder.write_config(config)
        folder.write_environment(command, world.size)
        try:
            ready = world.agree(lambda: prepare(config, display, stop, folder=folder, world=world))
            world.on_first(lambda: checkpoint.require_room(folder.path, _room(ready)))
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
    with closing(display), stop_on_signals() as stop, joined() as world:
        display = heard(display, world)
        folder, config, saved = opened(path, world)
        for problem in saved.passed_over:
            display.line(f"! damaged checkpoint passed over: {problem}")
        ready = world.agree(lambda: prepare(config, display, stop, world=world))
        world.agree(lambda: _require_same(saved.state["identity"], ready.identity(), folder))
        ready.optimizer.load_state(world.from_first(saved.tensors), saved.step)
        folder.rewind(saved.step)
        display.line(f"resumed at step {saved.step} of {ready.steps} from {saved.path}")
        progress = Progress(**saved.state["progress"])
        if progress.micro_tokens is not None:
            budget = min(progress.micro_tokens, ready.learner.micro_tokens)
            ready.learner = replace(ready.learner, micro_tokens=budget)
        return _finish(Run(ready, folder, display, stop, progress, first_step=saved.step), command)


def dry_run(config: Config, display: Display) -> Ready:
    """All checks and proofs, nothing written, no update."""
    if ranks()[1] > 1:
        raise UsageError("A dry run checks the rows and the model in one process. Leave out torchrun.")
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


def _finish(run: Run, command: Sequence[str]) -> Result:
    """The loop, then the saved model, read back, and its card."""
    train(run)
    ready, progress = run.ready, run.progress
    whole = ready.world.agree(lambda: whole_model(ready.model, ready.world))
    said = ready.world.on_first(lambda: _deliver(run, whole, command))
    saved = Path(said["saved"])
    return Result(run.folder.path, saved, ready.steps, progress.before, said["after"], progress.best_step, ready.findings)


def _deliver(run: Run, model: LanguageModel, command: Sequence[str]) -> dict:
    """Save the model, read it back from disk, write its card; where it is, and its held-out metrics."""
    ready, folder = run.ready, run.folder
    saved = folder.path / ("adapter" if model.peft is not None else "final")
    try:
        shutil.rmtree(saved, ignore_errors=True)
        export.save(model, saved, ready.optimizer.masters.masters)
    except OSError as error:
        raise checkpoint.unwritable(saved, error) from error
    memory.release()  # a second model is loaded now, beside the first
    apart = export.read_back(model, saved, probe_ids(ready))
    run.display.line(f"saved {saved}; read back from disk, logits apart by {apart:.1e} of their spread")
    ended = run.progress.taken if run.progress.taken is not None else ready.steps
    if not ready.world.lockstep:  # a pass through sharded weights takes every rank
        pairs.write(ready, folder, ended)
    after = next((m for m in reversed(folder.metrics()) if m["step"] == ended and any(k.startswith("eval_") for k in m)), {})
    card = model_card(ready, saved, run.progress.before, after, list(command), apart)
    checkpoint.write_text(folder.path / "README.md", card)
    checkpoint.write_text(saved / "README.md", card)
    return {"saved": str(saved), "after": after}


def probe_ids(ready: Ready) -> list[tuple[int, ...]]:
    """The beginnings of a few conversations, to compare logits on: 38 MB of them with 49,152 tokens."""
    return [(*tree.prompt, *tree.completions[0])[:64] for tree in ready.rows.trees[:3]]


def _room(ready: Ready) -> int:
    trained = sum(p.numel() for p in ready.model.trainable().values())
    return trained * CHECKPOINT_BYTES * (ready.config.checkpoint.keep + 2) + trained * 4


def _require_same(then: dict, now: dict, folder: RunFolder) -> None:
    if lines := differences(then, now, "then", "now"):
        raise Refused(
            f"{folder.path} cannot be resumed: since its checkpoint was written, something else has changed.\n"
            + "\n".join(lines) + "\nPut it back, or start a new run."
        )  # fmt: skip
