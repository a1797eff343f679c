"""The keywords of an objective: their accepted values, and the message for a wrong one.

An objective's keyword arguments are the schema of `objective:` in a recipe. Defaults live in the
signature, bounds beside it in `@bounded(...)`, and nowhere else.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import ParamSpec, Protocol, TypeVar, runtime_checkable

from accord.environment.nearest import nearest as nearest_word
from accord.types import UsageError

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class Number:
    """A finite number within bounds."""

    above: float | None = None  # exclusive
    at_least: float | None = None
    below: float | None = None  # exclusive
    at_most: float | None = None
    optional: bool = False  # None means: not given
    hint: str = ""  # values in papers, or what to do instead

    @property
    def words(self) -> str:
        bounds = {
            "above": self.above,
            "at least": self.at_least,
            "below": self.below,
            "at most": self.at_most,
        }
        said = " and ".join(
            f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None
        )
        return f"a finite number {said}".rstrip() + (", or nothing" if self.optional else "")

    def check(self, owner: str, name: str, value: object) -> float | None:
        """Return the value as a float. Raises UsageError with the bounds in words."""
        if value is None and self.optional:
            return None
        number = _float(value)
        if number is None or not self._holds(number):
            raise _wrong(owner, name, value, self.words, self.hint)
        return number

    def _holds(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )


def _float(value: object) -> float | None:
    """Return the value of a number; None for anything else, and for an integer beyond all
    floats.
    """
    # bool is an int: `beta: true` would train with β = 1
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    values: tuple[str, ...]
    hint: str = ""

    @property
    def words(self) -> str:
        return " or ".join(self.values)

    def check(self, owner: str, name: str, value: object) -> str:
        if value not in self.values:
            raise _wrong(owner, name, value, self.words, self.hint)
        return value


@dataclass(frozen=True)
class Anything:
    """A value of one type, for keywords whose bounds accord does not know: those of a custom
    objective.
    """

    type: type | None = None  # None: any of bool, int, float, str or null

    @property
    def words(self) -> str:
        return f"a {self.type.__name__}" if self.type else "a number, a word, true, false or null"

    def check(self, owner: str, name: str, value: object) -> object:
        wanted = self.type or (bool, int, float, str, type(None))
        if not isinstance(value, wanted):
            raise _wrong(owner, name, value, self.words)
        return value


Kind = Number | Choice | Anything


def _wrong(owner: str, name: str, value: object, words: str, hint: str = "") -> UsageError:
    return UsageError(
        f"{owner}: {name} = {_shown(value)} is not accepted; it must be {words}. {hint}".rstrip()
    )


def _shown(value: object) -> str:
    try:
        return f"{value!r:.100}"
    except ValueError:  # an integer of thousands of digits is not printed
        return "a number of thousands of digits"


@runtime_checkable
class Bounded(Protocol[P, R_co]):
    """A function with the accepted values of each of its keywords."""

    kinds: dict[str, Kind]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


def with_kinds(function: Callable[P, R], kinds: dict[str, Kind]) -> Bounded[P, R]:
    """Attach the accepted values of its keywords to a function, as its attribute `kinds`."""
    function.__dict__["kinds"] = kinds
    assert isinstance(function, Bounded)
    return function


def bounded(**kinds: Kind) -> Callable[[Callable[P, R]], Bounded[P, R]]:
    """Declare what each keyword of an objective accepts, and check it at every call.

    So calls from Python and recipes have the same bounds. The kinds are stored as `function.kinds`.
    """

    def decorate(function: Callable[P, R]) -> Bounded[P, R]:
        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs.keys() & kinds.keys():
                kinds[name].check(function.__name__, name, kwargs[name])
            return function(*args, **kwargs)

        return with_kinds(checked, kinds)

    return decorate


def nearest(word: str, known: Iterable[str], also_called: Mapping[str, str]) -> str | None:
    """Find the known name that was probably meant: another tool's name for it, or the most similar
    spelling.
    """
    known = list(known)
    spelt = word.lower().replace("-", "_")
    if also_called.get(spelt) in known:
        return also_called[spelt]
    return nearest_word(spelt, known, cutoff=0.5)
