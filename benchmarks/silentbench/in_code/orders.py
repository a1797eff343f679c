"""Rows that come in another order than the seed's, or not at all."""

from __future__ import annotations

import torch

from accord.data.order import Order
from accord.training import loop
from benchmarks.silentbench.fault import Fault
from benchmarks.silentbench.in_code.patches import everywhere
from benchmarks.silentbench.in_code.trl_patches import trl_made
from benchmarks.silentbench.in_config import labels
from benchmarks.silentbench.world import World


def ordering(change):
    """The order of the rows, changed: `change(order, index, rows)`."""

    def spoil(world: World) -> None:
        right = Order.batch
        world.patch(Order, "batch", lambda self, index: change(self, index, right(self, index)))

    return spoil


def drawn_again(order, index, chosen):
    return torch.randint(
        order.n, (len(chosen),), generator=torch.Generator().manual_seed(index)
    ).numpy()


def file_order(order, index, chosen):
    size = order.batch_size
    return torch.arange(
        index % order.batches_per_epoch * size, (index % order.batches_per_epoch + 1) * size
    ).numpy()


def from_the_clock(order, index, chosen):
    return torch.randperm(order.n)[: len(chosen)].numpy() if index else chosen


def one_row_never(order, index, chosen):
    return chosen[chosen != 3] if (chosen == 3).any() else chosen


def by_label(world: World) -> None:
    labels(lambda number, good: good)(world)

    def sorted_rows(self, index):
        order = sorted(range(self.n), key=lambda row: (row % 2, row * 7919 % self.n))
        size = self.batch_size
        at = index % self.batches_per_epoch * size
        return torch.tensor(order[at : at + size]).numpy()

    world.patch(Order, "batch", sorted_rows)


def matched_baseline(world: World) -> None:
    labels(lambda number, good: good)(world)
    everywhere(world, "mismatch", lambda trees, seed: list(trees))


def other_rows(world: World) -> None:
    """The loop trains on other rows than the order names."""
    right = loop.make_batch
    world.patch(
        loop,
        "make_batch",
        lambda learner, index, trees: right(learner, index, [trees[0], *trees[:-1]]),
    )


FAULTS = (
    Fault("39", "rows are drawn with replacement", "more than once", ordering(drawn_again)),
    Fault(
        "36",
        "rows in the order of the file",
        "not shuffled",
        ordering(file_order),
        trl_made(lambda trainer: None, train_sampling_strategy="sequential"),
    ),
    Fault(
        "36",
        "the order is another one each time it is asked",
        "asked twice",
        ordering(from_the_clock),
    ),
    Fault("39", "one row never comes", "never come|batches have", ordering(one_row_never)),
    Fault("30", "whole batches of one label", "one label only", by_label),
    Fault("30", "KTO's baseline from matched rows", "own prompt", matched_baseline),
    Fault(
        "36",
        "the loop trains on other rows than the order names",
        "other rows than its order names",
        other_rows,
    ),
)
