"""Reports of memory that ran out in the middle of a run."""

from __future__ import annotations

from accord.engine.micro_budget import RowTooLarge
from accord.runs import checkpoint
from accord.training.events import record_finding
from accord.training.saving import save_first
from accord.training.state import Run
from accord.types import Finding, Refused


def report_shrunk(run: Run, before: int, now: int, again: str) -> None:
    """Say that the budget of micro-batches was halved, and what is done once more."""
    says = f"out of memory; micro-batches of {now:,} tokens instead of {before:,}, and {again}"
    remedy = f"--set train.micro_tokens={now}"
    record_finding(run, Finding("memory", "warning", says, {"micro_tokens": now}, remedy))


def too_large(run: Run, error: RowTooLarge) -> Refused:
    """End a run whose longest row does not fit; a checkpoint is written."""
    run.ready.optimizer.masters.zero_grad()
    return Refused(
        f"Out of memory at update {run.progress.step}, with one row ({error.tokens:,} tokens) at a"
        f" time. Saved {save_first(run)}.\nFree memory, or write recompute: always under train in"
        f" {run.folder.path / 'config.yaml'}, and go on with: accord resume {run.folder.path}"
    )


def out_of_memory(run: Run) -> Refused:
    """End a run where memory ran out in work that has no parts.

    Nothing is saved: weights may be half updated, and records half written. The newest checkpoint
    is whole.
    """
    newest = checkpoint.pointed_checkpoint(run.folder.checkpoints, "LATEST")
    stands = f"The newest checkpoint is {newest}." if newest else "No checkpoint was written yet."
    return Refused(
        f"Out of memory at update {run.progress.step}, where the work has no smaller parts."
        f" {stands}\nFree memory, or write a smaller train.micro_tokens and recompute: always"
        f" under train in {run.folder.path / 'config.yaml'}, and go on with: accord resume"
        f" {run.folder.path}"
    )
