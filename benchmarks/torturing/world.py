"""What is tortured: a two-layer model with a tokenizer of 400 tokens, a few pairs, and the runs to
make of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

STEPS = 5
WORDS = (
    "the cat sat on a mat and saw one red bird fly over two green hills near an old house".split()
)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Evaluations, checkpoints, the best one and the last one fall on different steps, so that every
# file is written often.
COMMON = {
    "train.steps": STEPS,
    "train.batch_size": 4,
    "train.learning_rate": 0.003,
    "evaluate.every": 2,
    "checkpoint.every": 2,
    "checkpoint.keep": 1,
    "model.dtype": "float32",
    "model.device": "cpu",
}
MOVING = {"reference": "moving", "moving.every": 2, "moving.mix": 0.5}
CASES = {
    "lora, adapter off": {"reference": "adapter_off", "model.lora.dropout": 0.2},
    "lora, frozen": {"reference": "frozen"},
    "lora, cached": {"reference": "cached"},
    "lora, moving": MOVING,
    "all weights, frozen": {"reference": "frozen", "model.lora": "null"},
    "all weights, cached": {"reference": "cached", "model.lora": "null"},
    "all weights, moving, bfloat16": {**MOVING, "model.lora": "null", "model.dtype": "bfloat16"},
}


@dataclass(frozen=True)
class World:
    """A folder with model/, train.jsonl and held_out.jsonl."""

    root: Path

    def train(self, case: dict, output: Path) -> list[str]:
        """The command line that starts a run."""
        fields = {**COMMON, **case}
        flags = ["--model", str(self.root / "model"), "--data", str(self.root / "train.jsonl")]
        flags += ["--held-out", str(self.root / "held_out.jsonl"), "--output", str(output)]
        return [
            "train",
            *flags,
            *(part for key, value in fields.items() for part in ("--set", f"{key}={value}")),
        ]


def build(root: Path) -> World:
    """Write model and data."""
    root.mkdir(parents=True, exist_ok=True)
    rows = [pair(i) for i in range(20)]
    write_rows(root / "train.jsonl", rows)
    write_rows(root / "held_out.jsonl", [pair(i) for i in range(100, 106)])
    tokenizer = _tokenizer([text for row in rows for text in row.values()])
    tokenizer.save_pretrained(root / "model")
    _network(tokenizer).save_pretrained(root / "model")
    return World(root)


def pair(i: int) -> dict:
    words = [
        " ".join(WORDS[(i * 7 + j * (i % 5 + k)) % len(WORDS)] for j in range(3 + (i + k) % 4))
        for k in range(3)
    ]
    return {
        "prompt": f"Question {i}: {words[0]}?",
        "chosen": f"Yes, {words[1]}.",
        "rejected": f"No {words[2]}!",
    }


def write_rows(file: Path, rows: list[dict]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _tokenizer(texts: list[str]):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    made.chat_template = TEMPLATE
    return made


def _network(tokenizer):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=0.2,
        )
    )
