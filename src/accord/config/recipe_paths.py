"""Paths in a recipe: relative to the recipe's own folder, wherever the command is typed.

`output` is the one exception: runs lie where the command is typed, as they do without a recipe. A
path that exists in the working directory and not beside the recipe is refused with the line to
write. Accepting it would make a recipe mean other files in another directory
(docs/decisions/0049-paths-of-recipes.md).
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from accord.environment.hub.names import PREFIX, is_hub, may_be_repo
from accord.errors import UsageError

# Fields that hold a path, with the words that are none. NAME: a name of something, or a folder.
NAME = None
FIELDS: dict[str, tuple[str, ...] | None] = {
    "data.train": ("-",),
    "data.held_out": ("-",),
    "data.template": ("auto", "raw"),
    "data.sft": (),  # this one and the next are of `accord rlhf`
    "data.prompts": (),
    "model.adapter": (),
    "monitor.prompts": (),
    "model.name": NAME,
    "rollouts.rewards": NAME,
    "rollouts.gold": NAME,
    "rollouts.reward_options": NAME,  # by a reward's name
    "rollouts.gold_options": NAME,
}
# Fields in which org/name may be a hub's, where the permission says so; a file's suffix is none.
HUB_FIELDS = (
    "model.name",
    "model.adapter",
    "data.train",
    "data.held_out",
    "data.sft",
    "data.prompts",
)
DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".gz", ".zst", ".txt")
EMBEDDED = "smollm2"  # always the embedded model, whatever folder has its name
WORDS = {EMBEDDED, *(word for words in FIELDS.values() for word in words or ())}


def resolve_paths(
    raw: dict, recipe: str, *, given: Collection[str] = (), parts: Sequence[str] = ()
) -> None:
    """Write every path of a recipe as it is opened from the working directory.

    Args:
      raw: the recipe's mapping; changed in place.
      recipe: the file that it was read from.
      given: dotted fields that a flag, Python or `--set` replaces; they are left alone.
      parts: keys of `raw` that hold a recipe of their own, as the phases of `accord rlhf` do.

    Raises:
      UsageError: a path that exists in the working directory and not beside the recipe.
    """
    if Path(recipe).expanduser().resolve().parent == Path.cwd():
        return
    change_names(raw, partial(_opened, recipe=recipe), parts=parts, given=given)


def rebase_paths(raw: dict, recipe: str) -> None:
    """Write the paths of a mapping, which are of the working directory, as the file `recipe` is to
    name them. What does not exist stays as it is: it may be a name.
    """
    change_names(raw, lambda value, field, where: rebased(value, recipe))


def rebased(value: str, recipe: str) -> str:
    """Write one path of the working directory as the file `recipe` is to name it."""
    if _is_elsewhere(value) or value in WORDS or not _exists(value):
        return value
    return Path(os.path.relpath(value, Path(recipe).expanduser().parent)).as_posix()


def name_hubs(raw: dict, *, parts: Sequence[str] = ()) -> None:
    """Write `hub:` before every name of a model or data set that is org/name and no path here: the
    permission `hub` says that such a name is a hub's.

    Args:
      raw, parts: as in `resolve_paths`.
    """

    def named(value: str, field: str, where: str) -> str:
        plain = field in HUB_FIELDS and may_be_repo(value) and not _exists(value)
        suffix = Path(value).suffix in DATA_SUFFIXES and field.startswith("data.")
        return PREFIX + value if plain and not suffix else value

    change_names(raw, named, parts=parts)


def change_names(
    raw: dict, change: Callable[..., str], *, parts: Sequence[str] = (), given: Collection[str] = ()
) -> None:
    """Put `change(value, field=, where=)` in place of every path and name that is not given."""
    for part in ("", *parts):
        own = raw.get(part) if part else raw
        for field in FIELDS:
            section, key = field.split(".")
            holder = own.get(section) if isinstance(own, dict) else None
            where = f"{part}.{field}".lstrip(".")
            if isinstance(holder, dict) and key in holder and not _is_given(where, given):
                holder[key] = _each(holder[key], partial(change, field=field, where=where))


def _is_given(field: str, given: Collection[str]) -> bool:
    return any(field == one or field.startswith(one + ".") for one in given)


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """Change a text, the texts or files of a list, or the keys of a mapping; the schema sees to the
    rest.
    """
    match value:
        case str():
            return change(value)
        case list():
            return [_each_file(one, change) for one in value]
        case dict():
            return {change(k) if isinstance(k, str) else k: one for k, one in value.items()}
    return value


def _each_file(one: Any, change: Callable[[str], str]) -> Any:
    """Change an element of a list: a path, or a file of a mix with its path."""
    if isinstance(one, dict) and isinstance(one.get("path"), str):
        return one | {"path": change(one["path"])}
    return change(one) if isinstance(one, str) else one


def _opened(value: str, *, field: str, where: str, recipe: str) -> str:
    """Return one path as it is opened from the working directory."""
    words = FIELDS[field]
    if _is_elsewhere(value) or value in (words or (EMBEDDED,)):
        return value
    folder = Path(recipe).expanduser().parent
    beside = str(folder / value)
    if words is NAME and not _is_model(value, folder):
        name, weighted, weight = value.rpartition("=")  # a reward's NAME=WEIGHT
        if weighted and field.startswith("rollouts."):
            return f"{_opened(name, field=field, where=where, recipe=recipe)}={weight}"
        if not _is_model(value, Path()):
            return beside if value.startswith(".") else value
    elif words is NAME or _exists(beside) or not _exists(value):
        return beside
    raise UsageError(
        f"{recipe}: {where}: {value} is in the working directory and not beside the recipe."
        " Paths in a recipe are relative to its own folder.\n"
        f"Write there: {rebased(value, recipe)}"
        + f"\nOr name it with this command: --set {where}={value}"
        * (words is not NAME)
    )


def _is_elsewhere(value: str) -> bool:
    """Tell a path that means the same in every directory, or an address."""
    return not value or "://" in value or is_hub(value) or Path(value).expanduser().is_absolute()


def _exists(path: str) -> bool:
    """Tell whether there is such a file or folder, or one that fits the pattern."""
    return os.path.lexists(path) or any(glob.iglob(path, recursive=True))


def _is_model(value: str, folder: Path) -> bool:
    """Tell a model's folder from a name: a bare word is one only where it holds a model."""
    there = folder / value
    return there.is_dir() and ("/" in value.rstrip("/") or (there / "config.json").is_file())
