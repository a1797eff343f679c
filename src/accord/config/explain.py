"""The problems of a config in words: where, what was expected there, and a key's right name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
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


def explain(problem: ErrorDetails, schema: Any) -> str:
    """Say in one line what is wrong with a field of a config of this schema."""
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
    message = problem["msg"].removeprefix("Value error, ").rstrip(".")
    if problem["type"] in SECTION_TYPES:
        message = _section_example(problem["loc"], problem["input"], schema)
    if problem["type"] == "string_pattern_mismatch" and (
        meaning := _meaning(problem["loc"], schema)
    ):
        message = f"expected {meaning.rstrip('.')}"
    if not where:
        return f"{message}."
    # of a section as a whole the message names the fields
    whole = problem["type"] == "value_error" and isinstance(problem["input"], dict)
    got = "" if whole else f"; got {shorten(repr(problem['input']), SHOWN)}"
    return f"{where}: {message}{got}."


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
