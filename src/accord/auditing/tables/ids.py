"""Columns that name a row: what is kept of every row, as hashes."""

from __future__ import annotations

from dataclasses import dataclass

from accord.types import Example


@dataclass
class IdTable:
    """The ids of the rows added so far."""

    def add(self, example: Example) -> None:
        """Count one row."""
