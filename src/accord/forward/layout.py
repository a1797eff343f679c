"""The layout of a packed batch: where each token lies, and which tokens it may see.

A batch is a forest of *segments*. A segment is a run of tokens that attends to all tokens of its
ancestors and, causally, to itself. What several prompts have in common is one segment, the rest of
a prompt another, each completion one more:

    system turn ─┬─ question 1 ─┬─ chosen
                 │              └─ rejected      Nothing is padded and nothing is computed twice.
                 └─ question 2 ─┬─ chosen
                                └─ rejected

T packed tokens · C completion tokens · N completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from accord.types import Tree

# Tokens that a common beginning must have to be a segment of its own. A segment costs an
# attention call in each layer; 8 is a choice, not a measurement.
SHARED = 8


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens [start, stop) of the packed batch. `ancestors` are the segments it attends to in full,
    root first.
    """

    start: int
    stop: int
    ancestors: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def depth(self) -> int:
        """Return the tokens before this segment on its path: the position of its first token."""
        return sum(stop - start for start, stop in self.ancestors)


@dataclass(frozen=True)
class Layout:
    """A packed batch. The last token of a completion is only ever a target, so the trunk never sees
    it.
    """

    ids: Tensor  # [T] token ids
    positions: Tensor  # [T] position of each token on its own path
    segments: tuple[Segment, ...]
    source: Tensor  # [C] index into T of the hidden state that predicts each completion token
    targets: Tensor  # [C] the completion tokens that are scored
    owner: Tensor  # [C] which of the N completions each belongs to
    count: Tensor  # [N] scored tokens of each completion
    # plans of attention, see blocks.plan_of and flex.attend
    plans: dict = field(default_factory=dict, repr=False)
    attention: str = "tree"  # its backend, by its name in backends.TREE_ATTENTION

    @property
    def tokens(self) -> int:
        return len(self.ids)


def pack(trees: Sequence[Tree], device: torch.device | str = "cpu", share: int = SHARED) -> Layout:
    """Lay out the prompts as a prefix tree, then each completion, without its last token, behind
    its prompt.

    Args:
      share: shortest run of tokens worth computing once for several prompts; 0 shares nothing.
    """
    builder = _Builder()
    paths = builder.prompts([tree.prompt for tree in trees], share)
    source: list[int] = []
    targets: list[int] = []
    owner: list[int] = []
    count: list[int] = []
    for tree, path in zip(trees, paths, strict=True):
        for k, completion in enumerate(tree.completions):
            start, stop = builder.lay(completion[:-1], path)
            # the last prompt token predicts the first answer token
            before = [path[-1][1] - 1, *range(start, stop)]
            scored = tree.scored_in(k)
            source.extend(before[place] for place in scored)
            targets.extend(completion[place] for place in scored)
            owner.extend([len(count)] * len(scored))
            count.append(len(scored))

    def tensor(values: list[int]) -> Tensor:
        return sent(torch.tensor(values, dtype=torch.long), device)

    return Layout(
        tensor(builder.ids),
        tensor(builder.positions),
        tuple(builder.segments),
        tensor(source),
        tensor(targets),
        tensor(owner),
        tensor(count),
    )


Path = tuple[tuple[int, int], ...]  # ranges of packed tokens, root first


class _Builder:
    """The builder of a layout: token ids, positions and segments so far."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.segments: list[Segment] = []

    def lay(self, tokens: Sequence[int], ancestors: Path) -> tuple[int, int]:
        """Add a segment behind its ancestors; return its range, which may be empty."""
        segment = Segment(len(self.ids), len(self.ids) + len(tokens), ancestors)
        self.ids.extend(tokens)
        self.positions.extend(range(segment.depth, segment.depth + len(tokens)))
        if tokens:
            self.segments.append(segment)
        return segment.start, segment.stop

    def prompts(self, prompts: Sequence[tuple[int, ...]], share: int) -> list[Path]:
        """Lay the prompts; return the path of each.

        A beginning that several have in common (a system turn, a whole prompt) is laid once.
        """
        paths: dict[tuple[int, ...], Path] = {}
        if share:
            self._share(sorted(set(prompts)), 0, (), paths, share)
            return [paths[prompt] for prompt in prompts]
        return [(self.lay(prompt, ()),) for prompt in prompts]

    def _share(
        self, prompts: list[tuple[int, ...]], depth: int, path: Path, paths: dict, share: int
    ) -> None:
        """Lay distinct sorted prompts whose first `depth` tokens lie at `path`."""
        for group in _alike(prompts, depth + share):
            common = _agreement(group[0], group[-1])  # sorted: the first and the last agree least
            rest = group[0][depth:common]
            below = (*path, self.lay(rest, path)) if rest else path
            if len(group) == 1:
                paths[group[0]] = below
            else:
                self._share(group, common, below, paths, share)


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Send a tensor made on the host to a device.

    To a GPU it goes from pinned memory: the host need not wait for the work queued there.
    """
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def micro_batches(trees: Sequence[Tree], budget: int) -> list[list[int]]:
    """Cut the indices of `trees`, in order, into groups of at most `budget` unique tokens (at least
    one tree each).

    What a tree's prompt has in common with its neighbour's is counted once: see `beside_alike`.
    """
    groups: list[list[int]] = []
    filled = 0
    for index, tree in enumerate(trees):
        fresh = _fresh(trees[index - 1], tree) if groups else tree.tokens
        if not groups or filled + fresh > budget:
            groups.append([])
            filled, fresh = 0, tree.tokens
        groups[-1].append(index)
        filled += fresh
    return groups


def tokens_at_most(trees: Sequence[Tree]) -> int:
    """Bound the tokens of a group, as `micro_batches` counts them: no fewer than its layout has."""
    return sum(_fresh(before, tree) for before, tree in pairwise(trees)) + sum(
        tree.tokens for tree in trees[:1]
    )


def beside_alike(trees: Sequence[Tree], indices: Sequence[int]) -> list[int]:
    """Order some indices of `trees` so that prompts that begin alike are next to each other.

    They then meet in one group.
    """
    return sorted(indices, key=lambda index: (trees[index].prompt, index))


def _fresh(before: Tree, tree: Tree) -> int:
    """Count the tokens that a tree adds after another one.

    `pack` lays up to SHARED - 1 of the tokens that unequal prompts have in common twice.
    """
    one, other = before.prompt, tree.prompt
    return tree.tokens - (len(one) if one == other else max(0, _agreement(one, other) - SHARED + 1))


def _agreement(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens that two sequences have in common from their start."""
    both = enumerate(zip(one, other, strict=False))  # up to the end of the shorter one
    return next((i for i, (a, b) in both if a != b), min(len(one), len(other)))


def _alike(prompts: list[tuple[int, ...]], depth: int) -> list[list[tuple[int, ...]]]:
    """Split sorted prompts into runs whose members have their first `depth` tokens in common."""
    runs = [prompts[:1]]
    for before, prompt in pairwise(prompts):
        if _agreement(before, prompt) >= depth:
            runs[-1].append(prompt)
        else:
            runs.append([prompt])
    return runs
