"""Held-out rows: reward accuracy of pairs, loss, log-probs; always the same rows in the same packs.

The same packs matter: policy and reference then make the same rounding errors, which cancel in their ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from accord.data.order import mismatch
from accord.evaluate.records import Records, record, summarise, wins
from accord.evaluate.statistics import Estimate, accuracy
from accord.forward.choose import Forward
from accord.forward.layout import micro_batches
from accord.forward.reference import Reference
from accord.forward.rows import as_rows
from accord.objectives import BoundObjective
from accord.types import Logps, Tree


@dataclass
class HeldOut:
    """Rows to evaluate on, and what the reference said of them: computed once, at the first evaluation.

    A reference that moves is asked anew at each evaluation.
    """

    trees: Sequence[Tree]
    kind: str  # "pairs", "labelled" or "demonstrations": may differ from what the objective trains on
    prompts: Sequence[int]  # group of each row: rows of one prompt are not independent
    budget: int
    reference: list[Logps] | None = None
    mismatched_reference: list[Logps] | None = None

    def mismatched(self, objective: BoundObjective) -> list[Tree]:
        """The rows that a coupled objective takes its baseline from; none where it computes no loss on these rows."""
        return mismatch(self.trees, 0) if objective.context is not None and self.kind == objective.rows else []

    def all_trees(self, objective: BoundObjective) -> list[Tree]:
        """Every tree whose reference log-probs an evaluation asks for."""
        return [*self.trees, *self.mismatched(objective)]

    def groups(self, trees: Sequence[Tree]) -> list[list[Tree]]:
        return [[trees[i] for i in group] for group in micro_batches(trees, self.budget)]


@torch.no_grad()
def evaluate(
    held_out: HeldOut, forward: Forward, objective: BoundObjective, reference: Reference | None,
    poll: Callable[[], None] = lambda: None,
) -> Records:  # fmt: skip
    """Records of every held-out row. Weights, gradients and random state stay as they are."""
    records = Records()
    groups = held_out.groups(held_out.trees)
    if reference is not None and (held_out.reference is None or reference.moves):
        held_out.reference = [_polled(poll, reference.logps, group) for group in groups]
    scored = held_out.kind == objective.rows  # a loss exists only for the kind of rows that the objective takes
    context = _context(held_out, forward, objective, reference, poll)
    for number, group in enumerate(groups):
        poll()
        tokens = forward(group)
        known = held_out.reference[number] if held_out.reference is not None else None
        output = None
        if scored:
            policy = as_rows(held_out.kind, group, tokens.reduce())
            against = as_rows(held_out.kind, group, known) if known is not None else None
            output = objective.losses(policy, against, **context)
        record(records, objective, group, tokens, known, output)
    return records


def _context(held_out, forward, objective, reference, poll) -> dict:
    """The baseline of a coupled objective, over all held-out rows."""
    groups = held_out.groups(held_out.mismatched(objective))
    if not groups:
        return {}
    if held_out.mismatched_reference is None or reference.moves:
        held_out.mismatched_reference = [_polled(poll, reference.logps, group) for group in groups]
    policy = [_polled(poll, lambda g: forward(g).reduce(), group) for group in groups]
    return objective.context(Logps.join(policy), Logps.join(held_out.mismatched_reference))


def _polled(poll: Callable[[], None], function: Callable, group: list[Tree]):
    poll()
    return function(group)


def metrics(records: Records, held_out: HeldOut, objective: BoundObjective, tie_width: float) -> dict[str, float]:
    """eval_ metrics under TRL's names; labelled rows have the probability that a good one outranks a bad one."""
    out = {f"eval_{name}": value for name, value in summarise(records, objective, tie_width).items()}
    if held_out.kind == "labelled":
        good, bad = records["rewards/chosen"], records["rewards/rejected"]
        good, bad = good[~good.isnan()], bad[~bad.isnan()]
        if len(good) and len(bad):
            out["diag/eval_auc"] = area(good, bad, tie_width)
    return out


def pair_accuracy(records: Records, held_out: HeldOut, tie_width: float) -> Estimate | None:
    """Share of held-out pairs whose chosen answer has the higher reward, ties half, 95 % interval clustered by prompt."""
    if held_out.kind != "pairs":
        return None
    margins = records["rewards/chosen"] - records["rewards/rejected"]
    return accuracy(margins.numpy(), tie_width=tie_width, clusters=list(held_out.prompts))


def area(good: torch.Tensor, bad: torch.Tensor, tie_width: float) -> float:
    """Probability that a good answer's reward is above a bad one's; ties half."""
    return wins(good[:, None] - bad[None, :], tie_width).mean().item()
