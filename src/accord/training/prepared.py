"""A run that is ready to train: all that the loop needs, and all that was found on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from accord.config.plugins import code_digest
from accord.config.schema import Config
from accord.data.order import Order
from accord.data.rows import Rows
from accord.data.templates import Template
from accord.distributed.world import World
from accord.engine.moving_reference import Moving
from accord.engine.optimizer import Optimizer
from accord.engine.step import UpdateContext
from accord.evaluate.held_out import HeldOut
from accord.models.language import LanguageModel
from accord.rollouts.prompts import PromptSet
from accord.rollouts.source import RolloutSource
from accord.runs import files
from accord.runs.identity import trajectory
from accord.training.setup.sample_prompts import SamplePrompt
from accord.types import Finding, Tree


@dataclass
class PreparedRun:
    """All that the loop needs, and all that was found on the way."""

    config: Config
    model: LanguageModel
    template: Template
    # prompts where the policy's own answers are trained on
    rows: Rows | PromptSet
    held_out_rows: Rows | PromptSet | None
    held_out: HeldOut | None
    order: Order
    steps: int
    peak: float  # learning rate
    learner: UpdateContext
    optimizer: Optimizer
    reference_kind: str
    weights: str  # fingerprint of the initial weights
    tokenizer: str  # fingerprint of the tokenizer and its chat template
    findings: list[Finding] = field(default_factory=list)
    tie_width: float = 0.0
    # prompts that are answered before, during and after training
    asked: list[SamplePrompt] = field(default_factory=list)
    source: RolloutSource | None = None  # of the policy's own answers, where the rows are prompts

    @property
    def world(self) -> World:
        """The ranks that train this run."""
        return self.learner.world

    @property
    def file_rows(self) -> Rows:
        """The training rows, in a run whose rows stand in a file."""
        assert isinstance(self.rows, Rows), "the rows of this run are prompts"
        return self.rows

    @property
    def file_held_out(self) -> Rows:
        """The held-out rows, in a run that has some in a file."""
        assert isinstance(self.held_out_rows, Rows), "this run has no held-out rows, or prompts"
        return self.held_out_rows

    @property
    def prompts(self) -> PromptSet:
        """The training prompts, in a run that learns from the policy's own answers."""
        assert isinstance(self.rows, PromptSet), "the rows of this run have answers already"
        return self.rows

    @property
    def held_out_prompts(self) -> PromptSet | None:
        """The held-out prompts of such a run, where it has any."""
        assert not isinstance(self.held_out_rows, Rows), "the held-out rows have answers already"
        return self.held_out_rows

    @property
    def rollout_source(self) -> RolloutSource:
        """Where the answers come from, in a run that learns from the policy's own."""
        assert self.source is not None, "the rows of this run have answers already"
        return self.source

    def batch_trees(self, index: int) -> list[Tree]:
        """The trees of update `index`."""
        if self.source is not None:
            return self.source.trees(index)
        return [self.file_rows.trees[row] for row in self.order.batch(index)]

    def planned_batches(self) -> list[list[Tree]]:
        """Batches that need as much memory as any of the run."""
        if self.source is not None:
            return [self.source.largest()]
        return [
            self.batch_trees(index)
            for index in range(min(self.steps, self.order.batches_per_epoch))
        ]

    @property
    def evaluates(self) -> bool:
        """Whether there is anything held out."""
        return self.held_out is not None or (
            self.source is not None and self.source.held_out is not None
        )

    def state(self) -> dict[str, Tensor]:
        """Every tensor that the next update depends on."""
        reference = self.learner.reference
        return self.optimizer.state() | (reference.state() if isinstance(reference, Moving) else {})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each tensor of `state`, by name; nothing is gathered for it."""
        reference = self.learner.reference
        moving: dict[str, Tensor] = reference.state() if isinstance(reference, Moving) else {}
        return self.optimizer.shapes() | {
            name: tuple(tensor.shape) for name, tensor in moving.items()
        }

    def load_state(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Stand where the run stood `updates` updates after its start."""
        self.optimizer.load_state(tensors, updates)
        if isinstance(self.learner.reference, Moving):
            self.learner.reference.load_state(tensors)

    def identity(self) -> dict:
        """What must be the same for a checkpoint to go on: data, initial weights, tokens."""
        held = self.held_out_rows.dataset.digest if self.held_out_rows is not None else None
        return {
            "train_data": self.rows.dataset.digest,
            "held_out_data": held,
            "initial_weights": self.weights,
            "tokenizer": self.tokenizer,
            "reference": self.reference_kind,
            # a GPU's kernels only round otherwise
            "forward": "tree" if self.learner.forward.shares_prompts else "padded",
            "trees": len(self.rows.trees),
            "order": self.order.digest,
            "rewards": self.source.judged_by if self.source is not None else None,
            "objective": code_digest(self.config.objective["name"]),
            "asked": (
                files.digest(self.config.monitor.prompts) if self.config.monitor.prompts else None
            ),
            "config": trajectory(self.config),
        }
