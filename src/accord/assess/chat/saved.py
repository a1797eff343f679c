"""A JSONL file that a conversation adds rows to, one whole row at a time.

A file that was there before is never overwritten: rows are added behind its own, and only after
the user has agreed.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

from accord.data.write import write_row
from accord.types import CheckpointError, UsageError


class RowsFile:
    """A file of rows that grows."""

    def __init__(self, path: str, agrees: Callable[[str], bool]):
        """
        Args:
          agrees: asks the user a question that is answered by yes or no.

        Raises:
          UsageError: no name of a JSONL file, something else that stands there, or no agreement.
        """
        self.path = Path(path).expanduser()
        self.rows = 0
        if not self.path.name.endswith(".jsonl"):
            raise UsageError(
                f"{path}: rows are written as JSONL; expected a name that ends in .jsonl."
            )
        if not self.path.parent.is_dir():
            raise UsageError(f"{path}: there is no folder {self.path.parent}. Make it first.")
        if self.path.exists() or self.path.is_symlink():
            self._require_rows(path)
            if not agrees(f"{path} is there already. Add rows at its end?"):
                raise UsageError(f"{path}: nothing was written. Name another file.")

    def _require_rows(self, path: str) -> None:
        """Refuse a file that rows cannot be added to."""
        if not self.path.is_file():
            raise UsageError(f"{path} is no regular file. Name another.")
        try:
            with self.path.open("rb") as file:
                last = file.readlines()[-1:]
            if last and (not last[0].endswith(b"\n") or not isinstance(json.loads(last[0]), dict)):
                raise ValueError("no whole row")
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(
                f"{path}: its last line is no whole row of JSONL, so none is added to it. Name"
                " another file."
            ) from error

    def add(self, row: dict) -> None:
        """Add one row and flush it to the disk. A row that fails leaves the file as it was.

        Raises:
          CheckpointError: it cannot be written.
        """
        line = io.StringIO()
        write_row(line, row)
        try:
            with self.path.open("ab", buffering=0) as file:
                before = file.tell()
                try:
                    _write_all(file, line.getvalue().encode())
                except OSError:
                    file.truncate(before)
                    raise
                os.fsync(file.fileno())
        except OSError as error:
            raise CheckpointError(
                f"{self.path}: the row cannot be written: {error.strerror}. The rows before it are"
                " intact."
            ) from error
        self.rows += 1


def _write_all(file: io.FileIO, content: bytes) -> None:
    while content:
        content = content[file.write(content) :]
