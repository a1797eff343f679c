"""An objective of your own: any importable function that maps log-probs to one loss per row.

    # mine.py, on the PYTHONPATH;  in the recipe  objective: {name: "mine:squared", beta: 0.2}
    def squared(policy, reference, *, beta=0.1):
        h = policy.chosen.sum - policy.rejected.sum
        return (beta * h - 1) ** 2    # [B], or a LossOutput

Its first parameter's annotation says what it trains on (PairLogps without one). A second parameter
named `reference` means that it needs a reference. Its other parameters are its options.
It is tried on a few numbers before a run begins.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from accord.config.plugins import format_exception, import_function
from accord.objectives.objective import Objective
from accord.objectives.options import Anything, Bounded, Kind, Number, with_kinds
from accord.objectives.pairs import beta_log_ratio
from accord.objectives.supervised import mean_log_prob
from accord.types import (
    DemonstrationLogps,
    LabelledLogps,
    Logps,
    LossOutput,
    PairLogps,
    RowLogps,
    UsageError,
)

ROWS_OF = {
    "PairLogps": "pairs",
    "LabelledLogps": "labelled",
    "DemonstrationLogps": "demonstrations",
}


def load_custom(name: str) -> Objective:
    """Import the objective "module:function", and read its needs from its signature.

    Raises:
      UsageError: it cannot be imported, or its signature does not say what it needs.
    """
    original = import_function("objective", name, example="mine:squared")
    parameters = _parameters(name, original)
    reference = len(parameters) > 1 and parameters[1].name == "reference"
    options = parameters[2:] if reference else parameters[1:]
    rows = _rows(name, parameters[0])
    function = _as_objective(original, {one.name: _kind(one) for one in options})
    return Objective(
        name=name,
        function=function,
        rows=rows,
        reference=reference,
        reward=_ratio_reward if reference else mean_log_prob,
        convention=lambda options: (
            f"{name} is your own; accord checks its gradient but has no closed form for it"
        ),
        learning_rate=1e-4,
        source=(inspect.getdoc(original) or name).splitlines()[0],
        complete=lambda options: _try(name, function, rows, reference, options),
    )


def _parameters(name: str, function: Callable) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise UsageError(
            f"objective {name!r} must take the policy's log-probs as its first argument."
        )
    for one in parameters:
        if one.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise UsageError(
                f"objective {name!r} takes *{one.name}: name its options instead, so that a"
                " misspelt one is an error."
            )
        if one.kind is inspect.Parameter.POSITIONAL_ONLY and one.name not in (
            parameters[0].name,
            "reference",
        ):
            raise UsageError(
                f"objective {name!r}: its option {one.name} is positional only; it is passed by"
                " name."
            )
    return parameters


def _rows(name: str, first: inspect.Parameter) -> str:
    """Find what the function trains on, from the annotation of its first parameter: a class, or its
    name as a string.
    """
    if first.annotation is inspect.Parameter.empty:
        return "pairs"
    spelt = (
        first.annotation
        if isinstance(first.annotation, str)
        else getattr(first.annotation, "__name__", "")
    )
    rows = ROWS_OF.get(spelt.rpartition(".")[2])
    if rows is None:
        raise UsageError(
            f"objective {name!r}: its first parameter is annotated {spelt or first.annotation!r};"
            f" expected one of {', '.join(ROWS_OF)} from accord.types, or no annotation for pairs."
        )
    return rows


def _kind(parameter: inspect.Parameter) -> Kind:
    default = parameter.default
    if default is inspect.Parameter.empty or default is None:
        return Anything()
    if isinstance(default, (bool, str)):
        return Anything(type(default))
    return Number()


def _ratio_reward(policy: Logps, reference: Logps | None, **options: object) -> Tensor:
    beta = options.get("beta", 1.0)
    return beta_log_ratio(policy, reference, beta=beta if isinstance(beta, float) else 1.0)


def _as_objective(original: Callable, kinds: dict[str, Kind]) -> Bounded[..., LossOutput]:
    """Wrap the function: with its kinds, without a gradient into the reference, and with a
    LossOutput for a bare tensor.
    """

    @functools.wraps(original)
    def function(policy: RowLogps, *reference: RowLogps, **options: object) -> LossOutput:
        output = original(policy, *map(_detached, reference), **options)
        return LossOutput(output) if isinstance(output, Tensor) else output

    return with_kinds(function, kinds)


def _detached(rows: RowLogps) -> RowLogps:
    parts = {one.name: getattr(rows, one.name) for one in fields(rows)}
    return replace(
        rows, **{name: part.detach() for name, part in parts.items() if part is not None}
    )


# ---------------------------------------------------------------- tried before use

# Three completions per side, of different lengths; margins on both sides of zero, so that a hinge
# shows a gradient.
_POLICY = ((-12.0, -7.5, -20.0), (-11.0, -9.0, -26.0))
_REFERENCE = ((-12.5, -7.0, -22.0), (-10.0, -9.5, -25.0))
_COUNT = (4.0, 2.0, 7.0)


@torch.enable_grad()
def _try(
    name: str, function: Callable[..., LossOutput], rows: str, reference: bool, options: dict
) -> dict:
    """Call the function on three rows and return the options; raise UsageError if its result is no
    objective's.
    """
    # float64, as sums of log-probs are in training
    policy = torch.tensor(_POLICY, dtype=torch.float64, requires_grad=True)
    known = torch.tensor(_REFERENCE, dtype=torch.float64)
    arguments = (policy, known) if reference else (policy,)
    losses = _losses(name, function, rows, arguments, options)
    if not bool(losses.isfinite().all()):
        raise UsageError(
            f"objective {name!r} is not finite on ordinary log-probs: {losses.tolist()}."
        )
    gradient = (
        torch.autograd.grad(losses.sum(), policy, allow_unused=True)[0]
        if losses.requires_grad
        else None
    )
    gradient = torch.zeros_like(policy) if gradient is None else gradient
    if not bool(gradient.isfinite().all()) or not bool(gradient.any()):
        raise UsageError(
            f"objective {name!r}: the gradient of its losses with respect to the policy's log-probs"
            f" is {gradient.tolist()}; nothing would be learned. Is something detached, or compared"
            " instead of subtracted?"
        )
    each = (slice(0, 1), slice(1, 2), slice(2, 3))
    alone = torch.cat([_losses(name, function, rows, arguments, options, one) for one in each])
    if not torch.allclose(alone, losses, rtol=1e-4, atol=1e-6):
        raise UsageError(
            f"objective {name!r}: rows alone have the losses {alone.tolist()}, together"
            f" {losses.tolist()}. A batch is split into micro-batches, so a row's loss must not"
            " depend on other rows: return one loss a row, no mean."
        )
    return options


def _losses(
    name: str,
    function: Callable[..., LossOutput],
    rows: str,
    sums: tuple[Tensor, ...],
    options: dict,
    which: slice = slice(0, 3),
) -> Tensor:
    """Compute the function's losses on some of the three rows; sums are [2, 3] each for policy and
    reference.
    """
    try:
        output = function(*(_build(rows, one, which) for one in sums), **options)
    # the function may raise anything; the user wrote it and can fix it
    except Exception as error:
        raise UsageError(
            f"objective {name!r} failed on ordinary log-probs: {format_exception(error)}."
        ) from error
    if not isinstance(output, LossOutput) or not isinstance(output.losses, Tensor):
        returned = type(output).__name__
        raise UsageError(
            f"objective {name!r} returned {returned}; expected a tensor [B] or a LossOutput."
        )
    expected = (which.stop - which.start,)
    if tuple(output.losses.shape) != expected:
        raise UsageError(
            f"objective {name!r} returned losses of shape {tuple(output.losses.shape)} for"
            f" {expected[0]} rows; expected {expected}: one loss a row, not their mean. The step"
            " owns the one denominator."
        )
    return output.losses


def _build(rows: str, sums: Tensor, which: slice) -> RowLogps:
    first, second = (Logps(one, torch.tensor(_COUNT))[which] for one in sums)
    if rows == "pairs":
        return PairLogps(first, second, torch.zeros_like(first.sum))
    if rows == "labelled":
        return LabelledLogps(first, torch.tensor([True, False, True])[which])
    return DemonstrationLogps(first)
