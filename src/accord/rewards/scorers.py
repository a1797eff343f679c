"""Scorers: how good is an answer, as a number. A built-in one, or any importable function.

    # accord … --judge mine:brevity, where mine.py lies on the PYTHONPATH and has
    def brevity(prompts, answers):                     # N texts each
        return [-len(answer) for answer in answers]    # N numbers, larger is better

A score that is missing, no number or not finite is an error that says how many and where; it never
counts as 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from numbers import Real

from accord.config.plugins import format_exception, import_function
from accord.errors import printable
from accord.rewards.sentiment import compound
from accord.types import Turn, UsageError

Scorer = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
"""Texts of N prompts and of N answers to them -> N numbers, larger is better."""


def vader(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
    """How positive each answer is, from -1 to 1, by VADER's lexicon; the prompts are not read."""
    return compound(answers)


BUILT_IN: dict[str, Scorer] = {"vader": vader}


def load_scorer(name: str) -> Scorer:
    """The scorer of that name, every answer of which is checked.

    Args:
      name: a built-in one ("vader"), or "module:function".

    Raises:
      UsageError: no such scorer, or what it needs is not installed. Calling what is returned raises
        it where the scorer raises, gives another number of scores than there are answers, or a
        score that is no finite number.
    """
    if name in BUILT_IN:
        scorer = BUILT_IN[name]
        # a package that is not installed is said now, not after the answers were sampled
        scorer([], [])
    elif ":" in name:
        scorer = import_function("scorer", name, example="mine:brevity")
    else:
        known = ", ".join(BUILT_IN)
        raise UsageError(
            f"no scorer is called {name!r}. Known: {known}, or your own as module:function."
        )
    return _checked(name, scorer)


def prompt_text(turns: Sequence[Turn]) -> str:
    """A prompt as scorers and judges read it: a single question as it stands, a conversation with
    its roles.
    """
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)


def _checked(name: str, scorer: Scorer) -> Scorer:
    @functools.wraps(scorer)
    def score(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        if len(prompts) != len(answers):
            raise UsageError(
                f"scorer {name!r} was asked about {len(answers)} answers to {len(prompts)} prompts."
            )
        try:
            found = list(scorer(list(prompts), list(answers)))
        except UsageError:
            raise
        # whatever a stranger's function raises, its user wrote it and can mend it
        except Exception as error:
            raise UsageError(
                f"scorer {name!r} failed on {len(answers):,} answers: {format_exception(error)}."
            ) from error
        if len(found) != len(answers):
            raise UsageError(
                f"scorer {name!r} gave {len(found):,} scores for {len(answers):,} answers; expected"
                " one each."
            )
        numbers = [_number(value) for value in found]
        _refuse_missing(name, found, numbers, answers)
        return numbers

    return score


def _number(value: object) -> float:
    """A finite float; NaN for whatever is none. Text is none: "7/10" would be read in part."""
    if hasattr(value, "item"):  # one element of an array or tensor
        try:
            value = value.item()
        except (ValueError, RuntimeError):
            return math.nan
    return float(value) if isinstance(value, Real) and math.isfinite(value) else math.nan


def _refuse_missing(name: str, found: list, numbers: list[float], answers: Sequence[str]) -> None:
    missing = [i for i, number in enumerate(numbers) if math.isnan(number)]
    if missing:
        first = missing[0]
        raise UsageError(
            f"scorer {name!r}: {len(missing):,} of {len(found):,} scores are no finite number;"
            f" first answer {first}, {printable(repr(answers[first])[:80])}:"
            f" {printable(repr(found[first])[:80])}.\nExpected a number for each answer; a missing"
            " score would silently count as one."
        )
