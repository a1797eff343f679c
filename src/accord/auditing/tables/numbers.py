"""Numbers beside the texts: every numeric column of every row."""

from __future__ import annotations

from dataclasses import dataclass

from accord.types import Example


@dataclass
class NumberTable:
    """The numeric columns of the rows added so far."""

    def add(self, example: Example) -> None:
        """Count one row."""
