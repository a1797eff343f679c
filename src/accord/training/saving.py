"""Checkpoints of a run in progress: when due, after a lost rank, after a number that is not
finite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from accord.compat import is_out_of_memory
from accord.engine.step import NotFinite
from accord.errors import first_line
from accord.runs import checkpoint
from accord.runs.files import write_json
from accord.training.events import raise_if_refused
from accord.training.state import Run
from accord.types import AccordError, Diverged, Tree


def held_out_score(metrics: dict) -> float:
    """Return the score that is lowest for the best checkpoint: held-out loss.

    If these rows have no loss, it is minus their accuracy or reward.
    """
    if "eval_reward" in metrics:
        return -metrics["eval_reward"]
    return (
        metrics["eval_loss"]
        if "eval_loss" in metrics
        else -metrics.get("eval_rewards/accuracies", 0.0)
    )


def save(run: Run) -> str:
    """Save a checkpoint of this moment; the best one by held-out score is kept beside the
    newest.
    """
    _take_in(run)
    return _saved(run)


def save_first(run: Run) -> str:
    """Save a checkpoint where a run ends early, and only then wait for answers under way: a server
    may be slow or silent, and whoever stops a run may kill it soon.
    """
    path = _saved(run)
    _take_in(run)
    return path


def _take_in(run: Run) -> None:
    try:
        run.ready.source.settle()
    except (AccordError, RuntimeError, MemoryError) as error:
        if not isinstance(error, AccordError) and not is_out_of_memory(error):
            raise
        said = first_line(error)
        run.display.line(f"! answers under way are lost, and drawn again later: {said}")


def _saved(run: Run) -> str:
    tensors = run.ready.state()
    return run.ready.world.on_first(lambda: write(run, tensors))


def write(run: Run, tensors: Mapping[str, Tensor]) -> str:
    """Write and mark the checkpoint, and delete old ones; return its path."""
    ready, progress = run.ready, run.progress
    run.folder.flush()
    if ready.learner.micro_tokens < run.planned_tokens:
        progress.micro_tokens = ready.learner.micro_tokens
    state = progress.state(ready.identity(), run.folder.lines)
    path = checkpoint.save(run.folder.checkpoints, progress.step, tensors, state)
    if progress.best_step == progress.step:
        checkpoint.mark_best(run.folder.checkpoints, path)
    checkpoint.prune(run.folder.checkpoints, ready.config.checkpoint.keep)
    raise_if_refused(run, run.watch.saved(path, tensors))
    return str(path)


def save_after_lost_rank(run: Run) -> str:
    """Save a checkpoint after another rank is lost, if this rank can write one by itself."""
    world = run.ready.world
    newest = checkpoint.pointed_checkpoint(run.folder.checkpoints, "LATEST")
    # the first rank's state is gone, or a part of what trains is
    if not world.first or run.ready.optimizer.masters.in_parts:
        if newest is None and not world.first:  # perhaps on the disk of another machine
            return f"What was saved lies where {world.name(0)} ran."
        return (
            f"The newest checkpoint is {newest}." if newest else "No checkpoint had been written."
        )
    run.ready = replace(run.ready, learner=replace(run.ready.learner, world=world.remains()))
    return f"Saved {_saved(run)}."  # what was under way needed all ranks


def stop_diverged(run: Run, error: NotFinite, trees: Sequence[Tree]) -> Diverged:
    """Keep the last good weights, write the records of the batch, and report it."""
    ready = run.ready
    ready.optimizer.masters.zero_grad()
    path = save_first(run)
    rows = [
        {"at": ready.source.origin(tree), "row": tree.row, "tokens": tree.tokens} for tree in trees
    ]
    record = {
        "step": run.progress.step,
        "says": str(error),
        "rows": rows,
        "statistics": error.records.statistics(),
        "learning_rate": ready.optimizer.rate(run.progress.step),
    }
    ready.world.on_first(lambda: write_json(run.folder.path / "diverged.json", record))
    first = ", ".join(ready.source.origin(tree) for tree in trees[:3])
    stopped = Diverged(
        f"{error}\nStopped before the weights were touched; the last good ones are in {path}.\nThe"
        f" batch ({len(rows)} rows, first {first}) and its numbers are in"
        f" {run.folder.path / 'diverged.json'}.\nLower train.learning_rate, or look at these rows."
    )
    stopped.on_all_ranks = True  # every rank has the same numbers
    return stopped
