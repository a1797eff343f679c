"""Lines of the files that `accord sample` and `accord score` write, as other commands read them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from accord.data.containers import locate
from accord.data.naming import PLAIN, Naming
from accord.data.read import require_columns
from accord.data.unread import ColumnAccount
from accord.types import DataError, Turn


def rows_of(path: str, naming: Naming = PLAIN) -> Iterator[tuple[int, dict]]:
    """Yield (line, row) of a file that a command of accord wrote. Any other line is damage and an
    error; no line is skipped.
    """
    account = ColumnAccount(naming, prompts_only=True)
    seen: set[str] = set()
    with locate(path) as source:
        for line, row in source.rows():
            if not isinstance(row, dict):
                raise DataError(
                    f"{path}:{line}: this line is no JSON object. Make the file again, or take the"
                    " line out."
                )
            row = naming.spread(row)
            seen |= row.keys()
            if missing := [found for found in naming.names.values() if found not in row]:
                require_columns(account, seen, path)
                raise DataError(
                    f"{path}:{line}: it has no column {missing[0]!r:.60}, as --columns names."
                )
            yield line, naming.apply(row)
    require_columns(account, seen, path)


def texts_of(row: Mapping, path: str, line: int) -> list[str]:
    """Return the answers of a line.

    Raises:
      DataError: it has none.
    """
    texts = row.get("completions")
    if (
        not isinstance(texts, list)
        or not texts
        or not all(isinstance(text, str) for text in texts)
        or "prompt" not in row
    ):
        raise DataError(
            f"{path}:{line}: expected a `prompt` and a list of texts, `completions`, as accord"
            f" sample writes them; it has {', '.join(sorted(map(str, row))[:12])[:300]}. Name them:"
            " --columns prompt=COLUMN,completions=COLUMN"
        )
    return texts


def asked_of(row: Mapping, path: str, line: int) -> tuple[tuple[Turn, ...], Mapping]:
    """Return the prompt of a line, and the columns that its answers are verified against."""
    prompt, columns = row["prompt"], row.get("row") or {}
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not isinstance(turns, list) or not turns or not all(map(_message, turns)):
        raise DataError(
            f"{path}:{line}: expected a `prompt` that is a text, or a list of messages with role"
            " and content."
        )
    if not isinstance(columns, dict):
        raise DataError(
            f"{path}:{line}: expected a `row` that is an object: the other columns of the prompt's"
            " row."
        )
    return tuple(Turn(turn["role"], turn["content"]) for turn in turns), columns


def _message(turn: object) -> bool:
    return (
        isinstance(turn, dict)
        and isinstance(turn.get("role"), str)
        and isinstance(turn.get("content"), str)
    )


def is_reward(value: object) -> bool:
    """Tell whether a value of the column `rewards` is a number, or null for a missing one."""
    return value is None or (
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    )


def digest_of(path: str) -> str:
    """Hash the file."""
    with locate(path) as source:
        return source.digest()
