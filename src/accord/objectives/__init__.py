"""Objectives: pure functions of log-probs, and the table that says what each needs.

>>> accord.objectives.dpo(policy, reference, beta=0.1).losses     # [B]
>>> accord.objectives.resolve("ipo", {"beta": 0.2}).convention
"""

from accord.objectives.labelled import kto, kto_baseline
from accord.objectives.objective import PERMISSIONS, BoundObjective, Objective
from accord.objectives.pairs import cdpo, dpo, hinge, ipo, robust
from accord.objectives.policy_table import POLICY_OBJECTIVES
from accord.objectives.reference_free import cpo, orpo, simpo
from accord.objectives.reward import bradley_terry
from accord.objectives.supervised import sft
from accord.objectives.table import OBJECTIVES, resolve

__all__ = [
    "OBJECTIVES",
    "PERMISSIONS",
    "POLICY_OBJECTIVES",
    "BoundObjective",
    "Objective",
    "bradley_terry",
    "cdpo",
    "cpo",
    "dpo",
    "hinge",
    "ipo",
    "kto",
    "kto_baseline",
    "orpo",
    "resolve",
    "robust",
    "sft",
    "simpo",
]
