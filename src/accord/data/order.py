"""The order of rows: which rows make up which batch is a pure function of (seed, epoch, index).

Resuming needs no sampler state. Batches of one epoch differ in size by at most one row, so there is
no small last batch whose gradient would be noisier than the others. Every row comes exactly once an
epoch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from accord.types import Tree


@dataclass(frozen=True)
class Order:
    """The order of `n` rows under `seed`. `strata` (labels) are spread evenly, so that no batch is
    all good or all bad.

    `unit` neighbouring rows stay together, such as the two labels of one pair: their batches then
    hold the pairs that batches of pairs hold. Batches differ by at most one unit.
    """

    n: int  # a multiple of `unit`, as is batch_size
    batch_size: int
    seed: int
    strata: bytes | None = None  # of each row its label, one byte
    unit: int = 1

    @property
    def batches_per_epoch(self) -> int:
        return -(-self.n // self.batch_size)

    @cached_property
    def digest(self) -> str:
        """Hash the first epoch's batches.

        Another version of a library may shuffle differently; a resumed run would then see some rows
        twice and others never.
        """
        batches = (
            self.batch(index).astype(np.int64).tobytes() for index in range(self.batches_per_epoch)
        )
        return hashlib.sha256(b"|".join(batches)).hexdigest()

    def batch(self, index: int) -> np.ndarray:
        """Return the row numbers of batch `index`, counted from the start of training, [≤
        batch_size].
        """
        epoch, position = divmod(index, self.batches_per_epoch)
        units = _epoch(self.n // self.unit, self.seed, epoch, self.strata)
        cuts = [round(k * len(units) / self.batches_per_epoch) for k in (position, position + 1)]
        chosen = units[cuts[0] : cuts[1]]
        return (chosen[:, None] * self.unit + np.arange(self.unit)).ravel()


@lru_cache(maxsize=2)
def _epoch(n: int, seed: int, epoch: int, strata: bytes | None) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    if strata is None:
        return rng.permutation(n)
    # Each stratum is shuffled and laid evenly over [0, 1) from a random start; merging them keeps
    # the proportions of the whole in every stretch.
    labels = np.frombuffer(strata, np.int8)
    place = np.empty(n)
    for value in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == value))
        place[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
    return np.argsort(place, kind="stable")


def mismatch(trees: Sequence[Tree], seed: int) -> list[Tree]:
    """Pair each prompt with another row's completion, for KTO's baseline z0.

    The answer always comes from another *prompt*: rows are sorted by prompt and the answers are
    shifted by the largest group, so that no row meets its own group. Rows of a prompt that fills
    more than half of the batch find too few partners; those left over are skipped. An empty result
    means that the batch has one prompt only.
    """
    groups: dict[tuple[int, ...], list[Tree]] = {}
    for tree in trees:
        groups.setdefault(tree.prompt, []).append(tree)
    largest = max(map(len, groups.values()))
    if len(trees) - largest < largest:  # keep the biggest group within half
        groups = {prompt: rows[: max(len(trees) - largest, 0)] for prompt, rows in groups.items()}
        largest = max(map(len, groups.values()))
    ordered = [tree for rows in _shuffled(list(groups.values()), seed) for tree in rows]
    donors = ordered[largest:] + ordered[:largest]
    return [
        replace(tree, completions=donor.completions[:1])
        for tree, donor in zip(ordered, donors, strict=True)
    ]


def _shuffled(groups: list[list[Tree]], seed: int) -> list[list[Tree]]:
    rng = np.random.Generator(np.random.Philox(key=[seed, len(groups)]))
    return [groups[i] for i in rng.permutation(len(groups))]


def draw_rows(total: int, wanted: int | None, seed: int) -> list[int]:
    """Choose the rows to evaluate on: all, or as many as are wanted, drawn by the seed."""
    if wanted is None or wanted >= total:
        return list(range(total))
    rng = np.random.Generator(np.random.Philox(key=[seed, total]))
    return sorted(rng.permutation(total)[:wanted].tolist())
