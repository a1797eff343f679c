"""The problems of a config in words: where, what was expected there, and a key's right name."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from accord.config.renamed import RENAMED, TRL_NAMES
from accord.environment.nearest import nearest
from accord.errors import shorten

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


SECTION_TYPES = ("model_type", "model_attributes_type", "dataclass_type")
SHOWN = 100  # characters of a value in a message
# the files of a list, by the key that a recipe has it under
WRITTEN_UNDER: dict[str | int, str] = {"train_files": "train", "held_out_files": "held_out"}


# what a field must be, by pydantic's name of the problem; {} takes the problem's context
EXPECTED = {
    "greater_than_equal": "expected {ge} or more",
    "greater_than": "expected more than {gt}",
    "less_than_equal": "expected {le} or less",
    "less_than": "expected less than {lt}",
    "literal_error": "expected {expected}",
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "int_parsing": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "string_type": "expected text",
    "list_type": "expected a list, such as [a,b]",
    "tuple_type": "expected a list, such as [a,b]",
    "dict_type": "expected a mapping, such as {{a: 1}}",
}


def explain(problem: ErrorDetails, schema: Any, typed: Mapping[str, str] | None = None) -> str:
    """Say in one line what is wrong with a field of a config of this schema.

    Args:
      typed: path of a field -> the option that it was given by.
    """
    where = ".".join(
        WRITTEN_UNDER.get(part, str(part))
        for part in problem["loc"]
        if part not in ("LoraConfig", "str", "list[str]")
    )
    if problem["type"] == "extra_forbidden":
        said = f"{where}: unknown key{_suggest(problem['loc'], schema)}"
        return said if said.endswith("?") else f"{said}."
    if problem["type"] == "missing":
        hint = " (--data FILE)" if where in ("data", "data.train") else ""
        return f"{where}: missing{hint}."
    message = _expected(problem) + _as_share(problem, schema) + _nearest_choice(problem)
    if problem["type"] in SECTION_TYPES:
        message = _section_example(problem["loc"], problem["input"], schema)
    if problem["type"] == "string_pattern_mismatch" and (
        meaning := _meaning(problem["loc"], schema)
    ):
        message = f"expected {meaning.rstrip('.')}"
    value = problem["input"]
    if (option := (typed or {}).get(where)) and isinstance(value, (str, int, float)):
        word = f"{value:g}" if isinstance(value, float) else shlex.quote(str(value)[:SHOWN])
        return f"{option} {word}: {message}."
    if not where or (problem["type"] == "value_error" and where == "data"):
        return f"{message}."  # it names the fields itself
    # of a section as a whole the message names the fields
    whole = problem["type"] == "value_error" and isinstance(problem["input"], dict)
    got = "" if whole else f"; got {shorten(repr(problem['input']), SHOWN)}"
    return f"{where}: {message}{got}."


def _expected(problem: ErrorDetails) -> str:
    """Say what was expected, in words that are no parser's."""
    said = EXPECTED.get(problem["type"])
    if said is None:
        return problem["msg"].removeprefix("Value error, ").rstrip(".")
    context = problem.get("ctx", {})
    words = said.format(**{k: f"{v:g}" if isinstance(v, float) else v for k, v in context.items()})
    return words.replace("'", "") if problem["type"] == "literal_error" else words


def _as_share(problem: ErrorDetails, schema: Any) -> str:
    """Write a number of per cent as the share that a field takes."""
    value = problem["input"]
    if not problem["type"].startswith("less_than") or not isinstance(value, (int, float)):
        return ""
    if not 1 < value <= 100 or "share" not in (_meaning(problem["loc"], schema) or "").lower():
        return ""
    return f": {value:g} % is {value / 100:g}"


def _nearest_choice(problem: ErrorDetails) -> str:
    if problem["type"] != "literal_error" or not isinstance(problem["input"], str):
        return ""
    close = nearest(problem["input"], re.findall(r"'([^']*)'", problem["ctx"]["expected"]))
    return f"; did you mean {close}" if close else ""


def _section_example(location: tuple, given: object, schema: Any) -> str:
    """Say what is expected where a section stands, with its first field as an example."""
    section = _section([str(part) for part in location], schema)
    if section is schema:
        return "expected a mapping of sections"
    name, field = next(iter(section.model_fields.items()))
    example = given if isinstance(given, str) else field.get_default(call_default_factory=True)
    shown = json.dumps(example) if isinstance(example, (str, int, float)) else "…"
    return f'expected a section with keys, such as {{"{name}": {shown}}}'


def _suggest(location: tuple, schema: Any) -> str:
    *path, key = (str(part) for part in location)
    if new := RENAMED.get(".".join((*path, key))):
        return f": its name was changed to {new.rpartition('.')[2]}"
    if key in TRL_NAMES:
        return f": {key} is TRL's name; here it is {TRL_NAMES[key]}"
    node = _section(path, schema)
    if here := nearest_words(key, node.model_fields):
        return here
    if node is schema and (inner := _inner(key, schema)):
        return f"; did you mean {inner}?"
    return f"; known here: {', '.join(node.model_fields)}"


def _section(path: Sequence[str], schema: Any) -> Any:
    """Return the section at a path, or the innermost that is one."""
    node = schema
    for part in path:
        field = node.model_fields.get(part)
        kinds = (field.annotation, *getattr(field.annotation, "__args__", ())) if field else ()
        node = next((kind for kind in kinds if hasattr(kind, "model_fields")), node)
    return node


def _inner(key: str, schema: Any) -> str | None:
    """Find the path of a field by its last part, where only one section has such a field."""
    paths: dict[str, list[str]] = {}
    for section in schema.model_fields:
        if (kind := _section([section], schema)) is not schema:
            for name in kind.model_fields:
                paths.setdefault(name, []).append(f"{section}.{name}")
    close = nearest(key, [name for name, found in paths.items() if len(found) == 1], 0.8)
    return paths[close][0] if close else None


def _meaning(location: tuple, schema: Any) -> str | None:
    """Return what stands beside a field in this file."""
    *path, key = (str(part) for part in location)
    field = _section(path, schema).model_fields.get(key)
    return field.description if field else None


def nearest_words(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return the end of a sentence that names the nearest word; `otherwise` where there is none."""
    close = nearest(word, known)
    return f"; did you mean {close}?" if close else otherwise
