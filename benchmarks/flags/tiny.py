"""A base model small enough for fifty runs, that has learned to speak from the data's own answers:
the gallery's subject.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import accord

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = 1200


def make_base(rows: list[dict], folder: Path) -> Path:
    """Two layers of 64, random, then fine-tuned on both answers of every pair, so that it speaks
    before it is aligned.
    """
    tokenizer = _tokenizer(
        [text for row in rows for text in (row["prompt"], row["chosen"], row["rejected"])]
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.05,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "random")
    tokenizer.save_pretrained(folder / "random")
    answers = [
        {"prompt": row["prompt"], "completion": row[side]}
        for row in rows
        for side in ("chosen", "rejected")
    ]
    data = folder / "answers.jsonl"
    data.write_text("".join(json.dumps(answer) + "\n" for answer in answers), encoding="utf-8")
    return accord.train(
        model=str(folder / "random"),
        data=str(data),
        method="sft",
        lora=False,
        dtype="float32",
        epochs=2,
        batch_size=32,
        learning_rate=5e-3,
        output=str(folder / "base"),
    ).saved


def _tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=SPECIALS[1], eos_token=SPECIALS[2], pad_token=SPECIALS[0]
    )
    made.chat_template = TEMPLATE
    return made
