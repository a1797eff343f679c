"""Tree attention behind transformers' own attention interface: no model code is touched.

`accord_tree` is registered once. With a `Layout` (the keyword `tree`), it attends by the layout's
row of `TREE_ATTENTION` (backends.py). Without one (generation, the padded path), it is
transformers' SDPA. So one model object serves every path.

It supports `scaling`, `sliding_window`, `softcap` and grouped key/value heads. Any other argument
that would change the numbers (attention sinks, position biases) raises `UnsupportedAttention`. The
caller then takes the padded path and reports that.

T packed tokens · h key/value heads · d width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accord import compat
from accord.forward.backends import TREE_ATTENTION
from accord.forward.layout import Layout

NAME = "accord_tree"
CHANGES_THE_NUMBERS = ("s_aux", "position_bias", "head_mask", "sinks")


class UnsupportedAttention(Exception):
    """The model needs something that tree attention does not support."""


def register() -> bool:
    """Make `attn_implementation="accord_tree"` known to transformers; return whether that was
    possible. A second call changes nothing.
    """
    return compat.register_attention(NAME, attend)


def attend(
    module: torch.nn.Module,
    query: Tensor,  # [1, heads, T, d]
    key: Tensor,  # [1, kv heads, T, d]
    value: Tensor,  # [1, kv heads, T, d]
    attention_mask: Tensor | None,
    tree: Layout | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """Compute the attention output [1, T, heads, d], as transformers expects it."""
    for name in CHANGES_THE_NUMBERS:
        if kwargs.get(name) is not None:
            raise UnsupportedAttention(f"the model passes `{name}` to its attention")
    if tree is not None:
        scale = scaling if scaling is not None else query.shape[-1] ** -0.5
        tree_attend = TREE_ATTENTION[tree.attention].attend
        output = tree_attend(query, key, value, tree, scale, sliding_window, softcap)
        return output.transpose(1, 2), None
    if softcap is None:
        return compat.sdpa_attention(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            sliding_window=sliding_window,
            **kwargs,
        )
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    if attention_mask is None:
        attention_mask = visible(
            query.shape[2], key.shape[2] - query.shape[2], sliding_window, query.device
        )
    return _softcapped(query, key, value, attention_mask, scaling, softcap).transpose(1, 2), None


def visible(length: int, depth: int, window: int | None, device: torch.device) -> Tensor:
    """Make the mask [length, depth + length] bool: may query i (at position depth + i) see key j
    (at position j)?
    """
    q = torch.arange(depth, depth + length, device=device)[:, None]
    k = torch.arange(depth + length, device=device)[None, :]
    mask = k <= q
    return mask if window is None else mask & (q - k < window)


def _softcapped(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scaling: float | None, softcap: float
) -> Tensor:
    """Compute attention with scores squashed to ±softcap (Gemma 2), which SDPA cannot do. The
    softmax is in float32 at least.
    """
    scores = q @ k.transpose(2, 3) * (scaling if scaling is not None else q.shape[-1] ** -0.5)
    scores = torch.tanh(scores / softcap) * softcap
    # Not -inf: a padded query may see nothing at all, and its NaN would spread through the values,
    # as 0 · NaN.
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    weights = torch.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), dim=-1)
    return weights.to(v.dtype) @ v
