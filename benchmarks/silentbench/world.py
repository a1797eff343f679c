"""The small world that a fault is injected into: a two-layer model with a real tokenizer, rows, and
what is asked for.
"""

from __future__ import annotations

import inspect
import json
import random
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch

NOUNS = (
    "river lamp garden engine letter market bridge window forest ticket mirror planet kettle"
    " harbour violin ladder".split()
)
VERBS = "opens follows carries answers repairs watches paints measures crosses finds".split()
PLACES = (
    "the north, the old town, a small island, the station, the valley, an empty hall, the coast,"
    " the library".split(", ")
)


def sentence(rng: random.Random) -> str:
    """A few words whose length, and whose end, say nothing about which side it will stand on."""
    words = (
        f"{rng.choice(NOUNS)} {rng.choice(VERBS)} the {rng.choice(NOUNS)} near {rng.choice(PLACES)}"
    )
    return (
        f"The {words}"
        + "".join(f" and the {rng.choice(NOUNS)}" for _ in range(rng.randrange(4)))
        + rng.choice([".", "!", ""])
    )


def pairs(n: int, start: int = 0) -> list[dict]:
    """Conversational pairs with distinct prompts and answers that differ by chance alone."""
    rng = random.Random(1_000 + start)
    rows = []
    for i in range(start, start + n):
        question = (
            f"Question {i}: where is the {rng.choice(NOUNS)} that {rng.choice(VERBS)} the"
            f" {rng.choice(NOUNS)}?"
        )
        rows.append(
            {
                "prompt": [message("user", question)],
                "chosen": [message("assistant", f"{sentence(rng)} {i}")],
                "rejected": [message("assistant", f"{sentence(rng)} {i + 1}")],
            }
        )
    return rows


def message(role: str, content: str) -> dict:
    return {"role": role, "content": content}


def text(row: dict, column: str) -> str:
    """What a column of a conversational row says last."""
    return row[column][-1]["content"]


def say(row: dict, column: str, content: str) -> None:
    row[column] = [*row[column][:-1], {**row[column][-1], "content": content}]


@dataclass
class World:
    """One run before it starts. A fault changes rows, the model's folder, the options,
    or the code.
    """

    folder: Path
    base: Path  # the clean model; never written to
    rows: list[dict] = field(default_factory=lambda: pairs(48))
    held: list[dict] = field(default_factory=lambda: pairs(12, start=900))
    options: dict[str, Any] = field(default_factory=dict)  # as for accord.train
    # further fields by their path: accord's set=
    settings: dict[str, Any] = field(default_factory=dict)
    trl: dict[str, Any] = field(default_factory=dict)  # as for trl.DPOConfig
    peft: bool = True  # for TRL: LoRA, as accord's default
    raw: bytes | None = None  # the training file's bytes, where rows cannot say it
    stack: ExitStack = field(default_factory=ExitStack)  # undoes what a fault patches
    _model: Path | None = None

    @property
    def model(self) -> Path:
        return self._model or self.base

    def own_model(self) -> Path:
        """A copy of the model's folder that the fault may spoil."""
        if self._model is None:
            self._model = self.folder / "model"
            shutil.copytree(self.base, self._model)
        return self._model

    def train_file(self) -> str:
        return self._write("train.jsonl", self.rows, self.raw)

    def held_file(self) -> str:
        return self._write("held.jsonl", self.held, None)

    def _write(self, name: str, rows: list[dict], raw: bytes | None) -> str:
        file = self.folder / name
        file.write_bytes(
            raw if raw is not None else "".join(json.dumps(row) + "\n" for row in rows).encode()
        )
        return str(file)

    # ------------------------------------------------------------ ways to spoil things

    def template(self, jinja: str) -> None:
        (self.own_model() / "chat_template.jinja").write_text(jinja)

    def edit_json(self, name: str, change: Callable[[dict], None]) -> None:
        file = self.own_model() / name
        value = json.loads(file.read_text()) if file.exists() else {}
        change(value)
        file.write_text(json.dumps(value))

    def edit_weights(self, change: Callable[[dict], None]) -> None:
        from safetensors.torch import load_file, save_file

        file = self.own_model() / "model.safetensors"
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file, metadata={"format": "pt"})

    def patch(self, owner: object, name: str, value: object) -> None:
        """Replace an attribute until this case is over.

        Raises:
          Stale: there is no such attribute, or it is called otherwise than its replacement can be.
        """
        require_same_call(owner, name, value)
        self.stack.enter_context(mock.patch.object(owner, name, value))


class Stale(Exception):
    """A fault that no longer fits the code it is to spoil: nothing would be injected."""


def require_same_call(owner: object, name: str, value: object) -> None:
    """Whoever calls the attribute must be able to call what replaces it, with all the arguments
    that there are.
    """
    right = getattr(owner, name, None)
    if right is None:
        raise Stale(f"{owner} has no {name}")
    if not callable(right):
        return
    parameters = inspect.signature(right).parameters.values()
    given = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    try:
        inspect.signature(value).bind(*given, **named)
    except TypeError as error:
        raise Stale(
            f"{name} is called with {', '.join(p.name for p in parameters)}: {error}"
        ) from error


def small_tokenizer(source: Path, folder: Path, size: int = 4096):
    """The tokenizer of `source` with its first `size` tokens alone: a real one, without the cost of
    49,152 logits.

    Tokens of a byte-pair encoding stand in the order of their merges, so what is left is the same
    tokenizer stopped early.
    """
    from transformers import AutoTokenizer

    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    file = folder / "tokenizer.json"
    state = json.loads(file.read_text())
    vocabulary = {
        token: number for token, number in state["model"]["vocab"].items() if number < size
    }
    merges = [
        merge.split(" ") if isinstance(merge, str) else merge for merge in state["model"]["merges"]
    ]
    state["model"] |= {
        "vocab": vocabulary,
        "merges": [merge for merge in merges if "".join(merge) in vocabulary],
    }
    file.write_text(json.dumps(state))
    return AutoTokenizer.from_pretrained(folder)


def make_model(folder: Path, tokenizer, family: str = "llama", seed: int = 0) -> Path:
    """A random two-layer model of a family, with the real tokenizer and its chat template."""
    import transformers as tf

    common = dict(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    configs = {
        "llama": lambda: tf.LlamaConfig(**common),
        "qwen2": lambda: tf.Qwen2Config(**common),
        "qwen3": lambda: tf.Qwen3Config(**common, head_dim=8),
        "mistral": lambda: tf.MistralConfig(
            **{**common, "tie_word_embeddings": False}, sliding_window=None
        ),
        "gemma": lambda: tf.GemmaConfig(**common, head_dim=8),
        "phi3": lambda: tf.Phi3Config(**common),
        "olmo2": lambda: tf.Olmo2Config(**common),
        "granite": lambda: tf.GraniteConfig(**common, logits_scaling=3.0),
        "gpt2": lambda: tf.GPT2Config(
            vocab_size=len(tokenizer),
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=512,
            initializer_range=0.2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        ),
        "gpt_neox": lambda: tf.GPTNeoXConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=512,
            initializer_range=0.2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        ),
    }
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tf.AutoModelForCausalLM.from_config(configs[family]()).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if not (folder / "chat_template.jinja").exists():
        (folder / "chat_template.jinja").write_text(tokenizer.chat_template)
    return folder
