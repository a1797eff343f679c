"""Figures of the training rows of each of several files, from the records of an update.

    diag/file_1/rows            rows of the first file in the batch
    diag/file_1/answer_tokens   tokens of their answers
    diag/file_1/loss            their loss; so too margins and accuracies, of pairs

Files are numbered as the config lists them. A batch's figure is the mean of those of its files,
weighted by their rows (tests/training/test_mixed_files.py); of a loss per token, by answer tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from accord.evaluate.records import Records, summarise
from accord.objectives import BoundObjective

COLUMNS = ("loss", "tokens", "rewards/chosen", "rewards/rejected")  # of the records
FIGURES = {"loss": "loss", "rewards/margins": "margins", "rewards/accuracies": "accuracies"}
ROWS, TOKENS = "rows", "answer_tokens"


def name_of(number: int, figure: str) -> str:
    """Return the name of a file's figure.

    Args:
      number: of the file, from 0.
    """
    return f"diag/file_{number + 1}/{figure}"


def by_file(
    records: Records, files: np.ndarray | None, objective: BoundObjective, tie_width: float = 0.0
) -> dict[str, float]:
    """Compute the figures above; nothing where all rows are of one file.

    Args:
      files: the number of each row's file, from 0, [B].
      tie_width: margins no larger are ties.
    """
    if files is None:
        return {}
    out: dict[str, float] = {}
    columns = {name: records[name] for name in COLUMNS if name in records}
    for number in np.unique(files).tolist():
        own = torch.from_numpy(files == number)
        found = Records.of(
            {
                "row": torch.tensor(records.row)[own],
                **{name: column[own] for name, column in columns.items()},
            }
        )
        out[name_of(number, ROWS)] = len(found)
        out[name_of(number, TOKENS)] = int(found["tokens"].sum())
        figures = summarise(found, objective, tie_width)
        out |= {
            name_of(number, short): figures[name]
            for name, short in FIGURES.items()
            if name in figures
        }
    return out


def file_numbers(rows: Sequence[int], sizes: Sequence[int]) -> np.ndarray:
    """Return the number of the file, from 0, that each row is of, [B].

    Args:
      rows: the numbers of rows, which count on from file to file.
      sizes: how many rows each file has.
    """
    return np.searchsorted(np.cumsum(sizes), np.asarray(rows), side="right")
