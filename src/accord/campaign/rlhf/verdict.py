"""RLHF against DPO over seeds: means and differences on the same prompts, with intervals over
prompts and seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from pathlib import Path

import numpy as np

from accord.campaign.rlhf.measured import GOLD, SCORED, Scored
from accord.campaign.rlhf.phases import DPO, PPO
from accord.evaluate.intervals import AT_LEAST_ZERO, UNBOUNDED
from accord.evaluate.two_way_intervals import crossed_difference, crossed_mean
from accord.types import Refused

COLUMNS = {
    "learned": (SCORED, "reward"),
    "gold": (GOLD, "reward"),
    "kl": (SCORED, "kl"),
    "tokens": (SCORED, "tokens"),
}
BOUNDS = {"kl": AT_LEAST_ZERO, "tokens": AT_LEAST_ZERO}


def over_seeds(folders: Sequence[Path], models: Sequence[str]) -> dict:
    """Estimate each policy's figures over all seeds, and the difference between the policy gradient
    and DPO if both were trained.

    Args:
      folders: one per seed, with a folder for each model.
    """
    known = [
        name for name, (file, _) in COLUMNS.items() if (folders[0] / models[0] / file).is_file()
    ]
    table = {model: {name: _mean(folders, model, name) for name in known} for model in models}
    apart = {name: _difference(folders, name) for name in known} if DPO in models else None
    return {"table": table, "rlhf_minus_dpo": apart}


def _values(folders: Sequence[Path], model: str, name: str) -> tuple[np.ndarray, list[int]]:
    """Return the values, [S, N], with one row per seed, and the prompt of each answer.

    Raises:
      Refused: the seeds answered different prompts.
    """
    file, column = COLUMNS[name]
    read = [Scored.read(folder / model / file) for folder in folders]
    if any(one.prompt != read[0].prompt for one in read):
        raise Refused(
            f"The seeds' folders {', '.join(folder.name for folder in folders)} hold answers to"
            f" different held-out prompts of {model}: they cannot share a table.\nRun all seeds"
            " with one file of prompts, into a new folder: --output DIR."
        )
    return np.stack([np.asarray(getattr(one, column), float) for one in read]), read[0].prompt


def _mean(folders: Sequence[Path], model: str, name: str) -> dict | None:
    values, prompts = _values(folders, model, name)
    there = ~np.isnan(values).any(0)
    return (
        crossed_mean(
            values[:, there], list(compress(prompts, there)), bounds=BOUNDS.get(name, UNBOUNDED)
        ).as_dict()
        if there.any()
        else None
    )


def _difference(folders: Sequence[Path], name: str) -> dict | None:
    (one, prompts), (other, _) = _values(folders, PPO, name), _values(folders, DPO, name)
    there = ~np.isnan(one - other).any(0)
    if not there.any():
        return None
    found = crossed_difference(one[:, there], other[:, there], list(compress(prompts, there)))
    return found.estimate.as_dict() | {"p": found.p}
