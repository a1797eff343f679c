"""Passes of one regime, for rotary positions that look at the longest row of a pass.

Longrope (Phi-3) has two sets of angles: one for passes up to a number of tokens, one for longer
ones. A short row beside a long one would be computed with the angles of the long one: -67.69
against -70.64 nats for one row. So the completions of a batch are computed in two passes, and put
back in order: each is what the model gives it alone.

N completions · C completion tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps

import torch

from accord.forward.logps import TokenLogps
from accord.models.language import LanguageModel
from accord.models.positions import boundary
from accord.models.reward import RewardModel
from accord.types import Tree

Path = Callable[..., TokenLogps]
BY_TOKEN = ("values", "entropy", "expected", "collision")  # the columns of TokenLogps that are [C]


def is_long(prompt: Sequence[int], completion: Sequence[int], most: int) -> bool:
    """Tell whether a completion's pass is a long one. Its last token is only ever a target."""
    return len(prompt) + len(completion) - 1 > most


def in_regimes(path: Path) -> Path:
    """Make a path compute short and long completions apart, where the model tells them apart.

    A reward model's rows are all of one regime: others are refused before training.
    """

    @wraps(path)
    def compute(model: LanguageModel, trees: Sequence[Tree], *rest, **options) -> TokenLogps:
        most = None if isinstance(model, RewardModel) else boundary(model)
        places = [(i, k) for i, tree in enumerate(trees) for k in range(len(tree.completions))]
        long = [
            most is not None and is_long(trees[i].prompt, trees[i].completions[k], most)
            for i, k in places
        ]
        if all(long) or not any(long):
            return path(model, trees, *rest, **options)
        found: dict[int, TokenLogps] = {}
        for side in (False, True):
            own = [n for n, one in enumerate(long) if one is side]
            part = path(model, _only(trees, [places[n] for n in own]), *rest, **options)
            found |= dict(zip(own, _each(part), strict=True))
        return _join([found[n] for n in range(len(places))])

    return compute


def _only(trees: Sequence[Tree], places: Sequence[tuple[int, int]]) -> list[Tree]:
    """Return the trees with those of their completions that stand in `places`, in their order."""
    kept: dict[int, list[int]] = {}
    for i, k in places:
        kept.setdefault(i, []).append(k)
    return [trees[i].only(*own) for i, own in kept.items()]


def _each(tokens: TokenLogps) -> list[TokenLogps]:
    """Split by completion."""
    sizes = tokens.count.tolist()
    columns = {
        name: column.split(sizes)
        for name in BY_TOKEN
        if (column := getattr(tokens, name)) is not None
    }
    return [
        replace(tokens, count=tokens.count[n : n + 1], **{k: v[n] for k, v in columns.items()})
        for n in range(len(sizes))
    ]


def _join(parts: Sequence[TokenLogps]) -> TokenLogps:
    count = torch.cat([part.count for part in parts])
    columns = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in BY_TOKEN
        if getattr(parts[0], name) is not None
    }
    owner = torch.arange(len(parts), device=count.device).repeat_interleave(count)
    return replace(parts[0], owner=owner, count=count, **columns)
