"""Hints that were written for one objective, in the words that work for a mixture: its options lie
under their part's name, and another method takes one part's place.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import replace

from accord.objectives.mixture import BoundMixture, Mixture, spelled
from accord.objectives.objective import BoundObjective
from accord.objectives.table import OBJECTIVES

_NAME = rf"(?:{'|'.join(sorted(OBJECTIVES, key=len, reverse=True))})\b"
# methods, one or several to choose from; or an option
_NAMED = re.compile(
    rf"--method (?P<methods>{_NAME}(?:(?:, | or ){_NAME})*)|\bobjective\.(?P<option>\w+)(?![\w.])"
)


def for_parts(text: str, objective: BoundObjective) -> str:
    """Reword a hint for the objective that it is given to. Of a mixture:

        --set objective.beta=0.1      becomes      --set objective.dpo.beta=0.1
        --method ipo                  becomes      --method 'ipo+0.1*sft'

    A method takes the place of the part that the mixture compares answers by, whose rewards and
    margins hints are about. An option is that part's if it has one of the name; that of a method
    which the same hint has named before, where that has it.
    """
    if not isinstance(objective, BoundMixture):
        return text
    assert isinstance(objective.objective, Mixture), "what binds a mixture is one"
    whole, judge, named = objective.objective, objective.judge, ""

    def reworded(found: re.Match[str]) -> str:
        nonlocal named
        if (option := found["option"]) is None:
            named = re.findall(_NAME, found["methods"])[-1]
            methods = re.sub(_NAME, lambda one: _instead(whole, judge, one[0]), found["methods"])
            return f"--method {methods}"
        if named and option in OBJECTIVES[named].kinds:
            return f"objective.{named}.{option}"
        parts = (judge, *objective.parts)
        owner = next((part.name for part in parts if option in part.options), None)
        return found[0] if owner is None else f"objective.{owner}.{option}"

    return _NAMED.sub(reworded, text)


def _instead(whole: Mixture, judge: BoundObjective, method: str) -> str:
    """Spell the mixture with a method in the judge's place; the method alone where no part of
    another name is left, or it takes other rows.
    """
    if OBJECTIVES[method].rows != judge.rows:
        return method
    others = [term for term in whole.terms if term.name not in (judge.name, method)]
    own = next(term for term in whole.terms if term.name == judge.name)
    named = next((term for term in whole.terms if term.name == method), own)
    weighs = (own.by_policy or named.by_policy) and "collision" not in OBJECTIVES[method].columns
    if not others and not weighs:
        return method
    instead = replace(
        own, objective=OBJECTIVES[method], weighed=own.weighed and bool(others), by_policy=weighs
    )
    return shlex.quote(spelled([instead, *others]))
