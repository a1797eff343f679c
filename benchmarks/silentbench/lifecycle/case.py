"""One case of the lifecycle bench: a folder with a model, rows and the commands to be given, before
and after a fault.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.silentbench.lifecycle import rows as grammar
from benchmarks.silentbench.lifecycle.models import trained_model
from benchmarks.silentbench.lifecycle.said import Step, accord

LABELS, PROMPTS = ("kto",), ("grpo", "rloo")
STEPS = 6
USUAL = {
    "model.dtype": "float32",
    "train.micro_tokens": 1024,
    "monitor.samples": 2,
    "monitor.sample_tokens": 6,
    "checkpoint.every": 2,
    "evaluate.every": 0,
}
DRAWN = {
    "rollouts.rewards": "[length]",
    "rollouts.max_new_tokens": 6,
    "rollouts.num_generations": 4,
    "rollouts.num_generations_eval": 2,
}


@dataclass
class Case:
    """What a place reads and a fault changes. Files are written when a command needs them."""

    folder: Path
    models: Path  # where trained models are kept; never written to but to add one
    rng: random.Random  # of the fault's parameters
    method: str = "dpo"
    family: str = "llama"
    rows: list[dict] = field(default_factory=list)
    held: list[dict] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)  # --set of a training
    words: list[str] = field(default_factory=list)  # further words of a training
    last_words: list[str] = field(default_factory=list)  # further words of the last command
    extra_keys: str = ""  # text at the end of a recipe
    said: list[Step] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)
    target: Path | None = None  # what the last command reads: a run, an adapter
    second_held: list[dict] = field(default_factory=list)  # a second run's, if it has others
    own_rows: bool = False  # eval measures on the run's own held-out file
    reward_rows: list[dict] = field(default_factory=list)  # what a reward model is trained on
    reward_held: list[dict] = field(default_factory=list)
    _model: Path | None = None
    data_seed: int = 0

    def __post_init__(self) -> None:
        self.data_seed = self.rng.randrange(10_000)
        self.rows = self.rows or grammar.pairs(self.data_seed, 48)
        self.held = self.held or grammar.pairs(self.data_seed, 16, start=1_000)
        self.reward_rows = grammar.pairs(self.data_seed, 320)
        self.reward_held = grammar.pairs(self.data_seed, 64, start=1_000)

    # ------------------------------------------------------------ files

    @property
    def model(self) -> Path:
        """The case's own copy of its base model."""
        return self._model or self.copy_model()

    def copy_model(self) -> Path:
        """Copy the base model where that has not been done."""
        if self._model is None:
            self._model = self.folder / "model"
            shutil.copytree(trained_model(self.models, self.family), self._model)
        return self._model

    def write(self, name: str, rows: list[dict]) -> Path:
        file = self.folder / name
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return file

    def shaped(self, rows: list[dict]) -> list[dict]:
        """Rows as the method reads them."""
        if self.method in PROMPTS:
            return grammar.prompts(rows)
        return grammar.labelled(rows) if self.method in LABELS else rows

    def config(self, name: str, change: Callable[[dict], None], folder: Path | None = None) -> None:
        """Edit a JSON file of the model, or of another folder."""
        file = (folder or self.model) / name
        value = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        change(value)
        file.write_text(json.dumps(value, indent=2), encoding="utf-8")

    def tensors(
        self, change: Callable[[dict], None], folder: Path | None = None, name: str = ""
    ) -> None:
        """Edit the tensors of the model, or of another folder's file."""
        from safetensors.torch import load_file, save_file

        file = (folder or self.model) / (name or "model.safetensors")
        tensors = load_file(file)
        change(tensors)
        held = {key: tensor.contiguous().clone() for key, tensor in tensors.items()}
        save_file(held, file, metadata={"format": "pt"})

    def patch(self, owner: object, name: str, value: object) -> None:
        self.stack.enter_context(mock.patch.object(owner, name, value))

    # ------------------------------------------------------------ commands

    def train_words(self, output: Path, method: str | None = None) -> list[str]:
        """A training as a user types it."""
        method = method or self.method
        before, self.method = self.method, method
        words = ["train"]
        if self.extra_keys:
            recipe = self.folder / "recipe.yaml"
            recipe.write_text(self.extra_keys, encoding="utf-8")
            words.append(str(recipe))
        words += ["--model", str(self.model), "--method", method]
        words += ["--data", str(self.write(f"train-{method}.jsonl", self.shaped(self.rows)))]
        words += ["--held-out", str(self.write(f"held-{method}.jsonl", self.shaped(self.held)))]
        words += [] if "--steps" in self.words else ["--steps", str(STEPS)]
        words += [] if "--batch-size" in self.words else ["--batch-size", "8"]
        words += [] if "--learning-rate" in self.words else ["--learning-rate", "1e-3"]
        drawn = DRAWN if method in PROMPTS else {}
        for name, value in (USUAL | drawn | self.settings).items():
            words += ["--set", f"{name}={_yaml(value)}"]
        self.method = before
        return [*words, *self.words, "--output", str(output)]

    def do(self, *words: object) -> Step:
        """Give one command; what it says is kept."""
        step = accord([str(word) for word in words], self.folder)
        self.said.append(step)
        return step


def _yaml(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
