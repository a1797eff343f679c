"""The model's side of sampling: logits of the next token of every row, given the tokens so far.

Each different prompt is computed once. Then its rows share its keys and values if the model's
attention allows it (`Shared`), and otherwise have a copy each (`Copied`). Both are fast ways that
rely on internals of torch and transformers. If one of them fails, now or at a later token, the same
rows continue in the plain way (`Plain`, transformers' own cache). So they do if its numbers at the
first token differ from the plain way's.

B rows alive · U unique prompts · T positions in the cache · V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor
from transformers import PreTrainedModel

from accord import compat
from accord.environment.settings import warn_once
from accord.errors import describe
from accord.forward.attention import UnsupportedAttention
from accord.sampling import shared_prompt
from accord.sampling.kv_cache import spread_rows

# rows of a batch that are compared with the plain way
COMPARED = 8
# A comparison takes two steps; it pays from this many tokens on. A model's first batch is always
# compared.
WORTH = 32
# A fast way may differ from the plain one by TIMES the difference of two of transformers' own
# attentions on these very rows, clamped between LEAST and MOST of the dtype; in the unit of
# `apart`. Measured on SmolLM2-135M with 8 rows: correct ways differ by .03 to .04 in bfloat16 and
# 2e-6 in float32, and so do eager and SDPA. A lost answer differs by .5, scores scaled by .9 by
# .15, attended padding by .8, positions off by one by 1.0.
TIMES = 3.0
LEAST = {torch.float64: 1e-9, torch.float32: 2e-5, torch.float16: 0.01, torch.bfloat16: 0.06}
MOST = {torch.float64: 1e-4, torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.15}


class WrongNumbers(Exception):
    """A fast way computes other numbers than the plain one."""


class Plain:
    """The plain way: every row has its prompt's keys and values to itself, in transformers' own
    cache.
    """

    def __init__(self, model, cache, mask: Tensor, rows: Tensor):
        """
        Args:
          cache, mask: of the prompts [U, T], 1 on real positions. The cache stays as it is.
          rows: [B] the prompt of each row.
        """
        self.model, self.cache, self.mask = model, select_rows(cache, rows), mask[rows]

    def step(self, tokens: Tensor) -> Tensor:
        """Compute the logits [B, V] after these tokens [B]."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)  # [B, T]
        logits, self.cache = forward(self.model, tokens[:, None], self.mask, self.cache)
        return logits

    def keep(self, index: Tensor) -> None:
        """Keep only these rows."""
        self.cache.batch_select_indices(index)
        self.mask = self.mask[index]


class Copied(Plain):
    """The same as `Plain`, with room ahead in the cache."""

    def __init__(self, model, cache, mask: Tensor, rows: Tensor, more: int):
        """
        Args:
          cache, mask: of the prompts [U, T], 1 on real positions. The cache becomes the rows'.
          rows: [B] the prompt of each row.
          more: largest number of tokens to come.
        """
        spread_rows(cache, rows, more)
        self.model, self.cache, self.mask = model, cache, mask[rows]


class Shared:
    """The way in which the rows of a prompt share its keys and values. The model's attention must
    be `shared_prompt.attend`.
    """

    def __init__(self, model, cache, lengths: Tensor):
        """
        Args:
          cache: of `shared_prompt.shared_cache`.
          lengths: [B] tokens of each row so far.
        """
        self.model, self.cache, self.lengths = model, cache, lengths

    def step(self, tokens: Tensor) -> Tensor:
        """Compute the logits [B, V] after these tokens [B]."""
        logits, _ = call(
            self.model, tokens[:, None], self.cache, position_ids=self.lengths[:, None]
        )
        self.lengths = self.lengths + 1
        return logits

    def all_attended(self) -> bool:
        """Tell whether each layer called our attention once per token; otherwise the model has an
        attention of its own.
        """
        return all(layer.attended == layer.keys.shape[2] for layer in self.cache.layers)

    def keep(self, index: Tensor) -> None:
        """Keep only these rows."""
        places = shared_prompt.Places.of(self.cache.layers[0].places.number[index])
        for layer in self.cache.layers:
            layer.keep(index, places)
        self.lengths = self.lengths[index]


NAMES = {Shared: "sharing prompts", Copied: "a cache with room ahead"}
# models that a fast way failed for or does not suit, and models that it was compared for with the
# plain one
_failed: dict[type, WeakSet] = {kind: WeakSet() for kind in NAMES}
_compared: dict[type, WeakSet] = {kind: WeakSet() for kind in NAMES}


class Rows:
    """A batch of rows: logits after the prompts, then after each token."""

    def __init__(self, model, prompts: Sequence[tuple[int, ...]], device: torch.device, more: int):
        """
        Args:
          prompts: of each row; equal ones are computed once.
          more: largest number of tokens to come.
        """
        self.unique = list(dict.fromkeys(prompts))
        place = {prompt: i for i, prompt in enumerate(self.unique)}
        self.rows = torch.tensor([place[prompt] for prompt in prompts], device=device)  # [B]
        self.model, self.device, self.more = model, device, more
        self.way: Plain | Shared | None = None
        self.taken: list[Tensor] = []  # the tokens so far, [B] each: the rows can be made from them
        self.cache: Any  # of the prompts, until a way takes it
        logits, self.cache, self.mask = _prefill(model, self.unique, device)
        self.logits = logits[self.rows]  # [B, V]
        self._own: tuple[PreTrainedModel, str | None] | None = None

    def step(self, tokens: Tensor) -> Tensor:
        """Compute the logits [B, V] after these tokens [B]."""
        self.taken.append(tokens)
        if self.way is None:
            return self._first(tokens)
        kind = type(self.way)
        if kind is Plain:
            return self.way.step(tokens)
        try:
            return self.way.step(tokens)
        except Exception as error:
            self._give_up(kind, error)
        return self._again()

    def keep(self, index: Tensor) -> None:
        """Keep only these rows."""
        if self.way is not None:
            kind = type(self.way)
            try:
                self.way.keep(index)
            except Exception as error:
                if kind is Plain:
                    raise
                self._give_up(kind, error)
        self.rows = self.rows[index]
        self.taken = [tokens[index] for tokens in self.taken]
        if self.way is None and self.taken:
            self._again()

    @contextmanager
    def own_attention(self) -> Iterator[None]:
        """Make the model attend by its own code inside the block."""
        network, name = self._own or (None, None)
        if network is None or name is None:
            yield
            return
        network.set_attn_implementation(name)
        try:
            yield
        finally:
            network.set_attn_implementation(shared_prompt.NAME)

    def close(self) -> None:
        """Restore the model's own attention."""
        if self._own is not None:
            network, name = self._own
            if name is not None:
                network.set_attn_implementation(name)
            self._own = None

    # ------------------------------------------------------------ the first step

    def _first(self, tokens: Tensor) -> Tensor:
        """Make the first step by the fastest way that works for this model."""
        for kind, begin in ((Shared, self._share), (Copied, self._copy)):
            if self.model in _failed[kind]:
                continue
            compare = self.more >= WORTH or self.model not in _compared[kind]
            try:
                cache = self._cache_of(kind)
                if cache is None:
                    continue
                expected = self._expected(tokens) if compare else None
                logits = begin(cache, tokens)
                if logits is not None and expected is not None:
                    _require_same(logits, *expected)
            except Exception as error:
                self._give_up(kind, error)
                return self._again()
            if logits is not None:
                _compared[kind].add(self.model)
                self.cache = None
                return logits
        return self._again()

    def _cache_of(self, kind: type):
        """Return the cache that a fast way starts from; None if it is impossible, or would save
        nothing.
        """
        if kind is Copied or self.cache is None:
            return self.cache
        network = network_of(self.model)
        if not isinstance(network, PreTrainedModel) or not compat.can_switch_attention(network):
            return None
        return shared_prompt.shared_cache(self.cache, self.mask.bool(), self.rows, self.more)

    def _share(self, cache, tokens: Tensor) -> Tensor | None:
        """Make the first step with shared prompts. Return None if the model's attention does not
        support it; that is no failure, and it is not tried again.
        """
        self._take_attention()
        way = Shared(self.model, cache, self.mask.sum(1)[self.rows])
        try:
            logits = way.step(tokens)
        except UnsupportedAttention:
            logits = None
        if logits is None or not way.all_attended():
            self.close()
            _failed[Shared].add(self.model)
            return None
        self.way = way
        return logits

    def _copy(self, cache, tokens: Tensor) -> Tensor:
        """Make the first step with a copy of its prompt for every row."""
        self.way = Copied(self.model, cache, self.mask, self.rows, self.more)
        return self.way.step(tokens)

    def _take_attention(self) -> None:
        network = network_of(self.model)
        shared_prompt.register()
        self._own = network, compat.attention_name(network)
        network.set_attn_implementation(shared_prompt.NAME)

    def _expected(self, tokens: Tensor) -> tuple[Tensor, Tensor, float]:
        """Choose some rows, compute their logits in the plain way, and measure how far others may
        differ from these.
        """
        count = min(COMPARED, len(tokens))
        some = torch.linspace(0, len(tokens) - 1, count, device=self.device).round().long()
        logits = self._plainly(some, tokens)
        network = network_of(self.model)
        other = _other_attention(network)
        if other is None:
            rounding = apart(self._plainly(some[:1], tokens), logits[:1])
        else:
            own = compat.attention_name(network)
            try:
                network.set_attn_implementation(other)
                rounding = apart(self._plainly(some, tokens), logits)
            finally:
                network.set_attn_implementation(own)
        return some, logits, _allowed(rounding, logits.dtype)

    def _plainly(self, some: Tensor, tokens: Tensor) -> Tensor:
        """Make the first step of some rows in the plain way."""
        return Plain(self.model, self.cache, self.mask, self.rows[some]).step(tokens[some])

    # ------------------------------------------------------------ the plain way

    def _give_up(self, kind: type, error: Exception) -> None:
        """Stop using a fast way that failed, and warn.

        Raises:
          Exception: `error` itself where memory ran out: the plain way takes no less.
        """
        self.close()
        self.way = self.cache = None
        if compat.is_out_of_memory(error):
            raise error
        _failed[kind].add(self.model)
        warn_once(
            f"answers are drawn by the plain way, which is slower: {NAMES[kind]} failed with"
            f" {describe(error)}",
            # its numbers differ in every batch
            cause=f"{NAMES[kind]}: other numbers" if isinstance(error, WrongNumbers) else None,
        )

    def _again(self) -> Tensor:
        """Compute the rows from their prompts again in the plain way, up to the newest token."""
        if self.cache is None:
            _, self.cache, self.mask = _prefill(self.model, self.unique, self.device)
        way = Plain(self.model, self.cache, self.mask, self.rows)
        self.cache = None
        for tokens in self.taken:
            logits = way.step(tokens)
        self.way = way
        return logits


# ---------------------------------------------------------------- comparison


def apart(logits: Tensor, expected: Tensor) -> float:
    """Measure how far logits [B, V] are from others: the difference in a row relative to the row's
    spread over the vocabulary, root mean square of both. A row that is not finite in `expected` is
    ignored.
    """
    exact = torch.promote_types(expected.dtype, torch.float32)
    finite = expected.isfinite().all(1)
    if not finite.any():
        return 0.0
    found, wanted = (x[finite].to(exact) for x in (logits, expected))
    spread = (wanted - wanted.mean(1, keepdim=True)).square().mean(1)
    difference = (found - wanted).square().mean(1)
    return (difference / spread.clamp_min(torch.finfo(exact).tiny)).mean().sqrt().item()


def _other_attention(network) -> str | None:
    """Return another of transformers' attentions than the network uses, to measure rounding by;
    None if there is none.
    """
    if not isinstance(network, PreTrainedModel) or not compat.can_switch_attention(network):
        return None
    if compat.attention_name(network) != "eager":
        return "eager"
    return "sdpa" if compat.has_sdpa(network) else None


def _allowed(rounding: float, dtype: torch.dtype) -> float:
    return min(MOST[dtype], max(LEAST[dtype], TIMES * rounding))


def _require_same(logits: Tensor, some: Tensor, expected: Tensor, allowed: float) -> None:
    """
    Raises:
      WrongNumbers: the logits of these rows differ from the plain way's.
    """
    found = apart(logits[some], expected)
    if not found <= allowed:
        raise WrongNumbers(
            f"its first logits differ from the plain way's by {found:.2g} of their spread, where"
            f" rounding explains {allowed:.2g}"
        )


# ---------------------------------------------------------------- the model


def network_of(model):
    """Return the transformers network inside a model, which may be one of PEFT's; the model itself
    if there is none.
    """
    return next((m for m in model.modules() if isinstance(m, PreTrainedModel)), model)


def select_rows(cache, rows: Tensor):
    """Make a cache of these rows, some of them repeated, as transformers itself would; the given
    cache stays as it is.
    """
    layers = compat.cache_layers(cache)
    made = copy.copy(cache) if layers else copy.deepcopy(cache)
    if layers:
        made.layers = [copy.copy(layer) for layer in layers]
    made.batch_select_indices(rows)
    return made


def _prefill(
    model, prompts: Sequence[tuple[int, ...]], device: torch.device
) -> tuple[Tensor, Any, Tensor]:
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


def forward(model, ids: Tensor, mask: Tensor, cache: Any) -> tuple[Tensor, Any]:
    """Compute the logits after the last of `ids` [B, new], and the cache with them in it. Padding
    does not count as a position.
    """
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    return call(model, ids, cache, attention_mask=mask, position_ids=positions)


def call(model, ids: Tensor, cache, **where: Tensor) -> tuple[Tensor, Any]:
    """Run the network over new tokens: logits after the last, and the cache."""
    where = {**where, compat.cache_argument(network_of(model)): cache}
    output = model(input_ids=ids, **where, use_cache=True, logits_to_keep=1)
    return output.logits[:, -1], compat.cache_of(output)
