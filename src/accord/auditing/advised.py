"""`accord advise`: audit the rows, time the model, and advise on both."""

from __future__ import annotations

from collections.abc import Callable

from accord.auditing.advise import Advice, advise
from accord.auditing.machine import measure
from accord.auditing.run import Audit, audit
from accord.data.naming import Naming
from accord.models.load import load


def advise_on(
    data: str,
    *,
    model: str,
    held_out: str | None,
    naming: Naming,
    all_weights: bool,
    model_rows: int,
    seed: int,
    say: Callable[[str], None],
) -> tuple[Advice, Audit]:
    """Advise on training a model on a file; return the advice and the audit that it comes from.

    Raises:
      AccordError: unusable rows, or no such model.
    """
    found = audit(
        data,
        model=model,
        held_out=held_out,
        naming=naming,
        model_rows=model_rows,
        seed=seed,
        say=say,
    )
    say("timing the model")
    machine = measure(load(model))
    advice = advise(
        found, machine, model=model, data=data, held_out=held_out, all_weights=all_weights
    )
    return advice, found
