"""Sampling answers: each row with its own randomness, so that a row's answer does not hang on its
neighbours.

transformers' `generate` draws a whole batch's tokens from the global generator: another batch size
gives other answers, and training's randomness moves on. Here row i draws from a generator of its
own, seeded by (seed, i).

Shapes: B rows alive · V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from accord.models.language import positions_of, stop_ids_of
from accord.sampling.decoding import begin_decoding
from accord.sampling.onednn_weights import packed_weights
from accord.types import UsageError

Prompt = tuple[int, ...]

# share of a batch's rows that still grow, above which those that have ended are not taken out: it
# copies all
LIVELY = 0.75
BLOCK = 256  # tokens of the vocabulary that are summed before one of them is looked for
LIKELIEST = 256  # tokens among which a nucleus is looked for before all are sorted


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer that the model gave."""

    tokens: tuple[int, ...]  # the end token included, where it came
    text: str  # without special tokens
    ended: bool  # whether the model ended it, rather than the limit
    # nats: sum over `tokens` under the model at temperature 1, whatever it was sampled at
    logprob: float


def sample(
    model,
    tokenizer,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    batch_tokens: int = 16_384,
    first_row: int = 0,
) -> list[Sample]:
    """One answer to each prompt, in the order given. For K answers to a prompt, give it K times: it
    is computed once.

    The same seed gives the same answers whatever `batch_tokens` is, as far as the model's own
    numbers do not depend on the batch: in float32 they hardly do, in bfloat16 they do. The model
    computes in evaluation mode and without gradients, and is left in the mode that it was in;
    torch's and numpy's global generators are not touched.

    Args:
      model: a causal language model of transformers, with adapters or without.
      tokenizer: its tokenizer.
      prompts: token ids, each with the generation prompt at its end.
      max_new_tokens: how long an answer may get.
      temperature: divides the logits; 0 takes the likeliest token.
      top_p: sample from the smallest set of tokens that holds this much probability (Holtzman et
        al. 2020, arXiv:1904.09751, §3.1), after the temperature.
      seed: row i draws from a generator seeded by (seed, i).
      batch_tokens: positions in the cache at once, prompts and longest answers together.
      first_row: the number of the first of these rows, where a long list is answered in pieces.

    Raises:
      UsageError: an option out of its range, an empty prompt, or one too long for the model.
    """
    _check(model, prompts, max_new_tokens, temperature, top_p)
    pick = _picker(temperature, top_p)
    ends = stop_ids_of(model, tokenizer)
    answers: list[_Answer] = [_Answer() for _ in prompts]
    with torch.inference_mode(), _evaluating(model), packed_weights(model, max_new_tokens):
        for rows in _batches(prompts, max_new_tokens, batch_tokens):
            noise = torch.from_numpy(
                np.stack([_noise(seed, first_row + row, max_new_tokens) for row in rows])
            )
            _answer_batch(
                model, [prompts[r] for r in rows], [answers[r] for r in rows], noise, pick, ends
            )
    return [answer.finish(tokenizer, ends) for answer in answers]


# ---------------------------------------------------------------- rows, batches, randomness


@dataclass(slots=True)
class _Answer:
    """An answer while it grows."""

    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    over: bool = False

    def grow(self, token: int, logp: float, ends: frozenset[int]) -> None:
        """By a token, unless it has ended."""
        if not self.over:
            self.tokens.append(token)
            self.logprob += logp
            self.over = token in ends

    def finish(self, tokenizer, ends: frozenset[int]) -> Sample:
        text = tokenizer.decode(self.tokens, skip_special_tokens=True)
        return Sample(tuple(self.tokens), text, self.tokens[-1] in ends, self.logprob)


def _batches(
    prompts: Sequence[Prompt], max_new_tokens: int, batch_tokens: int
) -> Iterator[list[int]]:
    """Rows of like length together, so that little is padded; equal prompts side by side, to be
    computed once.
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


def _noise(seed: int, row: int, count: int) -> np.ndarray:
    """Uniform numbers in [0, 1) for one row, one for each token that it may have."""
    return np.random.default_rng((seed, row)).random(count, dtype=np.float32)


@contextmanager
def _evaluating(model):
    """Evaluation mode inside; afterwards every module is in the mode that it was in."""
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
    """Let every answer of a batch grow to its end. Rows that have ended leave the batch, several at
    a time.

    Args:
      noise: [B, max_new_tokens] uniform numbers.
      pick: logits [B, V] float32, which it overwrites, and uniform numbers [B] -> token ids [B] and
        their log-probs at temperature 1 [B].
    """
    device = next(model.parameters()).device
    noise = noise.to(device)
    with begin_decoding(model, prompts, device, noise.shape[1]) as rows:
        logits = rows.logits
        # one for all steps: fresh pages cost more than the conversion
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


# ---------------------------------------------------------------- which token


def _picker(temperature: float, top_p: float):
    """The function that turns logits [B, V] and uniform numbers [B] into token ids [B] and their
    log-probs [B].
    """

    def likeliest(logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        tokens = logits.argmax(1)
        return tokens, logits.gather(1, tokens[:, None]).squeeze(1) - logits.logsumexp(1)

    def drawn(logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        # the model's own numbers, at temperature 1, and what they sum to
        known = (logits.clone(), logits.logsumexp(1)) if temperature != 1 else None
        # in place: fresh pages would cost as much as the sum
        weights = logits.sub_(logits.amax(1, keepdim=True))
        weights = (weights.div_(temperature) if temperature != 1 else weights).exp_()
        tokens = _invert(weights, uniform) if top_p == 1 else _nucleus(weights, uniform, top_p)
        if known is not None:
            own, norm = known
            return tokens, own.gather(1, tokens[:, None]).squeeze(1) - norm
        return tokens, weights.gather(1, tokens[:, None]).squeeze(1).log() - weights.sum(1).log()

    return likeliest if temperature == 0 else drawn


def _invert(weights: Tensor, uniform: Tensor) -> Tensor:
    """Inverse-CDF sampling: the first token whose cumulative weight exceeds `uniform` of the whole.

    First the block of tokens is found, then the token in it: a cumulative sum over a whole
    vocabulary was a tenth of sampling. A float32 uniform is at most 1 - 2^-24, so its product with
    the total is below the total in float32 too: there always is such a block, and one of weight 0
    never is it. Inside a block, sums are rounded in another order: where that leaves nothing above
    the target, the block's last token of any weight is taken.
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
    """Inverse-CDF sampling among the likeliest tokens that hold `top_p` together; the likeliest is
    always one.

    Looked for among the likeliest few first; a row whose nucleus is larger has all its tokens
    sorted. Each row decides for itself, so that its token does not hang on its neighbours.
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
    """One of the first tokens that hold so much weight together."""
    before = ordered.cumsum(1) - ordered  # what the likelier tokens hold
    place = _invert(ordered.where(before < held, 0.0), uniform)
    return tokens.gather(1, place[:, None]).squeeze(1)


# ---------------------------------------------------------------- what is asked


def _check(
    model, prompts: Sequence[Prompt], max_new_tokens: int, temperature: float, top_p: float
) -> None:
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens is {max_new_tokens}; an answer has at least one token.")
    if not temperature >= 0:
        raise UsageError(
            f"temperature is {temperature}; it must be 0 (the likeliest token) or more."
        )
    if not 0 < top_p <= 1:
        raise UsageError(f"top_p is {top_p}; it is a share of probability, above 0 and at most 1.")
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
