"""The optimizers, from their table."""

from __future__ import annotations

import torch

from accord.config.optimizers import OPTIMIZER_OPTIONS
from accord.engine.optimizer_row import OptimizerRow
from accord.engine.optimizers import OPTIMIZERS
from making.text import literal, table


def _devices(row: OptimizerRow) -> str:
    if row.paged:
        return "a GPU"
    return "a CPU, a GPU" if row.problem(torch.device("mps")) else "any device"


def optimizers() -> str:
    """Each optimizer: what it keeps, what that takes, what it reads, and where it runs."""
    rows = []
    for name, row in OPTIMIZERS.items():
        kept = ", ".join(literal(tensor) for tensor in row.tensors((4096, 4096)))
        reads = ", ".join(literal(f"train.{key}") for key in OPTIMIZER_OPTIONS[name])
        rows.append(
            (
                literal(name),
                f"{kept}{'; of large tensors in memory that a GPU pages' if row.paged else ''}",
                f"{row.state_bytes:.2g}",
                f"{row.training_bytes:.3g}",
                reads or "–",
                _devices(row),
                "whole in each process" if row.whole_tensors else "whole or shared out",
            )
        )
    head = (
        "`train.optimizer`",
        "keeps beside the master",
        "bytes a weight",
        "with master and gradient",
        "reads",
        "runs on",
        "weights of several processes",
    )
    return table(head, rows)
