"""Random models made on the device itself, and random rows: nothing is read, nothing is fetched.

Both sides make theirs from the same seed on the same device: the same weights, rows and starting
adapters. 16 GB do not go through the CPU.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_stages.shapes import RANK, Shape

from accord.types import Tree

BOS, EOS, PAD, UNKNOWN = range(4)
FIRST = 4  # the first id that rows are drawn from


@dataclass(frozen=True)
class Size:
    """The size of an update, and the number of different ones."""

    batch: int
    batches: int


SIZES = {"1b": Size(32, 3), "8b": Size(16, 2)}
TINY = Size(4, 2)
CHECK = Size(4, 3)  # of the float32 comparison
# Multi-turn preferences: a system turn that all share, prompts and answers of these tokens.
LENGTHS = {"system": 40, "prompt": (200, 1500), "answer": (50, 400)}
SHORT = {"system": 8, "prompt": (20, 60), "answer": (5, 20)}


def size_of(shape: str, tiny: bool) -> Size:
    return TINY if tiny else SIZES[shape]


# ---------------------------------------------------------------- rows


def make_batches(size: Size, vocabulary: int, tiny: bool) -> list[list[dict]]:
    """Draw the batches of updates, the same each time."""
    rows = make_rows(size.batch * size.batches, vocabulary, SHORT if tiny else LENGTHS)
    return [rows[i * size.batch : (i + 1) * size.batch] for i in range(size.batches)]


def make_rows(n: int, vocabulary: int, lengths: dict, seed: int = 0) -> list[dict]:
    """Draw pairs of random ids: a common system turn, lengths drawn evenly on a logarithmic scale,
    an end token.
    """
    rng = random.Random(seed)

    def draw(length: int) -> list[int]:
        return [rng.randrange(FIRST, vocabulary) for _ in range(length)]

    def length(low: int, high: int) -> int:
        return round(low * (high / low) ** rng.random())

    system, rows = draw(lengths["system"]), []
    for _ in range(n):
        prompt = system + draw(length(*lengths["prompt"]) - len(system))
        answers = [[*draw(length(*lengths["answer"]) - 1), EOS] for _ in range(2)]
        rows.append({"prompt": prompt, "completions": answers})
    return rows


def trees_of(rows: list[dict]) -> list[Tree]:
    return [
        Tree(tuple(row["prompt"]), tuple(map(tuple, row["completions"])), i)
        for i, row in enumerate(rows)
    ]


# ---------------------------------------------------------------- models


def random_network(shape: Shape, dtype: str, device: str) -> Any:
    """Draw a network on its device. In float32 it has the weights that it has in bfloat16."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(**shape.options(), bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD)
    torch.manual_seed(0)
    with torch.device(device):
        network = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    # not `to` in any case: it would round the rotary embedding's angles to bfloat16
    return (network if dtype == "bfloat16" else network.to(getattr(torch, dtype))).eval()


def make_tokenizer(vocabulary: int) -> Any:
    """Make a tokenizer that names every id: nothing here reads text."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"w{number}": number for number in range(vocabulary)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token=f"w{UNKNOWN}")),
        bos_token=f"w{BOS}",
        eos_token=f"w{EOS}",
        pad_token=f"w{PAD}",
        unk_token=f"w{UNKNOWN}",
    )


def language_model(network: Any, vocabulary: int) -> Any:
    """Wrap a network for accord, its layers as they are."""
    from accord.models.language import LanguageModel

    tokenizer = make_tokenizer(vocabulary)
    return LanguageModel(network, tokenizer, "random weights", Path("random-weights"))


def accord_model(shape: Shape, trains: str, dtype: str, device: str) -> Any:
    """Make the model as accord's `load` leaves it, with what trains in it; "" trains nothing."""
    from accord.models.lean_layers import make_lean

    network = random_network(shape, dtype, device)
    quantization = quantized(network) if trains == "qlora" else None
    make_lean(network)
    model = language_model(network, shape.vocab)
    if quantization is not None:
        model.quantization = quantization
    if trains:
        choose_trained(model, trains)
    return model


def quantized(network: Any) -> Any:
    """Quantise the trunk's linear layers as `model.quantize: nf4` does."""
    from accord.config.schema import make_config
    from accord.models.quantized import quantize

    section = {"name": "random-weights", "quantize": "nf4"}
    config = make_config({"model": section, "data": {"train": "none.jsonl"}})
    return quantize(network, config.model.quantize, "random weights")


def choose_trained(model: Any, trains: str) -> None:
    """Let all weights train, or fresh adapters of a fixed seed on the projections of attention."""
    from accord.models.lora import add_lora, train_all_weights

    if trains == "all":
        train_all_weights(model)
        return
    add_lora(model, rank=RANK, alpha=2 * RANK, targets="attention", dropout=0.0, dora=False, seed=0)
