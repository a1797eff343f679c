"""A JSONL file that grows line by line; a killed command continues it and makes no line twice.

While it grows it is called NAME.part. Each line carries the settings that it depends on
(`provenance`); a file that was begun with other settings is not continued.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from accord.data.write import check_rows_file, write_row
from accord.types import CheckpointError, UsageError


class GrowingFile:
    """The file NAME.part, cut back to its whole lines; `done` of them were there."""

    def __init__(self, path: str, provenance: dict, piece: int = 1):
        """
        Args:
          piece: lines that are made together. A piece that a kill cut in two is made again as a
            whole: half a batch rounds otherwise than the batch.

        Raises:
          UsageError: a name that is no JSONL file's or is taken, or a .part that was begun with
            other settings.
        """
        check_rows_file(path)
        if not path.endswith(".jsonl"):
            raise UsageError(
                f"{path}: a file that grows line by line is not compressed. Expected a name that"
                " ends in .jsonl."
            )
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + ".part")
        self.provenance = json.loads(json.dumps(provenance))
        self.done = self._resumed(piece)

    def _resumed(self, piece: int) -> int:
        """Count the lines that are there already.

        Cut off the rest of a line, or of a piece, that a kill left.
        """
        if not self.part.exists():
            return 0
        content = self.part.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.split(b"\n")[:-1]
        for number, line in enumerate(lines, 1):
            if self._provenance(line) != self.provenance:
                raise UsageError(
                    f"{self.part}:{number}: begun with another model, other data or other settings"
                    " than now.\nGive the same ones to go on, or remove it to begin again: rm"
                    f" {self.part}"
                )
        kept = lines[: len(lines) - len(lines) % piece]
        size = sum(len(line) + 1 for line in kept)
        if size < len(content):
            os.truncate(self.part, size)
        return len(kept)

    @staticmethod
    def _provenance(line: bytes) -> object:
        try:
            return json.loads(line)["provenance"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None

    def add(self, rows: Iterable[dict]) -> None:
        """Write some lines and flush them to the disk.

        Raises:
          CheckpointError: they cannot be written; the lines before are intact.
        """
        try:
            with open(self.part, "a", encoding="utf-8") as file:
                for row in rows:
                    write_row(file, {**row, "provenance": self.provenance})
                    self.done += 1
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise CheckpointError(
                f"{self.part}: cannot be written: {error.strerror}. The same command goes on from"
                " there."
            ) from error

    def finish(self) -> None:
        """Give the file its name."""
        if not self.done:
            self.part.touch()
        os.replace(self.part, self.path)
