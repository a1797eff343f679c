"""Sampling answers: each row with its own randomness, so that a row's answer does not hang on its neighbours.

transformers' `generate` draws a whole batch's tokens from the global generator: another batch size gives other
answers, and training's randomness moves on. Here row i draws from a generator of its own, seeded by (seed, i).

Shapes: B rows alive · U unique prompts · T positions in the cache · V vocabulary.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from accord.types import UsageError

Prompt = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer that the model gave."""

    tokens: tuple[int, ...]  # the end token included, where it came
    text: str  # without special tokens
    ended: bool  # whether the model ended it, rather than the limit
    logprob: float  # nats: sum over `tokens` under the model at temperature 1, whatever it was sampled at


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
    """One answer to each prompt, in the order given. For K answers to a prompt, give it K times: it is computed once.

    The same seed gives the same answers whatever `batch_tokens` is, as far as the model's own numbers do not depend
    on the batch: in float32 they hardly do, in bfloat16 they do. The model computes in evaluation mode and without
    gradients, and is left in the mode that it was in; torch's and numpy's global generators are not touched.

    Args:
      model: a causal language model of transformers, with adapters or without.
      tokenizer: its tokenizer.
      prompts: token ids, each with the generation prompt at its end.
      max_new_tokens: how long an answer may get.
      temperature: divides the logits; 0 takes the likeliest token.
      top_p: sample from the smallest set of tokens that holds this much probability (Holtzman et al. 2020,
        arXiv:1904.09751, §3.1), after the temperature.
      seed: row i draws from a generator seeded by (seed, i).
      batch_tokens: positions in the cache at once, prompts and longest answers together.
      first_row: the number of the first of these rows, where a long list is answered in pieces.

    Raises:
      UsageError: an option out of its range, an empty prompt, or one too long for the model.
    """
    _check(model, prompts, max_new_tokens, temperature, top_p)
    pick = _picker(temperature, top_p)
    ends = _end_tokens(model, tokenizer)
    answers: list[_Answer] = [_Answer() for _ in prompts]
    with torch.inference_mode(), _evaluating(model):
        for rows in _batches(prompts, max_new_tokens, batch_tokens):
            noise = torch.from_numpy(np.stack([_noise(seed, first_row + row, max_new_tokens) for row in rows]))
            _answer_batch(model, [prompts[r] for r in rows], [answers[r] for r in rows], noise, pick, ends)
    return [answer.finish(tokenizer, ends) for answer in answers]


# ---------------------------------------------------------------- rows, batches, randomness


@dataclass(slots=True)
class _Answer:
    """An answer while it grows."""

    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0

    def finish(self, tokenizer, ends: frozenset[int]) -> Sample:
        text = tokenizer.decode(self.tokens, skip_special_tokens=True)
        return Sample(tuple(self.tokens), text, self.tokens[-1] in ends, self.logprob)


def _batches(prompts: Sequence[Prompt], max_new_tokens: int, batch_tokens: int) -> Iterator[list[int]]:
    """Rows of like length together, so that little is padded; equal prompts side by side, to be computed once."""
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


def _end_tokens(model, tokenizer) -> frozenset[int]:
    """What ends an answer: the tokenizer's EOS, and what the model's own generation settings add to it."""
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, (list, tuple)) else [configured]
    return frozenset(i for i in (*ids, tokenizer.eos_token_id) if i is not None)


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
    """Let every answer of a batch grow to its end. Rows that have ended leave the batch at once.

    Args:
      noise: [B, max_new_tokens] uniform numbers.
      pick: logits [B, V] float32 and uniform numbers [B] -> token ids [B].
    """
    device = next(model.parameters()).device
    noise = noise.to(device)
    logits, cache, mask = _prefill(model, prompts, device)
    for step in range(noise.shape[1]):
        logits = logits.float()  # [B, V]
        tokens = pick(logits, noise[:, step])  # [B]
        logps = logits.gather(1, tokens[:, None]).squeeze(1) - logits.logsumexp(1)  # [B] nats
        going = []
        for i, (answer, token, logp) in enumerate(zip(answers, tokens.tolist(), logps.tolist())):
            answer.tokens.append(token)
            answer.logprob += logp
            if token not in ends:
                going.append(i)
        if not going or step + 1 == noise.shape[1]:
            return
        if len(going) < len(answers):
            index = torch.tensor(going, device=device)
            answers = [answers[i] for i in going]
            noise, tokens, mask = noise[index], tokens[index], mask[index]
            cache.batch_select_indices(index)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)  # [B, T]
        logits, cache = _forward(model, tokens[:, None], mask, cache)


def _prefill(model, prompts: list[Prompt], device: torch.device) -> tuple[Tensor, object, Tensor]:
    """Compute each different prompt once, padded on the left, and hand its cache to every row that asks for it.

    Returns:
      logits of the next token [B, V], the cache, the mask of real positions [B, T].
    """
    unique = list(dict.fromkeys(prompts))  # U
    longest = max(map(len, unique))
    ids = torch.zeros(len(unique), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, prompt in enumerate(unique):
        ids[i, longest - len(prompt) :] = torch.tensor(prompt)
        mask[i, longest - len(prompt) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    logits, cache = _forward(model, ids, mask, None)
    place = {prompt: i for i, prompt in enumerate(unique)}
    index = torch.tensor([place[prompt] for prompt in prompts], device=device)
    cache.batch_select_indices(index)
    return logits[index], cache, mask[index]


def _forward(model, ids: Tensor, mask: Tensor, cache) -> tuple[Tensor, object]:
    """Logits after the last of `ids` [B, new], and the cache with them in it. Padding does not count as a position."""
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    where = {"attention_mask": mask, "position_ids": positions, "past_key_values": cache}
    output = model(input_ids=ids, **where, use_cache=True, logits_to_keep=1)
    return output.logits[:, -1], output.past_key_values


# ---------------------------------------------------------------- which token


def _picker(temperature: float, top_p: float):
    """The function that turns logits [B, V] and uniform numbers [B] into token ids [B]."""
    if temperature == 0:
        return lambda logits, _: logits.argmax(1)
    if top_p == 1:
        return lambda logits, uniform: _invert((logits / temperature).softmax(1), uniform)
    return lambda logits, uniform: _nucleus((logits / temperature).softmax(1), uniform, top_p)


def _invert(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Inverse-CDF sampling: the first token whose cumulative probability exceeds `uniform` of the whole.

    A float32 uniform is at most 1 - 2^-24, so its product with the total is below the total in float32 too: there
    always is such a token, and one of probability 0 never is it.
    """
    cumulative = probabilities.cumsum(1)  # [B, V]
    target = uniform[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True).squeeze(1)


def _nucleus(probabilities: Tensor, uniform: Tensor, top_p: float) -> Tensor:
    """Inverse-CDF sampling among the likeliest tokens that hold `top_p` together; the likeliest is always one."""
    ordered, tokens = probabilities.sort(dim=1, descending=True, stable=True)
    before = ordered.cumsum(1) - ordered  # [B, V] what the likelier tokens hold
    place = _invert(ordered.where(before < top_p, 0.0), uniform)
    return tokens.gather(1, place[:, None]).squeeze(1)


# ---------------------------------------------------------------- what is asked


def _check(model, prompts: Sequence[Prompt], max_new_tokens: int, temperature: float, top_p: float) -> None:
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens is {max_new_tokens}; an answer has at least one token.")
    if not temperature >= 0:
        raise UsageError(f"temperature is {temperature}; it must be 0 (the likeliest token) or more.")
    if not 0 < top_p <= 1:
        raise UsageError(f"top_p is {top_p}; it is a share of probability, above 0 and at most 1.")
    if not all(prompts):
        raise UsageError("A prompt is empty: there is nothing to predict its first token from.")
    limit = getattr(model.config, "max_position_embeddings", None)
    longest = max(map(len, prompts), default=0)
    if limit and longest + max_new_tokens > limit:
        raise UsageError(
            f"A prompt of {longest:,} tokens and {max_new_tokens:,} new ones "
            f"do not fit into the model's {limit:,} positions.\n"
            "Shorten the prompt, or lower max_new_tokens."
        )
