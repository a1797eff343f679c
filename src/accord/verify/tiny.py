"""A tiny model with everything that a run has: what `accord doctor` examines."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from accord.config.schema import TrainConfig
from accord.engine.micro_budget import MicroBudget
from accord.engine.optimizer import Optimizer
from accord.engine.step import UpdateContext
from accord.forward.choose import Forward, choose
from accord.forward.reference import AdaptersOff, Frozen
from accord.models.language import LanguageModel
from accord.objectives import BoundObjective
from accord.types import Tree

# ids 0 to 3; every other word stands for itself
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
PEAK, STEPS, MICRO_TOKENS = 1e-3, 10, 64


def tokenizer(words: int) -> PreTrainedTokenizerBase:
    """One token a word, "w4" to "w96" of 97; what it decodes, it encodes to the same tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = [*SPECIAL, *(f"w{i}" for i in range(len(SPECIAL), words))]
    vocabulary = {name: i for i, name in enumerate(names)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[3]))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pad, begin, end, unknown = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=pad, bos_token=begin, eos_token=end, unk_token=unknown
    )


def model_of(network: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> LanguageModel:
    """The network with a tokenizer, where a run would have it, its weights in this precision."""
    for (
        parameter
    ) in network.parameters():  # not its buffers: a load leaves rotary angles in float32
        parameter.data = parameter.data.to(device, dtype)
    kind = network.config.model_type
    torch.nn.Module.to(network, device=device)
    return LanguageModel(network, tokenizer(network.config.vocab_size), kind, Path("."))


def prompts(words: int, lengths: Sequence[int]) -> list[tuple[int, ...]]:
    """Prompts of these lengths that begin alike."""
    rng = random.Random(1)
    start = [rng.randrange(len(SPECIAL), words) for _ in range(3)]
    return [
        tuple((*start, *(rng.randrange(len(SPECIAL), words) for _ in range(length)))[:length])
        for length in lengths
    ]


def learner_of(
    model: LanguageModel, objective: BoundObjective, probe: Sequence[Tree], peak: float = PEAK
) -> tuple[UpdateContext, Optimizer]:
    """What a step of this objective needs. Which weights train has been chosen already."""
    forward = choose(model, probe, "auto")
    reference = reference_of(forward) if objective.reference else None
    learner = UpdateContext(forward, objective, reference, MicroBudget(MICRO_TOKENS), 0)
    return learner, Optimizer(model.trainable(), TrainConfig(warmup=0.0), peak, STEPS)


def reference_of(forward: Forward) -> AdaptersOff | Frozen:
    """The model before anything was trained."""
    return AdaptersOff(forward) if forward.model.has_adapters else Frozen.copy_of(forward)
