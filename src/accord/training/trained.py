"""The record of which rows a run trained on; of a large file it is made once."""

from __future__ import annotations

from pathlib import Path

from accord.auditing.trained import trained_rows as hash_rows
from accord.engine.batch_source import BatchSource
from accord.runs import trained_rows
from accord.runs.files import copy_in


def write_trained_rows(source: BatchSource, folder: Path) -> None:
    """Write the hashes of the rows into a run's folder.

    Raises:
      CheckpointError: they cannot be written.
    """
    kept = source.checks.kept(trained_rows.NAME, None)
    if kept is None:
        trained_rows.write(folder, hash_rows(source.trained_texts()))
        source.checks.keep(trained_rows.NAME, None, folder / trained_rows.NAME)
        return
    copy_in(kept, folder / trained_rows.NAME)
