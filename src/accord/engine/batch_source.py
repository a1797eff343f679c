"""Where a run's batches come from: the second of its three axes.

Set-ups make a source, and the loop, the proofs and the checks ask it. None of them asks which kind
it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from accord.data.order import Order
from accord.data.read import Dataset
from accord.engine.step import UpdateContext
from accord.evaluate.intervals import Estimate
from accord.evaluate.records import Records
from accord.objectives import BoundObjective
from accord.types import Finding, Pair, Tree


@dataclass(frozen=True)
class EvaluationContext:
    """What an evaluation needs of the run that it belongs to."""

    step: int
    learner: UpdateContext
    tie_width: float
    folder: Path
    doing: Callable[[str], None]  # what is being done, for whoever watches
    poll: Callable[[], None]
    # a line for one of the run's records, by its name
    append: Callable[[str, dict], None]
    # what the invariants say of held-out rows, and what stops the run where one is broken
    check: Callable[[list[Tree], Records], None]
    report: Callable[[list[Finding]], None]


@dataclass(frozen=True)
class Evaluation:
    """Held-out metrics, and the pair accuracy with its interval where there is one."""

    metrics: dict
    accuracy: Estimate | None = None


class BatchSource(Protocol):
    """A file's rows, or a policy's own answers to a file's prompts."""

    @property
    def order(self) -> Order:
        """Of the rows, or of the prompts."""

    @property
    def size(self) -> int:
        """Rows, or prompts."""

    @property
    def draws(self) -> bool:
        """Whether the policy's own answers are trained on."""

    @property
    def evaluates(self) -> bool:
        """Whether anything is held out."""

    def batch(self, update: int) -> list[Tree]:
        """The trees of update `update`, from 0."""

    def largest(self, updates: int) -> list[list[Tree]]:
        """Batches that need as much memory as any of so many updates."""

    def expected(self, update: int) -> list[Tree]:
        """The trees of an update once more, as the order of the rows has them."""

    def begins_round(self, update: int) -> bool:
        """Whether every row may come again from this update on."""

    def is_fresh(self, update: int) -> bool:
        """Whether the policy, as it stands before this update, is the one that drew its batch."""

    def metrics(self, update: int) -> dict[str, float]:
        """What is said of an update's batch, beside what its losses say."""

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        """Held-out metrics of the policy as it stands."""

    def reference_trees(self, objective: BoundObjective) -> list[Tree]:
        """Held-out trees whose reference log-probs an evaluation asks for."""

    def held_out_pairs(self) -> tuple[list[Tree], list[Pair]] | None:
        """The held-out pairs and their texts; None where there are none."""

    def dataset(self) -> Dataset | None:
        """The rows, for the audit; None where they have no answers yet."""

    def pairs_before(self, step: int, count: int) -> list[Tree]:
        """About so many of the pairs that the newest updates were made of; none of other rows."""

    def identity(self) -> dict:
        """What must be the same for a checkpoint to go on."""

    def describe(self, rows: str) -> str:
        """How many of what there is, in words; `rows` is the objective's word for a row."""

    def origin(self, tree: Tree) -> str:
        """file:line that a tree comes from."""

    def accounts(self) -> dict[str, dict]:
        """The account of each file, "train" and where there is one "held_out"."""

    def evaluated_rows(self) -> int:
        """Rows, or prompts, of an evaluation."""

    def shown(self, count: int) -> list[Tree]:
        """The first trees, to be looked at."""

    def conversations(self, count: int) -> list[tuple[int, ...]]:
        """The beginnings of a few conversations, as token ids."""
