"""Shares of the ranks: which micro-batches each rank computes of some trees.

Trees are dealt by tokens, with prompts that begin alike side by side, and cut to a budget. The rows
of an update stay the same. They may be grouped into micro-batches in any way, since losses are
divided by one denominator.
"""

from __future__ import annotations

from collections.abc import Sequence

from accord.distributed.world import World
from accord.forward.layout import beside_alike, micro_batches
from accord.types import Tree


def shares(trees: Sequence[Tree], budget: int, world: World) -> list[list[list[Tree]]]:
    """Return for each rank its micro-batches of at most `budget` unique tokens. In a world of one:
    all of them.
    """
    dealt = ([trees[i] for i in share] for share in _dealt(trees, world))
    return [[[mine[i] for i in group] for group in micro_batches(mine, budget)] for mine in dealt]


def places(trees: Sequence[Tree], world: World) -> list[int]:
    """Return the places, among `trees`, of the ranks' trees laid end to end; see
    `accord.distributed.world.restore_order`.
    """
    return [index for share in _dealt(trees, world) for index in share]


def _dealt(trees: Sequence[Tree], world: World) -> list[list[int]]:
    return [
        beside_alike(trees, share)
        for share in world.balance_by_tokens([tree.tokens for tree in trees])
    ]
