"""The record of which rows a run trained on; of a large file it is made once."""

from __future__ import annotations

import shutil
from pathlib import Path

from accord.auditing.trained import trained_rows as hash_rows
from accord.engine.batch_source import BatchSource
from accord.runs import trained_rows
from accord.runs.files import STAGING, flush, writing


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
    staging = folder / (STAGING + trained_rows.NAME)
    with writing(folder):
        shutil.copyfile(kept, staging)
        flush(staging)
        staging.replace(folder / trained_rows.NAME)
