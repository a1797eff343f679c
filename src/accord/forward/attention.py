"""Tree attention behind transformers' own attention interface: no model code is touched.

`accord_tree` is registered once. Called with a `Layout` (the keyword `tree`), it attends segment by segment;
called without one (generation, the padded path), it is transformers' SDPA. So one model object serves every path.

What a model may hand to its attention and we honour: `scaling`, `sliding_window`, `softcap`, grouped key/value heads.
Anything else that would change the numbers (attention sinks, position biases) raises `UnsupportedAttention`, and the
caller takes the padded path aloud.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from accord.forward.layout import Layout, Segment

NAME = "accord_tree"
CHANGES_THE_NUMBERS = ("s_aux", "position_bias", "head_mask", "sinks")


class UnsupportedAttention(Exception):
    """The model asks for something that tree attention does not do."""


def register() -> None:
    """Make `attn_implementation="accord_tree"` known to transformers. Calling it again changes nothing."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)


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
    """Attention output [1, T, heads, d], as transformers expects it."""
    for name in CHANGES_THE_NUMBERS:
        if kwargs.get(name) is not None:
            raise UnsupportedAttention(f"the model passes `{name}` to its attention")
    if tree is None and softcap is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling,
            sliding_window=sliding_window, **kwargs,
        )  # fmt: skip
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key = key.repeat_interleave(groups, dim=1)
        value = value.repeat_interleave(groups, dim=1)
    if tree is None:
        if attention_mask is None:
            attention_mask = visible(query.shape[2], key.shape[2] - query.shape[2], sliding_window, query.device)
        return _softcapped(query, key, value, attention_mask, scaling, softcap).transpose(1, 2), None
    # Split, not slice: the gradient of a slice is as large as what it was cut from, so S segments would write S · T
    # tokens of zeros (an update of truthfulqa took 2.6 s, and 2.0 s without).
    lengths = [len(segment) for segment in tree.segments]
    queries, keys, values = (x.split(lengths, dim=2) for x in (query, key, value))
    place = {segment.start: number for number, segment in enumerate(tree.segments)}
    outputs = []
    for segment, q in zip(tree.segments, queries):
        path = [place[start] for start, _ in (*segment.ancestors, (segment.start, segment.stop))]
        k, v = (_joined([pieces[i] for i in path]) for pieces in (keys, values))
        outputs.append(_segment(q, k, v, segment, scaling, sliding_window, softcap))
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _joined(pieces: list[Tensor]) -> Tensor:
    return torch.cat(pieces, dim=2) if len(pieces) > 1 else pieces[0]


def _segment(
    q: Tensor, k: Tensor, v: Tensor, segment: Segment, scaling: float | None, window: int | None, softcap: float | None
) -> Tensor:
    """Output of one segment's queries [1, heads, len(segment), d]; keys and values of its whole path."""
    if window is not None and k.shape[2] <= window:
        window = None  # nothing lies outside of it
    if softcap is not None:
        return _softcapped(q, k, v, visible(len(segment), segment.depth, window, q.device), scaling, softcap)
    if not segment.ancestors and window is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling)
    mask = visible(len(segment), segment.depth, window, q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling)


def visible(length: int, depth: int, window: int | None, device: torch.device) -> Tensor:
    """[length, depth + length] bool: may query i (at position depth + i) see key j (at position j)?"""
    q = torch.arange(depth, depth + length, device=device)[:, None]
    k = torch.arange(depth + length, device=device)[None, :]
    mask = k <= q
    return mask if window is None else mask & (q - k < window)


def _softcapped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scaling: float | None, softcap: float) -> Tensor:
    """Attention with scores squashed to ±softcap (Gemma 2), which SDPA cannot do. Softmax in float32 at least."""
    scores = q @ k.transpose(2, 3) * (scaling if scaling is not None else q.shape[-1] ** -0.5)
    scores = torch.tanh(scores / softcap) * softcap
    # Not -inf: padding may see nothing at all, and NaN there would spread through the values, as 0 · NaN.
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    weights = torch.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), dim=-1)
    return weights.to(v.dtype) @ v
