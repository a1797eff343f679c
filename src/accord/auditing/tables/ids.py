"""Columns that name a row: what is kept of every row, as hashes."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from accord.auditing.columns import LONGEST, is_name
from accord.types import Example

MOST_COLUMNS = 6  # 16 bytes a row each
# "id", "uid", "prompt_id", "questionId", "example-key", "sha256", "row_hash"
_ID = re.compile(r"(?:^|[_\-. ])(?:id|uid|uuid|guid|key|hash|sha\d{0,3}|md5|index|idx)$", re.I)
_CAMEL = re.compile(r"[a-z]Id$")
_NUMBER = re.compile(r"\d{1,18}$")
NONE = np.iinfo(np.int64).min


@dataclass
class IdColumn:
    """The values of one column: 0 where a row has none."""

    hashes: array = field(default_factory=lambda: array("Q"))
    numbers: array = field(default_factory=lambda: array("q"))  # that each ends in; NONE: in none

    def fill(self, rows: int) -> None:
        """Add rows without a value, up to so many."""
        if (missing := rows - len(self.hashes)) > 0:
            self.hashes.extend([0] * missing)
            self.numbers.extend([int(NONE)] * missing)


@dataclass
class IdTable:
    """The ids of the rows added so far."""

    rows: int = 0
    columns: dict[str, IdColumn] = field(default_factory=dict)
    names: dict[str, bool] = field(default_factory=dict)  # is the column's name that of an id

    def add(self, example: Example) -> None:
        """Keep the ids of one row."""
        for name, value in example.extra.items():
            if not self._is_id(name):
                continue
            found = _value(value)
            if found is None:
                continue
            column = self.columns.get(name)
            if column is None:
                if len(self.columns) >= MOST_COLUMNS:
                    continue
                column = self.columns[name] = IdColumn()
            column.fill(self.rows)
            column.hashes.append(found[0])
            column.numbers.append(found[1])
        self.rows += 1

    def _is_id(self, name: object) -> bool:
        if not isinstance(name, str) or len(name) > LONGEST:
            return False
        known = self.names.get(name)
        if known is None:
            known = is_name(name) and (_ID.search(name) or _CAMEL.search(name)) is not None
            if len(self.names) < 1_000:  # a file may have another column in every row
                self.names[name] = known
        return known

    def arrays(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return hashes [N] uint64 (0: no value) and numbers [N] int64 (NONE) of a column."""
        column = self.columns[name]
        column.fill(self.rows)
        return np.array(column.hashes, np.uint64), np.array(column.numbers, np.int64)


def _value(value: object) -> tuple[int, int] | None:
    """Return the hash of an id and the number that it ends in."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    text = str(value).strip() if isinstance(value, str) or abs(value) < 1 << 62 else ""
    if not text or len(text) > 200:
        return None
    digest = blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    match = _NUMBER.search(text[-18:])
    return int.from_bytes(digest, "little") or 1, int(match[0]) if match else int(NONE)
