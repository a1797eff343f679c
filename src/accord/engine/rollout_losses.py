"""The part of the step for rows that are the policy's own answers: their losses, their records, and
the summary of these.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from accord.evaluate.records import Records
from accord.forward.layout import sent
from accord.forward.logps import TokenLogps
from accord.objectives.policy_gradient import Rollouts
from accord.objectives.policy_table import BoundPolicy
from accord.types import Rollout, Tree


def as_rollouts(trees: Sequence[Tree]) -> list[Rollout]:
    """Check that each tree holds the policy's own answers, and return the same trees."""
    rollouts = [tree for tree in trees if isinstance(tree, Rollout)]
    assert len(rollouts) == len(trees), "an answer that the policy did not give has no advantage"
    return rollouts


def sampled_losses(
    objective: BoundPolicy, trees: Sequence[Rollout], tokens: TokenLogps, records: Records
) -> Tensor:
    """Compute the [N] losses of the answers of some trees, including the value head's; add their
    numbers to the records, one entry per tree.
    """
    device = tokens.values.device

    def column(name: str) -> Tensor:
        return sent(torch.cat([getattr(tree, name) for tree in trees]), device)

    rollouts = Rollouts(
        tokens.values,
        column("old"),
        column("advantages"),
        tokens.count,
        column("reference") if objective.in_loss else None,
        tokens.entropy if objective.entropy_bonus else None,
    )
    output = objective.losses(rollouts)
    losses, metrics = output.losses, dict(output.metrics)
    if objective.critic:
        assert tokens.expected is not None, "the model has a value head"
        critic = rollouts.sums(
            objective.critic_losses(tokens.expected, column("expected"), column("returns"))
        )
        losses, metrics = (
            losses + critic,
            # as the PPO code reports it, without its weight in the loss
            metrics
            | {"value_loss": (critic / tokens.count / objective.options["value_weight"]).detach()},
        )
    metrics["ratio_gap"] = (
        rollouts.sums((tokens.values.detach() - rollouts.old).abs()) / tokens.count
    )
    sizes = sent(torch.tensor([len(tree.completions) for tree in trees]), device)

    def by_tree(values: Tensor) -> Tensor:
        return torch.segment_reduce(values, "sum", lengths=sizes, unsafe=True)

    entropies = tokens.mean_entropy() * tokens.count
    records.add(
        trees,
        loss=by_tree(losses),
        tokens=by_tree(tokens.count.double()),
        answers=sizes.double(),
        entropy_sum=by_tree(entropies.double()),
        **{f"sum/{name}": by_tree(v.double() * tokens.count) for name, v in metrics.items()},
    )
    return losses


def summarise_sampled(records: Records, objective: BoundPolicy) -> dict[str, float]:
    """Compute the metrics of an update: the loss, and means over all tokens of all answers."""
    answers, tokens = records["answers"].sum(), records["tokens"].sum()
    out = {
        "loss": (
            (
                records["loss"].sum() / (tokens if objective.denominator == "tokens" else answers)
            ).item()
        ),
        "entropy": (records["entropy_sum"].sum() / tokens).item(),
    }
    for name in records.names():
        if name.startswith("sum/"):
            out[f"policy/{name.removeprefix('sum/')}"] = (records[name].sum() / tokens).item()
    return out
