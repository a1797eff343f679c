"""A run from config to saved model: new or resumed. The command line and Python both call this."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from accord.auditing.run_rows import audit_findings
from accord.config.schema import Config, make_config
from accord.distributed.world import ALONE, World, join_world
from accord.engine.optimizers import FLOAT32
from accord.engine.release import release
from accord.environment.settings import LOG, keep_warnings, ranks
from accord.forward.sharded import whole_model
from accord.models import export
from accord.models.language import LanguageModel
from accord.models.provenance import Provenance
from accord.models.save_trial import adapter_problems, try_saving
from accord.runs import checkpoint, files
from accord.runs.checkpoint import Checkpoint
from accord.runs.display import Display
from accord.runs.folder import RunFolder
from accord.runs.hub_names import pinned, pinned_alike
from accord.runs.identity import has_tokens, sums_changed
from accord.runs.made_by import made_by
from accord.runs.progress import Progress
from accord.runs.ranks import (
    create_folder,
    display_for_rank,
    locked,
    open_folder,
    recover_config,
    require_fit,
)
from accord.runs.resume_check import Candidates
from accord.runs.signals import Stop, stop_on_signals
from accord.training import pairs
from accord.training.announce import announce_run, check_lines
from accord.training.card import model_card
from accord.training.dry_run import PartsNamed, parts_named
from accord.training.finished import figures_at, finished
from accord.training.last_answers import write_last_answers
from accord.training.loop import train
from accord.training.prepared import PreparedRun, as_it_runs
from accord.training.setup.hold_out import cut_off, parts_exist, placed, warn_without_held_out
from accord.training.setup.prepare import prepare
from accord.training.state import Run
from accord.training.trained import write_trained_rows
from accord.training.usable import require_data, require_usable
from accord.types import AccordError, CheckpointError, Finding, Interrupted, Refused, UsageError


@dataclass(frozen=True)
class Result:
    """The result of a finished run."""

    folder: Path
    saved: Path  # adapter/ or final/, loadable by transformers and PEFT
    steps: int
    before: dict  # held-out metrics before the first update; empty without held-out rows
    after: dict
    best_step: int | None
    findings: list[Finding] = field(repr=False, default_factory=list)

    def as_dict(self) -> dict:
        """Return the result for --json."""
        return {
            "folder": str(self.folder),
            "saved": str(self.saved),
            "steps": self.steps,
            "best_step": self.best_step,
            "before": self.before,
            "after": self.after,
        }


def start(
    config: Config,
    display: Display,
    command: Sequence[str] = (),
    *,
    every_check: bool = False,
    fill: Callable[[Config, Path], Config] | None = None,
) -> Result:
    """Train a new run.

    Args:
      every_check: show a line for each check, and not only for what to look at.
      fill: puts what a caller has in memory (rows, a model) into the run's folder, and returns the
        config that names it there.

    Raises:
      AccordError: of the class that its cause has; a refused run's folder says why and can be used
        again.
    """
    with closing(display), stop_on_signals() as stop, stop.at_safe_points(), join_world() as world:
        require_fit(config, world)
        config = pinned_alike(config, world)
        if fill is None:
            world.agree(lambda: require_usable(config))
        display = display_for_rank(display, world)
        folder = create_folder(config, world)
        with locked(folder, world), keep_warnings(_log(folder, world)):
            if fill is not None:
                config = _filled(fill, config, folder, world)
            return _begin(config, folder, display, stop, command, world, every_check)


def _filled(
    fill: Callable[[Config, Path], Config], config: Config, folder: RunFolder, world: World
) -> Config:
    """Fill the folder on the first rank; what cannot be written is a reason to refuse."""
    try:
        filled = make_config(
            world.on_first(lambda: fill(config, folder.path).model_dump(mode="json"))
        )
        world.agree(lambda: require_usable(filled))
    except AccordError as error:
        folder.refuse(str(error))
        raise
    return filled


def resume(
    path: str, display: Display, command: Sequence[str] = (), *, every_check: bool = False
) -> Result:
    """Continue from the newest checkpoint that verifies; bit for bit what the uninterrupted run
    would have done.

    If no checkpoint was written yet, start from the beginning. A finished run is left as it is, to
    the byte.

    Raises:
      CheckpointError: no checkpoint verifies, or the data is gone.
      Refused: the data, the model or the reference is not the same.
    """
    with closing(display), stop_on_signals() as stop, stop.at_safe_points(), join_world() as world:
        display = display_for_rank(display, world)
        folder = open_folder(path, world)
        # before the lock and the log, which leave their marks on a folder
        if done := world.on_first(lambda: finished(folder)):
            return _as_it_was(folder, done, display)
        with locked(folder, world), keep_warnings(_log(folder, world)):
            config = recover_config(folder, world)
            candidates = Candidates(folder, world)
            started = candidates.exist()
            world.agree(lambda: require_data(config, folder))
            if started and not parts_exist(config):
                cut_off(config, display, world)  # the same rows: the checkpoint has their digests
            if not started:
                display.line(f"{folder.path} has no checkpoint yet: it begins again")
                return _begin(config, folder, display, stop, command, world, every_check)
            with _restartable(stop, folder, world):
                ready = world.agree(
                    lambda: prepare(
                        config, display, stop, folder=folder, account_rows=False, world=world
                    )
                )
            for line in check_lines(ready.findings, every=every_check):
                display.line(line)
            return _go_on(candidates.of(ready), ready, folder, display, stop, command)


def _as_it_was(folder: RunFolder, done: dict, display: Display) -> Result:
    """Say that a run is finished, and return what it gave."""
    display.line(
        f"{folder.path} finished at step {done['ended']:,}: there is nothing to do, and nothing in"
        " it was touched. More steps are a new run: accord train --steps N --output DIR"
    )
    findings = [Finding(**finding) for finding in done["findings"]]
    return Result(
        folder.path,
        Path(done["saved"]),
        done["steps"],
        done["before"],
        done["after"],
        done["best_step"],
        findings,
    )


def _log(folder: RunFolder, world: World) -> Path | None:
    """Return the file for warnings of libraries.

    All ranks run the same code, so the first one's warnings are enough.
    """
    return folder.path / LOG if world.first else None


def _begin(
    config: Config,
    folder: RunFolder,
    display: Display,
    stop: Stop,
    command: Sequence[str],
    world: World,
    every_check: bool,
) -> Result:
    """Run from the first step."""
    config = placed(_dated(config, world), folder.path)
    world.on_first(lambda: folder.begin(config, command, world.size))
    warn_without_held_out(config, display)
    try:
        with _restartable(stop, folder, world):
            parts = cut_off(config, display, world)
            ready = world.agree(lambda: prepare(config, display, stop, folder=folder, world=world))
            found = (*parts, *ready.findings, *_audit(ready, folder, world))
            ready = replace(ready, findings=found)
            ready = replace(ready, config=as_it_runs(ready))
        world.on_first(
            lambda: files.require_room(folder.path, _room(ready, ready.config.checkpoint.keep + 2))
        )
        with _restartable(stop, folder, world):
            base = world.agree(lambda: _base_of(ready))
            world.on_first(lambda: _try_saving(ready, folder, base))
    except AccordError as error:
        folder.refuse(str(error))
        raise
    world.on_first(lambda: folder.write_config(ready.config))
    world.on_first(lambda: write_trained_rows(ready.source, folder.path))
    world.on_first(lambda: folder.accept(ready.findings))
    display.prepared(ready.findings)
    announce_run(ready, folder, display, every_check=every_check)
    return _finish(Run(ready, folder, display, stop), command)


def _dated(config: Config, world: World) -> Config:
    """Set the day that templates are given: the day on which the run begins, on every rank."""
    if config.data.template_date:
        return config
    day = world.on_first(lambda: date.today().isoformat())
    data = config.data.model_copy(update={"template_date": day})
    return config.model_copy(update={"data": data})


def _audit(ready: PreparedRun, folder: RunFolder, world: World) -> list[Finding]:
    """Audit the training rows, on the first rank; prompts without answers have no audit."""
    found: list[Finding] = []
    world.on_first(lambda: found.extend(_audited(ready, folder.path)))
    return found


def _audited(ready: PreparedRun, folder: Path | None = None) -> list[Finding]:
    objective, sample = ready.learner.objective, ready.config.monitor.audit_rows
    source = ready.source
    held_out = source.held_out_dataset()
    return audit_findings(
        source.dataset(), objective.rows, sample, folder, held_out=held_out, checks=source.checks
    )


def _base_of(ready: PreparedRun) -> Provenance:
    """Describe a sharded base under adapters, while all ranks do; others are described where they
    are saved.
    """
    return export.with_base(ready.model) if ready.world.sharded else export.UNKNOWN


def _try_saving(ready: PreparedRun, folder: RunFolder, base: Provenance) -> None:
    """Save the model as it stands and read it back, into a folder that is deleted again.

    Sharded weights that train are left out: no rank has them whole before the end.

    Raises:
      Refused: it could not be saved after the last update either.
      CheckpointError: the folder cannot be written.
    """
    if ready.optimizer.masters.in_parts:
        return
    trial = folder.path / (files.STAGING + "trial")
    try:
        with files.writing(folder.path):
            try_saving(ready.model, trial, ready.optimizer.masters.masters, base)
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def _go_on(
    saved: Checkpoint,
    ready: PreparedRun,
    folder: RunFolder,
    display: Display,
    stop: Stop,
    command: Sequence[str],
) -> Result:
    """Run from a checkpoint."""
    world, progress = ready.world, Progress(**saved.state["progress"])
    for problem in saved.passed_over:
        display.line(f"! checkpoint passed over: {problem}")
    world.on_first(lambda: files.require_room(folder.path, _room(ready, 1)))
    ready.load_state(world.from_first(saved.tensors if world.first else {}), saved.step)
    _require_restored(saved, ready)
    if not has_tokens(saved.state["identity"]):
        display.line(
            f"! {saved.path.name} was written before checkpoints recorded a digest of the tokens:"
            " that the rows still give the same tokens is not checked this time"
        )
    if sums_changed(saved.state["identity"]) and ready.learner.objective.answers:
        display.line(
            f"! {saved.path.name} was written by an accord that added log-probs in float32; this"
            " one adds them in float64, so the updates from here on are not bit for bit those of"
            " an uninterrupted run (sums of 5,000 tokens were off by up to .07 nats). Resume"
            " with the accord that began the run if they must be"
        )
    for problem in world.on_first(lambda: _stand_at(saved, progress, ready, folder)):
        display.line(f"! {problem}; the weights do not depend on it")
    display.line(f"resumed at step {saved.step} of {ready.steps} from {saved.path}")
    if progress.micro_tokens is not None:
        ready.learner.budget.tokens = min(progress.micro_tokens, ready.learner.micro_tokens)
    return _finish(Run(ready, folder, display, stop, progress, first_step=saved.step), command)


def _require_restored(saved: Checkpoint, ready: PreparedRun) -> None:
    """Check that memory holds what the checkpoint holds.

    Raises:
      Refused: they differ.
    """
    held = ready.state()
    differs = ready.world.on_first(
        lambda: [
            name
            for name, tensor in held.items()
            if not torch.equal(tensor.cpu(), saved.tensors[name])
        ]
    )
    if differs:
        raise Refused(
            f"{len(differs)} tensors are not what {saved.path} has, such as {differs[0]}: weights"
            " or moments were mixed up while they were put back.\nThe checkpoint is as it was."
            " This is a fault of the program: report it."
        )


def _stand_at(
    saved: Checkpoint, progress: Progress, ready: PreparedRun, folder: RunFolder
) -> list[str]:
    """Restore records and checkpoints as they were when this checkpoint had just been written.

    Returns:
      the faults of the records.
    """
    problems = folder.rewind(saved.state["lines"], saved.step)
    checkpoint.stand_at(
        folder.checkpoints, saved.path, progress.best_step, ready.config.checkpoint.keep
    )
    return problems


@contextmanager
def _restartable(stop: Stop, folder: RunFolder, world: World = ALONE):
    """Let a signal end the work inside the block at once: all of it can be repeated.

    With several ranks it ends at the next poll, since a rank that leaves an exchange midway leaves
    others waiting.

    Raises:
      Interrupted: a signal has come; the message says how to continue.
    """
    try:
        with stop.at_once() if world.size == 1 else stop.at_safe_points():
            yield
    except Interrupted as signal:
        raise signal.with_hint(
            f"Nothing is lost. Go on with: accord resume {folder.path}"
        ) from None


def dry_run(config: Config, display: Display) -> PreparedRun:
    """Do all checks and proofs; write nothing and make no update."""
    if ranks()[1] > 1:
        raise UsageError(
            "A dry run checks the rows and the model in one process. Leave out torchrun."
        )
    with (
        closing(display),
        stop_on_signals() as stop,
        stop.at_once(),
        TemporaryDirectory(prefix="accord-") as folder,
    ):
        config = placed(pinned(config), Path(folder))
        require_usable(config)
        warn_without_held_out(config, display)
        display = PartsNamed(display, config)
        try:
            parts = cut_off(config, display, ALONE)
            ready = prepare(config, display, stop, dry_run=True)
        except AccordError as error:
            error.args = (parts_named(str(error), config),)
            raise
        return replace(ready, findings=(*parts, *ready.findings, *_audited(ready)))


def _finish(run: Run, command: Sequence[str]) -> Result:
    """Run the loop, save the model, read it back, and write its card."""
    train(run)
    ready, progress = run.ready, run.progress
    if ready.world.sharded:  # a pass takes every rank
        ready.world.agree(lambda: write_last_answers(run))
    whole = ready.world.agree(lambda: whole_model(ready.model, ready.world))
    base = ready.world.agree(lambda: _base_of(ready))
    said = ready.world.on_first(lambda: _deliver(run, whole, command, base))
    saved = Path(said["saved"])
    return Result(
        run.folder.path,
        saved,
        ready.steps,
        progress.before,
        said["after"],
        progress.best_step,
        list(ready.findings),
    )


def _deliver(run: Run, model: LanguageModel, command: Sequence[str], base: Provenance) -> dict:
    """Save the model, read it back from disk, write its card; return its place and its held-out
    metrics.
    """
    ready, folder = run.ready, run.folder
    saved = folder.path / model.saved_as
    with files.writing(saved), _restartable(run.stop, folder):
        staging = files.staged(saved)
        made = made_by(ready.config, ready.identity(), folder.path)
        made = replace(made, base_weights=base.base_weights, base_config=base.base_config)
        export.save(model, staging, ready.optimizer.masters.masters, made)
        release()  # a second model is loaded now, beside the first
        apart = _read_back(ready, model, staging)
    ended = run.progress.taken if run.progress.taken is not None else ready.steps
    # a sharded pass takes every rank; scores have no tokens to show
    if not ready.world.sharded and ready.learner.objective.answers:
        pairs.write_pairs(ready, folder, ended)
    if not ready.world.sharded:
        with _restartable(run.stop, folder):
            write_last_answers(run)
    after = figures_at(folder, ended)
    card = model_card(ready, saved, run.progress.before, after, list(command), apart)
    files.write_text(staging / "README.md", card)
    with files.writing(saved):
        files.put_in_place(staging, saved)
    files.write_text(folder.path / "README.md", card)
    run.display.line(f"saved {saved}; read back from disk, {apart}")
    return {"saved": str(saved), "after": after}


def _read_back(ready: PreparedRun, model: LanguageModel, folder: Path) -> str:
    """Load what was saved and compare it with the model in memory; return the comparison in words.

    A sharded base computes with all ranks alone: adapters on it are compared tensor by tensor.

    Raises:
      CheckpointError: it is not the model that was trained.
    """
    if not model.sharded:
        apart = export.read_back(model, folder, probe_ids(ready))
        return f"logits apart by {apart:.1e} of their spread"
    if problems := adapter_problems(folder, ready.optimizer.masters.masters):
        raise CheckpointError(
            f"{folder} was saved, but is not the adapter that was trained: {problems[0]}. Do not"
            " use it; the checkpoints hold the trained weights."
        )
    return "every tensor as it was trained"


def probe_ids(ready: PreparedRun) -> list[tuple[int, ...]]:
    """Return the beginnings of a few conversations, to compare logits on: 38 MB of them with 49,152
    tokens.

    A reward model gives one number a sequence, so it takes more of them to have a spread.
    """
    if ready.learner.objective.answers:
        return [ids[:64] for ids in ready.source.conversations(3)]
    return ready.source.conversations(16)


def _room(ready: PreparedRun, checkpoints: int) -> int:
    """Compute the bytes that so many checkpoints and the saved model take."""
    trained = sum(p.numel() for p in ready.model.trainable().values())
    each = ready.optimizer.saved_bytes()
    if ready.reference_kind == "moving":
        each += FLOAT32 * trained  # separate masters
    return each * checkpoints + FLOAT32 * trained
