"""Several files in one config: a list under `data.train`, each with a weight, or `data.held_out`.

    data:
      train: [{path: a.jsonl, weight: 2}, b.jsonl]
      held_out: [a_test.jsonl, {path: b_test.jsonl, columns: {prompt: question}}]

The name of a mix is that of its files, "a.jsonl + b.jsonl": whoever wants words for the data reads
`data.train` as before.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

from pydantic import field_validator

from accord.config.columns import parse_columns, parse_names
from accord.config.section import Section
from accord.environment.hub.names import is_hub, without_rows
from accord.errors import UsageError

MOST_REPEATS = 100  # larger weights of a file are slips: a row would be seen so often in one epoch
JOIN = " + "


class NamedFile(Section):
    path: str
    """A file or folder as `train` and `held_out` take it; standard input is not among them."""
    columns: dict[str, str] = {}
    """Renames this file's columns."""
    ignore_columns: tuple[str, ...] = ()
    """Columns of this file, and keys of its messages, that hold no content."""

    @field_validator("columns", "ignore_columns", mode="before")
    @classmethod
    def _spelled(cls, value, info):
        return spelled(value, info.field_name)


class MixedFile(NamedFile):
    weight: float = 1.0
    """How often an epoch takes each row: 2 twice, 0.5 one half in each epoch and the other half in
    the next."""

    @field_validator("weight", mode="before")
    @classmethod
    def _usable(cls, value):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            raise ValueError("expected a number above 0, such as 2 or 0.5")
        if value <= 0:
            raise ValueError(
                "a weight is above 0"
                + (": to take nothing of a file, leave it out" if value == 0 else "")
            )
        if value > MOST_REPEATS:
            raise ValueError(
                f"every row of this file would come {value:,.6g} times in an epoch; at most"
                f" {MOST_REPEATS} times. Give the other files smaller weights instead, or train"
                " for more epochs"
            )
        return value


def spelled(value: Any, field: str) -> Any:
    """Read columns as they may be written, for a validator."""
    try:
        return (parse_columns if field == "columns" else parse_names)(value)
    except UsageError as error:
        raise ValueError(str(error)) from None


def is_files(given: Any) -> bool:
    """Tell whether a list names files: rows in memory are dicts with other keys."""
    known = MixedFile.model_fields
    return (
        isinstance(given, (list, tuple))
        and len(given) > 0
        and all(
            isinstance(each, (str, PathLike))
            or (isinstance(each, dict) and "path" in each and known.keys() >= each.keys())
            for each in given
        )
    )


def as_entries(given: Sequence, field: str) -> list[dict]:
    """Return each file of a list as a mapping.

    Raises:
      ValueError: the list is empty, or a file is standard input or stands there twice.
    """
    entries: list[dict] = []
    for each in given:
        entry = {"path": each} if isinstance(each, (str, PathLike)) else each
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), (str, PathLike)):
            raise ValueError(
                f"{field}: {each!r:.60} is no file of a list; expected such as"
                " [{path: a.jsonl, weight: 2}, {path: b.jsonl}]"
            )
        entries.append({**entry, "path": fspath(entry["path"])})
    if not entries:
        raise ValueError(f"{field}: the list names no file")
    places: dict[str, str] = {}
    for entry in entries:
        path = entry["path"]
        if path == "-":
            raise ValueError(
                f"{field}: standard input (-) cannot be one of several files; write its rows to a"
                " file"
            )
        # the first rows of a hub's split are rows of that split
        place = without_rows(path)[0] if is_hub(path) else _place(path)
        if place in places:
            named = path if path == places[place] else f"{places[place]} and {path}"
            remedy = "; give it once, with a weight" if field == "train" else ""
            raise ValueError(f"{field}: {named} is the same file twice{remedy}")
        places[place] = path
    return entries


def _place(path: str) -> str:
    return os.path.realpath(os.path.expanduser(path))


def name_of(entries: Sequence[dict]) -> str:
    """Return the name of several files."""
    return JOIN.join(entry["path"] for entry in entries)


def as_written(files: Sequence[NamedFile]) -> list[dict]:
    """Return several files as a recipe names them."""
    return [
        {"path": each.path} | each.model_dump(mode="json", exclude_defaults=True) for each in files
    ]
