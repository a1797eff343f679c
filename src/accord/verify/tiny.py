"""A tiny model with everything that a run has, for `accord doctor`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers as tf
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

VOCABULARY = 97
# Heads of 16: a GPU's flex attention takes no narrower ones.
SIZES: dict[str, Any] = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
    initializer_range=0.1,
)
GPT2: dict[str, Any] = dict(
    vocab_size=VOCABULARY,
    n_embd=64,
    n_layer=2,
    n_head=4,
    n_positions=128,
    bos_token_id=1,
    eos_token_id=2,
    initializer_range=0.1,
)


def tokenizer(words: int) -> PreTrainedTokenizerBase:
    """Make a tokenizer with one token per word, "w4" to "w96" of 97. Text that it decodes, it
    encodes to the same tokens.
    """
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
    """Wrap the network with a tokenizer, on the device of a run, with its weights in this
    precision.
    """
    for (
        parameter
    ) in network.parameters():  # not its buffers: a load leaves rotary angles in float32
        parameter.data = parameter.data.to(device, dtype)
    kind = network.config.model_type
    torch.nn.Module.to(network, device=device)
    return LanguageModel(network, tokenizer(network.config.vocab_size), kind, Path("."))


def prompts(words: int, lengths: Sequence[int]) -> list[tuple[int, ...]]:
    """Make prompts of these lengths that begin alike."""
    rng = random.Random(1)
    start = [rng.randrange(len(SPECIAL), words) for _ in range(3)]
    return [
        tuple((*start, *(rng.randrange(len(SPECIAL), words) for _ in range(length)))[:length])
        for length in lengths
    ]


def learner_of(
    model: LanguageModel, objective: BoundObjective, probe: Sequence[Tree], peak: float = PEAK
) -> tuple[UpdateContext, Optimizer]:
    """Make everything that a step of this objective needs. The trainable weights are chosen
    already.
    """
    forward = replace(choose(model, probe, "auto"), columns=objective.columns)
    reference = reference_of(forward) if objective.reference else None
    learner = UpdateContext(forward, objective, reference, MicroBudget(MICRO_TOKENS), 0)
    return learner, Optimizer(model.trainable(), TrainConfig(warmup=0.0), peak, STEPS)


def reference_of(forward: Forward) -> AdaptersOff | Frozen:
    """Make the reference: the model before training."""
    return AdaptersOff(forward) if forward.model.has_adapters else Frozen.copy_of(forward)


def some_trees(rows: str, n: int = 8) -> list[Tree]:
    """Make trees of odd lengths that share a beginning, some of them a whole prompt."""
    rng = random.Random(0)

    def draw(length: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, VOCABULARY) for _ in range(length))

    system, trees = draw(9), []
    for row in range(n):
        prompt = (*system, *draw(3 + row % 5))
        answers = tuple(
            (*draw(2 + (row + side * 3) % 7), 2) for side in range(2 if rows == "pairs" else 1)
        )
        trees.append(
            Tree(prompt, answers, row, desirable=bool(row % 2) if rows == "labelled" else None)
        )
    return trees


def network(family: str) -> Any:  # transformers' `to` has no type that a caller could use
    """Make a random network of an architecture, the same each time."""
    windows: dict[str, Any] = dict(
        head_dim=16, sliding_window=5, layer_types=["sliding_attention", "full_attention"]
    )
    configs = {
        "llama": lambda: tf.LlamaConfig(**SIZES),
        "qwen3": lambda: tf.Qwen3Config(**SIZES, head_dim=16),
        "gpt2": lambda: tf.GPT2Config(**GPT2),
        "gemma2": lambda: tf.Gemma2Config(
            **SIZES, **windows, attn_logit_softcapping=20.0, final_logit_softcapping=10.0
        ),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tf.AutoModelForCausalLM.from_config(configs[family]())


def number_tokenizer() -> PreTrainedTokenizerBase:
    """Make a tokenizer in which every id is a word of its own; the trees of the checks consist of
    ids.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {str(number): number for number in range(VOCABULARY)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, unk_token="0")))
