"""One row that is drawn token by token, and whose keys and values stay from one answer to the next.

A conversation grows at its end, so a new prompt mostly begins with the tokens that are computed
already: only those behind them go through the network. The tokens are those that `LocalSampler`
draws for the same prompt, seed and row.

A cache that continues wrongly would draw from another distribution and say nothing (see
`trials.py`). So a model is tried at its first answer, on the end of its prompt: its logits behind
two pieces, and behind a piece and one token, must be those of the whole computed at once.

V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from accord import compat
from accord.environment.settings import warn_once
from accord.errors import describe
from accord.models.language import LanguageModel, stop_ids_of
from accord.sampling.decoding import MOST, apart, call, network_of
from accord.sampling.groups import last_logits
from accord.sampling.local import check_options, draw_noise, make_picker
from accord.sampling.sampler import Prompt

TRIED = 64  # tokens at the end of the first prompt on which the cache is tried: two short passes
# how far a cache may be continued: by many tokens at once, by one at a time, not at all
PIECES, TOKENS, NEVER = "by pieces", "token by token", "never"


@dataclass(frozen=True, slots=True)
class Token:
    """One drawn token."""

    id: int
    logp: float  # nats, under the model at temperature 1
    ends: bool  # it is one of the tokens at which generation stops


class KeptRow:
    """One row of a model, with the keys and values of the tokens that it has computed."""

    def __init__(
        self, model: LanguageModel, inside: Callable[[], AbstractContextManager] = nullcontext
    ):
        """
        Args:
          inside: within it the network computes as this row's model: with its adapters off, say.
            It is entered for each pass, so that two rows may take turns on one network.
        """
        self.network, self.device, self.inside = model.network, model.device, inside
        self.ends = stop_ids_of(model.network, model.tokenizer)
        self.held: tuple[int, ...] = ()  # tokens whose keys and values are in the cache
        self.cache: Any = None
        self.computed = 0  # tokens that went through the network for answers
        self.way = ""  # not tried yet
        self.network.eval()

    def draw(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        row: int = 0,
    ) -> Iterator[Token]:
        """Yield the tokens of an answer as they are drawn; see `Sampler.sample` for the options.

        Raises:
          UsageError: an option out of its range, an empty prompt, or one too long for the model.
        """
        check_options(self.network, [prompt], max_new_tokens, temperature, top_p)
        if not self.way:
            self.way = self._tried(prompt)
        pick = make_picker(temperature, top_p)
        uniform = torch.from_numpy(draw_noise(seed, row, max_new_tokens)).to(self.device)
        tokens = tuple(prompt)
        for step in range(max_new_tokens):
            # no context stays open over a yield: whoever reads the tokens computes as before
            with torch.inference_mode():
                logits = self._logits_after(tokens).float().clone()  # [1, V]; pick overwrites it
                found, logps = pick(logits, uniform[step : step + 1])
                token = int(found)
            yield Token(token, float(logps), token in self.ends)
            if token in self.ends:
                return
            tokens = (*tokens, token)

    # ------------------------------------------------------------ the cache

    def _logits_after(self, tokens: Sequence[int]) -> Tensor:
        """Compute the logits [1, V] after these tokens, those that are held already left out."""
        begun = self._keep_beginning(tokens)
        new = torch.tensor([tokens[begun:]], device=self.device)
        with self.inside():
            self.computed += new.shape[1]
            if self.way == NEVER:
                return last_logits(self.network, new)
            # a pass that is broken off leaves a cache that holds nobody knows what
            cache, self.cache, self.held = self.cache, None, ()
            logits, self.cache = call(self.network, new, cache)
        self.held = tuple(tokens)
        return logits

    def _keep_beginning(self, tokens: Sequence[int]) -> int:
        """Cut the cache back to what it has in common with these tokens, and return how many those
        are. At least one token is left to compute, since the logits after it are wanted.
        """
        common = _common(self.held, tokens)
        begun = min(common, len(tokens) - 1)
        new = len(tokens) - begun
        continues = self.way == PIECES or (self.way == TOKENS and new == 1)
        if self.cache is None or not continues:
            begun = 0
        elif begun < len(self.held):
            begun = begun if self._cut(begun) else 0
        if begun == 0:
            self.cache, self.held = None, ()
        return begun

    def _cut(self, length: int) -> bool:
        """Take tokens at the end back out of the cache; return False where it is of a kind that
        cannot give them up (a state, a sliding window).
        """
        layers = compat.cache_layers(self.cache)
        if not layers or any(type(layer) is not compat.dynamic_layer() for layer in layers):
            return False
        self.cache.crop(length - len(self.held))  # 5.24 takes only how many to remove, negative
        return True

    # ------------------------------------------------------------ the trial

    def _tried(self, prompt: Prompt) -> str:
        """Find how far this model's cache may be continued."""
        tokens = prompt[-TRIED:]
        if not compat.takes_cache(network_of(self.network)):
            return NEVER
        if len(tokens) < 2:  # nothing to cut in two; the next answer tries again
            return ""
        with torch.inference_mode(), self.inside():
            ids = torch.tensor([tokens], device=self.device)
            expected = last_logits(self.network, ids)
            for way, at in ((PIECES, len(tokens) // 2), (TOKENS, len(tokens) - 1)):
                why = self._difference(ids, at, expected)
                if not why:
                    return way
                warn_once(
                    f"the keys and values of {type(network_of(self.network)).__name__} are not"
                    f" continued {way}, which is slower: {why}",
                    cause=f"kept row {way} {type(network_of(self.network)).__name__}",
                )
        return NEVER

    def _difference(self, ids: Tensor, at: int, expected: Tensor) -> str:
        """Say how the logits behind two pieces differ from those of the whole; empty where they do
        not.
        """
        try:
            _, cache = call(self.network, ids[:, :at], None)
            logits, _ = call(self.network, ids[:, at:], cache)
        except Exception as error:
            if compat.is_out_of_memory(error):
                raise
            return describe(error)
        found = apart(logits, expected)
        if found <= MOST[expected.dtype]:
            return ""
        return f"its logits differ from those of the whole by {found:.2g} of their spread"


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens with which two rows begin alike."""
    shorter = min(len(one), len(other))
    return next((i for i in range(shorter) if one[i] != other[i]), shorter)
