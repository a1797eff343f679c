"""One mapping from a recipe, flags and --set; the command line and Python go through the same few
lines.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from accord.config.recipe_paths import resolve_paths
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


def build(
    recipe: str | Mapping | None = None,
    *,
    assignments: Iterable[str] = (),
    fields: Mapping[str, Any] | None = None,
    allow: Iterable[str] = (),
    **short: Any,
) -> Config:
    """Build a validated config from the recipe, then short names, then fields and `--set`
    assignments; later ones win.

    Args:
      recipe: path of a YAML file, whose own paths are relative to its folder; or a mapping of the
        same shape, whose paths are relative to the working directory.
      assignments: "section.key=value" as on the command line, the value in YAML.
      fields: values by their full path.
      short: values by the names in SHORT; None leaves the recipe's.

    Raises:
      UsageError: lists every problem, one per line.
    """
    raw: dict = (
        load_recipe(recipe) if isinstance(recipe, str) else copy.deepcopy(dict(recipe or {}))
    )
    given = {SHORT[name]: value for name, value in short.items() if value is not None}
    later = [
        *((path.split("."), value) for path, value in (given | dict(fields or {})).items()),
        *map(parse_assignment, assignments),
    ]
    if isinstance(recipe, str):
        resolve_paths(raw, recipe, given={".".join(path) for path, _ in later})
    for keys, value in later:
        _put(raw, keys, value)
    # --steps beats a recipe's epochs, and the reverse: the one given later counts
    if (
        short.get("steps") is not None
        and short.get("epochs") is None
        and isinstance(raw.get("train"), dict)
    ):
        raw["train"].pop("epochs", None)
    elif short.get("epochs") is not None and short.get("steps") is None:
        raw["train"].pop("steps", None)
    raw["allow"] = [*_names(raw.get("allow")), *_names(allow)]
    config = make_config(raw)
    refuse_secrets(config)
    return config


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
        if isinstance(child, str) and part == "objective":
            child = {"name": child}
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
