"""The moments at which a running run is checked, and the checks that need no weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from accord.engine.step import Batch
from accord.evaluate.records import Records
from accord.sampling.sampler import Sample
from accord.types import Finding, Tree
from accord.verify.checks import C, Check, run_table
from accord.verify.running import (
    AFTER_UPDATE,
    BEFORE_UPDATE,
    EVALUATED,
    HELD_OUT,
    SAMPLED,
    SAVED,
    AfterUpdate,
    BeforeUpdate,
    Evaluated,
    HeldOut,
    Sampled,
    Saved,
)

if TYPE_CHECKING:
    from accord.verify.invariants import InvariantChecks


class RecordChecks:
    """The checks that need no weights."""

    @property
    def offers(self) -> frozenset[str]:
        """Return the needs of checks that are met here."""
        return frozenset()

    def before_gradient(self) -> None:
        """Prepare for an update's first backward pass, or for its repetition after memory ran
        out.
        """

    def before_update(self, batch: Batch, records: Records, norm: float) -> list[Finding]:
        """Check the batch and its losses; called with the gradient complete and no weight moved."""
        return self._run(BEFORE_UPDATE, BeforeUpdate(self._whole, batch, records, norm))

    def after_update(
        self, step: int, metrics: dict, records: Records, tie_width: float
    ) -> list[Finding]:
        """Check metrics, weights, frozen weights and the probe rows after `step` updates."""
        about = AfterUpdate(self._whole, step, metrics, records, tie_width)
        return self._run(AFTER_UPDATE, about)

    def sampled(self, prompts: Sequence[Sequence[int]], samples: Sequence[Sample]) -> list[Finding]:
        """Check the answers to the fixed prompts."""
        return self._made(SAMPLED, Sampled(self._whole, prompts, samples))

    @contextmanager
    def evaluation(self, findings: list[Finding]) -> Iterator[None]:
        """Add to `findings` what the evaluation inside the block disturbed."""
        before = self.state()
        yield
        findings += self._run(EVALUATED, Evaluated(self._whole, before))

    def evaluated(self, held_out: Sequence[Tree], records: Records, step: int) -> list[Finding]:
        """Check the held-out rows of an evaluation."""
        return self._run(HELD_OUT, HeldOut(self._whole, held_out, records, step))

    def saved(self, path: str | Path, tensors: Mapping[str, Tensor]) -> list[Finding]:
        """Check a checkpoint that was just written from the run's tensors."""
        return self._made(SAVED, Saved(self._whole, Path(path), tensors))

    def state(self) -> dict[str, object]:
        """Return the state that an evaluation must not change, as far as it is known."""
        return {}

    @property
    def _whole(self) -> InvariantChecks:
        """Return these checks for the rows that need whole weights; they are made only if weights
        are whole.
        """
        return cast("InvariantChecks", self)

    def _run(self, table: Iterable[Check[C]], about: C) -> list[Finding]:
        """Make the checks of a moment that all ranks come to."""
        return self._made(table, about)

    def _made(self, table: Iterable[Check[C]], about: C) -> list[Finding]:
        with torch.no_grad():
            return run_table(table, about, self.offers)
