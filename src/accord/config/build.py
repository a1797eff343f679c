"""One mapping from a recipe, flags and --set; the command line and Python go through the same few
lines.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from accord.config.objective_list import one_name
from accord.config.recipe_paths import name_hubs, resolve_paths
from accord.config.schema import Config, load_recipe, make_config, parse_assignment
from accord.config.secrets import refuse_secrets
from accord.errors import UsageError

# Short names for the fields that people set most; everything else has its full path.
SHORT = {
    "model": "model.name",
    "adapter": "model.adapter",
    "lora": "model.lora",
    "dtype": "model.dtype",
    "data": "data.train",
    "held_out": "data.held_out",
    "hold_out": "data.hold_out",
    "columns": "data.columns",
    "ignore_columns": "data.ignore_columns",
    "max_tokens": "data.max_tokens",
    "template": "data.template",
    "method": "objective.name",
    "reference": "reference",
    "steps": "train.steps",
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "learning_rate": "train.learning_rate",
    "seed": "train.seed",
    "output": "output",
    "on_flag": "monitor.on_flag",
}


# sections that can be one word: the key that it is the value of
ONE_WORD = {"objective": "name", "quantize": "kind"}
OPTION = re.compile(r"--[a-z-]+")
# names of SHORT that are no flags of `accord train`
PYTHON_ONLY = frozenset({"lora", "dtype", "max_tokens", "template", "reference"})


class Given(NamedTuple):
    """A value beside the recipe, and how it was given."""

    path: list[str]
    value: Any
    said: str


def build(
    recipe: str | Mapping | None = None,
    *,
    assignments: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
    fields: Mapping[str, Any] | None = None,
    allow: Iterable[str] = (),
    **short: Any,
) -> Config:
    """Build a validated config from the recipe, then what is given beside it, which wins over it.

    Args:
      recipe: path of a YAML file, whose own paths are relative to its folder; or a mapping of the
        same shape, whose paths are relative to the working directory.
      assignments: "section.key=value" as on the command line, the value in YAML.
      options: the objective's own keyword arguments.
      fields: values by their full path.
      short: values by the names in SHORT; None leaves the recipe's.

    Raises:
      UsageError: lists every problem, one per line; or a setting is given twice beside the recipe.
    """
    raw: dict = (
        load_recipe(recipe) if isinstance(recipe, str) else copy.deepcopy(dict(recipe or {}))
    )
    later = [*_given(short, options or {}, fields or {}, assignments)]
    _require_once(later)
    paths = {".".join(one.path) for one in later}
    if isinstance(recipe, str):
        resolve_paths(raw, recipe, given=paths)
    for one in later:
        _put(raw, one.path, one.value)
    # --steps beats a recipe's epochs, and the reverse
    if isinstance(raw.get("train"), dict) and not {"train.steps", "train.epochs"} <= paths:
        for name, other in (("steps", "epochs"), ("epochs", "steps")):
            if short.get(name) is not None:
                raw["train"].pop(other, None)
    raw["allow"] = [*_names(raw.get("allow")), *_names(allow)]
    if "hub" in raw["allow"]:
        name_hubs(raw)
    typed = {".".join(one.path): one.said for one in later if OPTION.fullmatch(one.said)}
    config = make_config(raw, typed)
    refuse_secrets(config)
    return config


def _given(
    short: Mapping[str, Any],
    options: Mapping[str, Any],
    fields: Mapping[str, Any],
    assignments: Iterable[str],
) -> Iterator[Given]:
    for name, value in short.items():
        if value is None:
            continue
        flag = "--all-weights" if name == "lora" and value is False else _flag(name)
        yield Given(SHORT[name].split("."), value, name if name in PYTHON_ONLY else flag)
    for name, value in options.items():
        yield Given(["objective", name], value, "--beta" if name == "beta" else name)
    for path, value in fields.items():
        yield Given(path.split("."), value, f"--set {path}={_brief(value)}")
    for assignment in assignments:
        yield Given(*parse_assignment(assignment), f"--set {assignment}")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _brief(value: Any) -> str:
    """Write a value as it stands behind --set; … where it would be long."""
    return json.dumps(value) if isinstance(value, (bool, int, float)) else "…"


def _require_once(given: Sequence[Given]) -> None:
    """Require that no value beside the recipe is lost to another one.

    Raises:
      UsageError: two values of one setting.
    """
    for number, later in enumerate(given):
        for former in given[:number]:
            depth = min(len(later.path), len(former.path))
            if later.path[:depth] != former.path[:depth]:
                continue
            wide, deep = sorted((former, later), key=lambda one: len(one.path))
            inside = _inside(wide.value, deep.path[depth:])
            # a section that is set as a whole replaces what was given of it
            if inside != deep.value and (inside is not MISSING or wide is later):
                raise UsageError(
                    f"{former.said} and {later.said} both give {'.'.join(deep.path)}. Leave one of"
                    " the two out."
                )


MISSING = object()


def _inside(value: Any, path: Sequence[str]) -> Any:
    """Return what a value has at a path; MISSING where it has nothing there."""
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return MISSING
        value = value[key]
    return value


def _names(value: object) -> list:
    """Read permissions from none, one or several names; the schema refuses what is not a name."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


def split_keywords(keywords: Mapping[str, Any]) -> tuple[dict, dict]:
    """Split Python's keyword arguments into (short names, the objective's own options)."""
    short = {name: value for name, value in keywords.items() if name in SHORT}
    return short, {name: value for name, value in keywords.items() if name not in SHORT}


def _put(raw: dict, path: list[str], value: Any) -> None:
    node = raw
    for part in path[:-1]:
        child = node.get(part)
        if isinstance(child, str) and part in ONE_WORD:
            child = {ONE_WORD[part]: child}
        elif isinstance(child, list) and part == "objective":
            try:
                child = one_name(child)
            except ValueError as error:
                raise UsageError(f"{part}: {error}.") from None
        elif child is True and part == "lora":
            child = {}
        elif isinstance(child, int) and child is not False and part == "lora":
            child = {"rank": child}
        elif child is False and part == "lora":
            raise UsageError(
                f"{'.'.join(path)}: all weights train (--all-weights), and this is a setting of"
                " adapters. Leave one of the two out."
            )
        elif child is not None and not isinstance(child, dict):
            raise UsageError(f"{part}: expected a section with keys; got {child!r:.60}.")
        node[part] = dict(child or {})
        node = node[part]
    node[path[-1]] = value
