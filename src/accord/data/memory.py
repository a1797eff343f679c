"""Rows in memory: a list of dicts, a table of pandas, a data set of `datasets`.

They are written as JSONL and read from there, so that the same readers, ledger and audits see them
as a file of the same rows, and the digest is that file's. None of these libraries is imported: an
object is known by its methods.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from accord.config.mixed_files import is_files
from accord.data.containers import named_copy
from accord.data.write import write_row
from accord.types import DataError, UsageError

EXPECTED = "a path, a list of dicts, a DataFrame of pandas or a Dataset of datasets"


def is_path(data: object) -> bool:
    """Tell whether data are named, and not given as rows."""
    return isinstance(data, (str, PathLike))


def is_rows(data: object) -> bool:
    """Tell whether data look like rows in memory: a table, or a list of dicts."""
    if isinstance(data, (list, tuple)):
        return bool(data) and isinstance(data[0], Mapping)
    return hasattr(data, "iloc") or hasattr(data, "column_names")


def require_rows(data: Any, what: str) -> None:
    """Require a path, or rows in memory of which there is one at least, before anything is written.

    Raises:
      UsageError: as `rows_of`, or there is none.
    """
    if is_path(data):
        return
    if isinstance(data, (list, tuple)):
        next(iter(rows_of(data, what)), None)
    elif not hasattr(data, "columns"):  # a table is not turned into rows twice
        _listed(data, what)
    if hasattr(data, "__len__") and len(data) == 0:
        kind = type(data).__name__
        raise UsageError(f"{what}: an empty {kind}: there is no row in it.")


def as_named(data: Any) -> Any:
    """Return data that are named as a recipe names them: a path as text, a list of files as it is;
    None for rows.
    """
    if is_files(data):
        return [fspath(each) if isinstance(each, PathLike) else each for each in data]
    return fspath(data) if is_path(data) else None


@contextmanager
def as_name(data: Any, what: str) -> Iterator[str]:
    """Give rows in memory a name that every reader knows while the context lasts; a path has one.

    Args:
      what: the parameter that holds them, for messages: "data", "held_out", "prompts".

    Raises:
      UsageError: they are no rows. DataError: a value has no form in JSON.
    """
    if is_path(data):
        yield fspath(data)
        return
    require_rows(data, what)
    with tempfile.TemporaryDirectory(prefix="accord-") as folder:
        file = Path(folder) / f"{what}.jsonl"
        write_rows(data, file, what)
        with named_copy(f"rows of {what}", file) as name:
            yield name


def write_rows(data: Any, file: Path, what: str) -> None:
    """Write rows in memory as JSONL, one row a line.

    Raises:
      UsageError: they are no rows. DataError: a value has no form in JSON.
    """
    with open(file, "w", encoding="utf-8") as out:
        for number, row in enumerate(rows_of(data, what), 1):
            write_row(out, {str(name): _plain(row[name], what, number, name) for name in row})


def rows_of(data: Any, what: str) -> Iterator[Mapping]:
    """Yield the rows of an object in memory. In a list of prompts a text alone is a row with a
    prompt, and so is a conversation, as a list of messages.

    Raises:
      UsageError: it is no table and no list of rows, or holds several splits.
    """
    for number, row in enumerate(_listed(data, what), 1):
        if what == "prompts":
            row = _prompt_row(row, number)
        if not isinstance(row, Mapping):
            raise UsageError(
                f"{what}: row {number} is of the type {type(row).__name__}; each row is a dict,"
                ' such as {"prompt": "…", "chosen": "…", "rejected": "…"}.'
            )
        yield row


def _prompt_row(row: Any, number: int) -> Any:
    """Return the row of a prompt.

    Raises:
      UsageError: it is a message of a conversation, or no prompt at all.
    """
    if isinstance(row, str) or _is_conversation(row):
        return {"prompt": row}
    if _is_message(row):
        raise UsageError(
            f"prompts: row {number} is one message. A prompt is a text or a list of messages, and"
            ' prompts are a list of them: prompts=[[{"role": "user", "content": "…"}]].'
        )
    if not isinstance(row, Mapping):
        raise UsageError(
            f"prompts: row {number} is of the type {type(row).__name__}; each is a text, a list of"
            ' messages, or a dict, such as {"prompt": "…"}.'
        )
    return row


def _is_conversation(row: Any) -> bool:
    return isinstance(row, (list, tuple)) and bool(row) and all(map(_is_message, row))


def _is_message(row: Any) -> bool:
    return isinstance(row, Mapping) and {"role", "content"} <= set(row) and "prompt" not in row


def _listed(data: Any, what: str) -> Iterable:
    """Return what can be gone through row by row."""
    if isinstance(data, Mapping):
        if data and all(hasattr(split, "column_names") for split in data.values()):
            name = next(iter(data))
            raise UsageError(
                f"{what}: a data set of {len(data)} splits ({', '.join(map(str, data))}). Choose"
                f" one: {what}=dataset[{name!r}]."
            )
        raise UsageError(
            f"{what}: one dict, where a list of dicts is expected. A row is an element of the"
            f" list: {what}=[row, …]."
        )
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        return data.to_dict("records")
    if what == "prompts" and hasattr(data, "tolist"):  # a column of texts, of pandas or numpy
        return data.tolist()
    if hasattr(data, "iloc"):
        raise UsageError(
            f"{what}: a {type(data).__name__}, which is one column of a table. Give the table"
            " itself, or [[…]] of the columns that a row has."
        )
    if hasattr(data, "column_names") and hasattr(data, "features"):
        return _of_datasets(data)
    if isinstance(data, (list, tuple)):
        return data
    raise UsageError(f"{what}: of the type {type(data).__name__}; expected {EXPECTED}.")


def _of_datasets(data: Any) -> Iterator[dict]:
    """Yield the rows of a data set as plain Python; the number of a class becomes its name, as in
    its files.
    """
    plain = data.with_format(None) if hasattr(data, "with_format") else data
    named: dict[str, Callable] = {
        name: feature.int2str
        for name, feature in (data.features or {}).items()
        if hasattr(feature, "int2str")
    }
    for row in plain:
        yield {
            name: named[name](value) if name in named and value not in (None, -1) else value
            for name, value in row.items()
        }


def _plain(value: Any, what: str, number: int, column: object) -> Any:
    """Return a value as JSON holds it: numpy's scalars and arrays as numbers and lists, a missing
    one as null.

    Raises:
      DataError: JSON has no form for it.
    """

    def convert(value: Any) -> Any:
        if value is None or isinstance(value, (str, bool, int)):
            return value
        if isinstance(value, float):
            return None if math.isnan(value) else value
        if isinstance(value, Mapping):
            return {str(name): convert(each) for name, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [convert(each) for each in value]
        if isinstance(value, PathLike):
            return fspath(value)
        if isinstance(value, date):  # a datetime is a date too, and so is the Timestamp of pandas
            return value.isoformat()
        if hasattr(value, "tolist"):  # of numpy and torch: the same in plain Python
            return convert(value.tolist())
        if type(value).__name__ in ("NAType", "NaTType"):  # what is missing, to pandas
            return None
        raise DataError(
            f"{what}: row {number}, column {str(column)!r:.60}: a value of the type"
            f" {type(value).__name__} has no form in JSON. Write it as a text or a number."
        )

    plain = convert(value)
    try:
        json.dumps(plain)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what}: row {number}, column {str(column)!r:.60}: {error}") from error
    return plain
