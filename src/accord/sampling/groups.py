"""Rows that are decoded in groups of one length, for models that padding on the left, or a copied
cache, would make wrong: recurrent and hybrid ones, and those that count positions by the cache.

Nothing is padded and no mask is given. Each group has transformers' own cache, made from its rows
and never taken apart, since a state cannot give up rows; a row that has ended stays and is not
read. A model without such a cache computes every row from its beginning for every token: slow, and
right for any causal model.

B rows alive · V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

Prompt = tuple[int, ...]
# Runs the network over new tokens [n, t] and a cache: logits after the last [n, V], and the cache.
Call = Callable[[Any, Tensor, Any], tuple[Tensor, Any]]


class DecodedRows(Protocol):
    """A batch of rows: logits [B, V] after the prompts, then after each token."""

    logits: Tensor

    def step(self, tokens: Tensor) -> Tensor:
        """Compute the logits [B, V] after these tokens [B]."""

    def keep(self, index: Tensor) -> None:
        """Keep only these rows."""

    def own_attention(self) -> AbstractContextManager[None]:
        """Make the model attend by its own code inside the block."""

    def close(self) -> None:
        """Restore what the batch has changed of the model."""


class GroupedRows:
    """Rows in groups of one length, with a cache for each group or with none."""

    def __init__(self, model, prompts: Sequence[Prompt], device: torch.device, call: Call | None):
        """
        Args:
          prompts: of each row.
          call: computes with a cache; None: each token is computed from the row's beginning.
        """
        lengths: dict[int, list[int]] = {}
        for row, prompt in enumerate(prompts):
            lengths.setdefault(len(prompt), []).append(row)
        self.alive = torch.arange(len(prompts), device=device)  # [B] as numbers of all rows
        self.groups = [
            _Group(model, torch.tensor(rows, device=device), [prompts[row] for row in rows], call)
            for rows in lengths.values()
        ]
        self.tokens = torch.zeros(len(prompts), dtype=torch.long, device=device)
        first = self.groups[0].logits
        self.all = first.new_empty(len(prompts), first.shape[1])
        self.logits = self._gather(self.groups)

    def step(self, tokens: Tensor) -> Tensor:
        """Compute the logits [B, V] after these tokens [B]."""
        self.tokens[self.alive] = tokens
        going = [group for group in self.groups if torch.isin(group.rows, self.alive).any()]
        for group in going:
            group.step(self.tokens[group.rows])
        return self._gather(going)

    def keep(self, index: Tensor) -> None:
        """Read only these rows from now on."""
        self.alive = self.alive[index]

    def own_attention(self) -> AbstractContextManager[None]:
        """Change nothing: the model attends by its own code."""
        return nullcontext()

    def close(self) -> None:
        """Change nothing: the model is as it was."""

    def _gather(self, groups: Sequence[_Group]) -> Tensor:
        for group in groups:
            self.all[group.rows] = group.logits
        return self.all[self.alive]


class _Group:
    """Rows of one length."""

    def __init__(self, model, rows: Tensor, prompts: Sequence[Prompt], call: Call | None):
        self.model, self.rows, self.call = model, rows, call
        self.ids = torch.tensor(prompts, device=rows.device)  # [n, t]
        self.cache: Any = None
        self._compute(self.ids)

    def step(self, tokens: Tensor) -> None:
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=1)
        self._compute(tokens[:, None])

    def _compute(self, new: Tensor) -> None:
        if self.call is None:
            self.logits = last_logits(self.model, self.ids)
        else:
            self.logits, self.cache = self.call(self.model, new, self.cache)


def last_logits(model, ids: Tensor) -> Tensor:
    """Compute the logits [n, V] after rows of one length [n, t], with no cache, mask or padding."""
    return model(input_ids=ids, use_cache=False).logits[:, -1]


def alone(model, rows: Sequence[Prompt], device: torch.device) -> Tensor:
    """Compute the logits after each row, each by itself: the definition, [n, V]."""
    return torch.cat([last_logits(model, torch.tensor([row], device=device)) for row in rows])
