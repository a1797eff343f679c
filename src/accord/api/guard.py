"""The wrapper of every public function: unknown keywords get the nearest, and errors and warnings
speak Python.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from accord.api.words import speak_python
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
                    raise UsageError(unknown_keyword(function.__name__, name, named))
            return function(*args, **kwargs)

    return called


def unknown_keyword(function: str, name: str, known: Iterable[str]) -> str:
    """Say that a function has no such keyword, and which one is the nearest."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    meant = f"; did you mean {near[0]!r}?" if near else f". Known: {', '.join(known)}."
    return f"accord.{function} does not know the keyword {name!r}{meant}"


@contextmanager
def python_words():
    """Let what goes wrong inside say in Python how to mend it."""
    try:
        yield
    except AccordError as error:
        speak_python(error)
        raise
