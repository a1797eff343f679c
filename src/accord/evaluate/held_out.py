"""Held-out rows: reward accuracy of pairs, loss, log-probs; always the same rows in the same packs.

The same packs matter: policy and reference then make the same rounding errors, which cancel in
their ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from accord.data.order import mismatch
from accord.distributed.world import ALONE, World, concat_tables, restore_order
from accord.evaluate.auc import auc, auc_estimate
from accord.evaluate.intervals import Estimate, accuracy
from accord.evaluate.records import Records, record, summarise
from accord.forward.choose import Forward
from accord.forward.layout import micro_batches
from accord.forward.logps import TokenLogps
from accord.forward.reference import Reference
from accord.forward.rows import as_rows
from accord.forward.scores import TokenScores
from accord.objectives import BoundObjective
from accord.types import Logps, Tree


@dataclass
class HeldOut:
    """The rows to evaluate on, and the reference's log-probs of them: computed once, at the first
    evaluation.

    A reference that moves is asked anew at each evaluation.
    """

    trees: Sequence[Tree]
    # "pairs", "labelled" or "demonstrations": may differ from what the objective trains on
    kind: str
    prompts: Sequence[int]  # group of each row: rows of one prompt are not independent
    budget: int
    # by group, of those that this rank computes
    reference: dict[int, Logps] = field(default_factory=dict)
    mismatched_reference: dict[int, Logps] = field(default_factory=dict)

    def forget_reference(self) -> None:
        """Make the next evaluation ask the reference again."""
        self.reference.clear()
        self.mismatched_reference.clear()

    def mismatched(self, objective: BoundObjective) -> list[Tree]:
        """Return the rows that a coupled objective takes its baseline from; none where it computes
        no loss on these rows.
        """
        return (
            mismatch(self.trees, 0)
            if objective.context is not None and self.kind == objective.rows
            else []
        )

    def all_trees(self, objective: BoundObjective) -> list[Tree]:
        """Return every tree whose reference log-probs an evaluation asks for."""
        return [*self.trees, *self.mismatched(objective)]

    def groups(self, trees: Sequence[Tree]) -> list[list[Tree]]:
        return [[trees[i] for i in group] for group in micro_batches(trees, self.budget)]


@torch.no_grad()
def evaluate(
    held_out: HeldOut,
    forward: Forward,
    objective: BoundObjective,
    reference: Reference | None,
    poll: Callable[[], None] = lambda: None,
    world: World = ALONE,
    running: Mapping[str, float] | None = None,
) -> Records:
    """Compute the records of every held-out row, whole on every rank.

    `running` is what the objective has kept of the updates so far, if it keeps anything. Without it
    there is no loss: a finished model does not say what it was.

    Weights, gradients and random state stay as they are.
    """
    poll = world.poll_together(poll)
    groups = held_out.groups(held_out.trees)
    if reference is not None and reference.moves:
        held_out.forget_reference()
    context = _context(held_out, forward, objective, reference, poll, world)
    # A loss exists only for the kind of rows that the objective takes; KTO's needs answers to other
    # prompts, and rows of one prompt have none.
    scored = held_out.kind == objective.rows and bool(context or objective.context is None)
    scored &= running is not None or objective.running is None
    if scored:
        context |= objective.of_batch([tree.counts for tree in held_out.trees])
        context |= objective.from_running(running or {})

    def record_group(records: Records, number: int, tokens: TokenLogps | TokenScores) -> None:
        group, known = groups[number], None
        if reference is not None:
            known = _once(held_out.reference, number, lambda: _polled(poll, reference.logps, group))
        output = None
        if scored:
            policy = as_rows(held_out.kind, group, tokens.reduce())
            against = as_rows(held_out.kind, group, known) if known is not None else None
            output = objective.losses(policy, against, **context)
        record(records, objective, group, tokens, known, output)

    def mine() -> dict[str, Tensor]:
        records = Records()
        for place, (number, tokens) in enumerate(_passes(groups, forward, poll, world)):
            if number is not None:
                record_group(records, number, tokens)
            else:
                _keep_company(held_out.reference, place, reference, groups[0])
        return records.tensors()

    return Records.of(_gathered(groups, mine, world))


def _context(held_out, forward, objective, reference, poll, world) -> dict:
    """Compute the baseline of a coupled objective, over all held-out rows."""
    groups = held_out.groups(held_out.mismatched(objective))
    if not groups:
        return {}

    def mine() -> dict[str, Tensor]:
        found = []
        for place, (number, tokens) in enumerate(_passes(groups, forward, poll, world)):
            if number is None:
                _keep_company(held_out.mismatched_reference, place, reference, groups[0])
            else:
                known = _once(
                    held_out.mismatched_reference,
                    number,
                    partial(_polled, poll, reference.logps, groups[number]),
                )
                policy = tokens.reduce()
                found.append({"policy": policy.sum, "reference": known.sum, "count": policy.count})
        return concat_tables(found)

    table = _gathered(groups, mine, world)
    policy, known, count = (
        table[name].to(forward.model.device) for name in ("policy", "reference", "count")
    )
    return objective.context(Logps(policy, count), Logps(known, count))


def _passes(
    groups: list[list[Tree]], forward: Forward, poll: Callable[[], None], world: World
) -> Iterator[tuple[int | None, TokenLogps | TokenScores]]:
    """Yield number and log-probs of each group that falls to this rank.

    A pass that only keeps the other ranks company has no number.
    """
    for number in world.passes(_dealt(groups, world)):
        poll()
        yield number, forward(groups[number or 0])


def _gathered(groups: list[list[Tree]], mine: Callable, world: World) -> dict[str, Tensor]:
    """Compute the table of all rows, one per tree, in their order; `mine` makes this rank's part of
    it.

    Whole groups are dealt, so that rows meet the same neighbours, and get the same numbers, in a
    world of any size.
    """
    starts = [0, *accumulate(map(len, groups))]
    places = [
        row
        for share in _dealt(groups, world)
        for number in share
        for row in range(starts[number], starts[number + 1])
    ]
    return restore_order(world.gather_or_raise(mine), places)


def _dealt(groups: list[list[Tree]], world: World) -> list[list[int]]:
    return world.balance_by_tokens([sum(tree.tokens for tree in group) for group in groups])


def _polled(poll: Callable[[], None], function: Callable, group: list[Tree]):
    poll()
    return function(group)


def _keep_company(
    known: dict[int, Logps], place: int, reference: Reference | None, group: list[Tree]
) -> None:
    """Make the pass of the reference that other ranks make with groups of theirs, if it is a joint
    one: as often as they do, which is once.
    """
    if reference is not None and reference.joint:
        _once(known, -1 - place, lambda: reference.logps(group))


def _once(known: dict[int, Logps], number: int, compute: Callable[[], Logps]) -> Logps:
    """Return the reference's log-probs of a group, computed at the first evaluation."""
    if number not in known:
        known[number] = compute()
    return known[number]


def metrics(
    records: Records, held_out: HeldOut, objective: BoundObjective, tie_width: float
) -> dict[str, float]:
    """Compute eval_ metrics under TRL's names; labelled rows have the probability that a good one
    outranks a bad one.
    """
    out = {
        f"eval_{name}": value for name, value in summarise(records, objective, tie_width).items()
    }
    if held_out.kind == "labelled":
        good, bad = records["rewards/chosen"], records["rewards/rejected"]
        good, bad = good[~good.isnan()], bad[~bad.isnan()]
        if len(good) and len(bad):
            out["diag/eval_auc"] = auc(good.numpy(), bad.numpy(), tie_width)
            out |= _auc_interval(records, held_out, tie_width)
    return out


def _auc_interval(records: Records, held_out: HeldOut, tie_width: float) -> dict[str, float]:
    """Compute the ends of the AUC's 95 % interval, clustered by prompt."""
    good, bad = records["rewards/chosen"].numpy(), records["rewards/rejected"].numpy()
    is_good = ~np.isnan(good)
    known = is_good | ~np.isnan(bad)
    _, clusters = np.unique(np.asarray(held_out.prompts)[known], return_inverse=True)
    values = np.where(is_good, good, bad)[known]
    found = auc_estimate(values, is_good[known], clusters, tie_width)
    return {"diag/eval_auc_low": found.low, "diag/eval_auc_high": found.high}


def pair_accuracy(records: Records, held_out: HeldOut, tie_width: float) -> Estimate | None:
    """Compute the share of held-out pairs whose chosen answer has the higher reward, ties half, 95
    % interval clustered by prompt.
    """
    if held_out.kind != "pairs":
        return None
    margins = records["rewards/chosen"] - records["rewards/rejected"]
    return accuracy(margins.numpy(), tie_width=tie_width, clusters=list(held_out.prompts))
