"""Memory ran out in the middle of an update: smaller micro-batches, and the same gradient."""

from __future__ import annotations

from dataclasses import replace

from accord.engine import memory
from accord.engine.step import Batch
from accord.training.events import record_finding
from accord.training.progress import Run
from accord.training.saving import save
from accord.types import Finding, Refused


def shrink_micro_batches(run: Run, batch: Batch) -> None:
    """Forget the half-made gradient and halve the micro-batches."""
    learner = run.ready.learner
    run.ready.optimizer.masters.zero_grad()
    memory.release()
    lengths = [tree.tokens for tree in (*batch.trees, *batch.mismatched)]
    before = min(learner.micro_tokens, sum(lengths))  # a budget over the whole batch limits nothing
    if before <= max(lengths):
        raise Refused(
            f"Out of memory at update {run.progress.step}, with one row ({max(lengths):,} tokens)"
            f" at a time. Saved {save(run)}.\nFree memory, or write recompute: always under train"
            f" in {run.folder.path / 'config.yaml'}, and go on with: accord resume"
            f" {run.folder.path}"
        )
    smaller = max(before // 2, max(lengths))
    run.ready.learner = replace(learner, micro_tokens=smaller)
    run.progress.micro_tokens = smaller
    says = (
        f"out of memory; micro-batches of {smaller:,} tokens instead of {before:,}, and the update"
        " is made again"
    )
    record_finding(
        run,
        Finding(
            "memory",
            "warning",
            says,
            {"micro_tokens": smaller},
            f"--set train.micro_tokens={smaller}",
        ),
    )
