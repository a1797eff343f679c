"""Where each token of a packed batch lies, and what it may see.

A batch is a forest of *segments*. A segment is a run of tokens that attends to all tokens of its ancestors and,
causally, to itself. The prompt of a tree is a segment; each completion is a segment whose parent is the prompt:

    tree 0: prompt ─┬─ chosen            tokens:  p p p p c c c r r r | p p …
                    └─ rejected          segment: 0 0 0 0 1 1 1 2 2 2 | 3 3 …

Nothing is padded and nothing is computed twice. Segments may nest to any depth, so that prefixes shared by
several trees need no other design.

T packed tokens · C completion tokens · N completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.types import Tree


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens [start, stop) of the packed batch. `ancestors` are the ranges it attends to in full, root first."""

    start: int
    stop: int
    ancestors: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def depth(self) -> int:
        """Tokens before this segment on its path: the position of its first token."""
        return sum(stop - start for start, stop in self.ancestors)


@dataclass(frozen=True)
class Layout:
    """A packed batch. The last token of a completion is only ever a target, so the trunk never sees it."""

    ids: Tensor  # [T] token ids
    positions: Tensor  # [T] position of each token on its own path
    segments: tuple[Segment, ...]
    source: Tensor  # [C] index into T of the hidden state that predicts each completion token
    targets: Tensor  # [C] the completion tokens
    owner: Tensor  # [C] which of the N completions each belongs to
    count: Tensor  # [N] tokens of each completion

    @property
    def tokens(self) -> int:
        return len(self.ids)


def pack(trees: Sequence[Tree], device: torch.device | str = "cpu") -> Layout:
    """Lay trees out one after the other: prompt, then each completion without its last token."""
    ids: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    source: list[int] = []
    targets: list[int] = []
    owner: list[int] = []
    count: list[int] = []

    def lay(tokens: Sequence[int], ancestors: tuple[tuple[int, int], ...]) -> Segment:
        segment = Segment(len(ids), len(ids) + len(tokens), ancestors)
        ids.extend(tokens)
        positions.extend(range(segment.depth, segment.depth + len(tokens)))
        if tokens:
            segments.append(segment)
        return segment

    for tree in trees:
        prompt = lay(tree.prompt, ())
        for completion in tree.completions:
            body = lay(completion[:-1], ((prompt.start, prompt.stop),))
            source.append(prompt.stop - 1)  # the last prompt token predicts the first answer token
            source.extend(range(body.start, body.stop))
            targets.extend(completion)
            owner.extend([len(count)] * len(completion))
            count.append(len(completion))

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return Layout(
        tensor(ids), tensor(positions), tuple(segments), tensor(source), tensor(targets), tensor(owner), tensor(count)
    )


def micro_batches(trees: Sequence[Tree], budget: int) -> list[list[int]]:
    """Indices of `trees`, in order, cut into groups of at most `budget` unique tokens (at least one tree each)."""
    groups: list[list[int]] = []
    filled = 0
    for index, tree in enumerate(trees):
        if not groups or filled + tree.tokens > budget:
            groups.append([])
            filled = 0
        groups[-1].append(index)
        filled += tree.tokens
    return groups
