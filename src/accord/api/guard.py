"""The wrapper of every public function: unknown keywords get the nearest, arguments are of their
kinds, and errors and warnings speak Python.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from accord.api.arguments import bound
from accord.api.words import speak_python
from accord.environment.nearest import nearest
from accord.errors import AccordError, UsageError

P = ParamSpec("P")
R = TypeVar("R")


def public(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function of the package: see this file's first lines."""
    parameters = inspect.signature(function).parameters.values()
    named = {each.name for each in parameters if each.kind is not each.VAR_KEYWORD}
    open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters)

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        with python_words():
            for name in kwargs:
                if not open_ended and name not in named:
                    raise UsageError(unknown_keyword(function.__name__, name, named, kwargs))
            given, by_name = bound(function, args, kwargs)
            return function(*given, **by_name)

    return called


def unknown_keyword(function: str, name: str, known: Iterable[str], given: Iterable[str]) -> str:
    """Say that a function has no such keyword, and which one is the nearest.

    Args:
      known: all of its keywords; one that is not `given` already is likelier to be meant.
    """
    known = sorted(known)
    near = nearest(name, [each for each in known if each not in {*given}]) or nearest(name, known)
    meant = f"; did you mean {near!r}?" if near else f". Known: {', '.join(known)}."
    return f"accord.{function} does not know the keyword {name!r}{meant}"


@contextmanager
def python_words():
    """Let what goes wrong inside say in Python how to mend it."""
    try:
        yield
    except AccordError as error:
        speak_python(error)
        raise
