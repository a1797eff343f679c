"""One update: the gradient of a batch in micro-batches, whose split never changes it.

    loss = Σ rows' losses / denominator        one denominator for the whole batch

A mean per micro-batch would weigh small ones more: eighteen trainers had that bug (TRL #2617).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.data.order import mismatch
from accord.evaluate.records import Records, record
from accord.forward.choose import Forward
from accord.forward.layout import micro_batches
from accord.forward.reference import Reference
from accord.forward.rows import as_rows
from accord.objectives import BoundObjective
from accord.training.optim import Masters
from accord.types import Diverged, Logps, LossOutput, Refused, RowLogps, Tree


@dataclass(frozen=True)
class Learner:
    """What the gradient of a batch depends on."""

    forward: Forward
    objective: BoundObjective
    reference: Reference | None  # exactly where the objective asks for one
    micro_tokens: int
    seed: int

    @property
    def kind(self) -> str:
        return self.objective.rows


class NotFinite(Diverged):
    """A loss or a gradient is NaN or infinite; `records` are the rows of the batch seen so far."""

    def __init__(self, says: str, records: Records):
        super().__init__(says)
        self.records = records


@dataclass
class Batch:
    """The rows of one update, and the mismatched rows that a coupled objective takes its baseline from."""

    index: int
    trees: Sequence[Tree]
    mismatched: Sequence[Tree] = ()


def make_batch(learner: Learner, index: int, trees: Sequence[Tree]) -> Batch:
    """The batch of update `index`; a pure function of its rows, the seed and the index."""
    if learner.objective.context is None:
        return Batch(index, trees)
    mismatched = mismatch(trees, learner.seed + index)
    if not mismatched:
        raise Refused(
            f"{learner.objective.name} estimates its baseline from answers to *other* prompts, and all "
            f"{len(trees)} rows of batch {index} have one prompt.\nRaise train.batch_size, or use data with more prompts."
        )
    return Batch(index, trees, mismatched)


def whole_batch_context(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    """Keywords that couple the rows (KTO's z0), from the whole batch whatever its split; without gradient."""
    if learner.objective.context is None:
        return {}
    with torch.no_grad():
        policy = [learner.forward(group) for group in _groups(batch.mismatched, learner.micro_tokens)]
        reference = [learner.reference.logps(group) for group in _groups(batch.mismatched, learner.micro_tokens)]
    return learner.objective.context(Logps.join([tokens.reduce() for tokens in policy]), Logps.join(reference))


def row_losses(
    objective: BoundObjective, policy: RowLogps, reference: RowLogps | None, context: dict[str, Tensor]
) -> LossOutput:
    """The one call of the objective in training. The certificate at step 0 goes through it as well."""
    return objective.losses(policy, reference, **context) if objective.reference else objective.losses(policy, **context)


def accumulate(
    learner: Learner, batch: Batch, masters: Masters, *, dropout: bool = True, poll: Callable[[], None] = lambda: None
) -> Records:
    """Leave the batch's gradient in the masters; return what is known of its rows.

    Raises:
      NotFinite: a loss is not finite. No weight has moved.
    """
    context = whole_batch_context(learner, batch)
    records = Records()
    total = denominator(learner.objective, batch.trees)
    for number, group in enumerate(_groups(batch.trees, learner.micro_tokens)):
        poll()
        if dropout:
            torch.manual_seed(_mix(learner.seed, batch.index, number))  # a resumed run drops the same units
        with learner.forward.model.adapter_dropout(dropout):
            tokens = learner.forward(group)
        logps = tokens.reduce()
        known = learner.reference.logps(group) if learner.reference is not None else None
        reference = as_rows(learner.kind, group, known) if known is not None else None
        output = row_losses(learner.objective, as_rows(learner.kind, group, logps), reference, context)
        record(records, learner.objective, group, tokens, known, output)
        if not torch.isfinite(output.losses).all():
            raise NotFinite(f"update {batch.index}: the loss of a row is not finite.", records)
        if not output.losses.requires_grad:
            raise Refused("The losses carry no gradient: the forward path skips what trains, or cuts it off. Report this.")
        (output.losses.sum() / total).backward()
        masters.collect()
    return records


def denominator(objective: BoundObjective, trees: Sequence[Tree]) -> int:
    """What the sum of losses is divided by: rows, or answer tokens, of the whole batch."""
    if objective.denominator == "rows":
        return len(trees)
    return sum(len(completion) for tree in trees for completion in tree.completions)


def _groups(trees: Sequence[Tree], budget: int) -> list[list[Tree]]:
    return [[trees[i] for i in group] for group in micro_batches(trees, budget)]


def _mix(seed: int, step: int, number: int) -> int:
    """A seed for one micro-batch: far apart for neighbouring steps."""
    return (seed * 1_000_003 + step) * 1_009 + number & 0x7FFF_FFFF_FFFF_FFFF
