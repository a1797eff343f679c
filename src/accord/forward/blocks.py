"""The plan of tree attention: which queries see which keys, in a few padded batches of blocks.

A segment's queries see its ancestors and, causally, the segment itself. Long segments are cut into
blocks of queries, so that the upper triangle is not computed. A batch has dozens of short
segments; these are computed together:

    block                 keys                                  a Batch: n blocks of like size,
    question 1, 0..127    system turn, question 1 to 127        padded to [n, Lq] × [n, Lk]
    chosen 1              system turn, question 1, chosen 1
    …

One SDPA call per segment took four times as long: its backward pass costs 0.5 ms for even the
shortest segment.

T packed tokens · n blocks · Lq, Lk queries and keys of a block, padded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from accord.forward.layout import Layout, Segment, sent

QUERIES = 128  # queries of a block; a longer segment is cut
AREA = 2**20  # queries × keys of a batch: at 9 heads, 9 M scores at once
UNSEEN = 2**30  # position of a padded key: behind every query
HIDE = -1e30  # finite: so is a sum of two, and a row of it alone gives a softmax without NaN
# keys are padded to a multiple: a softmax over 152 bfloat16 took 0.45 ms, over 160 0.26 (one
# vector's width)
WIDTH = 32


@dataclass(frozen=True)
class Block:
    """Queries [start, stop) of one segment, and the ranges of packed tokens that are their keys,
    root first.
    """

    start: int
    stop: int
    position: int  # position of the first query
    ranges: tuple[tuple[int, int], ...]

    @property
    def queries(self) -> int:
        return self.stop - self.start

    @property
    def keys(self) -> int:
        return self.position + self.queries  # every token on the path up to the last query


@dataclass(frozen=True)
class Batch:
    """A padded batch of n blocks. The g query heads that share a key head are stacked, so that no
    key is repeated.
    """

    query: Tensor  # [n · g · Lq] index into [g · T] of each query, some token where padded
    key: Tensor  # [n · Lk] packed index of each key, 0 where padded
    query_at: Tensor  # [n, Lq] positions
    key_at: Tensor  # [n, Lk] positions, UNSEEN where padded
    padded: (
        Tensor | None
    )  # [n, Lq] true where there is no query; None where there is one everywhere
    biases: dict = field(default_factory=dict)

    def bias(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """Return [n, Lq, Lk]: 0 where a query sees a key, HIDE where it must not; the same for
        every layer with this window.

        Added to the scores, since that took 0.08 ms where `masked_fill_` took 0.58 (700,000 scores,
        bfloat16).
        """
        if (window, dtype) not in self.biases:
            ahead = self.query_at[:, :, None] - self.key_at[:, None, :]
            hidden = ahead < 0 if window is None else (ahead < 0) | (ahead >= window)
            self.biases[window, dtype] = torch.zeros(
                hidden.shape, dtype=dtype, device=hidden.device
            ).masked_fill_(hidden, HIDE)
        return self.biases[window, dtype]


@dataclass(frozen=True)
class Plan:
    """A plan that has every query of a layout exactly once, in each of g query heads per key
    head.
    """

    batches: tuple[Batch, ...]
    inverse: Tensor  # [g · T] where each query lies in the batches' [n, g, Lq], laid end to end
    groups: int  # g


def plan_of(layout: Layout, groups: int) -> Plan:
    """Make the plan of a layout for g query heads per key head. The first layer makes it; the
    others reuse it.
    """
    if groups not in layout.plans:
        layout.plans[groups] = _plan(layout, groups)
    return layout.plans[groups]


def _plan(layout: Layout, groups: int) -> Plan:
    device = layout.ids.device
    batches = []
    # in NumPy: a write of one block into a tensor takes several times as long
    inverse = np.empty((groups, layout.tokens), dtype=np.int64)
    offset = 0
    for group in _grouped(
        sorted(_blocks(layout.segments), key=lambda block: (block.keys, block.queries))
    ):
        width = max(block.queries for block in group)
        for number, block in enumerate(group):
            first = offset + number * groups * width
            places = np.arange(groups)[:, None] * width + np.arange(first, first + block.queries)
            inverse[:, block.start : block.stop] = places
        offset += len(group) * groups * width
        batches.append(_batch(group, groups, layout.tokens, device))
    return Plan(tuple(batches), sent(torch.from_numpy(inverse.ravel()), device), groups)


def _blocks(segments: Iterable[Segment]) -> Iterable[Block]:
    for segment in segments:
        for start in range(segment.start, segment.stop, QUERIES):
            stop = min(start + QUERIES, segment.stop)
            yield Block(
                start,
                stop,
                segment.depth + start - segment.start,
                (*segment.ancestors, (segment.start, stop)),
            )


def _grouped(blocks: list[Block]) -> Iterable[list[Block]]:
    """Group sorted blocks into runs that waste little when padded to the largest, and hold at most
    AREA scores per head.
    """
    group: list[Block] = []
    for block in blocks:
        if group:
            keys, queries = block.keys, max(block.queries, *(b.queries for b in group))
            alike = (
                keys <= 1.25 * group[0].keys + 32
                and queries <= 2 * min(block.queries, *(b.queries for b in group)) + 32
            )
            if not alike or (len(group) + 1) * keys * queries > AREA:
                yield group
                group = []
        group.append(block)
    if group:
        yield group


def _batch(group: list[Block], groups: int, tokens: int, device: torch.device) -> Batch:
    queries, keys = max(b.queries for b in group), -(-max(b.keys for b in group) // WIDTH) * WIDTH
    query, query_at = (np.zeros((len(group), queries), dtype=np.int64) for _ in range(2))
    key = np.zeros((len(group), keys), dtype=np.int64)
    key_at = np.full((len(group), keys), UNSEEN)
    padded = np.ones((len(group), queries), dtype=bool)
    for number, block in enumerate(group):
        query[number, : block.queries] = np.arange(block.start, block.stop)
        query_at[number, : block.queries] = np.arange(
            block.position, block.position + block.queries
        )
        key[number, : block.keys] = np.concatenate([np.arange(a, b) for a, b in block.ranges])
        key_at[number, : block.keys] = np.arange(block.keys)
        padded[number, : block.queries] = False
    heads = query[:, None, :] + tokens * np.arange(groups)[None, :, None]
    # A padded query is at position 0 and sees the first key, so its softmax is finite; it is never
    # read.
    holes = sent(torch.from_numpy(padded), device) if padded.any() else None
    return Batch(
        sent(torch.from_numpy(heads.ravel()), device),
        sent(torch.from_numpy(key.ravel()), device),
        sent(torch.from_numpy(query_at), device),
        sent(torch.from_numpy(key_at), device),
        holes,
    )
