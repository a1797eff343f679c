"""Sampling with the model in this process. Each row has its own randomness, so that its answer does
not depend on its neighbours.

transformers' `generate` draws a whole batch's tokens from the global generator: another batch size
gives other answers, and training's randomness is advanced. Here row i draws from a generator of its
own, seeded by (seed, i).

Since a row's randomness is its own, processes that deal prompts among them draw the same answers as
one that draws them all.

Shapes: B rows alive · V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from accord.models.language import LanguageModel, positions_of, stop_ids_of
from accord.sampling.onednn_weights import packed_weights
from accord.sampling.sampler import FinishReason, Prompt, Sample
from accord.sampling.trials import AnotherWay, begin_decoding
from accord.sampling.weights_digest import weights_digest
from accord.types import UsageError

# share of a batch's rows that still grow, above which finished rows are not removed: removal copies
# all rows
LIVELY = 0.75
BLOCK = 256  # tokens of the vocabulary whose weights are summed before one of them is searched
LIKELIEST = 256  # tokens among which a nucleus is searched before all are sorted


@dataclass(frozen=True)
class LocalSampler:
    """A sampler that uses a transformers model in this process.

    The same seed gives the same answers for any `batch_tokens`, provided that the model's own
    numbers do not depend on the batch. In float32 they hardly do; in bfloat16 they do. The model
    computes in evaluation mode and without gradients, and then returns to its former mode. torch's
    and numpy's global generators are not touched.
    """

    model: Any  # a causal language model of transformers, with adapters or without
    tokenizer: Any
    # trainable parameters by name: their bytes are the policy's version; None: all parameters
    weights: Mapping[str, Tensor] | None = None
    # positions in the cache at once, prompts and longest answers together
    batch_tokens: int = 16_384

    @classmethod
    def of(cls, model: LanguageModel, weights: Mapping[str, Tensor] | None = None) -> LocalSampler:
        """Make the sampler of a loaded model."""
        return cls(model.network, model.tokenizer, weights)

    def policy_version(self) -> str:
        weights = dict(self.model.named_parameters()) if self.weights is None else self.weights
        return weights_digest(weights)

    @property
    def joint(self) -> bool:
        return False

    def rest(self) -> None:
        """Do nothing: the model of this process is the one that trains."""

    def begin(self, prompts: Sequence[Prompt], **options: Any) -> bool:
        """Return False: while it trains, the model of this process draws nothing."""
        return False

    def as_begun(self) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        """Do nothing: nothing is ever begun."""

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        first_row: int = 0,
    ) -> list[Sample]:
        """Draw one answer to each prompt; see `Sampler.sample`. Equal prompts are computed once.

        Raises:
          UsageError: an option out of its range, an empty prompt, or one too long for the model.
        """
        check_options(self.model, prompts, max_new_tokens, temperature, top_p)
        if not prompts:
            return []
        pick = make_picker(temperature, top_p)
        answers = [_Answer() for _ in prompts]
        ends = stop_ids_of(self.model, self.tokenizer)
        with (
            torch.inference_mode(),
            _evaluating(self.model),
            packed_weights(self.model, max_new_tokens),
        ):
            for batch in _batches(prompts, max_new_tokens, self.batch_tokens):
                noise = torch.from_numpy(
                    np.stack([draw_noise(seed, first_row + row, max_new_tokens) for row in batch])
                )
                own = [answers[row] for row in batch]
                _answer_batch(self.model, [prompts[row] for row in batch], own, noise, pick, ends)
        return [self._sample(answer) for answer in answers]

    def _sample(self, answer: _Answer) -> Sample:
        text = self.tokenizer.decode(answer.tokens, skip_special_tokens=True)
        reason: FinishReason = "stop" if answer.over else "length"
        return Sample(tuple(answer.tokens), text, reason, tuple(answer.logps))


# ---------------------------------------------------------------- rows, batches, randomness


@dataclass(slots=True)
class _Answer:
    """An answer while it grows."""

    tokens: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    over: bool = False

    def clear(self) -> None:
        """Begin again."""
        self.tokens, self.logps, self.over = [], [], False

    def grow(self, token: int, logp: float, ends: frozenset[int]) -> None:
        """Add a token, unless the answer has ended."""
        if not self.over:
            self.tokens.append(token)
            self.logps.append(logp)
            self.over = token in ends


def _batches(
    prompts: Sequence[Prompt], max_new_tokens: int, batch_tokens: int
) -> Iterator[list[int]]:
    """Group rows of similar length, so that little is padded; equal prompts are next to each other,
    to be computed once.
    """
    batch: list[int] = []
    for row in sorted(range(len(prompts)), key=lambda r: (len(prompts[r]), prompts[r])):
        longest = len(prompts[row]) + max_new_tokens
        if batch and (len(batch) + 1) * longest > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def draw_noise(seed: int, row: int, count: int) -> np.ndarray:
    """Draw uniform numbers in [0, 1) for one row, one for each token that it may have."""
    return np.random.default_rng((seed, row)).random(count, dtype=np.float32)


@contextmanager
def _evaluating(model):
    """Put the model into evaluation mode inside the block; afterwards every module returns to its
    former mode.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


# ---------------------------------------------------------------- one batch, token by token


def _answer_batch(
    model, prompts: list[Prompt], answers: list[_Answer], noise: Tensor, pick, ends: frozenset[int]
) -> None:
    """Let every answer of a batch grow to its end, from its beginning in another way where the
    model's numbers call for one: there are three.
    """
    while True:
        try:
            return _grow(model, prompts, answers, noise, pick, ends)
        except AnotherWay:
            for answer in answers:
                answer.clear()


def _grow(
    model, prompts: list[Prompt], answers: list[_Answer], noise: Tensor, pick, ends: frozenset[int]
) -> None:
    """Let every answer of a batch grow to its end. Finished rows leave the batch, several at a
    time.

    Args:
      noise: [B, max_new_tokens] uniform numbers.
      pick: logits [B, V] float32, which it overwrites, and uniform numbers [B] -> token ids [B] and
        their log-probs at temperature 1 [B].
    """
    device = next(model.parameters()).device
    noise = noise.to(device)
    with begin_decoding(model, prompts, device, noise.shape[1]) as rows:
        logits = rows.logits
        # one buffer for all steps: new memory pages cost more than the conversion
        room = torch.empty(logits.shape, device=device)
        for step in range(noise.shape[1]):
            tokens, logps = pick(room[: len(logits)].copy_(logits), noise[:, step])
            for answer, token, logp in zip(answers, tokens.tolist(), logps.tolist(), strict=True):
                answer.grow(token, logp, ends)
            going = [i for i, answer in enumerate(answers) if not answer.over]
            if not going or step + 1 == noise.shape[1]:
                return
            if len(going) <= LIVELY * len(answers):
                index = torch.tensor(going, device=device)
                answers = [answers[i] for i in going]
                noise, tokens = noise[index], tokens[index]
                rows.keep(index)
            logits = rows.step(tokens)


# ---------------------------------------------------------------- choice of a token


def make_picker(temperature: float, top_p: float):
    """Make the function that turns logits [B, V] and uniform numbers [B] into token ids [B] and
    their log-probs [B].
    """

    def likeliest(logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        tokens = logits.argmax(1)
        return tokens, logits.gather(1, tokens[:, None]).squeeze(1) - logits.logsumexp(1)

    def drawn(logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        # the model's own probabilities, at temperature 1, and their sum
        known = (logits.clone(), logits.logsumexp(1)) if temperature != 1 else None
        # in place: new memory pages would cost as much as the sum
        weights = logits.sub_(logits.amax(1, keepdim=True))
        weights = (weights.div_(temperature) if temperature != 1 else weights).exp_()
        tokens = _invert(weights, uniform) if top_p == 1 else _nucleus(weights, uniform, top_p)
        if known is not None:
            own, norm = known
            return tokens, own.gather(1, tokens[:, None]).squeeze(1) - norm
        return tokens, weights.gather(1, tokens[:, None]).squeeze(1).log() - weights.sum(1).log()

    return likeliest if temperature == 0 else drawn


def _invert(weights: Tensor, uniform: Tensor) -> Tensor:
    """Sample by the inverse CDF: the first token whose cumulative weight exceeds `uniform` of the
    whole.

    First the block of tokens is found, then the token in it: a cumulative sum over a whole
    vocabulary took a tenth of sampling. A float32 uniform is at most 1 - 2^-24, so its product with
    the total is below the total in float32 too. So there always is such a block, and it never has
    weight 0. Inside a block, sums are rounded in another order. If no sum then exceeds the target,
    the block's last token with any weight is taken.
    """
    pad = -weights.shape[1] % BLOCK
    blocks = torch.nn.functional.pad(weights, (0, pad)) if pad else weights
    blocks = blocks.view(len(weights), -1, BLOCK)  # [B, n, BLOCK]
    ends = blocks.sum(2).cumsum(1)  # [B, n]
    target = uniform[:, None] * ends[:, -1:]
    block = torch.searchsorted(ends, target, right=True)  # [B, 1]
    before = torch.nn.functional.pad(ends, (1, 0)).gather(1, block)
    inside = blocks.gather(1, block[:, :, None].expand(-1, 1, BLOCK)).squeeze(1)  # [B, BLOCK]
    place = torch.searchsorted(before + inside.cumsum(1), target, right=True)
    last = (torch.arange(BLOCK, device=weights.device) * (inside > 0)).amax(1, keepdim=True)
    return (block * BLOCK + torch.minimum(place, last)).squeeze(1)


def _nucleus(weights: Tensor, uniform: Tensor, top_p: float) -> Tensor:
    """Sample by the inverse CDF among the likeliest tokens that together hold `top_p`; the
    likeliest is always one.

    The nucleus is searched among the likeliest few first. A row with a larger one has all its
    tokens sorted. Each row decides for itself, so that its token does not depend on its neighbours.
    """
    held = top_p * weights.sum(1, keepdim=True)
    ordered, tokens = weights.topk(min(LIKELIEST, weights.shape[1]), dim=1)
    picked = _among(ordered, tokens, uniform, held)
    large = (ordered.sum(1, keepdim=True) < held).squeeze(1).nonzero().squeeze(1)
    if len(large):
        rest, names = weights[large].sort(dim=1, descending=True, stable=True)
        picked[large] = _among(rest, names, uniform[large], held[large])
    return picked


def _among(ordered: Tensor, tokens: Tensor, uniform: Tensor, held: Tensor) -> Tensor:
    """Sample one of the first tokens that together hold this much weight."""
    before = ordered.cumsum(1) - ordered  # weight of the likelier tokens
    place = _invert(ordered.where(before < held, 0.0), uniform)
    return tokens.gather(1, place[:, None]).squeeze(1)


# ---------------------------------------------------------------- checks of the arguments


def check_drawing(max_new_tokens: int, temperature: float, top_p: float) -> None:
    """Check the options of a draw, which no model is needed for.

    Raises:
      UsageError: one of them is out of its range.
    """
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens is {max_new_tokens}; an answer has at least one token.")
    if not temperature >= 0:
        raise UsageError(
            f"temperature is {temperature}; it must be 0 (the likeliest token) or more."
        )
    if not 0 < top_p <= 1:
        raise UsageError(f"top_p is {top_p}; it is a share of probability, above 0 and at most 1.")


def check_options(
    model, prompts: Sequence[Prompt], max_new_tokens: int, temperature: float, top_p: float
) -> None:
    """Check the options of a draw and its prompts.

    Raises:
      UsageError: an option out of its range, an empty prompt, or one too long for the model.
    """
    check_drawing(max_new_tokens, temperature, top_p)
    if not all(prompts):
        raise UsageError("A prompt is empty: there is nothing to predict its first token from.")
    limit = positions_of(model)
    longest = max(map(len, prompts), default=0)
    if limit and longest + max_new_tokens > limit:
        raise UsageError(
            f"A prompt of {longest:,} tokens and {max_new_tokens:,} new ones "
            f"do not fit into the model's {limit:,} positions.\n"
            "Shorten the prompt, or lower max_new_tokens."
        )
