"""The type of a check: a row with its name, its moment, its needs and the function that makes it.
The code at that moment runs the rows whose needs are met, in order.

    step 0           step0.py       proofs on rows of the first batch; a refusal ends the command
    before update    running.py     the gradient is complete, and no weight has moved
    after update     running.py     weights, frozen weights, the reference, the path
    samples          running.py     answers to the fixed prompts have been drawn
    evaluation       running.py     around an evaluation, and on its rows
    checkpoint       running.py     what was written
    doctor           doctor.py      the machine, on tiny models

A new check is a function and a row of one of these tables; `table.every_check` lists them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from accord.types import Finding

C = TypeVar("C")  # the argument of a check at some moment
Found = Finding | Sequence[Finding]

WHEN = ("step 0", "before update", "after update", "samples", "evaluation", "checkpoint", "doctor")

# The needs of checks, and their names in `offers`.
WHOLE = "weights"  # those of the run are at hand, whole or this process' part of them
ROWS, ROLLOUTS = "rows of a file or pairs", "rollouts"  # what the objective trains on
LOGPS, SCORES = "log-probs", "scores"  # what the model gives
REFERENCE = "a reference"
AT_START = "a reference that starts as the policy"
LEFT = "a reference that the policy has left"
FIXED = "a reference that stays"
MOVING = "a reference that moves"
BASELINE = "a baseline from the whole batch"
KEEPS = "something kept from update to update"
SPREAD = "rows of all lengths"
QUANTISED = "a quantised base"
COLUMNS = "more of log-probs than their sums"

# every row before it, in `Check.after`
ALL = ("all",)


@dataclass(frozen=True)
class Check(Generic[C]):
    """One row. The type of `function`'s argument depends on the table that the row is in."""

    name: str  # of its findings, behind "step0." or "running."
    when: str  # one of WHEN
    shows: str  # what holds if it passes, in one line
    function: Callable[[C], Found]
    needs: frozenset[str] = frozenset()
    # checks that it builds on: if one of them is refused, it would show nothing new and is left out
    after: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.when in WHEN, f"{self.name}: when = {self.when!r}"


def run_table(table: Iterable[Check[C]], about: C, offers: frozenset[str]) -> list[Finding]:
    """Make every check whose needs are among `offers`, in the order of the table."""
    found: list[Finding] = []
    for check in table:
        if not check.needs <= offers or _is_moot(check, found):
            continue
        result = check.function(about)
        found += [result] if isinstance(result, Finding) else result
    return found


def _is_moot(check: Check, found: Sequence[Finding]) -> bool:
    """Tell whether a check that this one builds on was refused."""
    refused = {finding.check.rpartition(".")[2] for finding in found if finding.refused}
    return bool(refused) if check.after == ALL else not refused.isdisjoint(check.after)
