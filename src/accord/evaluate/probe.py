"""Measures of fresh samples: how long, how repetitive, and what they cost in KL. Nothing global
changes.

The prompts and their randomness are fixed, so that samples of two steps differ by the model alone.

T tokens of one answer · V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from accord.forward.choose import Forward
from accord.forward.reference import Frozen, Reference
from accord.models.language import LanguageModel
from accord.sampling.sampler import Prompt, Sample

GRAM = 4  # of Welleck et al. 2019, arXiv:1908.04319: seq-rep-4


class SampledAnswer(Protocol):
    """The protocol of an answer: it has tokens."""

    @property
    def tokens(self) -> Sequence[int]: ...


@dataclass(frozen=True)
class KLReference:
    """The model that a policy's KL is measured against: the one that training started from.

    It is known where the reference is that model and in memory. With `reference: moving` it is the
    copy that follows, with `reference: base` the base; `against` says which.
    """

    forward: Forward
    # within it, `forward` computes what it is held against
    inside: Callable[[], AbstractContextManager]

    @classmethod
    def of(cls, policy: Forward, reference: Reference | None) -> KLReference | None:
        """Return it with adapters switched off, or the frozen copy; None where all weights train
        and no copy was kept.
        """
        if policy.model.has_adapters:
            return cls(policy, policy.model.as_reference)
        return cls(reference.forward, nullcontext) if isinstance(reference, Frozen) else None


def kl_against(reference: str) -> str:
    """Name the model that `KLReference.of` gives under a recipe's `reference`."""
    return {"moving": "the reference, which follows it", "base": "the base model"}.get(
        reference, "what training started from"
    )


def sample_metrics(
    samples: Sequence[Sample], before: Sequence[int] | None = None
) -> dict[str, float]:
    """Compute the mean figures of some samples.

    Args:
      before: tokens of the answers to the same prompts before training; None where these are them.

    Returns:
      tokens an answer; repeated: share of 4-grams that stood before in the same answer; ended:
      share that the model ended; empty: share without a visible character; longer: share that is
      longer than before, ties half.
    """
    lengths = [len(sample.tokens) for sample in samples]
    before = list(before) if before is not None else lengths
    longer = [(now > then) + 0.5 * (now == then) for now, then in zip(lengths, before, strict=True)]
    return {
        "tokens": _mean(lengths),
        "repeated": _mean([repeated_share(sample.tokens) for sample in samples]),
        "ended": _mean([sample.ended for sample in samples]),
        "empty": _mean([not sample.text.strip() for sample in samples]),
        "longer": _mean(longer),
    }


def repeated_share(tokens: Sequence[int]) -> float:
    """Compute the share of an answer's 4-grams that stood in it before: 0 for one without
    repetition.
    """
    grams = [tuple(tokens[i : i + GRAM]) for i in range(len(tokens) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


@torch.no_grad()
def distribution_metrics(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    samples: Sequence[Sample],
    start: KLReference | None,
) -> dict[str, float]:
    """Measure how the probability is spread on the policy's own answers.

    Args:
      start: what training started from; None where that is not in memory, and no KL is known.

    Returns:
      entropy: nats a token; top1: probability of the likeliest token; kl: nats an answer to the
      start, by the whole distribution at each position of the sampled answers (less noise than the
      answers' log-ratio). All means.
    """
    looks = [
        _look(model, prompt, sample, start) for prompt, sample in zip(prompts, samples, strict=True)
    ]
    out = {
        "entropy": torch.cat([look.entropy for look in looks]).mean().item(),
        "top1": torch.cat([look.top for look in looks]).mean().item(),
    }
    return out | ({"kl": _mean([look.divergence for look in looks])} if start is not None else {})


@torch.no_grad()
def divergences(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    samples: Sequence[SampledAnswer],
    start: KLReference,
) -> list[float]:
    """Compute the KL to the start of each sampled answer, nats; see `spread`."""
    return [
        _look(model, prompt, sample, start).divergence
        for prompt, sample in zip(prompts, samples, strict=True)
    ]


@dataclass(frozen=True)
class _Look:
    """The distributions along one answer, in figures."""

    entropy: Tensor  # [T] nats
    top: Tensor  # [T] probability of the likeliest token
    kl: float | None  # nats, summed over the answer; None without a start

    @property
    def divergence(self) -> float:
        """Return the `kl` of a look that was taken with a start."""
        assert self.kl is not None
        return self.kl


def _look(
    model: LanguageModel, prompt: Prompt, sample: SampledAnswer, start: KLReference | None
) -> _Look:
    now = _distributions(model, prompt, sample)  # [T, V]
    kl = None
    if start is not None:
        with start.inside():
            then = _distributions(start.forward.model, prompt, sample)
        kl = (now.exp() * (now - then)).sum().item()
    return _Look(-(now.exp() * now).sum(1), now.max(1).values.exp(), kl)


def _distributions(model: LanguageModel, prompt: Prompt, sample: SampledAnswer) -> Tensor:
    """Compute the log-probs of every token at each position of one answer, [T, V] float32."""
    ids = torch.tensor([(*prompt, *sample.tokens[:-1])], device=model.device)
    logits = model.network(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :]
    return torch.log_softmax(logits.float(), dim=-1)


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values))
