"""The Python reference: signatures and docstrings as they stand. Docstrings have formulas, so they
are shown unchanged.
"""

from __future__ import annotations

import importlib
import inspect

from accord.objectives import OBJECTIVES
from making.text import block


def reference(*names: str) -> str:
    """Each name with its signature and docstring: "accord.train"; "accord.objectives.*" is every
    objective of the table.
    """
    return "\n\n".join(_entry(one) for name in names for one in _each(name))


def _each(name: str) -> list[str]:
    return (
        [f"accord.objectives.{one}" for one in OBJECTIVES]
        if name == "accord.objectives.*"
        else [name]
    )


def _entry(name: str) -> str:
    value = found(name)
    said = inspect.getdoc(value)
    if not said:
        raise ValueError(f"{name} has no docstring")
    return f"### {name}\n\n{block(signature(name, value), 'python')}\n\n{block(said)}"


def found(name: str) -> object:
    """What a dotted name stands for.

    Raises:
      AttributeError, ImportError: nothing.
    """
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def signature(name: str, value: object) -> str:
    """How it is called: a parameter a line, with its type and default where it has them."""
    given = inspect.signature(value)
    parts, stars = [], False
    for each in given.parameters.values():
        if each.kind is each.KEYWORD_ONLY and not stars:
            parts.append("*")
        stars = stars or each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        parts.append(_parameter(each))
    returns = (
        "" if given.return_annotation is given.empty else f" -> {_type(given.return_annotation)}"
    )
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returns}"


def _parameter(each: inspect.Parameter) -> str:
    name = str(each.replace(annotation=each.empty, default=each.empty))
    kind = "" if each.annotation is each.empty else f": {_type(each.annotation)}"
    if each.default is each.empty:
        return name + kind
    # a function or a record as a default prints as an address or as all of its fields, which says
    # nothing here
    simple = each.default is None or isinstance(each.default, (bool, int, float, str, tuple))
    return f"{name}{kind} = {each.default!r}" if simple else f"{name}{kind} = …"


def _type(annotation: object) -> str:
    return (
        annotation
        if isinstance(annotation, str)
        else getattr(annotation, "__name__", str(annotation))
    )
