"""Tree attention on a GPU: flex attention, whose mask is a function of two tokens, compiled into
one kernel.

The plan of blocks (blocks.py) gathers keys and makes dozens of small products, which suits a CPU
but not a GPU. Here the packed tokens stay where they are. A token sees every token that comes no
later and whose segment is its own or an ancestor. With an Euler tour of the forest that takes two
comparisons at any depth:

    segment          first  behind        sees it:  first[k] ≤ first[q] < behind[k]  and  k ≤ q
    system turn          0       5
    ├─ question 1        1       4        128 × 128 tiles in which nobody sees anybody are not
    │  ├─ chosen         2       3        computed, and those in which everybody sees everybody
    │  └─ rejected       3       4        need no mask.
    └─ question 2        4       5

Kernels are compiled for one length each, so tokens are padded up to one of a few lengths, inside
attention alone.

T packed tokens · L tokens after padding · h key/value heads · g query heads of each · d width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from accord import compat
from accord.forward.layout import Layout, Segment, sent

TILE = 128  # queries and keys of a tile of the mask: flex attention's own default
SHORTEST = 512  # tokens; every length below is padded to it
# pairs of tokens looked at together while the tiles are sorted: 32 MB a tensor of truth values
SCORES = 2**25
# One compiled kernel for each length, with and without gradient, and for each kind of layer. torch
# gives up after eight.
KERNELS = 64

# (batch, head, query, key) → may it see it?
Mask = Callable[[Tensor | int, Tensor | int, Tensor, Tensor], Tensor]


def problem(device: torch.device) -> str | None:
    """Say why flex attention cannot train on this device; None if it can."""
    if device.type == "cuda":
        return None
    return f"flex attention has no backward pass on {device.type}"


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tree: Layout,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Attend: query [1, h·g, T, d], key and value [1, h, T, d] → [1, h·g, T, d]."""
    length = padded_length(tree.tokens)
    query, key, value = (F.pad(x, (0, 0, 0, length - tree.tokens)) for x in (query, key, value))
    output = _kernel(query.device.type)(
        query,
        key,
        value,
        score_mod=_capped(softcap),
        block_mask=_mask_of(tree, window),
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output[:, :, : tree.tokens]


def padded_length(tokens: int) -> int:
    """Return the least of 512, 768, 1,024, 1,536, 2,048, … that holds so many tokens.

    A padded token is copied and sees itself alone, so a third of padding costs little; a new length
    costs seconds of compilation.
    """
    power = SHORTEST
    while power < tokens:
        if tokens <= power * 3 // 2:
            return power * 3 // 2
        power *= 2
    return power


@cache
def _kernel(device: str) -> Callable[..., Tensor]:
    """Return the attention function: compiled on a GPU.

    Elsewhere it is torch's readable definition of the same, for tests: it holds every score at
    once.
    """
    if device != "cuda":
        return flex_attention
    compat.allow_kernels(KERNELS)
    # fullgraph: a kernel that does not compile is an error, seen where the path is chosen, not a
    # slow path taken silently
    return torch.compile(flex_attention, dynamic=False, fullgraph=True)


@cache
def _capped(softcap: float | None) -> Callable[..., Tensor] | None:
    """Make a function that squashes scores to ±softcap (Gemma 2).

    There is one function for each value, since kernels are compiled for a function.
    """
    if softcap is None:
        return None

    def squashed(score: Tensor, batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return squashed


# ---------------------------------------------------------------- the mask


@dataclass(frozen=True)
class Places:
    """Positions of the tokens in the forest; a padded token is a segment of its own."""

    first: (
        Tensor  # [L] int32: number of the token's segment in an Euler tour, parents before children
    )
    # [L] int32: one more than the largest number among the segment and all that hang from it
    behind: Tensor
    position: Tensor  # [L] int32 on its own path


def places(layout: Layout) -> Places:
    """Compute the tour of a layout, padded."""
    tour = _tour(layout.segments)
    lengths = torch.tensor([len(segment) for segment in layout.segments])
    spare = padded_length(layout.tokens) - layout.tokens
    alone = len(layout.segments) + torch.arange(spare)
    columns = [torch.tensor(numbers).repeat_interleave(lengths) for numbers in tour]
    first, behind = torch.cat([columns[0], alone]), torch.cat([columns[1], alone + 1])
    position = F.pad(layout.positions, (0, spare)).to(torch.int32)
    first, behind = (sent(x.to(torch.int32), position.device) for x in (first, behind))
    return Places(first, behind, position)


def _tour(segments: tuple[Segment, ...]) -> tuple[list[int], list[int]]:
    """Number each segment in depth-first order; return the numbers, and one more than the last
    number below each.
    """
    index = {(segment.start, segment.stop): i for i, segment in enumerate(segments)}
    children: list[list[int]] = [[] for _ in segments]
    roots: list[int] = []
    for i, segment in enumerate(segments):
        (children[index[segment.ancestors[-1]]] if segment.ancestors else roots).append(i)
    first, behind = [0] * len(segments), [0] * len(segments)
    number, stack = 0, [(i, False) for i in reversed(roots)]
    while stack:
        i, done = stack.pop()
        if done:
            behind[i] = number
            continue
        first[i], number = number, number + 1
        stack.append((i, True))
        stack.extend((child, False) for child in reversed(children[i]))
    return first, behind


def mask(where: Places, window: int | None) -> Mask:
    """Make the mask: a query sees its path up to itself, and of that the last `window` tokens."""
    first, behind, position = where.first, where.behind, where.position

    def path(batch, head, q, k):
        return (k <= q) & (first[k] <= first[q]) & (first[q] < behind[k])

    if window is None:
        return path

    def near(batch, head, q, k):
        return path(batch, head, q, k) & (position[q] - position[k] < window)

    return near


def _mask_of(layout: Layout, window: int | None) -> BlockMask:
    """Return the mask of a layout for layers with this window: made at the first of them, kept for
    the others.
    """
    if (name := ("flex", window)) not in layout.plans:
        if "places" not in layout.plans:
            layout.plans["places"] = places(layout)
        layout.plans[name] = block_mask(
            mask(layout.plans["places"], window), padded_length(layout.tokens), layout.ids.device
        )
    return layout.plans[name]


@torch.no_grad()
def block_mask(seen: Mask, length: int, device: torch.device) -> BlockMask:
    """Sort the tiles of a mask: empty, partly seen, seen in full.

    It works by rows: torch's own `create_block_mask` holds all L² at once.
    """
    keys = torch.arange(length, device=device, dtype=torch.int32)
    rows = max(TILE, SCORES // length // TILE * TILE)
    counts = torch.cat(
        [
            seen(0, 0, queries[:, None], keys[None, :])
            .view(-1, TILE, length // TILE, TILE)
            .sum((1, 3))
            for queries in keys.split(rows)
        ]
    )
    full = counts == TILE * TILE
    return BlockMask.from_kv_blocks(
        *_ordered((counts > 0) & ~full), *_ordered(full), BLOCK_SIZE=TILE, mask_mod=seen
    )


def _ordered(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """List the marked tiles of each row.

    Returns:
      how many are marked, [1, 1, n], and which, [1, 1, n, n]: those first, in order.
    """
    which = tiles.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return tiles.sum(-1).to(torch.int32)[None, None], which.to(torch.int32).contiguous()[None, None]
