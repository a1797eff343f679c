"""One measure for all models: held-out log-probs and fresh answers, of a trained model and of the
model that it started from.

Cells never see the held-out rows. Each saved model is loaded once, after training, and measured in
the same way: log-probs of both answers of every held-out pair in the same packs, and answers to the
same prompts with the same randomness. The method's own reward and the agreement with the
preferences follow from these (see `verdict`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from accord.assess.opened import open_start_of, still_inside
from accord.campaign.compare.contenders import Cell
from accord.config.schema import Config
from accord.data.templates import template_of
from accord.engine.release import release
from accord.environment.digests import file_digest, text_digest
from accord.evaluate.probe import KLReference, divergences
from accord.forward.choose import Forward, choose
from accord.forward.layout import micro_batches
from accord.models.language import LanguageModel
from accord.objectives.configured import resolve_objective
from accord.rewards.load import load_reward
from accord.rewards.reward import Reward, require_all
from accord.rollouts.sample_prompts import SamplePrompt, choose_sample_prompts
from accord.runs import checkpoint
from accord.runs.display import Display, SilentDisplay
from accord.runs.export import model_at
from accord.runs.files import read_json, write_json
from accord.runs.folder import RunFolder
from accord.sampling.local import LocalSampler
from accord.training.setup.rows import held_out_of, load_rows
from accord.types import CheckpointError, Logps, Tree, UsageError

START = "start"  # the name under which the model before training is measured


@dataclass(frozen=True)
class Questions:
    """The questions that every model answers."""

    pairs: Path | None  # file of held-out pairs; None measures answers alone
    prompts: str | None = None  # text file, one per line; None takes the pairs' own
    samples: int = 24  # prompts that are answered
    answers: int = 1  # to each prompt
    tokens: int = 48  # longest answer
    scorer: str | None = None
    # keyword arguments of the scorer, by its name
    scorer_options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    seed: int = 0

    def load_scorer(self) -> Reward | None:
        """Load the scorer, if one is named.

        Raises:
          UsageError: there is no reward of that name, or its options do not fit.
        """
        if self.scorer is None:
            return None
        return load_reward(self.scorer, self.scorer_options, flag="--scorer-set")

    def identity(self) -> dict:
        """Return the settings that two measurements must share to be compared. Files count by their
        content.
        """
        files = {
            name: _digest(path)
            for name, path in (("pairs", self.pairs), ("prompts", self.prompts))
            if path is not None
        }
        return {
            **files,
            "samples": self.samples,
            "answers": self.answers,
            "tokens": self.tokens,
            "scorer": self.scorer,
            **({"scorer_options": self.scorer_options} if self.scorer_options else {}),
            "seed": self.seed,
        }


@dataclass
class Measured:
    """The measurements of one model. Lists are by held-out pair, [B], or by answer: prompt after
    prompt, `answers` to each.
    """

    chosen: list[float] = field(default_factory=list)  # nats, the sum over tokens
    rejected: list[float] = field(default_factory=list)
    # the same over as many first tokens as the shorter answer has
    chosen_shared: list[float] = field(default_factory=list)
    rejected_shared: list[float] = field(default_factory=list)
    chosen_tokens: list[int] = field(default_factory=list)
    rejected_tokens: list[int] = field(default_factory=list)
    clusters: list[int] = field(default_factory=list)  # prompt of each pair
    prompt: list[int] = field(default_factory=list)  # prompt of each answer
    text: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    ended: list[bool] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)  # nats per answer, to the start
    score: list[float] = field(default_factory=list)  # empty without a scorer
    seconds: float = 0.0

    def logps(self) -> tuple[Logps, Logps]:
        """Return the log-probs of chosen and rejected answers, [B] each."""

        def side(sums: list[float], counts: list[int], shared: list[float]) -> Logps:
            first = torch.tensor(shared, dtype=torch.float64) if shared else None
            return Logps(torch.tensor(sums, dtype=torch.float64), torch.tensor(counts), first)

        return (
            side(self.chosen, self.chosen_tokens, self.chosen_shared),
            side(self.rejected, self.rejected_tokens, self.rejected_shared),
        )


class ModelMeasurer:
    """Measures models and keeps the measurements in DIR/measured, so that no model is measured
    twice.
    """

    def __init__(self, folder: Path, base: Config, questions: Questions, display: Display):
        self.folder, self.base, self.questions, self.display = (
            folder / "measured",
            base,
            questions,
            display,
        )
        questions.load_scorer()  # report a missing scorer now
        self.asked_of = text_digest(json.dumps(questions.identity(), sort_keys=True))[:16]

    @cached_property
    def scorer(self) -> Reward | None:
        """The scorer. It is loaded at the first use, since a model would take memory that training
        needs.
        """
        return self.questions.load_scorer()

    def of(self, cell: Cell, step: int | None = None) -> Measured:
        """Measure a cell's model after its last update, or at a checkpoint."""
        name = cell.name if step is None else f"{cell.name}-step{step}"
        return self._kept(name, lambda: self._of_run(cell, step, trained=True))

    def start(self, cell: Cell) -> Measured:
        """Measure the model that training began with, taken from any finished cell."""
        return self._kept(START, lambda: self._of_run(cell, None, trained=False))

    # ------------------------------------------------------------ one model

    def _kept(self, name: str, measure) -> Measured:
        file = self.folder / f"{name}.json"
        if file.is_file():
            record = read_json(file, {})
            # measured before shared sums were: ld_dpo needs them of the start too
            whole = "chosen_shared" in record or not record.get("chosen")
            if record.pop("asked_of") == self.asked_of and whole:
                return Measured(**record)
        self.display.line(f"measuring {name}")
        began = time.monotonic()
        measured = measure()
        measured.seconds = round(time.monotonic() - began, 3)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(file, {"asked_of": self.asked_of, **vars(measured)})
        release()
        return measured

    def _of_run(self, cell: Cell, step: int | None, *, trained: bool) -> Measured:
        folder = RunFolder.open(str(cell.path))
        model, _ = model_at(
            folder, checkpoint.load(folder.checkpoints) if step is None else at_step(folder, step)
        )
        inside_it = still_inside(model, cell.config)
        before = model if inside_it else open_start_of(cell.config).model
        inside = model.as_reference if inside_it else nullcontext
        if trained:
            return self._ask(model, before, inside)
        with inside():
            return self._ask(before, None, nullcontext)

    def _ask(self, model: LanguageModel, before: LanguageModel | None, inside) -> Measured:
        measured = Measured()
        trees, asked = self._questions(model, measured)
        if trees:
            self._read(model, trees, measured)
        self._answer(model, asked, before, inside, measured)
        return measured

    def _questions(
        self, model: LanguageModel, measured: Measured
    ) -> tuple[list[Tree], list[SamplePrompt]]:
        """Encode held-out trees and prompts with this model's tokenizer and template."""
        stops = model.stop_ids
        config = _asking(self.base, self.questions)
        template = template_of(config, model.tokenizer, stops)
        rows, held = None, None
        if self.questions.pairs is not None:
            rows = load_rows(config, config.data.train, "pairs", template, SilentDisplay())
            held = held_out_of(config, rows, resolve_objective(config))
            measured.clusters = list(held.prompts)
        limit = model.positions
        asked = choose_sample_prompts(config, template, rows, limit)
        if not asked and self.questions.samples:
            raise UsageError(
                "There is no prompt that fits the model with its answer. Give others: --prompts"
                " FILE."
            )
        return (list(held.trees) if held is not None else []), asked

    def _read(self, model: LanguageModel, trees: list[Tree], measured: Measured) -> None:
        """Compute log-probs of both answers of every pair, in packs that are always the same."""
        forward = choose(
            model, sorted(trees[:64], key=lambda tree: tree.tokens)[:2], self.base.model.forward
        )
        forward = replace(forward, columns=frozenset({"shared"}))
        logps = _logps(forward, trees, 2 * self.base.train.micro_tokens)
        sums, counts = logps.sum.double().tolist(), logps.count.tolist()
        assert logps.shared is not None
        shared = logps.shared.tolist()
        measured.chosen_shared, measured.rejected_shared = shared[::2], shared[1::2]
        measured.chosen, measured.rejected = sums[::2], sums[1::2]
        measured.chosen_tokens, measured.rejected_tokens = counts[::2], counts[1::2]

    def _answer(
        self,
        model: LanguageModel,
        asked: list[SamplePrompt],
        before: LanguageModel | None,
        inside,
        measured: Measured,
    ) -> None:
        """Draw answers to the prompts, with their KL and their scores."""
        each = self.questions.answers
        prompts = [one.ids for one in asked for _ in range(each)]
        if not prompts:
            return
        samples = LocalSampler.of(model).sample(
            prompts, max_new_tokens=self.questions.tokens, seed=self.questions.seed
        )
        measured.prompt = [number for number in range(len(asked)) for _ in range(each)]
        measured.text = [one.text for one in samples]
        measured.tokens = [len(one.tokens) for one in samples]
        measured.ended = [one.ended for one in samples]
        if before is None:
            measured.kl = [0.0] * len(samples)
        else:
            measured.kl = divergences(
                model, prompts, samples, KLReference(Forward(before, "padded", "", 0.0), inside)
            )
        if self.scorer is not None:
            repeated = [one for one in asked for _ in range(each)]
            turns, rows = [one.turns for one in repeated], [one.row for one in repeated]
            found = self.scorer(turns, measured.text, rows)
            measured.score = require_all(self.scorer, found, measured.text)


@torch.no_grad()
def _logps(forward: Forward, trees: Sequence[Tree], budget: int) -> Logps:
    """Return log-probs, [2B], with the two answers of each pair side by side."""
    return Logps.join(
        [
            forward.token_logps([trees[i] for i in group]).reduce()
            for group in micro_batches(trees, budget)
        ]
    )


def at_step(folder: RunFolder, step: int) -> checkpoint.Checkpoint:
    """Find the checkpoint of a step.

    Raises:
      CheckpointError: the run kept no sound checkpoint of that step.
    """
    problems: list[str] = []
    found = next(
        (
            c
            for c in checkpoint.verified_checkpoints(folder.checkpoints, problems)
            if c.step == step
        ),
        None,
    )
    if found is None:
        raise CheckpointError(
            f"{folder.path}: no sound checkpoint of step {step}. " + "; ".join(problems)
        )
    return found


def _asking(base: Config, questions: Questions) -> Config:
    """Return the recipe with the questions in place of its training rows: all of these pairs, these
    prompts.
    """
    raw = base.model_dump(mode="json")
    raw["data"] |= {
        "train": str(questions.pairs or base.data.train),
        "held_out": None,
        "format": "auto",
        "columns": {},
        "ignore_columns": (),
    }
    raw["evaluate"] = {}
    raw["monitor"] |= {
        "samples": questions.samples,
        "prompts": questions.prompts,
        "sample_tokens": questions.tokens,
    }
    return Config.model_validate(raw)


def _digest(path: str | Path) -> str:
    try:
        return file_digest(Path(path).expanduser())
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror}. Expected a text file with one prompt a"
            " line."
        ) from error
