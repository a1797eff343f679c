"""The certificate: a run computes the objective that its recipe names.

Three tools trained `sigmoid` when `ipo` was asked for, without an error. So before the first
update, the function that the step calls is evaluated at fixed points. The loss and gradient of each
row are compared with a closed form that shares no code with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.objectives.closed_forms import Answer, ClosedForm, Row, Value
from accord.objectives.objective import PERMISSIONS, BoundObjective
from accord.objectives.options import Choice
from accord.objectives.table import OBJECTIVES
from accord.types import (
    DemonstrationLogps,
    Finding,
    LabelledLogps,
    Logps,
    PairLogps,
    PairScores,
    RowLogps,
    Scores,
    UsageError,
)

# (policy, reference, context) -> losses [B]; the reference is None if the objective has none.
Compute = Callable[[RowLogps, RowLogps | None, dict[str, Tensor]], Tensor]

CHECK = "step0.objective"
ALLOWED = frozenset(PERMISSIONS)  # what may have run instead need not be what one would permit

# Allowed error, relative to a number and absolute under 1, by the precision of the returned losses.
# The points go in as float64; a step that computes in float32 is judged by float32's precision.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}

# Precision of finite differences in float64 with the step below.
DIFFERENCE_TOLERANCE = 1e-5
DIFFERENCE_STEP = 1e-4  # nats: truncation and rounding are both under 1e-7 at the ordinary points

# Policy and reference sums in nats, and tokens, of two answers. All are multiples of 1/64, exact in
# any precision.
_POINTS = {
    "policy equals reference": ((-12.5, -12.5, 5), (-20.25, -20.25, 9)),
    "a small margin": ((-11.75, -12.5, 5), (-20.75, -20.25, 9)),
    "a small margin the wrong way": ((-13.25, -12.5, 6), (-17.75, -20.25, 8)),
    "the chosen answer is long": ((-96.5, -103.75, 60), (-8.25, -7.5, 3)),
    "the rejected answer is long": ((-5.5, -8.25, 4), (-151.75, -149.0, 90)),
    "single tokens": ((-0.625, -1.375, 1), (-3.125, -2.875, 1)),
    "near-certain answers": ((-0.015625, -0.03125, 7), (-0.046875, -0.015625, 2)),
    "both fall": ((-44.5, -31.25, 17), (-71.75, -39.5, 21)),
    "a large margin": ((-40.5, -161.25, 33), (-310.75, -122.5, 47)),
    "a large margin the wrong way": ((-333.25, -120.5, 47), (-60.5, -177.75, 31)),
    "an extreme margin": ((-150.25, -5150.5, 64), (-10150.75, -5149.5, 128)),
    "an extreme margin the wrong way": ((-10149.25, -5149.75, 128), (-149.5, -5150.25, 64)),
}
# At these points a custom objective may have a kink or overflow a finite difference. Closed forms
# are exact there.
_ORDINARY = [
    name for name in _POINTS if not name.startswith(("policy equals", "near-certain", "an extreme"))
]

# Mismatched rows for objectives that depend on the whole batch: (policy, reference) sums; one mean
# above zero, one below.
_MISMATCHED = (
    ((-31.5, -40.25, -18.0), (-34.75, -41.0, -19.25)),
    ((-31.5, -40.25, -18.0), (-29.0, -38.5, -18.5)),
)


# Whole batches for objectives that depend on the number of answer tokens: short and long answers.
_SIZES = (((3, 5), (4, 2), (1, 1)), ((61, 9), (128, 40)))


# Rewards of labelled rows for objectives that keep something of the updates before: good answers
# ahead, then all of them far below.
_REWARDS = tuple(
    {"rewards/chosen": torch.tensor(good), "rewards/rejected": torch.tensor(bad)}
    for good, bad in (
        ((1.25, math.nan, 0.5), (math.nan, -0.75, math.nan)),
        ((-9.5, math.nan, math.nan), (math.nan, -20.25, -31.0)),
    )
)


@dataclass(frozen=True)
class _Measured:
    """The results of one call of the step."""

    losses: Tensor  # [B]
    # for each of a row's answers, d sum of losses / d sum of log-probs: [B]
    gradients: tuple[Tensor, ...]
    reference_touched: bool  # whether a gradient reached the reference


@dataclass(frozen=True)
class _Difference:
    """One number that differs from its expected value."""

    point: str
    quantity: str
    expected: float
    got: float


def certify(bound: BoundObjective, compute: Compute) -> Finding:
    """Compare the objective that a run computes with the one that its recipe names.

    Args:
      bound: the objective configured.
      compute: the very function that the training step calls, (policy, reference, context) ->
        losses [B]. It gets float64 log-probs on the CPU, and the context that `bound.context`
        makes of fixed mismatched rows.

    Returns:
      a finding "step0.objective": "ok" with what was compared and the worst error; "refused" with
      the first point that differs, and with the objective that seems to have run, if it is known.
      A custom objective has no closed form: its value is compared with a direct call, and its
      gradient with finite differences.
    """
    closed_form = bound.closed_form
    rows = _rows(bound.rows, _ORDINARY if closed_form is None else list(_POINTS))
    worst, tolerance = 0.0, 0.0
    for context, z0 in _contexts(bound):
        measured = _measure(compute, bound, rows, context)
        if isinstance(measured, str):
            return _refused(bound, measured, {})
        if measured.reference_touched:
            return _refused(bound, "a gradient reaches the reference, which must stay as it is", {})
        if closed_form is None:
            expected, tolerance = (
                _by_differences(bound, compute, rows, context),
                DIFFERENCE_TOLERANCE,
            )
        else:
            expected = [closed_form(row, bound.options, z0) for row in rows]
            tolerance = TOLERANCE[measured.losses.dtype]
        difference, error = _compare(measured, expected, rows, tolerance)
        if difference is not None:
            return _differs(
                bound, difference, tolerance, _what_ran(bound, measured, rows, z0, tolerance)
            )
        worst = max(worst, error)
    return _certified(bound, len(rows), worst, tolerance)


# ---------------------------------------------------------------- points, and the step at them


def _rows(kind: str, points: list[str]) -> list[Row]:
    """Shape the points as rows of a kind: a pair as it is, as two labelled answers, or as its
    chosen answer alone.
    """
    rows: list[Row] = []
    for name in points:
        chosen, rejected = _answers(name)
        if kind == "pairs":
            rows.append(Row(name, (chosen, rejected), margin=len(rows) / 8))
        elif kind == "labelled":
            rows += [Row(f"{name}, good", (chosen,), True), Row(f"{name}, bad", (rejected,), False)]
        else:
            rows.append(Row(name, (chosen,)))
    return rows


def _answers(point: str) -> tuple[Answer, Answer]:
    """Return both answers of a point, with half of each sum in the tokens that they share in
    number, and predictions of a quarter nat a token.
    """
    one, other = (
        Answer(policy, reference, count, (policy / 2, reference / 2), count / 4)
        for policy, reference, count in _POINTS[point]
    )
    return one, other


def _contexts(bound: BoundObjective) -> Iterator[tuple[dict[str, Tensor], float]]:
    """Yield whole-batch keywords to evaluate under, each with the number (a baseline z0) that its
    closed form must use.
    """
    if (rule := bound.running) is not None:
        state: Mapping[str, float] = rule.start
        for rewards in (None, *_REWARDS):
            if rewards is not None:
                state = rule.after(state, rewards)
            given = bound.from_running(state)
            yield given, next(iter(given.values())).item()
        return
    if bound.context is None:
        for rows in _SIZES:
            given = bound.of_batch(rows)
            yield given, next((value.item() for value in given.values()), 0.0)
            if not given:
                return
        return
    for policy, reference in _MISMATCHED:
        count = torch.full((len(policy),), 8)
        sums = [
            Logps(torch.tensor(side, dtype=torch.float64), count) for side in (policy, reference)
        ]
        mean = sum(p - r for p, r in zip(policy, reference, strict=True)) / len(policy)
        yield bound.context(*sums), max(0.0, mean)


@torch.enable_grad()
def _measure(
    compute: Compute, bound: BoundObjective, rows: list[Row], context: dict
) -> _Measured | str:
    """Return the losses and gradients of the step at these rows, or what is wrong with its
    result.
    """
    policy = _columns(bound, rows, "policy").requires_grad_()
    reference = _columns(bound, rows, "reference").requires_grad_()
    losses = _losses(compute, bound, rows, policy, reference, context)
    if tuple(losses.shape) != (len(rows),):
        return f"the step returned losses of shape {tuple(losses.shape)} for {len(rows)} rows"
    if losses.dtype not in TOLERANCE:
        return (
            f"the step computed losses in {losses.dtype}; log-probs and losses are float32 or"
            " better"
        )
    if not losses.requires_grad:
        return "the step's losses carry no gradient"
    to_policy, to_reference = torch.autograd.grad(
        losses.sum(), (policy, reference), allow_unused=True
    )
    gradients = torch.zeros_like(policy) if to_policy is None else to_policy
    touched = to_reference is not None and bool(to_reference.any())
    return _Measured(losses.detach(), tuple(gradients), touched)


def _columns(bound: BoundObjective, rows: list[Row], side: str) -> Tensor:
    """Stack the summed log-probs of one side ("policy" or "reference"), and behind them the sums
    over shared tokens where the objective reads them. [answers of a row, once or twice, B]
    """
    place = ("policy", "reference").index(side)
    by_row = [[getattr(answer, side) for answer in row.answers] for row in rows]
    if "shared" in bound.columns:
        first = [[answer.shared[place] for answer in row.answers if answer.shared] for row in rows]
        by_row = [sums + shared for sums, shared in zip(by_row, first, strict=True)]
    return torch.tensor(by_row, dtype=torch.float64).T.contiguous()


def _losses(
    compute: Compute,
    bound: BoundObjective,
    rows: list[Row],
    policy: Tensor,
    reference: Tensor,
    context: dict,
    weighed_at: Tensor | None = None,
) -> Tensor:
    measured_against = _numbers(bound, rows, reference) if bound.reference else None
    return compute(_numbers(bound, rows, policy, weighed_at), measured_against, context)


def _numbers(
    bound: BoundObjective, rows: list[Row], sums: Tensor, weighed_at: Tensor | None = None
) -> RowLogps:
    """Shape sums as the step takes them.

    Args:
      weighed_at: the sums at which weights without a gradient are to stay, whatever `sums` are.
    """
    size = len(rows[0].answers)
    counts = [torch.tensor([row.answers[index].count for row in rows]) for index in range(size)]
    margin = torch.tensor([row.margin for row in rows], dtype=sums.dtype)
    if bound.needs == "scores":
        chosen, rejected = map(Scores, sums, counts)
        return PairScores(chosen, rejected, margin)
    shared = sums[size:] if "shared" in bound.columns else [None] * size
    collision = [
        torch.tensor([row.answers[index].collision for row in rows], dtype=sums.dtype)
        if "collision" in bound.columns
        else None
        for index in range(size)
    ]
    if weighed_at is not None:
        moved = (weighed_at - sums)[:size]
        collision = [c if c is None else c + by for c, by in zip(collision, moved, strict=True)]
    answers = list(map(Logps, sums, counts, shared, collision))
    if bound.rows == "pairs":
        return PairLogps(answers[0], answers[1], margin)
    if bound.rows == "labelled":
        return LabelledLogps(answers[0], torch.tensor([bool(row.desirable) for row in rows]))
    return DemonstrationLogps(answers[0])


def _by_differences(
    bound: BoundObjective, compute: Compute, rows: list[Row], context: dict
) -> list[Value]:
    """Compute the expected values of a custom objective: a direct call's losses, and central
    differences of the step's own.
    """
    policy, reference = (_columns(bound, rows, side) for side in ("policy", "reference"))

    def direct(
        policy_rows: RowLogps, reference_rows: RowLogps | None, keywords: dict[str, Tensor]
    ) -> Tensor:
        return bound.losses(policy_rows, reference_rows, **keywords).losses

    with torch.no_grad():
        losses = _losses(direct, bound, rows, policy, reference, context)
        slopes = []
        for index in range(len(policy)):
            step = torch.zeros_like(policy)
            step[index] = DIFFERENCE_STEP
            up, down = (
                _losses(compute, bound, rows, moved, reference, context, policy)
                for moved in (policy + step, policy - step)
            )
            slopes.append((up - down) / (2 * DIFFERENCE_STEP))
    return list(
        zip(losses.tolist(), zip(*(slope.tolist() for slope in slopes), strict=True), strict=True)
    )


# ---------------------------------------------------------------- comparison and verdict


def _compare(
    measured: _Measured, expected: list[Value], rows: list[Row], tolerance: float
) -> tuple[_Difference | None, float]:
    """Return the first number that differs by more than the tolerance, if any, and the worst error
    up to there.
    """
    worst = 0.0
    for index, (row, (loss, known)) in enumerate(zip(rows, expected, strict=True)):
        # an objective that weighs no tokens apart has no slope along their sums
        slopes = (*known, *[0.0] * (len(measured.gradients) - len(known)))
        answers = ("chosen", "rejected") if len(row.answers) == 2 else ("completion",)
        names = [
            f"{name}.{column}"
            for column in ("sum", "shared")[: len(slopes) // len(answers)]
            for name in answers
        ]
        numbers = [("loss", loss, measured.losses)] + [
            (f"d loss / d {name}", slope, gradient)
            for name, slope, gradient in zip(names, slopes, measured.gradients, strict=True)
        ]
        for quantity, wanted, got in numbers:
            error = abs(float(got[index]) - wanted) / max(1.0, abs(wanted))
            if not error <= tolerance:  # also true for NaN
                return _Difference(row.says, quantity, wanted, float(got[index])), worst
            worst = max(worst, error)
    return None, worst


def _what_ran(
    bound: BoundObjective, measured: _Measured, rows: list[Row], z0: float, tolerance: float
) -> str:
    """Name in words the objective whose closed form fits the numbers; empty if none does."""
    if bound.closed_form is None:
        return ""
    own = [bound.closed_form(row, bound.options, z0) for row in rows]
    flipped = [(-loss, tuple(-slope for slope in slopes)) for loss, slopes in own]
    if _compare(measured, flipped, rows, tolerance)[0] is None:
        return f"{bound.name} with its sign flipped"
    for name, form, options in _suspects(bound):
        suspected = [form(row, options, z0) for row in rows]
        if _compare(measured, suspected, rows, tolerance)[0] is None:
            said = ", ".join(
                f"{key} = {value}" for key, value in options.items() if value is not None
            )
            return f"{name} with {said}" if said else name
    return ""


def _suspects(bound: BoundObjective) -> Iterator[tuple[str, ClosedForm, dict]]:
    """Yield objectives that might run instead of `bound`: others with its options, and itself with
    other options.
    """
    for name, objective in OBJECTIVES.items():
        form = objective.closed_form
        if (objective.rows, objective.needs) != (bound.rows, bound.needs) or form is None:
            continue
        if not objective.columns <= bound.columns:
            continue  # it reads what this run does not compute
        shared = {key: value for key, value in bound.options.items() if key in objective.kinds}
        choices = [
            {key: value}
            for key, kind in objective.kinds.items()
            if isinstance(kind, Choice)
            for value in kind.values
        ]
        for options in (shared, {}):
            for choice in ({}, *choices):
                try:
                    yield name, form, objective.bind(options | choice, ALLOWED).options
                except UsageError:  # a keyword of that name means something else there
                    continue


def _differs(bound: BoundObjective, difference: _Difference, tolerance: float, ran: str) -> Finding:
    evidence = {
        "point": difference.point,
        "quantity": difference.quantity,
        "expected": _json(difference.expected),
        "got": _json(difference.got),
        "tolerance": tolerance,
    }
    if ran:
        evidence["ran"] = ran
    says = (
        f"at the point '{difference.point}', {difference.quantity} is {difference.got:.6g}; "
        f"{bound.name} has {difference.expected:.6g}"
    )
    return _refused(bound, says + (f". The numbers are those of {ran}" if ran else ""), evidence)


def _refused(bound: BoundObjective, says: str, evidence: dict) -> Finding:
    return Finding(
        CHECK,
        "refused",
        f"the step does not compute {bound.name}: {says}.",
        {"objective": bound.name, "options": dict(bound.options)} | evidence,
        remedy=(
            "Do not train with this build; report this finding. An objective of your own: mend its"
            " function."
        ),
    )


def _certified(bound: BoundObjective, points: int, worst: float, tolerance: float) -> Finding:
    closed = bound.closed_form is not None
    against = (
        "its closed form"
        if closed
        else "a direct call and finite differences (it has no closed form)"
    )
    return Finding(
        CHECK,
        "ok",
        f"the step computes {bound.name}: loss and gradient equal {against} at {points} points, to"
        f" {tolerance:g}.",
        {
            "objective": bound.name,
            "options": dict(bound.options),
            "against": "closed form" if closed else "finite differences",
            "points": points,
            "worst_error": worst,
            "tolerance": tolerance,
        },
    )


def _json(number: float) -> float | str:
    """Return the number, or its name if JSON has none."""
    return number if math.isfinite(number) else str(number)
