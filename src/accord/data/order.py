"""The order of rows: which rows make up which batch is a pure function of (seed, epoch, index).

Resuming needs no sampler state. Batches of one epoch differ in size by at most one row, so there is
no small last batch whose gradient would be noisier than the others. Every row comes exactly once an
epoch; of several files each comes as often as its weight says (`Part`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from accord.types import Tree


@dataclass(frozen=True)
class Part:
    """The rows of one of several files, and how often an epoch takes each of them.

    A file is an endless sequence of permutations of its rows, and each epoch takes the next
    `weight` × rows of it. So two rows of a file never differ by more than one in how often they
    have come, whatever the weight.
    """

    rows: int  # a multiple of the order's `unit`
    weight: float

    def taken(self, unit: int = 1) -> int:
        """Return the units that each epoch takes."""
        return max(1, round(self.weight * (self.rows // unit)))


@dataclass(frozen=True)
class Order:
    """The order of `n` rows under `seed`. `strata` (labels) are spread evenly, so that no batch is
    all good or all bad.

    `unit` neighbouring rows stay together, such as the two labels of one pair: their batches then
    hold the pairs that batches of pairs hold. Batches differ by at most one unit.

    `parts` are several files, one behind the other in the `n` rows. They are spread evenly over an
    epoch as strata are, so that each batch has its share of each.
    """

    n: int  # a multiple of `unit`, as is batch_size
    batch_size: int
    seed: int
    strata: bytes | None = None  # of each row its label, one byte
    unit: int = 1
    parts: tuple[Part, ...] = ()

    @cached_property
    def rows_per_epoch(self) -> int:
        if not self.parts:
            return self.n
        return sum(part.taken(self.unit) for part in self.parts) * self.unit

    @property
    def batches_per_epoch(self) -> int:
        return -(-self.rows_per_epoch // self.batch_size)

    @cached_property
    def batches_of_all_rows(self) -> int:
        """Count the batches in which every row comes at least once: an epoch's, or those of several
        where one takes a part of a file.
        """
        return self.batches_per_epoch * max((-(-n // taken) for n, taken in self._units), default=1)

    def repeats(self, batches: int) -> bool:
        """Tell whether a row comes more than once in so many batches."""
        epochs = batches / self.batches_per_epoch
        if not self.parts:
            return epochs > 1
        return any(taken * epochs > units for units, taken in self._units)

    @cached_property
    def digest(self) -> str:
        """Hash the first epoch's batches.

        Another version of a library may shuffle differently; a resumed run would then see some rows
        twice and others never.
        """
        total = hashlib.sha256()
        for index in range(self.batches_per_epoch):  # as they are trained on: 1 s of a million rows
            total.update(b"|" if index else b"")
            total.update(self.batch(index).astype(np.int64).tobytes())
        for part in self.parts:
            # later epochs of a file of which one takes a half depend on its size as well
            total.update(f"|{(part.rows, part.taken(self.unit))!r}".encode())
        return total.hexdigest()

    def batch(self, index: int) -> np.ndarray:
        """Return the row numbers of batch `index`, counted from the start of training, [≤
        batch_size].
        """
        epoch, position = divmod(index, self.batches_per_epoch)
        units = self._epoch(epoch)
        chosen = units[self._cut(position, len(units)) : self._cut(position + 1, len(units))]
        return (chosen[:, None] * self.unit + np.arange(self.unit)).ravel()

    def most_often(self, index: int) -> np.ndarray:
        """Return how often each row of a batch may come in its epoch: the passes over its file that
        the epoch has a part of, [≤ batch_size].
        """
        rows = self.batch(index)
        if not self.parts:
            return np.ones(len(rows), np.int64)
        epoch = index // self.batches_per_epoch
        passes = [
            ((epoch + 1) * taken - 1) // units - epoch * taken // units + 1
            for units, taken in self._units
        ]
        ends = np.cumsum([part.rows for part in self.parts])
        return np.array(passes)[np.searchsorted(ends, rows, side="right")]

    def _epoch(self, epoch: int) -> np.ndarray:
        return _epoch(self.n // self.unit, self.seed, epoch, self.strata, self._units)

    def _cut(self, position: int, units: int) -> int:
        """Return where a batch of an epoch of so many units begins."""
        return round(position * units / self.batches_per_epoch)

    @cached_property
    def _units(self) -> tuple[tuple[int, int], ...]:
        """The units of each file, and those that each epoch takes."""
        return tuple((part.rows // self.unit, part.taken(self.unit)) for part in self.parts)


@lru_cache(maxsize=2)
def _epoch(
    n: int, seed: int, epoch: int, strata: bytes | None, parts: tuple[tuple[int, int], ...] = ()
) -> np.ndarray:
    """Return the units of one epoch, in their order.

    Args:
      parts: of each file its units, and those that an epoch takes.
    """
    if not parts:
        return _pass(n, seed, epoch, strata)
    rng = np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, 1, 0]))
    found, places, start = [], [], 0
    for number, (units, taken) in enumerate(parts):
        own = strata[start : start + units] if strata is not None else None
        found.append(start + _stretch(units, taken, seed, epoch, own, number))
        places.append((np.arange(taken) + rng.random()) / taken)
        start += units
    return np.concatenate(found)[np.argsort(np.concatenate(places), kind="stable")]


def _stretch(
    units: int, taken: int, seed: int, epoch: int, strata: bytes | None, number: int
) -> np.ndarray:
    """Return the units that an epoch takes of a file's endless sequence of permutations."""
    first, last = epoch * taken // units, ((epoch + 1) * taken - 1) // units
    passes = [_pass(units, seed, each, strata, number) for each in range(first, last + 1)]
    begin = epoch * taken - first * units
    return np.concatenate(passes)[begin : begin + taken]


def _pass(n: int, seed: int, number: int, strata: bytes | None, file: int = 0) -> np.ndarray:
    """Return a permutation of `n` units: pass `number` over a file.

    The first file's are those of a file alone, so that a list of one file is that file.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, number], counter=[0, 0, 0, file]))
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
    places = mismatched_places([tree.prompt for tree in trees], seed)
    return [with_answer_of(trees[own], trees[donor]) for own, donor in places]


def with_answer_of(tree: Tree, donor: Tree) -> Tree:
    """Return a row with the first answer of another in place of its own."""
    return replace(tree, completions=donor.completions[:1])


def mismatched_places(prompts: Sequence[tuple[int, ...]], seed: int) -> list[tuple[int, int]]:
    """Choose for rows of a batch the row whose answer each gets, both by their places; see
    `mismatch`.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(place)
    largest = max(map(len, groups.values()))
    if len(prompts) - largest < largest:  # keep the biggest group within half
        groups = {prompt: rows[: max(len(prompts) - largest, 0)] for prompt, rows in groups.items()}
        largest = max(map(len, groups.values()))
    ordered = [place for rows in _shuffled(list(groups.values()), seed) for place in rows]
    return list(zip(ordered, ordered[largest:] + ordered[:largest], strict=True))


def _shuffled(groups: list[list[int]], seed: int) -> list[list[int]]:
    rng = np.random.Generator(np.random.Philox(key=[seed, len(groups)]))
    return [groups[i] for i in rng.permutation(len(groups))]


def draw_rows(total: int, wanted: int | None, seed: int) -> list[int]:
    """Choose the rows to evaluate on: all, or as many as are wanted, drawn by the seed."""
    if wanted is None or wanted >= total:
        return list(range(total))
    rng = np.random.Generator(np.random.Philox(key=[seed, total]))
    return sorted(rng.permutation(total)[:wanted].tolist())
