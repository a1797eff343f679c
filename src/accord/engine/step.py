"""One update: the gradient of a batch in micro-batches. The split never changes it.

    loss = Σ rows' losses / denominator    one denominator for the whole batch, and for all ranks

A mean per micro-batch would give small ones more weight: eighteen trainers had that bug (TRL
#2617). For the same reason the ranks' gradients are summed, not averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from accord.data.order import mismatch
from accord.distributed.world import ALONE, World, concat_tables, restore_order
from accord.engine.micro_budget import MicroBudget
from accord.engine.optimizer import Masters
from accord.engine.rollout_losses import as_rollouts, sampled_losses
from accord.evaluate.records import Records, record, record_slopes
from accord.forward.choose import Forward
from accord.forward.logps import TokenLogps
from accord.forward.reference import Reference
from accord.forward.rows import as_rows
from accord.forward.scores import TokenScores
from accord.forward.shares import places, shares
from accord.objectives import BoundObjective
from accord.objectives.policy_table import BoundPolicy
from accord.types import Diverged, Logps, LossOutput, Refused, RowLogps, Tree

RUNNING = "running/"  # before the names of what an objective keeps, in a checkpoint


@dataclass(frozen=True)
class UpdateContext:
    """Everything that the gradient of a batch depends on."""

    forward: Forward
    objective: BoundObjective
    reference: Reference | None  # present exactly if the objective needs one
    budget: MicroBudget
    seed: int
    world: World = ALONE  # the ranks that share a batch
    # what the objective keeps from update to update: one state for all copies, changed by `follow`
    running: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rule = self.objective.running
        if rule is not None and not self.running:
            self.running.update(rule.start)

    @property
    def micro_tokens(self) -> int:
        """Return the tokens of a micro-batch at present."""
        return self.budget.tokens

    def with_budget(self, tokens: int) -> UpdateContext:
        """Return the same with a budget of its own that nothing else shares."""
        return replace(self, budget=MicroBudget(tokens))

    @property
    def kind(self) -> str:
        return self.objective.rows

    def follow(self, records: Records) -> None:
        """Take the rows of an update that was made into what the objective keeps."""
        if (rule := self.objective.running) is not None:
            self.running.update(rule.after(self.running, records.tensors()))

    def running_state(self) -> dict[str, Tensor]:
        """Return what the objective keeps as tensors for a checkpoint, by name."""
        return {
            RUNNING + name: torch.tensor(value, dtype=torch.float64)
            for name, value in self.running.items()
        }

    def load_running(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what the objective had kept when these tensors were saved."""
        for name in self.running:
            self.running[name] = tensors[RUNNING + name].item()

    def keep_company(self, trees: Sequence[Tree]) -> None:
        """Make the pass of the reference that other ranks make with rows of theirs, if it is a
        joint one.
        """
        if self.reference is not None and self.reference.joint:
            self.reference.logps(trees)

    def reference_logps(self, trees: Sequence[Tree]) -> Logps:
        """Compute the [N] log-probs of the trees' completions under the reference, for an objective
        that has one.
        """
        assert self.reference is not None, f"{self.objective.name} has no reference"
        return self.reference.logps(trees)


class NotFinite(Diverged):
    """A loss or a gradient is NaN or infinite; `records` are the rows of the batch seen so far."""

    def __init__(self, says: str, records: Records):
        super().__init__(says)
        self.records = records


@dataclass
class Batch:
    """The rows of one update, and the mismatched rows that a coupled objective computes its
    baseline from.
    """

    index: int
    trees: Sequence[Tree]
    mismatched: Sequence[Tree] = ()


def make_batch(learner: UpdateContext, index: int, trees: Sequence[Tree]) -> Batch:
    """Make the batch of update `index`, a pure function of its rows, the seed and the index."""
    if learner.objective.context is None:
        return Batch(index, trees)
    mismatched = mismatch(trees, batch_seed(learner, index))
    if not mismatched:
        raise Refused(
            f"{learner.objective.name} estimates its baseline from answers to *other* prompts, and"
            f" all {len(trees)} rows of batch {index} have one prompt.\nRaise train.batch_size, or"
            " use data with more prompts."
        )
    return Batch(index, trees, mismatched)


def batch_seed(learner: UpdateContext, index: int) -> int:
    """Return the seed by which the rows of an update get the answers of others."""
    return learner.seed + index


def whole_batch_context(
    learner: UpdateContext, batch: Batch, poll: Callable[[], None] = lambda: None
) -> dict[str, Tensor]:
    """Compute the keywords that couple the rows (KTO's z0, a mixture's rows per token) from the
    whole batch, whatever its split, and those that earlier updates give (BCO's shift), without
    gradient.
    """
    given = learner.objective.of_batch([tree.counts for tree in batch.trees])
    given |= learner.objective.from_running(learner.running)
    if learner.objective.context is None:
        return given
    world = learner.world
    poll = world.poll_together(poll)

    @torch.no_grad()
    def mine() -> dict[str, Tensor]:
        found = []
        for group in world.passes(shares(batch.mismatched, learner.micro_tokens, world)):
            poll()
            policy = learner.forward(group or batch.mismatched[:1]).reduce()
            if group is not None:
                known = learner.reference_logps(group)
                found.append({"policy": policy.sum, "reference": known.sum, "count": policy.count})
            else:
                learner.keep_company(batch.mismatched[:1])
        return concat_tables(found)

    table = restore_order(world.gather_or_raise(mine), places(batch.mismatched, world))
    policy, known, count = (
        table[name].to(learner.forward.model.device) for name in ("policy", "reference", "count")
    )
    return given | learner.objective.context(Logps(policy, count), Logps(known, count))


def row_losses(
    objective: BoundObjective,
    policy: RowLogps,
    reference: RowLogps | None,
    context: dict[str, Tensor],
) -> LossOutput:
    """Call the objective. This is its only call in training, and the certificate of step 0 uses it
    as well.
    """
    return objective.losses(policy, reference if objective.reference else None, **context)


def accumulate(
    learner: UpdateContext,
    batch: Batch,
    masters: Masters,
    *,
    dropout: bool = True,
    poll: Callable[[], None] = lambda: None,
) -> Records:
    """Leave the batch's gradient in the masters of every rank; return the records of its rows, in
    their order.

    Raises:
      NotFinite: a loss is not finite. No weight has moved.
    """
    world = learner.world
    context = whole_batch_context(learner, batch, poll)
    poll = world.poll_together(poll)
    total = denominator(learner.objective, batch.trees)

    def mine() -> dict[str, Tensor]:
        records = Records()
        for number, group in enumerate(
            world.passes(shares(batch.trees, learner.micro_tokens, world))
        ):
            poll()
            if dropout:  # a resumed run drops the same units
                torch.manual_seed(_mix(learner.seed, batch.index, number * world.size + world.rank))
            with learner.forward.model.adapter_dropout(dropout):
                tokens = learner.forward(group or batch.trees[:1])
            if group is None:
                learner.keep_company(batch.trees[:1])
                loss = 0.0 * tokens.values.sum()
            else:
                loss = _losses(learner, group, tokens, context, records).sum() / total
            if not loss.requires_grad:
                raise Refused(
                    "The losses carry no gradient: the forward path skips what trains, or cuts it"
                    " off. Report this."
                )
            tokens.values.retain_grad()
            # layers that compute again in the backward pass must drop the same units there
            with learner.forward.model.adapter_dropout(dropout):
                loss.backward()
            masters.accumulate_grads()
            if group is not None and learner.kind != "rollouts":
                record_slopes(records, group, tokens)
        return records.tensors()

    records = Records.of(restore_order(world.gather_or_raise(mine), places(batch.trees, world)))
    if not records["loss"].isfinite().all():
        raise NotFinite(f"update {batch.index}: the loss of a row is not finite.", records)
    masters.all_reduce(world)
    return records


def _losses(
    learner: UpdateContext,
    trees: Sequence[Tree],
    tokens: TokenLogps | TokenScores,
    context: dict[str, Tensor],
    records: Records,
) -> Tensor:
    """Compute the [B] losses of one micro-batch's rows, or the [N] losses of its answers if they
    are the policy's own; add their numbers to the records.
    """
    if learner.kind == "rollouts":
        assert isinstance(learner.objective, BoundPolicy) and isinstance(tokens, TokenLogps)
        return sampled_losses(learner.objective, as_rollouts(trees), tokens, records)
    known = learner.reference.logps(trees) if learner.reference is not None else None
    reference = as_rows(learner.kind, trees, known) if known is not None else None
    output = row_losses(
        learner.objective, as_rows(learner.kind, trees, tokens.reduce()), reference, context
    )
    record(records, learner.objective, trees, tokens, known, output)
    return output.losses


def denominator(objective: BoundObjective, trees: Sequence[Tree]) -> int:
    """Count what the sum of losses is divided by, in the whole batch: rows (each of the policy's
    own answers is one) or scored answer tokens.
    """
    if objective.denominator == "rows":
        return (
            sum(len(tree.completions) for tree in trees)
            if objective.rows == "rollouts"
            else len(trees)
        )
    return sum(sum(tree.counts) for tree in trees)


def _mix(seed: int, step: int, number: int) -> int:
    """Make a seed for one micro-batch; seeds of neighbouring steps are far apart."""
    return (seed * 1_000_003 + step) * 1_009 + number & 0x7FFF_FFFF_FFFF_FFFF
