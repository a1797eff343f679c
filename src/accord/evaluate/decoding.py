"""The model's side of sampling: logits of the next token of every row, given the tokens so far.

Each different prompt is computed once. From then on its rows share its keys and values where the
model's attention allows it (`shared_prompt`), and have a copy each where not (`kv_cache`).

B rows alive · U unique prompts · T positions in the cache · V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from accord.evaluate import shared_prompt
from accord.evaluate.kv_cache import spread_rows
from accord.forward.attention import UnsupportedAttention


class Copied:
    """Every row has its prompt's keys and values to itself."""

    def __init__(self, model, cache, mask: Tensor, rows: Tensor, more: int):
        """
        Args:
          cache, mask: of the prompts [U, T], 1 on real positions. The cache becomes the rows'.
          rows: [B] the prompt of each row.
          more: tokens that will come at most.
        """
        spread_rows(cache, rows, more)
        self.model, self.cache, self.mask = model, cache, mask[rows]

    def step(self, tokens: Tensor) -> Tensor:
        """Logits [B, V] after these tokens [B]."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)  # [B, T]
        logits, self.cache = forward(self.model, tokens[:, None], self.mask, self.cache)
        return logits

    def keep(self, index: Tensor) -> None:
        """Go on with these rows only."""
        self.cache.batch_select_indices(index)
        self.mask = self.mask[index]


class Shared:
    """Rows of a prompt have its keys and values together. The model's attention must be
    `shared_prompt.attend`.
    """

    def __init__(self, model, cache, lengths: Tensor):
        """
        Args:
          cache: of `shared_prompt.shared_cache`.
          lengths: [B] tokens of each row so far.
        """
        self.model, self.cache, self.lengths = model, cache, lengths

    def step(self, tokens: Tensor) -> Tensor:
        """Logits [B, V] after these tokens [B]."""
        where = {"position_ids": self.lengths[:, None], "past_key_values": self.cache}
        output = self.model(input_ids=tokens[:, None], **where, use_cache=True, logits_to_keep=1)
        self.lengths = self.lengths + 1
        return output.logits[:, -1]

    def all_attended(self) -> bool:
        """Whether each layer has come to our attention, once a token: else the model has one of its
        own.
        """
        return all(layer.attended == layer.keys.shape[2] for layer in self.cache.layers)

    def keep(self, index: Tensor) -> None:
        """Go on with these rows only."""
        places = shared_prompt.Places.of(self.cache.layers[0].places.number[index])
        for layer in self.cache.layers:
            layer.keep(index, places)
        self.lengths = self.lengths[index]


@contextmanager
def decoding(
    model, prompts: Sequence[tuple[int, ...]], device: torch.device, more: int
) -> Iterator[Rows]:
    """The rows of a batch, their prompts computed; the model's attention is its own again
    afterwards.
    """
    rows = Rows(model, prompts, device, more)
    try:
        yield rows
    finally:
        rows.close()


class Rows:
    """A batch of rows: logits after the prompts, then after each token."""

    def __init__(self, model, prompts: Sequence[tuple[int, ...]], device: torch.device, more: int):
        """
        Args:
          prompts: of each row; equal ones are computed once.
          more: tokens that will come at most.
        """
        unique = list(dict.fromkeys(prompts))
        place = {prompt: i for i, prompt in enumerate(unique)}
        self.rows = torch.tensor([place[prompt] for prompt in prompts], device=device)  # [B]
        self.model, self.more = model, more
        self.way: Copied | Shared | None = None
        self.cache: Cache | None  # until a way has it
        logits, self.cache, self.mask = _prefill(model, unique, device)
        self.logits = logits[self.rows]  # [B, V]
        self._own: tuple[PreTrainedModel, str] | None = None

    def step(self, tokens: Tensor) -> Tensor:
        """Logits [B, V] after these tokens [B]."""
        if self.way is not None:
            return self.way.step(tokens)
        if (logits := self._try_shared(tokens)) is None:
            self.way = Copied(self.model, self.cache, self.mask, self.rows, self.more)
            logits = self.way.step(tokens)
        self.cache = None
        return logits

    def keep(self, index: Tensor) -> None:
        """Go on with these rows only."""
        if self.way is None:
            self.rows = self.rows[index]
        else:
            self.way.keep(index)

    def close(self) -> None:
        """Give the model its own attention back."""
        if self._own is not None:
            network, name = self._own
            network.set_attn_implementation(name)
            self._own = None

    def _try_shared(self, tokens: Tensor) -> Tensor | None:
        """The first step with shared prompts, which shows whether the model can have them; None
        where not.
        """
        assert self.cache is not None, "the first step, and so no way yet"
        cache = shared_prompt.shared_cache(self.cache, self.mask.bool(), self.rows, self.more)
        if cache is None or not self._take_attention():
            return None
        way = Shared(self.model, cache, self.mask.sum(1)[self.rows])
        try:
            logits = way.step(tokens)
        except UnsupportedAttention:
            self.close()
            return None
        if not way.all_attended():
            self.close()
            return None
        self.way = way
        return logits

    def _take_attention(self) -> bool:
        network = next((m for m in self.model.modules() if isinstance(m, PreTrainedModel)), None)
        if network is None or not network._can_set_attn_implementation():
            return False
        shared_prompt.register()
        self._own = network, network.config._attn_implementation
        network.set_attn_implementation(shared_prompt.NAME)
        return True


def _prefill(
    model, prompts: Sequence[tuple[int, ...]], device: torch.device
) -> tuple[Tensor, Cache, Tensor]:
    """Compute prompts, padded on the left: logits of the next token [U, V], the cache, the mask of
    real positions [U, T].
    """
    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, prompt in enumerate(prompts):
        ids[i, longest - len(prompt) :] = torch.tensor(prompt)
        mask[i, longest - len(prompt) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    logits, cache = forward(model, ids, mask, None)
    return logits, cache, mask


def forward(model, ids: Tensor, mask: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
    """Logits after the last of `ids` [B, new], and the cache with them in it. Padding does not
    count as a position.
    """
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    where = {"attention_mask": mask, "position_ids": positions, "past_key_values": cache}
    output = model(input_ids=ids, **where, use_cache=True, logits_to_keep=1)
    return output.logits[:, -1], output.past_key_values
