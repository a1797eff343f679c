"""YAML text to plain values, without what PyYAML passes over: a key that stands twice, aliases that
stand for billions of values.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

# values in a text; aliases of aliases could stand for billions, an alias of itself for endless
NODES = 20_000
# PyYAML raises more than its own errors: for an impossible date, bytes that are not UTF-8, a
# malformed !!tag, deep nesting.
NOT_YAML = (
    yaml.YAMLError,
    ValueError,
    AttributeError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    RecursionError,
)
MERGE = "tag:yaml.org,2002:merge"  # `<<`, whose keys are meant to be written again


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without the numbers and dates of YAML 1.1 that mean something else than
    they look: 010 is 8 there, 1:30 is 90, and a date is no text. Each stays the text that it is.
    """


_ODD = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
# a whole number without a leading zero; a decimal number, with or without an exponent
_NUMBERS = (
    ("tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9_]*)$"), "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        re.compile(
            r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?$"
            r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
        ),
        "-+0123456789.",
    ),
)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _ODD]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern, _first in _NUMBERS:
    _Loader.add_implicit_resolver(_tag, _pattern, list(_first))


class TwiceError(ValueError):
    """A key stands twice in one mapping. PyYAML would take the last one, without a word."""


def read_yaml(text: str) -> Any:
    """Read YAML or JSON text; every alias becomes a value of its own.

    Raises:
      TwiceError: a mapping has a key twice. NOT_YAML: it cannot be read, or holds too many values.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_twice(loader, node, "", set())
        return _whole(loader.construct_document(node), [NODES])
    finally:
        loader.dispose()


def _whole(value: Any, left: list[int]) -> Any:
    left[0] -= 1
    if not left[0]:
        raise ValueError(f"it stands for over {NODES:,} values, its aliases included.")
    if isinstance(value, dict):
        return {key: _whole(child, left) for key, child in value.items()}
    return [_whole(child, left) for child in value] if isinstance(value, list) else value


def _refuse_twice(loader: yaml.SafeLoader, node: yaml.Node, path: str, seen: set[int]) -> None:
    """Refuse a key that stands twice in one mapping, at any depth, with both lines."""
    if id(node) in seen:  # an alias of what was looked at
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, child in enumerate(node.value):
            _refuse_twice(loader, child, f"{path}[{number}]", seen)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[Any, int] = {}
    for name, child in node.value:
        line = name.start_mark.line + 1
        where = f"{path}.{name.value}".lstrip(".") if isinstance(name, yaml.ScalarNode) else path
        if isinstance(name, yaml.ScalarNode) and name.tag != MERGE:
            key = loader.construct_object(name)
            if key in lines:
                places = (
                    f"in line {line}" if line == lines[key] else f"in lines {lines[key]} and {line}"
                )
                raise TwiceError(
                    f"the key {where} stands twice, {places}, and only one can count. Keep the one"
                    " that you mean and delete the other."
                )
            lines[key] = line
        _refuse_twice(loader, child, where, seen)
