"""Gradients and updates that are not the batch's."""

from __future__ import annotations

from dataclasses import replace

import torch

from accord.engine import optimizer, step
from accord.forward.layout import micro_batches
from benchmarks.silentbench.fault import Fault
from benchmarks.silentbench.in_code.patches import during, everywhere
from benchmarks.silentbench.in_code.trl_patches import trl_loss, trl_made
from benchmarks.silentbench.world import World


def scaled_denominator(factor: float):
    def spoil(world: World) -> None:
        right = step.denominator
        world.patch(step, "denominator", lambda objective, trees: right(objective, trees) * factor)

    return spoil


def mean_per_micro_batch(world: World) -> None:
    right = step.accumulate

    def accumulate(learner, batch, masters, **options):
        for group in micro_batches(batch.trees, learner.micro_tokens):
            trees = [batch.trees[i] for i in group]
            records = right(learner, replace(batch, trees=trees), masters, **options)
        return records

    world.settings["train.micro_tokens"] = 100
    everywhere(world, "accumulate", accumulate)


def last_micro_batch_lost(world: World) -> None:
    right = step.shares

    def fewer(trees, budget, ranks):
        (groups,) = right(trees, budget, ranks)
        return [groups[:-1] if len(groups) > 1 and budget == 128 else groups]

    world.settings["train.micro_tokens"] = 128
    world.patch(step, "shares", fewer)


def low_precision_masters(world: World) -> None:
    right = optimizer.Masters.__init__

    def init(self, trainable):
        right(self, trainable)
        self.masters = dict(trainable)

    world.options |= {"dtype": "bfloat16", "learning_rate": 1e-6, "lora": False}
    world.patch(optimizer.Masters, "__init__", init)


def unpublished(world: World) -> None:
    world.options["dtype"] = "bfloat16"
    world.patch(optimizer.Masters, "write_back", lambda self: None)


def one_left_out(world: World) -> None:
    right = optimizer.Optimizer.__init__

    def init(self, *given):
        right(self, *given)
        self.inner.param_groups[0]["params"].pop()

    world.patch(optimizer.Optimizer, "__init__", init)


def rate_times_three(world: World) -> None:
    right = optimizer.Optimizer.__init__

    def init(self, *given):
        right(self, *given)
        rate = self.rate
        self.rate = lambda number: 3 * rate(number)

    world.patch(optimizer.Optimizer, "__init__", init)


def moments_forgotten(world: World, run) -> None:
    run.ready.optimizer.inner.state.clear()


def nan_gradient(world: World, run) -> None:
    next(iter(run.ready.model.trainable().values())).register_hook(lambda grad: grad * float("nan"))


FAULTS = (
    Fault(
        "31",
        "the gradient is four times too large",
        "wrong denominator",
        scaled_denominator(0.25),
        trl_loss(lambda loss, trainer: loss * 4),
    ),
    Fault(
        "31",
        "mean per micro-batch instead of per batch",
        "micro-batch|wrong denominator",
        mean_per_micro_batch,
    ),
    Fault(
        "31",
        "the last micro-batch is lost",
        "rows, or in another order|of its .* rows|rows, and .* came back",
        last_micro_batch_lost,
    ),
    Fault(
        "27",
        "bfloat16 weights swallow the updates",
        "rounding swallows",
        low_precision_masters,
        trl_made(lambda trainer: None, _peft=False, _dtype=torch.bfloat16, learning_rate=1e-6),
    ),
    Fault(
        "new", "the optimizer leaves a tensor out", "optimizer leaves it out", one_left_out, None
    ),
    Fault("new", "updates do not reach the network", "did not reach it|does not hold", unpublished),
    Fault(
        "new",
        "the learning rate is three times what was asked for",
        "times as far",
        rate_times_three,
    ),
    Fault(
        "36",
        "AdamW's moments are lost in the middle",
        "moments are not",
        during(4, moments_forgotten),
        trl_loss(
            lambda loss, trainer: (
                trainer.state.global_step != 4 or trainer.optimizer.optimizer.state.clear() or loss
                if trainer.state.global_step == 4
                else loss
            )
        ),
    ),
    Fault(
        "34",
        "a gradient becomes NaN",
        "norm is nan|not finite",
        during(3, nan_gradient),
        trl_loss(
            lambda loss, trainer: loss * float("nan") if trainer.state.global_step == 3 else loss
        ),
    ),
)
