"""The spelling of --columns and --ignore-columns, the same on the command line, in recipes and in
Python.

    --columns prompt=question,chosen=good,rejected=bad     NAME=COLUMN: read COLUMN as NAME
    --columns '{prompt: "a, b"}'                           the same in YAML, for any column's name
    --ignore-columns hint,notes                            known, and no content
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from accord.config.yaml_text import NOT_YAML, TwiceError, read_yaml
from accord.errors import UsageError

EXAMPLE = "--columns prompt=question,chosen=good,rejected=bad"
PLAIN = re.compile(r"[^\s,={}\[\]\"'][^,={}\[\]\"']*")


def parse_columns(value: object) -> dict[str, str]:
    """Parse a mapping of columns: NAME=COLUMN,… in one text or several, or a mapping.

    Raises:
      UsageError: it is neither, or a name is empty or stands there twice.
    """
    if value is None:
        return {}
    pairs: list[tuple[Any, Any]] = []
    for each in [value] if isinstance(value, (str, Mapping)) else _listed(value, EXAMPLE):
        pairs += each.items() if isinstance(each, Mapping) else _pairs(each)
    for name, column in pairs:
        if not all(isinstance(one, str) and one.strip() for one in (name, column)):
            raise UsageError(
                f"columns: {name!r:.60} = {column!r:.60}: a name is empty or no text. Expected"
                f" NAME=COLUMN, such as {EXAMPLE}."
            )
    for side, names in (("name", [p[0] for p in pairs]), ("column", [p[1] for p in pairs])):
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise UsageError(
                f"columns: the {side} {twice[0]!r:.60} stands there twice; one column is read as"
                f" one name. Expected NAME=COLUMN, such as {EXAMPLE}."
            )
    return dict(pairs)


def parse_names(value: object) -> tuple[str, ...]:
    """Parse the names of --ignore-columns: a,b in one text or several, or a list.

    Raises:
      UsageError: a name is empty, no text, or stands there twice.
    """
    if value is None:
        return ()
    example = "--ignore-columns notes,hint"
    names: list[object] = []
    if isinstance(value, str):
        names += _split(value)
    else:
        for each in _listed(value, example):
            names += _split(each) if isinstance(each, str) else [each]
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise UsageError(
                f"ignore_columns: {name!r:.60} is empty or no text. Expected columns, such as"
                f" {example}."
            )
        if names.count(name) > 1:
            raise UsageError(f"ignore_columns: {name!r:.60} stands there twice.")
    return tuple(str(name) for name in names)


def spell_columns(columns: Mapping[str, str]) -> str:
    """Write a mapping as `parse_columns` reads it."""
    if all(PLAIN.fullmatch(text) for pair in columns.items() for text in pair):
        return ",".join(f"{name}={column}" for name, column in columns.items())
    return json.dumps(dict(columns), ensure_ascii=False)


def spell_names(names: Iterable[str]) -> str:
    """Write names as `parse_names` reads them."""
    names = list(names)
    if all(PLAIN.fullmatch(name) for name in names):
        return ",".join(names)
    return json.dumps(names, ensure_ascii=False)


def _listed(value: object, example: str) -> list:
    if not isinstance(value, (list, tuple)):
        raise UsageError(
            f"columns: {value!r:.60} is neither text nor a mapping; such as {example}."
        )
    return list(value)


def _pairs(text: object) -> list[tuple[Any, Any]]:
    if not isinstance(text, str):
        raise UsageError(f"columns: {text!r:.60}: expected NAME=COLUMN, such as {EXAMPLE}.")
    if text.lstrip().startswith("{"):
        found = _yaml(text)
        if isinstance(found, dict):
            return list(found.items())
        raise UsageError(f"--columns {text:.80}: no mapping in YAML; such as {EXAMPLE}.")
    pairs = []
    for piece in text.split(","):
        name, sign, column = piece.partition("=")
        if not sign:
            raise UsageError(
                f"--columns {text:.80}: {piece.strip()!r:.60} is no NAME=COLUMN. Expected such as"
                f" {EXAMPLE}."
            )
        pairs.append((name.strip(), column.strip()))
    return pairs


def _split(text: str) -> list:
    if text.lstrip().startswith("["):
        found = _yaml(text)
        if isinstance(found, list):
            return found
    return [piece.strip() for piece in text.split(",")]


def _yaml(text: str) -> object:
    """Read a short text as JSON or YAML; None where it is neither.

    Raises:
      UsageError: a name stands in it twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except TwiceError as error:
        raise UsageError(f"--columns {text:.80}: {error}") from error
    except (ValueError, RecursionError):
        pass
    # no anchors: a name needs none
    if len(text) > 10_000 or "&" in text:
        return None
    try:
        return read_yaml(text)
    except TwiceError as error:
        raise UsageError(f"--columns {text:.80}: {error}") from error
    except NOT_YAML:
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make the mapping of a JSON object, whose keys must differ."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise TwiceError(f"the name {twice!r:.60} stands twice, and only one can count.")
    return made
