"""Attention of K answers to one prompt: they share one copy of its keys and values, and each has
its own besides.

With K copies a step reads the prompt K times: at 420 tokens and K = 8, attention took 1.3 ms a
layer, and 0.45 ms with one copy (two cores, SmolLM2-135M, 32 rows). The queries of all answers to a
prompt go through attention together, as if they were more heads; the answer's own part is a second
attention; by their log-sum-exp the two become what one softmax over both gives:

    out = σ(a - b) · out_prompt + σ(b - a) · out_own          a, b: log Σ exp(score) of each part

This is the prefix step of cascade inference (Ye et al. 2024,
flashinfer.ai/2024/02/02/cascade-inference.html).

B rows (answers) · U prompts · K places a prompt · h key/value heads · g query heads of each · T
positions · d width.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from accord import compat
from accord.forward.attention import CHANGES_THE_NUMBERS, UnsupportedAttention

if TYPE_CHECKING:
    from transformers.cache_utils import Cache, DynamicLayer
else:
    DynamicLayer = compat.dynamic_layer()

NAME = "accord_shared_prompt"
# arguments of attention that a model may pass and that are not supported here
UNKNOWN = (*CHANGES_THE_NUMBERS, "sliding_window", "softcap")
EMPTY = 2.0  # places per row above which K is too uneven for one rectangle


@dataclass(frozen=True)
class Places:
    """The place of each row in a rectangle of U prompts by K places."""

    prompts: Tensor  # [U] prompts that still have rows, as numbers among the former ones
    number: Tensor  # [B] the prompt of each row, counted among these
    each: int  # K
    place: Tensor | None  # [B] in 0..U·K; None where row i stands in place i

    @classmethod
    def of(cls, prompt: Tensor) -> Places:
        """
        Args:
          prompt: [B] the prompt of each row; rows of a prompt need not stand together.
        """
        prompts, number, counts = prompt.unique(return_inverse=True, return_counts=True)
        each = int(counts.max())
        order = number.argsort(stable=True)
        before = counts.cumsum(0) - counts  # rows of the prompts ahead
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order)) - before[number[order]]
        place = number * each + rank
        return cls(
            prompts,
            number,
            each,
            None if torch.equal(place, torch.arange(len(prompts) * each)) else place,
        )

    @property
    def size(self) -> int:
        return len(self.prompts) * self.each

    def lay(self, x: Tensor) -> Tensor:
        """Move rows to their places: [B, ...] → [U·K, ...], zero at an empty place."""
        if self.place is None:
            return x
        return x.new_zeros(self.size, *x.shape[1:]).index_copy_(0, self.place, x)

    def pick(self, x: Tensor) -> Tensor:
        """Take rows from their places: [U·K, ...] → [B, ...]."""
        return x if self.place is None else x.index_select(0, self.place)


class SharedLayer(DynamicLayer):
    """The keys and values of one layer: the prompts' [U, h, T, d] once, and each row's own [B, h,
    t, d], with room ahead.
    """

    keys: Tensor  # never None, as they may be in a layer that is still empty
    values: Tensor

    def __init__(self, layer: DynamicLayer, mask: Tensor, places: Places, more: int):
        """
        Args:
          layer: the prompts as they were computed; it stays as it is.
          mask: [U, 1, 1, T] to be added to the prompts' scores.
        """
        assert layer.keys is not None and layer.values is not None, "`shared_cache` looks first"
        super().__init__()
        self.prompt, self.mask = (layer.keys, layer.values), mask
        # from the tensors: not every release of transformers keeps the dtype in the layer
        self.dtype, self.device = layer.keys.dtype, layer.keys.device
        self.is_initialized = True
        self._place(places)
        self._held = [
            x.new_empty(len(places.number), x.shape[1], more, x.shape[3]) for x in self.prompt
        ]
        self.attended = 0  # tokens that have gone through `attend`
        self._show(0)

    def get_seq_length(self) -> int:
        return self.prompt[0].shape[2] + self.keys.shape[2]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args, **kwargs
    ) -> tuple[Tensor, Tensor]:
        """Write a token's keys and values after the row's own; return all of these. The keys bring
        the layer to `attend`.
        """
        start = self.keys.shape[2]
        for held, new in zip(self._held, (key_states, value_states), strict=True):
            held[:, :, start : start + new.shape[2]] = new
        self._show(start + key_states.shape[2])
        # a new view: a tensor of the layer with a reference to the layer would keep both alive
        keys = self.keys[:]
        vars(keys)["shared"] = self
        return keys, self.values

    def keep(self, rows: Tensor, places: Places) -> None:
        """Keep these rows, and the prompts that they have."""
        length, more = self.keys.shape[2], self._held[0].shape[2]
        self._place(places)
        own = [x[rows] for x in (self.keys, self.values)]
        self._held = [x.new_empty(*x.shape[:2], more, x.shape[3]) for x in own]
        for held, x in zip(self._held, own, strict=True):
            held[:, :, :length] = x
        self._show(length)

    def _place(self, places: Places) -> None:
        """Drop the prompts that have no row any more."""
        if len(places.prompts) < len(self.mask):
            keys, values = self.prompt
            self.prompt = keys[places.prompts], values[places.prompts]
            self.mask = self.mask[places.prompts]
        self.places = places

    def _show(self, length: int) -> None:
        self.keys, self.values = (held[:, :, :length] for held in self._held)


def shared_cache(cache: Cache, mask: Tensor, prompt: Tensor, more: int) -> Cache | None:
    """Make the cache in which rows share their prompts; None if that is impossible, or would save
    nothing.

    It is possible only on a CPU, whose attention returns the log-sum-exp, and only for layers that
    keep every position as it is.

    Args:
      cache: the prompts' [U].
      mask: [U, T] bool, False on padding.
      prompt: [B] the prompt of each row.
      more: largest number of positions that each row will add.

    Raises:
      Unavailable: transformers has no such layers any more.
    """
    if compat.is_missing_layer(DynamicLayer):
        raise compat.Unavailable.without(
            "transformers", "cache_utils.DynamicLayer", "sharing prompts while decoding"
        )
    layers = compat.cache_layers(cache)
    plain = layers and all(
        type(layer) is DynamicLayer and layer.get_seq_length() > 0 for layer in layers
    )
    if not plain or mask.device.type != "cpu":
        return None
    places = Places.of(prompt)
    if places.each == 1 or places.size > EMPTY * len(prompt):
        return None
    added = torch.zeros(mask.shape, dtype=layers[0].keys.dtype).masked_fill_(~mask, -torch.inf)[
        :, None, None
    ]
    made = copy.copy(cache)
    made.layers = [SharedLayer(layer, added, places, more) for layer in layers]
    return made


def register() -> None:
    """Make this attention known to transformers. A second call changes nothing.

    Raises:
      Unavailable: transformers has no table of attentions.
    """
    if not compat.register_attention(NAME, attend):
        raise compat.Unavailable.without(
            "transformers", "table of attentions", "sharing prompts while decoding"
        )


def attend(
    module: torch.nn.Module,
    query: Tensor,  # [B, h·g, 1, d]
    key: Tensor,  # [B, h, t, d], a SharedLayer's own part
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[Tensor, None]:
    """Compute the attention output [B, 1, h·g, d] of one new token per row.

    Raises:
      UnsupportedAttention: the model changes keys on their way, or needs more than softmax(q k) v.
    """
    layer = getattr(key, "shared", None)
    asked = [name for name in UNKNOWN if kwargs.get(name) is not None]
    if (
        layer is None
        or asked
        or attention_mask is not None
        or query.shape[2] != 1
        or key.shape[-1] != value.shape[-1]
    ):
        raise UnsupportedAttention(
            "the model hands more to its attention than a shared prompt can have"
        )
    rows, heads, _, width = query.shape
    grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], width)  # [B, h, g, d]
    own, own_sum = _attention(grouped, key, value, None, scaling)
    prompt, prompt_sum = _of_prompt(grouped, layer, scaling)
    share = torch.sigmoid(prompt_sum - own_sum)[..., None]
    layer.attended += 1
    merged = torch.lerp(own.to(share.dtype), prompt.to(share.dtype), share).to(query.dtype)
    return merged.reshape(rows, 1, heads, width), None


def _of_prompt(grouped: Tensor, layer: SharedLayer, scaling: float | None) -> tuple[Tensor, Tensor]:
    """Attend to the prompts with the queries of all their rows at once; return the output [B, h, g,
    d] and the log-sum-exp [B, h, g].
    """
    places, (_, h, g, d) = layer.places, grouped.shape
    size, each = len(places.prompts), places.each
    together = (
        places.lay(grouped).view(size, each, h, g, d).transpose(1, 2).reshape(size, h, each * g, d)
    )
    out, total = _attention(together, *layer.prompt, layer.mask, scaling)
    out = out.reshape(size, h, each, g, d).transpose(1, 2).reshape(size * each, h, g, d)
    total = total.reshape(size, h, each, g).transpose(1, 2).reshape(size * each, h, g)
    return places.pick(out), places.pick(total)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None
) -> tuple[Tensor, Tensor]:
    """Compute attention [n, h, q, d], and the log-sum-exp of the scores [n, h, q] in float32 at
    least.
    """
    return compat.attention_with_sums(query, key, value, mask, scaling)
