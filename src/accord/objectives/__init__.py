"""Objectives: pure functions of log-probs, and the table that says what each needs.

Every method of the table `OBJECTIVES` is a function here, by its name:

>>> accord.objectives.dpo(policy, reference, beta=0.1).losses     # [B]
>>> accord.objectives.resolve("ipo", {"beta": 0.2}).convention
"""

from typing import Any

from accord.objectives.labelled import kto_baseline
from accord.objectives.objective import PERMISSIONS, BoundObjective, Objective
from accord.objectives.policy_table import POLICY_OBJECTIVES
from accord.objectives.table import OBJECTIVES, resolve

__all__ = [
    "OBJECTIVES",
    "PERMISSIONS",
    "POLICY_OBJECTIVES",
    "BoundObjective",
    "Objective",
    "kto_baseline",
    "resolve",
]


def __getattr__(name: str) -> Any:
    """Return the function of a method, from its row."""
    if name in OBJECTIVES:
        return OBJECTIVES[name].function
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *OBJECTIVES]
