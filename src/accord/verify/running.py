"""The tables of what must hold while a run trains, whatever its method. `invariants.py` keeps what
they compare with, and makes them at their moment.

Of sharded weights each rank looks at its own part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from accord.engine.step import Batch
from accord.evaluate.records import Records
from accord.sampling.local import Sample
from accord.types import Tree
from accord.verify.checks import (
    ALL,
    AT_START,
    BASELINE,
    FIXED,
    KEEPS,
    MOVING,
    ROLLOUTS,
    ROWS,
    WHOLE,
    Check,
    Found,
)
from accord.verify.row_checks import (
    bookkeeping,
    losses_as_closed,
    metrics_as_recorded,
    slopes_as_closed,
)

if TYPE_CHECKING:
    from accord.verify.invariants import InvariantChecks

# Events: the arguments of the checks at each moment.


@dataclass(frozen=True)
class BeforeUpdate:
    """The batch and its losses, with the gradient complete."""

    watch: InvariantChecks
    batch: Batch
    records: Records
    norm: float


@dataclass(frozen=True)
class AfterUpdate:
    """The state after `step` updates."""

    watch: InvariantChecks
    step: int
    metrics: dict
    records: Records
    tie_width: float


@dataclass(frozen=True)
class Sampled:
    """The answers to the fixed prompts."""

    watch: InvariantChecks
    prompts: Sequence[Sequence[int]]
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Evaluated:
    """The end of an evaluation; `before` is the run's state before it."""

    watch: InvariantChecks
    before: Mapping[str, object]


@dataclass(frozen=True)
class HeldOut:
    """The held-out rows of an evaluation at some step."""

    watch: InvariantChecks
    rows: Sequence[Tree]
    records: Records
    step: int


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was written."""

    watch: InvariantChecks
    path: Path
    tensors: Mapping[str, Tensor]  # of the run, as they were written


def _before(
    name: str,
    shows: str,
    function: Callable[[BeforeUpdate], Found],
    *needs: str,
    after: tuple[str, ...] = (),
) -> Check[BeforeUpdate]:
    return Check(name, "before update", shows, function, frozenset({WHOLE, *needs}), after)


def _after(
    name: str, shows: str, function: Callable[[AfterUpdate], Found], *needs: str
) -> Check[AfterUpdate]:
    return Check(name, "after update", shows, function, frozenset(needs))


BEFORE_UPDATE: tuple[Check[BeforeUpdate], ...] = (
    _before(
        "batch",
        "the rows are the order's, each once an epoch, with their own text and every answer token",
        lambda e: bookkeeping(
            e.batch,
            e.records,
            e.watch.ready.source.expected(e.batch.index),
            e.watch.seen,
            e.watch.ready.source.most_often(e.batch.index),
        ),
    ),
    _before(
        "objective",
        "every row's loss is its closed form at the row's own log-probs",
        lambda e: losses_as_closed(
            e.watch.ready.learner.objective, e.batch.trees, e.records, e.watch.kept
        ),
        after=ALL,
    ),
    _before(
        "kept",
        "what the objective keeps from update to update is of every row so far, once",
        lambda e: e.watch.keeps(e.batch.index),
        KEEPS,
    ),
    _before(
        "baseline",
        "the baseline rests on answers to other prompts, under the weights of this update",
        lambda e: e.watch.baseline(e.batch, e.records),
        BASELINE,
        after=ALL,
    ),
    _before(
        "gradient",
        "each answer's log-prob gets the closed form's slope over the batch's denominator",
        lambda e: slopes_as_closed(
            e.watch.ready.learner.objective, e.batch.trees, e.records, e.watch.kept
        ),
        after=ALL,
    ),
    _before(
        "gradient",
        "the masters get what the backward passes gave, once",
        lambda e: e.watch.arrived(e.batch.index),
    ),
    _before(
        "on_policy",
        "nothing has moved since the answers were drawn: every ratio is 1",
        lambda e: e.watch.ratios_are_one(e.batch, e.records),
        ROLLOUTS,
    ),
    _before(
        "first",
        "before the first update log-ratios are 0 on the whole first batch",
        lambda e: e.watch.first_batch(e.batch, e.records),
        ROWS,
        AT_START,
        FIXED,
        after=ALL,
    ),
    _before(
        "update",
        "masters can hold small updates, and the gradient is clipped by its own norm",
        lambda e: e.watch.foresee(e.batch.index, e.norm),
    ),
)

AFTER_UPDATE: tuple[Check[AfterUpdate], ...] = (
    _after(
        "metrics",
        "what is reported of a batch is what its rows give",
        lambda e: metrics_as_recorded(e.metrics, e.records, e.tie_width),
    ),
    _after(
        "update",
        "sampled weights go where the optimizer, written out, takes them; the network holds the"
        " masters rounded",
        lambda e: e.watch.followed(e.step),
        WHOLE,
    ),
    _after(
        "moving",
        "a moving reference stands where its recipe says",
        lambda e: e.watch.moving_reference(e.step),
        WHOLE,
        MOVING,
    ),
    _after(
        "moved",
        "after ten updates, nearly every weight that had a gradient is somewhere else",
        lambda e: e.watch.moved(e.step, e.metrics),
        WHOLE,
    ),
    _after(
        "frozen",
        "weights that do not train are bit for bit what they were",
        lambda e: e.watch.frozen(e.step),
        WHOLE,
    ),
    _after(
        "reference",
        "the reference's log-probs of fixed rows stay",
        lambda e: e.watch.reference_stays(e.step),
        WHOLE,
        FIXED,
    ),
    _after(
        "path",
        "the forward path still computes what the bare network computes",
        lambda e: e.watch.path(e.step),
        WHOLE,
    ),
)

SAMPLED: tuple[Check[Sampled], ...] = (
    Check(
        "samples",
        "samples",
        "samples have under the policy the log-prob that they were drawn with",
        lambda e: e.watch.drawn(e.prompts, e.samples),
        frozenset({WHOLE}),
    ),
)

EVALUATED: tuple[Check[Evaluated], ...] = (
    Check(
        "evaluation",
        "evaluation",
        "it leaves weights, moments, gradients, modes and random state as they were",
        lambda e: e.watch.undisturbed(e.before),
        frozenset({WHOLE}),
    ),
)

HELD_OUT: tuple[Check[HeldOut], ...] = (
    Check(
        "first",
        "evaluation",
        "before the first update log-ratios are 0 on the held-out rows too",
        lambda e: e.watch.first_held_out(e.rows, e.records, e.step),
        frozenset({WHOLE, AT_START, FIXED}),
    ),
)

SAVED: tuple[Check[Saved], ...] = (
    Check(
        "checkpoint",
        "checkpoint",
        "the first one of a process, read back, is what is in memory",
        lambda e: e.watch.written(e.path, e.tensors),
        frozenset({WHOLE}),
    ),
)

RUNNING: tuple[Check[Any], ...] = (
    *BEFORE_UPDATE,
    *AFTER_UPDATE,
    *SAMPLED,
    *EVALUATED,
    *HELD_OUT,
    *SAVED,
)
