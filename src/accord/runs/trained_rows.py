"""The rows that a run trained on, as hashes in its folder: whoever measures the model can tell
which rows it has seen, also where the training file has moved.

    a row                 8 bytes for its prompt, 8 for each answer (24 for a pair)
    a different prompt    128 bytes more, for up to SIGNED of them: its MinHash signature, by which
                          prompts with a few other words are found
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from accord.errors import CheckpointError, first_line
from accord.runs.files import STAGING, flush, writing

NAME = "trained_rows.safetensors"
SIGNED = 50_000  # 6.4 MB


@dataclass(frozen=True)
class TrainedRows:
    """Hashes of rows; see `auditing.trained`, which makes and compares them."""

    prompts: np.ndarray  # [N] uint64
    answers: np.ndarray  # [A] uint64, sorted, each once
    signs: np.ndarray  # [P, BINS] uint16, of the first different prompts
    different: int  # different prompts, of which P have a signature


def write(folder: Path, rows: TrainedRows) -> None:
    """Write the hashes in one step.

    Raises:
      CheckpointError: they cannot be written.
    """
    file, staging = folder / NAME, folder / (STAGING + NAME)
    tensors = {
        "prompts": rows.prompts,
        "answers": rows.answers,
        "signs": rows.signs,
        "different": np.array([rows.different], np.int64),
    }
    with writing(folder):
        save_file(tensors, staging)
        flush(staging)
        staging.replace(file)


def read(folder: Path) -> TrainedRows | None:
    """Read the hashes of a run; None where there are none: accord 0.2 and earlier wrote none.

    Raises:
      CheckpointError: they are damaged.
    """
    file = folder / NAME
    if not file.is_file():
        return None
    try:
        found = load_file(file)
        return TrainedRows(
            found["prompts"], found["answers"], found["signs"], int(found["different"][0])
        )
    except (OSError, SafetensorError, KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{file}: damaged ({first_line(error)}). It says which rows were trained on.\nPut a"
            " copy back, or delete it to measure without that comparison."
        ) from error
