"""Tiny random models of many families, and trees of odd sizes, so that nothing divides anything."""

from __future__ import annotations

import random
from pathlib import Path

import torch
import transformers as tf
from transformers.utils import logging

from accord.models.language import LanguageModel
from accord.types import Tree

VOCAB = 97
COMMON = dict(
    vocab_size=VOCAB,
    hidden_size=24,
    intermediate_size=44,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
GPT = dict(
    vocab_size=VOCAB,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=128,
    bos_token_id=1,
    eos_token_id=2,
)
MIXED = dict(head_dim=6, sliding_window=5, layer_types=["sliding_attention", "full_attention"])

CONFIGS = {
    "llama": lambda: tf.LlamaConfig(**COMMON),
    "qwen2": lambda: tf.Qwen2Config(**COMMON),
    "qwen3": lambda: tf.Qwen3Config(**COMMON, head_dim=6),
    "mistral": lambda: tf.MistralConfig(**COMMON, sliding_window=5),  # shorter than the sequences
    "gemma": lambda: tf.GemmaConfig(**COMMON, head_dim=6),
    "gemma2": lambda: tf.Gemma2Config(
        **COMMON, **MIXED, attn_logit_softcapping=2.0, final_logit_softcapping=3.0
    ),
    "gemma3": lambda: tf.Gemma3TextConfig(**COMMON, **MIXED),
    "phi3": lambda: tf.Phi3Config(**COMMON),
    "gpt2": lambda: tf.GPT2Config(
        vocab_size=VOCAB,
        n_embd=24,
        n_layer=2,
        n_head=4,
        n_positions=128,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "gpt_neox": lambda: tf.GPTNeoXConfig(**GPT, intermediate_size=44),
    "opt": lambda: tf.OPTConfig(**GPT, ffn_dim=44, word_embed_proj_dim=24),
    "granite": lambda: tf.GraniteConfig(**COMMON, logits_scaling=3.0),
    "cohere": lambda: tf.CohereConfig(**COMMON, logit_scale=0.25),
    "olmo2": lambda: tf.Olmo2Config(**COMMON),
    "mixtral": lambda: tf.MixtralConfig(**COMMON, num_local_experts=4),
    # families that cannot share a prompt on our terms
    "mamba": lambda: tf.MambaConfig(
        vocab_size=VOCAB, hidden_size=24, num_hidden_layers=2, state_size=4
    ),
    "bloom": lambda: tf.BloomConfig(vocab_size=VOCAB, hidden_size=24, n_layer=2, n_head=4),
    "gpt_oss": lambda: tf.GptOssConfig(
        **COMMON,
        **MIXED,
        num_local_experts=4,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    ),
}
SHARE_A_PROMPT = [name for name in CONFIGS if name not in ("mamba", "bloom", "gpt_oss")]


def tiny(
    family: str = "llama", dtype: torch.dtype = torch.float32, seed: int = 0, **changes
) -> LanguageModel:
    """A random model whose weights are large enough for attention to matter: at 0.02 a wrong mask
    is hardly seen.

    Each has a configuration of its own: models that share one share its attention implementation as
    well.
    """
    logging.set_verbosity_error()
    config = CONFIGS[family]()
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(seed)
    network = tf.AutoModelForCausalLM.from_config(config).to(dtype)
    with torch.no_grad():
        for parameter in network.parameters():
            # biases and norms start at exactly 0 or 1, which would hide one that is skipped
            (
                parameter.mul_(12)
                if parameter.dim() > 1
                else parameter.add_(torch.randn_like(parameter) * 0.2)
            )
    return LanguageModel(network, None, family, Path("."))


def tokens(rng: random.Random, length: int, low: int = 3, high: int = VOCAB) -> tuple[int, ...]:
    return tuple(rng.randrange(low, high) for _ in range(length))


def some_trees(seed: int = 0) -> list[Tree]:
    """Pairs and a label; prompts and answers of one token; lengths that are prime."""
    rng = random.Random(seed)
    shapes = [(7, (5, 11)), (1, (1, 3)), (13, (2,)), (2, (7, 1))]
    return [
        Tree(tokens(rng, prompt), tuple(tokens(rng, n) for n in answers), row)
        for row, (prompt, answers) in enumerate(shapes)
    ]


def gradients(model: LanguageModel, values: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a loss that weighs every token differently, for every parameter that trains; zeros where
    none flowed.
    """
    model.root.zero_grad()
    weights = torch.linspace(-1.0, 2.0, len(values), dtype=values.dtype, device=values.device)
    (values * weights).sum().backward()
    trainable = model.trainable()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in trainable.items()
    }
