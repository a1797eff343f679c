"""Tiny models that are really trained: a check that asks "does this model know any language?" must
find that they do.

Each is a two- or four-layer model of a family, trained for seconds on English prose (the topics of
Python's own `pydoc_data`, so nothing is fetched) and on conversations of the bench's grammar, in
the model's own chat template. It is made once in a folder and found there again.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch

from benchmarks.silentbench.lifecycle.rows import PERSONA, conversation

VOCABULARY = 2048
POSITIONS = 256
WIDTH = 64
VERSION = 3  # part of a folder's name: raise it when anything below changes what is made
UPDATES = 700
FEW_UPDATES = 300  # enough to be far from ln V; the other families and the second base
FAMILIES = ("llama", "gpt2", "qwen2", "mistral")


def make_tokenizer(folder: Path):
    """The embedded model's tokenizer with its first tokens alone."""
    from accord.models.embedded import embedded_folder
    from benchmarks.silentbench.world import small_tokenizer

    if not folder.exists():
        return small_tokenizer(embedded_folder(), folder, VOCABULARY)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def family_config(family: str, tokenizer):
    """A small configuration of a family."""
    import transformers as tf

    ends = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    common = dict(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        initializer_range=0.05,
        **ends,
    )
    gpt2 = dict(vocab_size=len(tokenizer), n_embd=WIDTH, n_layer=4, n_head=4, n_positions=POSITIONS)
    return {
        "llama": lambda: tf.LlamaConfig(**common, tie_word_embeddings=True),
        "qwen2": lambda: tf.Qwen2Config(**common, tie_word_embeddings=True),
        "mistral": lambda: tf.MistralConfig(
            **common, tie_word_embeddings=False, sliding_window=None
        ),
        "gpt2": lambda: tf.GPT2Config(**gpt2, **ends),
    }[family]()


def trained_model(root: Path, family: str, seed: int = 0, updates: int | None = None) -> Path:
    """Find the trained model of a family, or train it. `seed` also draws its initial weights, so
    that two seeds give two bases of the same shapes.
    """
    if updates is None:
        updates = UPDATES if family in ("llama", "gpt2") and seed == 0 else FEW_UPDATES
    folder = root / f"{family}-v{VERSION}-{updates}-{seed}"
    if (folder / "trained.json").exists():
        return folder
    import transformers as tf

    tokenizer = make_tokenizer(root / f"tokenizer-v{VERSION}")
    torch.manual_seed(seed)
    model = tf.AutoModelForCausalLM.from_config(family_config(family, tokenizer))
    losses = _train(model, _tokens(tokenizer, seed), updates, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if not (folder / "chat_template.jinja").exists():
        (folder / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")
    last = sum(losses[-20:]) / len(losses[-20:])
    about = {"first_nats": losses[0], "last_nats": last, "updates": updates}
    (folder / "trained.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def _tokens(tokenizer, seed: int) -> dict[str, torch.Tensor]:
    """One stream of tokens each of prose and of conversations."""
    from pydoc_data import topics

    prose = "\n\n".join(topics.topics[name] for name in sorted(topics.topics))[:400_000]
    rng = random.Random(seed)
    chats = [
        tokenizer.apply_chat_template(
            conversation(rng), tokenize=False, add_generation_prompt=False
        )
        for _ in range(3_000)
    ]

    def encode(text: str) -> torch.Tensor:
        return torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])

    lone = [PERSONA + "\n" for _ in range(20)]
    return {"prose": encode(prose + "".join(lone)), "chat": encode("".join(chats))}


def _train(model, streams: dict[str, torch.Tensor], updates: int, seed: int) -> list[float]:
    """Half of each batch is prose, half conversations, cut at any token."""
    rng = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=updates)
    losses = []
    model.train()
    for _ in range(updates):
        rows = []
        for stream in streams.values():
            starts = torch.randint(len(stream) - 96, (8,), generator=rng)
            rows += [stream[start : start + 96] for start in starts]
        ids = torch.stack(rows)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(), schedule.step(), optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses
