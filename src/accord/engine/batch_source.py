"""Source of a run's batches: the second of its three axes.

Set-ups make a source; the loop, the proofs and the checks use it. None of them asks which kind it
is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from accord.data.order import Order
from accord.data.read import Dataset
from accord.data.store.checks import Checks
from accord.engine.step import UpdateContext
from accord.evaluate.intervals import Estimate
from accord.evaluate.records import Records
from accord.objectives import BoundObjective
from accord.types import Finding, Pair, Tree, Turn


@dataclass(frozen=True)
class EvaluationContext:
    """The part of a run that an evaluation uses."""

    step: int
    learner: UpdateContext
    tie_width: float
    folder: Path
    doing: Callable[[str], None]  # reports the current activity
    poll: Callable[[], None]
    # a line for one of the run's records, by its name
    append: Callable[[str, dict], None]
    # checks the invariants on held-out rows; stops the run if one is broken
    check: Callable[[list[Tree], Records], None]
    report: Callable[[list[Finding]], None]


@dataclass(frozen=True)
class Evaluation:
    """Held-out metrics, and the pair accuracy with its interval if there is one."""

    metrics: dict
    accuracy: Estimate | None = None


class BatchSource(Protocol):
    """A source of batches: a file's rows, or a policy's own answers to a file's prompts."""

    @property
    def order(self) -> Order:
        """Return the order of the rows, or of the prompts."""

    @property
    def size(self) -> int:
        """Return the number of rows, or of prompts."""

    @property
    def draws(self) -> bool:
        """Tell whether the run trains on the policy's own answers."""

    @property
    def evaluates(self) -> bool:
        """Tell whether there is held-out data."""

    def batch(self, update: int) -> list[Tree]:
        """Return the trees of update `update`, counted from 0."""

    def largest(self, updates: int) -> list[list[Tree]]:
        """Return batches that need as much memory as any of the first `updates` updates."""

    def expected(self, update: int) -> list[Tree]:
        """Compute the trees of an update again, from the order of the rows."""

    def most_often(self, update: int) -> list[int] | None:
        """Return how often each tree of an update may come between two begins of a round. None: in
        one update alone.
        """

    def begins_round(self, update: int) -> bool:
        """Tell whether every row may come again from this update on."""

    def is_fresh(self, update: int) -> bool:
        """Tell whether the policy, as it stands before this update, drew the batch of this
        update.
        """

    def metrics(self, update: int) -> dict[str, float]:
        """Return metrics of an update's batch, besides those of its losses."""

    def files_of(self, rows: Sequence[int]) -> np.ndarray | None:
        """Return the number of the file that each row is of, from 0; None where there is one."""

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        """Compute held-out metrics of the policy as it stands."""

    def settle(self) -> None:
        """Finish what is under way, before the state of the run is saved."""

    def close(self) -> None:
        """Give up what is under way: the run ends."""

    def reference_trees(self, objective: BoundObjective) -> list[Tree]:
        """Return the held-out trees whose reference log-probs an evaluation needs."""

    def held_out_pairs(self) -> tuple[list[Tree], list[Pair]] | None:
        """Return the held-out pairs and their texts; None if there are none."""

    def trained_texts(self) -> Iterator[tuple[Sequence[Turn], Sequence[str]]]:
        """Yield the prompt and the answers of each row that is trained on; no answers, if the
        policy draws them.
        """

    @property
    def checks(self) -> Checks:
        """Return the findings on all rows that are trained on, as they are kept."""

    def dataset(self) -> Dataset | None:
        """Return the rows for the audit; None if they have no answers yet."""

    def held_out_dataset(self) -> Dataset | None:
        """Return the held-out rows for the audit; None if there are none or they have no answers
        yet.
        """

    def pairs_before(self, step: int, count: int) -> list[Tree]:
        """Return about `count` of the pairs in the newest updates; nothing if the rows are not
        pairs.
        """

    def identity(self) -> dict:
        """Return the values that must not change between a checkpoint and its resume."""

    def describe(self, rows: str) -> str:
        """Describe in words how much data there is; `rows` is the objective's word for a row."""

    def origin(self, tree: Tree) -> str:
        """Return the place that a tree comes from, as file:line."""

    def accounts(self) -> dict[str, dict]:
        """Return the account of each file: "train" and, if there is one, "held_out"."""

    def evaluated_rows(self) -> int:
        """Return the number of rows, or prompts, in an evaluation."""

    def shown(self, count: int) -> list[Tree]:
        """Return the first trees, for display."""

    def conversations(self, count: int) -> list[tuple[int, ...]]:
        """Return the beginnings of a few conversations, as token ids."""
