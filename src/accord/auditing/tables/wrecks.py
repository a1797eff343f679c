"""Texts that are no text any more: what is kept of every row."""

from __future__ import annotations

from dataclasses import dataclass

from accord.types import Example


@dataclass
class WreckTable:
    """The wrecks among the rows added so far."""

    def add(self, example: Example) -> None:
        """Count one row."""
