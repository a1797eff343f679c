"""Another loss than the one that was asked for, or one that is not a loss of rows."""

from __future__ import annotations

from dataclasses import replace

import torch

from accord.objectives import resolve
from accord.types import LossOutput, PairLogps
from benchmarks.silentbench.fault import Fault
from benchmarks.silentbench.in_code.patches import during, losing
from benchmarks.silentbench.in_code.trl_patches import trl_loss, trl_made
from benchmarks.silentbench.world import World


def other_loss(right, objective, policy, known, context):
    return resolve("dpo").losses(policy, known)


def flipped(right, objective, *given):
    return LossOutput(-right(objective, *given).losses)


def detached_half(right, objective, policy, known, context):
    """No gradient reaches the rejected answers."""
    policy = PairLogps(policy.chosen, policy.rejected.detach())
    return right(objective, policy, known, context)


def nan_to_zero(right, objective, *given):
    output = right(objective, *given)
    return LossOutput(torch.nan_to_num(output.losses), output.metrics)


def batch_mean(right, objective, *given):
    output = right(objective, *given)
    rows_here = len(output.losses)
    # 12: the certificate's points
    return output if rows_here == 12 else LossOutput(output.losses / rows_here, output.metrics)


def means_for_sums(right, objective, policy, known, context):
    """Log-probs divided by lengths before an objective that wants sums."""
    shorter = [
        PairLogps(*(replace(side, sum=side.mean) for side in (r.chosen, r.rejected)))
        for r in (policy, known)
    ]
    return right(objective, *shorter, context)


def ask(method: str, spoil):
    def both(world: World) -> None:
        world.options["method"] = method
        spoil(world)

    return both


def annealed(world: World, run) -> None:
    """β is another one from here on, whatever the config says."""
    options = run.ready.learner.objective.options | {"beta": 0.01}
    right = replace(run.ready.learner.objective, options=options)
    certified = resolve("dpo", {"beta": 0.1})
    learner = replace(run.ready.learner, objective=_Says(right, certified))
    run.ready = replace(run.ready, learner=learner)


class _Says:
    """An objective that shows another's options than those it computes with."""

    def __init__(self, computes, shows):
        self._computes, self.options = computes, shows.options

    def __getattr__(self, name: str):
        return getattr(self._computes, name)


FAULTS = (
    Fault(
        "25",
        "ipo is configured, dpo runs",
        "does not compute ipo",
        ask("ipo", losing(other_loss)),
        trl_made(lambda trainer: setattr(trainer, "loss_types", ["sigmoid"]), loss_type=["ipo"]),
    ),
    Fault(
        "new",
        "the loss has its sign flipped",
        "sign flipped",
        losing(flipped),
        trl_loss(lambda loss, trainer: -loss),
    ),
    Fault(
        "29", "means where the objective wants sums", "does not compute dpo", losing(means_for_sums)
    ),
    Fault(
        "new",
        "no gradient reaches the rejected answers",
        r"does not compute dpo.*rejected",
        losing(detached_half),
    ),
    Fault(
        "34",
        "NaN is replaced by 0 in the loss",
        "NaN gives a finite loss",
        losing(nan_to_zero),
        trl_loss(lambda loss, trainer: torch.nan_to_num(loss)),
    ),
    Fault(
        "31",
        "a row's loss depends on its micro-batch",
        "depends on the rows",
        ask("simpo", losing(batch_mean)),
    ),
    Fault(
        "35",
        "beta changes after three updates",
        "of its own log-probs",
        during(3, annealed),
        trl_loss(
            lambda loss, trainer: (
                loss if trainer.state.global_step < 3 else setattr(trainer, "beta", 0.01) or loss
            )
        ),
    ),
)
