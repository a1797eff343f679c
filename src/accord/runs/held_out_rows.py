"""The table examples.parquet: a record of every held-out row at each evaluation, one file per step
in one folder.

    pandas.read_parquet("RUN/examples.parquet")          all evaluations as one table

Metrics are reduced from the same records (evaluate/records.py). A step's file is written whole,
under its own name: a resumed run replaces it with the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from accord.data.rows import Rows
from accord.evaluate.displacement import SIDES
from accord.evaluate.held_out import HeldOut
from accord.evaluate.records import Records
from accord.evaluate.slices import FILE
from accord.runs.files import unwritable_error

# pyarrow starts a thread when it is imported, and only runs with held-out rows need it
if TYPE_CHECKING:
    import pyarrow as pa

NAME = "examples.parquet"


def file_of(folder: Path, step: int) -> Path:
    return folder / NAME / f"step-{step:06d}.parquet"


def write(folder: Path, step: int, records: Records, held_out: HeldOut, rows: Rows) -> None:
    """Write the records of one evaluation.

    Raises:
      CheckpointError: the folder cannot be written.
    """
    import pyarrow.parquet as parquet

    file = file_of(folder, step)
    try:
        file.parent.mkdir(exist_ok=True)
        staging = file.with_name(f".{file.name}")
        parquet.write_table(table(step, records, held_out, rows), staging)
        staging.replace(file)
    except OSError as error:
        raise unwritable_error(file, error) from error


def table(step: int, records: Records, held_out: HeldOut, rows: Rows) -> pa.Table:
    """Return the records of one evaluation with the columns that slices are cut by."""
    import pyarrow as pa

    return pa.table(
        {
            "step": pa.array([step] * len(records), pa.int32()),
            **_who(held_out, rows),
            **_numbers(records),
        }
    )


def rewind(folder: Path, step: int) -> None:
    """Drop the evaluations after `step`."""
    for file in (folder / NAME).glob("step-*.parquet"):
        if int(file.stem.removeprefix("step-")) > step:
            file.unlink()


def sides(records: Records) -> dict[str, Tensor]:
    """Return the log-probs of both sides, [B] each."""
    return {side: records[f"logps/{side}"] for side in SIDES}


def start(folder: Path) -> dict[str, Tensor]:
    """Read the log-probs of step 0: a resumed run has them from nowhere else."""
    import pyarrow.parquet as parquet

    table = parquet.read_table(file_of(folder, 0), columns=[f"logps/{side}" for side in SIDES])
    return {side: torch.tensor(table[f"logps/{side}"].to_numpy()) for side in SIDES}


def margins(folder: Path, step: int) -> Tensor:
    """Read the reward margins of one evaluation, [B]."""
    import pyarrow.parquet as parquet

    table = parquet.read_table(
        file_of(folder, step), columns=["rewards/chosen", "rewards/rejected"]
    )
    return torch.tensor(table["rewards/chosen"].to_numpy() - table["rewards/rejected"].to_numpy())


def worst(folder: Path) -> dict | None:
    """Find the row that the newest evaluation ranks the furthest the wrong way round: the pair of
    the least margin, or the good answer of the least reward. None where there is no evaluation.

    Returns:
      where the row stands ("at"), and what it shows in words ("shows").
    """
    import pyarrow.parquet as parquet

    files = sorted((folder / NAME).glob("step-*.parquet"))
    if not files:
        return None
    table = parquet.read_table(files[-1], columns=["at", "rewards/chosen", "rewards/rejected"])
    chosen, rejected = (table[f"rewards/{side}"].to_numpy() for side in SIDES)
    values = chosen - rejected
    what = "margin (reward of chosen less rejected)"
    if np.isnan(values).all():  # labels: a row has one answer
        values, what = chosen, "reward of a good answer"
    if np.isnan(values).all():
        return None
    index = int(np.nanargmin(values))
    value = float(values[index])
    return {"at": table["at"][index].as_py(), "value": value, "shows": f"{what} {value:+.3f}"}


def _who(held_out: HeldOut, rows: Rows) -> dict[str, pa.Array]:
    """Return the columns that slices are cut by: where a row stands, its prompt, its source, turns
    and length; and its file, if there are several.
    """
    import pyarrow as pa

    examples = [rows.encoding.examples[tree.row] for tree in held_out.trees]
    source = [
        str(value) if (value := example.extra.get("source")) is not None else None
        for example in examples
    ]
    return {
        "row": pa.array([tree.row for tree in held_out.trees], pa.int32()),
        "at": pa.array([str(example.origin) for example in examples]),
        "prompt": pa.array(list(held_out.prompts), pa.int32()),
        "prompt_tokens": pa.array([len(tree.prompt) for tree in held_out.trees], pa.int32()),
        "turns": pa.array(
            [sum(turn.role == "user" for turn in example.prompt) for example in examples],
            pa.int32(),
        ),
        "source": pa.array(source, pa.string()),
    } | ({FILE: pa.array([each.origin.file for each in examples])} if rows.files else {})


def _numbers(records: Records) -> dict[str, pa.Array]:
    import pyarrow as pa

    return {name: pa.array(records[name].numpy()) for name in records.names()}
