"""The arguments of public functions, by the kinds that their annotations name: numbers of numpy
become Python's, one text is a list of one, and what is of no such kind is refused in words.

Rows, prompts, models and tokenizers are judged where they are read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from os import PathLike, fspath
from typing import Any

from accord.data.memory import is_path, is_rows
from accord.errors import UsageError, shorten

SHOWN = 60  # characters of a value in a message


def checked(function: Callable, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as the function takes them; names that it does not know stay as they are.

    Raises:
      UsageError: one is not of the kind that its parameter has.
    """
    parameters = inspect.signature(function).parameters
    return {
        name: _of_kind(function.__name__, name, value, parameters[name])
        if name in parameters
        else plain(value)
        for name, value in given.items()
    }


def bound(function: Callable, args: tuple, kwargs: Mapping[str, Any]) -> tuple[tuple, dict]:
    """Return the arguments of a call as the function takes them.

    Raises:
      UsageError: too many or too few, or one of another kind.
    """
    try:
        call = inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise UsageError(f"accord.{function.__name__}: {error}. {_usage(function)}") from error
    for name, parameter in call.signature.parameters.items():
        if name not in call.arguments:
            continue
        value = call.arguments[name]
        if parameter.kind is parameter.VAR_KEYWORD:
            continue  # of another function, which reads them itself
        if parameter.kind is parameter.VAR_POSITIONAL:
            call.arguments[name] = _several(function.__name__, name, value)
        else:
            call.arguments[name] = _of_kind(function.__name__, name, value, parameter)
    return call.args, call.kwargs


def plain(value: Any) -> Any:
    """Return a value with Python's own numbers, lists and texts in place of numpy's scalars and
    arrays, tuples, ranges and paths, at any depth of lists and mappings.
    """
    if isinstance(value, (str, bool, int, float)) or value is None:
        return value
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [plain(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return [plain(each) for each in sorted(value, key=str)]
    if isinstance(value, PathLike):
        return fspath(value)
    if not is_rows(value) and hasattr(value, "tolist"):  # of numpy and torch
        return plain(value.tolist())
    return value


def _of_kind(function: str, name: str, value: Any, parameter: inspect.Parameter) -> Any:
    kind, _, rest = str(parameter.annotation).partition(" | None")
    optional = parameter.default is None or "None" in str(parameter.annotation)
    if kind not in KINDS or rest or (value is None and optional):
        return value
    return KINDS[kind](function, name, value)


def _usage(function: Callable) -> str:
    """Say how a function is called."""
    parameters = inspect.signature(function).parameters.values()
    needed = [
        each.name if each.kind is each.POSITIONAL_OR_KEYWORD else f"{each.name}=…"
        for each in parameters
        if each.default is each.empty and each.kind is not each.VAR_KEYWORD
    ]
    return f"Such as accord.{function.__name__}({', '.join([*needed, '…'])}), the rest by name."


# ---------------------------------------------------------------- kinds


def _whole(function: str, name: str, value: Any) -> Any:
    number = _scalar(value)
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise _wrong(name, value, f"a whole number, such as {name}=10")
    return int(number)


def _number(function: str, name: str, value: Any) -> Any:
    number = _scalar(value)
    if isinstance(number, bool) or not isinstance(number, Real):
        raise _wrong(name, value, f"a number, such as {name}=0.1")
    return number


def _switch(function: str, name: str, value: Any) -> bool:
    switch = _scalar(value)
    if not isinstance(switch, bool):
        raise _wrong(name, value, "True or False")
    return switch


def _text(function: str, name: str, value: Any) -> str:
    if callable(value) and not isinstance(value, PathLike):
        raise _by_name(name, value)
    if not is_path(value):
        raise _wrong(name, value, "a text")
    return fspath(value)


def _path(function: str, name: str, value: Any) -> Any:
    if not is_path(value):
        raise _wrong(name, value, "a path, or a run's result")
    return value


def _names(function: str, name: str, value: Any) -> Any:
    """Read one text as a list of one."""
    if isinstance(value, str):
        return (value,)
    if callable(value) and not isinstance(value, PathLike):
        raise _by_name(name, value)
    if isinstance(value, Mapping):
        raise _wrong(name, value, f"a list of names, such as {name}=['…']")
    try:
        names = tuple(value)
    except TypeError:
        raise _wrong(name, value, f"a list of names, such as {name}=['…']") from None
    for each in names:
        if callable(each):
            raise _by_name(name, each)
        if not isinstance(each, str):
            raise _wrong(name, each, f"a list of names, such as {name}=['…']")
    return names


def _rewards(function: str, name: str, value: Any) -> Any:
    """Read a mapping from rewards to weights as NAME=WEIGHT each."""
    if not isinstance(value, Mapping):
        return _names(function, name, value)
    return tuple(
        f"{each}={_number(function, f'{name}[{each!r}]', weight)!r}"
        for each, weight in plain(value).items()
    )


def _mapping(function: str, name: str, value: Any) -> dict:
    if not isinstance(value, Mapping):
        raise _wrong(name, value, f"a dict, {_assigned(name, value)}")
    for key in value:
        if not isinstance(key, str):
            raise _wrong(f"a key of {name}", key, "a text")
    return {key: plain(each) for key, each in value.items()}


def _assigned(name: str, value: Any) -> str:
    """Give an example of a dict of fields, of the words that were given where there are any."""
    words = [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []
    pairs = [str(word).partition("=") for word in words]
    if not pairs or not all(sign for _, sign, _ in pairs):
        path = "train.warmup" if name == "set" else "NAME.KEY"
        return f"such as {name}={{'{path}': 0.2}}"
    from accord.api.words import in_python

    flags = " ".join(f"--{name.replace('_', '-')} {key}={text}" for key, _, text in pairs)
    return f"here {in_python(flags)}"


def _lora(function: str, name: str, value: Any) -> Any:
    value = plain(value)
    rank = isinstance(value, int) and value > 0
    if not (isinstance(value, (bool, Mapping)) or rank):
        raise _wrong(
            name, value, "True, False (all weights train), a rank, or settings: {'rank': 8}"
        )
    return value


def _recipe(function: str, name: str, value: Any) -> Any:
    if is_path(value):
        return value
    if not isinstance(value, Mapping):
        if is_rows(value):
            raise UsageError(
                f"accord.{function}: rows, where a recipe stands. Rows go into data:"
                f" accord.{function}(data=…)."
            )
        raise _wrong(name, value, "a YAML file, or a dict of its shape")
    _refuse_objects(name, value)
    return plain(value)


def _refuse_objects(name: str, recipe: Mapping) -> None:
    """Refuse rows and models inside a recipe, which holds names alone."""
    data = recipe.get("data")
    held = data if isinstance(data, Mapping) else {"train": data}
    for key, keyword in (("train", "data"), ("held_out", "held_out")):
        if held.get(key) is not None and not is_path(held[key]):
            raise UsageError(
                f"{name}: its data.{key} is of the type {type(held[key]).__name__}, and a recipe"
                f" holds names of files. Rows go into {keyword}=…, beside the recipe."
            )
    model = recipe.get("model")
    named = model.get("name") if isinstance(model, Mapping) else model
    if named is not None and not is_path(named):
        raise UsageError(
            f"{name}: its model is of the type {type(named).__name__}, and a recipe holds its name."
            " A loaded model goes into model=…, tokenizer=…, beside the recipe."
        )


def _several(function: str, name: str, values: tuple) -> tuple:
    """Read a list of runs as the runs."""
    listed = values[0] if len(values) == 1 and isinstance(values[0], (list, tuple)) else values
    return tuple(_path(function, name, value) for value in listed)


def _scalar(value: Any) -> Any:
    """Return a number of numpy or torch as Python's."""
    alone = hasattr(value, "item") and getattr(value, "shape", None) == ()
    return value.item() if alone else value


def _wrong(name: str, value: object, wanted: str) -> UsageError:
    shown = shorten(repr(value), SHOWN)
    return UsageError(
        f"{name}: expected {wanted}; got {shown}"
        + (
            "."
            if isinstance(value, (str, int, float, type(None)))
            else f", of the type {type(value).__name__}."
        )
    )


def _by_name(name: str, function: Callable) -> UsageError:
    called = getattr(function, "__name__", "function")
    word = called if called.isidentifier() else "function"
    return UsageError(
        f"{name}: a function itself, and its name is expected, so that records can name it and"
        f" another process can import it: write it into a file, and give {name}='my_module:{word}'."
    )


# as the annotations of public functions have them, without " | None"
KINDS: dict[str, Callable[[str, str, Any], Any]] = {
    "int": _whole,
    "float": _number,
    "bool": _switch,
    "str": _text,
    "Path": _path,
    "Names": _names,
    "Rewards": _rewards,
    "Fields": _mapping,
    "Lora": _lora,
    "Recipe": _recipe,
}
