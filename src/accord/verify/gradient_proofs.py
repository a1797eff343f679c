"""Proofs of step 0 on the gradient: it is the same for any split, and equals the gradient by
definition.

The three questions and their bounds are in `gradients.py`. Each failure names its cause: the step's
bookkeeping, rows that mix, or a path that is not the model's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from accord.engine.gradients import (
    BOOKKEEPING,
    FACTOR,
    Gradient,
    Slopes,
    allowed,
    by_closed_form,
    by_hand,
    by_network,
    by_path,
    of_step,
    relative,
    slopes_of,
)
from accord.engine.optimizer import Optimizer
from accord.engine.step import Batch, UpdateContext
from accord.types import Finding

ONE_PASS = 10**9  # tokens: more than the few rows here ever have
MIXES = "a loss or a layer mixes rows of one micro-batch"
UNSURE = 0.05  # the most that a repetition on a device may excuse


def gradient_findings(learner: UpdateContext, batch: Batch, optimizer: Optimizer) -> list[Finding]:
    """Make `step0.micro_batches` and `step0.gradient`, on a few rows. No gradients are left when it
    returns.

    Of sharded weights each rank compares the gradient of its part.
    """
    masters = optimizer.masters
    step, records = of_step(learner, batch, masters, ONE_PASS)
    if records.row != [tree.row for tree in batch.trees]:
        says = (
            f"the step computes {len(records)} of the batch's {len(batch.trees)} rows, or in"
            " another order"
        )
        return [
            _refused(
                "gradient", says, "rows are lost between the batch and the gradient; report this"
            )
        ]
    book = Bookkeeping.of(learner, batch, optimizer, step)
    slopes = slopes_of(learner, batch)
    if wrong := _wrong_tokens(learner, slopes):
        return [_refused("gradient", wrong, "the mask scores other tokens than the answer's")]
    by_rows = by_path(learner, slopes, masters, whole=False)
    at_once = by_path(learner, slopes, masters, whole=True)
    bare = by_network(learner, slopes, masters, plain=True)
    rounding = relative(by_network(learner, slopes, masters, plain=False), bare)
    bound = allowed(learner.forward.model.dtype, rounding)
    return [
        _micro_batches(book, relative(by_rows, at_once), bound, rounding, len(batch.trees)),
        _gradient(learner, book, step, at_once, bare, bound, rounding),
    ]


@dataclass(frozen=True)
class Bookkeeping:
    """The step's gradient compared with the rows' slopes, summed by hand over the same passes."""

    at_once: GradientGap  # all rows in one micro-batch
    by_rows: GradientGap  # each row in a micro-batch of its own
    closed: GradientGap | None  # at once, with the closed form's slopes
    bound: float

    @classmethod
    def of(
        cls, learner: UpdateContext, batch: Batch, optimizer: Optimizer, step: Gradient
    ) -> Bookkeeping:
        masters = optimizer.masters
        hand = by_hand(learner, batch, masters, whole=True)
        rows, _ = of_step(learner, batch, masters, 1)
        form = learner.objective.closed_form
        closed = None
        if form is not None:
            closed = GradientGap.of(step, by_closed_form(learner, batch, masters, form))
        return cls(
            GradientGap.of(step, hand),
            GradientGap.of(rows, by_hand(learner, batch, masters, whole=False)),
            closed,
            _repeatable(learner, batch, optimizer, hand),
        )


def _repeatable(
    learner: UpdateContext, batch: Batch, optimizer: Optimizer, hand: Gradient
) -> float:
    """Return the bound BOOKKEEPING; on a GPU, whose kernels may add in any order, the difference of
    a repetition.
    """
    bound = BOOKKEEPING[learner.forward.model.dtype]
    if learner.forward.model.device.type == "cpu":
        return bound
    again = by_hand(learner, batch, optimizer.masters, whole=True)
    return min(max(bound, FACTOR * relative(again, hand)), UNSURE)


def _wrong_tokens(learner: UpdateContext, slopes: Slopes) -> str:
    """Explain in words that the path scores another number of tokens than the answers have; empty
    if it does not.
    """
    for tree, values in zip(slopes.trees, slopes.values, strict=True):
        scores = learner.objective.needs == "scores"
        wanted = len(tree.completions) if scores else sum(tree.counts)
        if len(values) != wanted:
            return f"the forward path counts {len(values)} answer tokens; there are {wanted}"
    return ""


def _micro_batches(
    book: Bookkeeping, mixing: float, bound: float, rounding: float, pieces: int
) -> Finding:
    evidence = {
        "relative": mixing,
        "allowed": bound,
        "rounding": rounding,
        "bookkeeping": max(book.at_once.relative, book.by_rows.relative),
        "bookkeeping_allowed": book.bound,
        "micro_batches": pieces,
    }
    for how, apart in (("one micro-batch", book.at_once), (f"{pieces} of a row", book.by_rows)):
        if not apart.relative <= book.bound:
            says = (
                f"the gradient of the step in {how} is not what its rows' losses over one"
                f" denominator give: relative difference {apart.relative:.2g}, allowed"
                f" {book.bound:g}; {apart.diagnosis(book.bound)}"
            )
            return _refused(
                "micro_batches", says, "the step loses, repeats or reweighs rows", evidence
            )
    says = (
        f"the gradient in one micro-batch and in {pieces}: relative difference {mixing:.1e},"
        f" allowed {bound:.1g} {_measured(rounding)}; the step's sums are those by hand to"
        f" {evidence['bookkeeping']:.0e}"
    )
    if not mixing <= bound:
        return _refused("micro_batches", says, MIXES, evidence)
    return Finding("step0.micro_batches", "ok", says, evidence)


def _gradient(
    learner: UpdateContext,
    book: Bookkeeping,
    step: Gradient,
    path: Gradient,
    bare: Gradient,
    bound: float,
    rounding: float,
) -> Finding:
    """Compare the step with closed-form slopes, and the path with the bare network."""
    missing = [name for name, grad in bare.items() if name not in step and bool(grad.any())]
    if missing:
        says = (
            f"{len(missing)} trainable tensors get no gradient, such as {missing[0]}: the path"
            " skips them"
        )
        evidence: dict = {"tensors": missing[:10]}
        return _refused("gradient", says, "they would stay as they are; report this", evidence)
    network = GradientGap.of(path, bare)
    evidence = {
        "relative": network.relative,
        "allowed": bound,
        "rounding": rounding,
        "norm": network.norm,
        "closed_form": book.closed.relative if book.closed is not None else None,
        "factor": book.closed.factor if book.closed is not None else network.factor,
    }
    wrong = "the weights would move the wrong way or by the wrong amount"
    if book.closed is not None and not book.closed.relative <= book.bound:
        says = (
            "the step's gradient is not the one by definition: relative difference"
            f" {book.closed.relative:.2g} to the closed form's slopes;"
            f" {book.closed.diagnosis(book.bound)}"
        )
        return _refused("gradient", says, wrong, evidence)
    if not network.relative <= bound:
        says = (
            "the path's gradient is not the one by definition: relative difference"
            f" {network.relative:.2g} to the bare network's, allowed {bound:.1g}"
            f" {_measured(rounding)}; {network.diagnosis(bound)}"
        )
        return _refused("gradient", says, wrong, evidence)
    kind = (
        "closed form × bare network"
        if book.closed is not None
        else "the objective's own slopes × bare network: it has no closed form here"
    )
    says = (
        f"the step's gradient is the one by definition ({kind}): relative difference"
        f" {network.relative:.1e}, allowed {bound:.1g} {_measured(rounding)}"
    )
    return Finding("step0.gradient", "ok", says, evidence)


def _measured(rounding: float) -> str:
    return f"(transformers' own two ways: {rounding:.0e})"


def _refused(check: str, says: str, remedy: str, evidence: dict | None = None) -> Finding:
    return Finding(f"step0.{check}", "refused", says, evidence or {}, remedy)


# ---------------------------------------------------------------- comparison of two gradients


@dataclass(frozen=True)
class GradientGap:
    """The difference of two gradients."""

    relative: float  # |one − other| / |other|
    factor: float  # the multiple of the other that is nearest to the one
    rest: float  # the rest of `relative` without that multiple
    norm: float

    @classmethod
    def of(cls, one: Gradient, other: Gradient) -> GradientGap:
        def product(a: Gradient, b: Gradient) -> float:
            return sum((a[n].double() * b[n].double()).sum().item() for n in a.keys() & b.keys())

        both, norm, own = product(one, other), product(other, other), product(one, one)
        if norm == 0:
            return cls(0.0 if own == 0 else math.inf, 1.0, math.sqrt(own), 0.0)
        factor = both / norm
        rest = math.sqrt(max(0.0, own - both * factor) / norm)
        return cls(relative(one, other), factor, rest, math.sqrt(norm))

    def diagnosis(self, bound: float) -> str:
        """Explain the likely cause of such a difference."""
        if self.rest > max(bound, 0.1 * abs(self.factor)):
            return "other tokens are scored, or a part of the network or of the rows is left out"
        if self.factor < 0:
            return (
                f"it points the other way ({self.factor:.3g} times): chosen and rejected are"
                " swapped, or the sign is"
            )
        return (
            f"it is {self.factor:.3g} times the right one: a wrong denominator, or rows counted"
            " more than once"
        )
