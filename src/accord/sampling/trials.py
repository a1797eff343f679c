"""The choice of how a model's rows are decoded, made by trial: its logits must be those of each row
computed alone, without padding and without a cache.

Whoever trains on answers learns from what was drawn. A model whose cache or padding is not what its
forward pass computes (BART's decoders count positions by the cache: 2 nats a token) would draw from
another distribution, and say nothing. So a model's first batch is compared at its tokens 0, 1, 2,
4, 8, …, and every batch that decodes with states is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from accord import compat
from accord.environment.settings import warn_once
from accord.errors import describe
from accord.models.families import state_of
from accord.sampling.decoding import MOST, Rows, apart, call, network_of
from accord.sampling.groups import DecodedRows, GroupedRows, Prompt, alone

# from the fastest down
PADDED, GROUPED, ANEW = "padded on the left", "in groups of one length", "from their beginning"
WAYS = (PADDED, GROUPED, ANEW)
SHORTEST = 2  # rows that are compared: these have the most padding; and the longest one
# how each model decodes, and the models whose padded rows were compared to the end of a batch
_ways: WeakKeyDictionary = WeakKeyDictionary()
_compared: WeakKeyDictionary = WeakKeyDictionary()


class AnotherWay(Exception):
    """The batch must be drawn again: its logits were not the model's own."""


@contextmanager
def begin_decoding(
    model, prompts: Sequence[Prompt], device: torch.device, more: int
) -> Iterator[TriedRows]:
    """Compute the prompts of a batch and yield its rows; the model's attention is its own again
    afterwards.

    Raises:
      AnotherWay: these rows are wrong; begin again, and the next way is taken.
    """
    way = _ways.setdefault(model, _first_way(model))
    try:
        rows = TriedRows(model, prompts, device, more, way)
    except AnotherWay:
        raise
    except Exception as error:
        _give_up(model, way, error)
        raise AnotherWay from error
    try:
        yield rows
    finally:
        rows.close()


class TriedRows:
    """Rows whose logits are compared with those of some rows computed alone."""

    def __init__(self, model, prompts: Sequence[Prompt], device: torch.device, more: int, way: str):
        self.model, self.device, self.way = model, device, way
        self.inner: DecodedRows
        if way == PADDED:
            self.inner = Rows(model, prompts, device, more)
        else:
            self.inner = GroupedRows(model, prompts, device, call if way == GROUPED else None)
        self.taken = 0
        self.compares = way == GROUPED or (way == PADDED and model not in _compared)
        # the rows that are compared: their places among those alive, and their tokens so far
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        some = {*order[:SHORTEST], order[-1]}
        self.watched = {row: list(prompts[row]) for row in sorted(some)}
        self.logits = self._tried(self.inner.logits)

    def step(self, tokens: Tensor) -> Tensor:
        """Compute the logits [B, V] after these tokens [B].

        Raises:
          AnotherWay: they are not the model's own.
        """
        self.taken += 1
        if self.compares:
            for place, row in self.watched.items():
                row.append(int(tokens[place]))
        try:
            logits = self.inner.step(tokens)
        except Exception as error:
            if self.way == ANEW:
                raise
            _give_up(self.model, self.way, error)
            raise AnotherWay from error
        return self._tried(logits)

    def keep(self, index: Tensor) -> None:
        """Keep only these rows."""
        self.inner.keep(index)
        places = {old: new for new, old in enumerate(index.tolist())}
        self.watched = {places[p]: row for p, row in self.watched.items() if p in places}

    def close(self) -> None:
        """Restore the model's own attention; what was compared to the end is trusted from now
        on.
        """
        self.inner.close()
        if self.taken:
            _compared[self.model] = True

    def _tried(self, logits: Tensor) -> Tensor:
        """Return these logits if they are the model's own where that is looked at."""
        due = self.taken & (self.taken - 1) == 0  # 0, 1, 2, 4, 8, …
        if not (self.compares and due and self.watched):
            return logits
        places = list(self.watched)
        with self.inner.own_attention():
            rows = [tuple(row) for row in self.watched.values()]
            expected = alone(self.model, rows, self.device)
        found = apart(logits[places], expected)
        if not found <= MOST[expected.dtype]:
            self.close()
            _give_up(self.model, self.way, None, found)
            raise AnotherWay
        return logits


def _first_way(model) -> str:
    """Choose the first way to try: a state takes padding in, and gives up no rows."""
    network = network_of(model)
    if not isinstance(network, PreTrainedModel) or not state_of(network):
        return PADDED
    return GROUPED if compat.takes_cache(network) else ANEW


def _give_up(model, way: str, error: Exception | None, found: float = 0.0) -> None:
    """Let the model decode in the next way, and say so.

    Raises:
      Exception: `error` itself where no other way is left, or memory ran out.
    """
    if error is not None and (way == ANEW or compat.is_out_of_memory(error)):
        raise error
    following = WAYS[WAYS.index(way) + 1]
    if following == GROUPED and not compat.takes_cache(network_of(model)):
        following = ANEW
    _ways[model] = following
    why = (
        f"its logits differ from each row's own by {found:.2g} of their spread"
        if error is None
        else describe(error)
    )
    name = type(network_of(model)).__name__
    warn_once(
        f"answers of {name} are drawn {following}, which is slower: {way}, {why}",
        cause=f"{name} {way}",
    )
