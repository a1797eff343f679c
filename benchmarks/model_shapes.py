"""Models of published shapes with random weights, for measurements of speed and memory: without a
network only the embedded model can be had.
"""

from __future__ import annotations

from pathlib import Path

# hidden, feed-forward, layers, heads, key and value heads, vocabulary; all tie the embedding
SHAPES = {
    "360M": (960, 2560, 32, 15, 5, 49_152),  # SmolLM2-360M
    "0.5B": (896, 4864, 24, 14, 2, 151_936),  # Qwen2.5-0.5B
    "1B": (2048, 8192, 16, 32, 8, 128_256),  # Llama-3.2-1B
}


def base(case: dict, folder: Path) -> str:
    """The model of a case, as `model.name` takes it."""
    return str(folder / "model") if case["shape"] else "smollm2"


def model_folder(case: dict, folder: Path) -> Path:
    """The folder with the weights of a case's model."""
    from accord.models.embedded import embedded_folder

    return folder / "model" if case["shape"] else embedded_folder()


def write_model(shape: str, folder: Path) -> None:
    """Write a model of a shape, in bfloat16, with the tokenizer of the embedded one. Without a
    shape nothing is written.
    """
    if not shape:
        return
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, set_seed

    from accord.models.embedded import embedded_folder

    hidden, inner, layers, heads, kv_heads, vocabulary = SHAPES[shape]
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    set_seed(0)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
