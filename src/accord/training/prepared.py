"""A run that is ready to train: all that the loop needs, and all findings on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from accord.config.plugins import code_digest
from accord.config.schema import Config, make_config
from accord.data.order import Order
from accord.data.templates import Template
from accord.distributed.world import World
from accord.engine.batch_source import BatchSource
from accord.engine.optimizer import Optimizer
from accord.engine.step import UpdateContext
from accord.forward.reference import SUMS
from accord.models.language import LanguageModel
from accord.rollouts.sample_prompts import SamplePrompt
from accord.runs import files
from accord.runs.identity import trajectory
from accord.types import Finding, Tree


@dataclass(frozen=True)
class PreparedRun:
    """The constant part of a run that trains; `Progress` holds what changes."""

    config: Config
    model: LanguageModel
    template: Template
    source: BatchSource
    steps: int
    peak: float  # learning rate
    learner: UpdateContext
    optimizer: Optimizer
    reference_kind: str
    weights: str  # fingerprint of the initial weights
    tokenizer: str  # fingerprint of the tokenizer and its chat template
    findings: tuple[Finding, ...] = ()
    tie_width: float = 0.0  # nats of a margin that rounding alone makes
    # prompts that are answered before, during and after training
    sample_prompts: tuple[SamplePrompt, ...] = ()

    @property
    def world(self) -> World:
        """Return the ranks that train this run."""
        return self.learner.world

    @property
    def order(self) -> Order:
        """Return the order of the rows, or of the prompts."""
        return self.source.order

    def batch_trees(self, update: int) -> list[Tree]:
        """Return the trees of update `update`."""
        return self.source.batch(update)

    def state(self) -> dict[str, Tensor]:
        """Return every tensor that the next update depends on."""
        return self.optimizer.state() | self._beside()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each tensor of `state`, by name; nothing is gathered for it."""
        own = self._beside()
        return self.optimizer.shapes() | {name: tuple(own[name].shape) for name in own}

    def _beside(self) -> dict[str, Tensor]:
        """Return the tensors that are not the optimizer's: a moving reference's, what the objective
        keeps.
        """
        reference = self.learner.reference
        moving = reference.state() if reference is not None else {}
        return self.learner.running_state() | moving

    def load_state(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Restore the state that the run had `updates` updates after its start."""
        self.optimizer.load_state(tensors, updates)
        self.learner.load_running(tensors)
        if self.learner.reference is not None:
            self.learner.reference.load_state(tensors)

    def identity(self) -> dict:
        """Return the values that a checkpoint must share with this run to continue: data, initial
        weights, tokens.
        """
        prompts = self.config.monitor.prompts
        codes = (code_digest(part.name) for part in self.learner.objective.parts)
        return {
            **self.source.identity(),
            "initial_weights": self.weights,
            "tokenizer": self.tokenizer,
            "reference": self.reference_kind,
            # a GPU's kernels only round differently
            "forward": "tree" if self.learner.forward.shares_prompts else "padded",
            "sums": SUMS,
            "objective": "+".join(filter(None, codes)) or None,
            "asked": files.digest(prompts) if prompts else None,
            "config": trajectory(self.config),
        }


def as_it_runs(ready: PreparedRun) -> Config:
    """Return the config with every value that preparation chose in its place: what is recorded is
    what runs.

    Preparing this config again gives the same run. The passes over the rows have become steps.
    """
    config, objective = ready.config, ready.learner.objective
    given = config.objective
    options = {k: v for k, v in objective.options.items() if v is not None or k in given}
    dtype = str(ready.model.dtype).removeprefix("torch.")
    chosen = {"steps": ready.steps, "epochs": None, "learning_rate": ready.peak}
    # checked again, since `model_copy` checks nothing
    return make_config(
        config.model_dump()
        | {
            "objective": {"name": given["name"], **options},
            "reference": ready.reference_kind,
            "model": config.model.model_dump() | {"dtype": dtype},
            "train": config.train.model_dump() | chosen,
        }
    )
