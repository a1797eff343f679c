"""The table of optimizers: a new one is a row here, and its update written out in
`written_out.py`.

    name      its name in a config; the fields that it reads are in config/optimizers.py
    build     the library's optimizer over the masters
    state     the tensors that it keeps for each weight: their names in a checkpoint, and their size
              in memory and on disk
    written   one update in float64, as in the paper: a run is checked against it while it trains

What else a row may say stands in `optimizer_row.py`; the rows of bitsandbytes are in
`eight_bits.py`.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from accord.config.schema import TrainConfig
from accord.engine.eight_bits import ADAMW_8BIT, PAGED_ADAMW, PAGED_ADAMW_8BIT
from accord.engine.optimizer_row import FLOAT32 as FLOAT32
from accord.engine.optimizer_row import (
    Groups,
    OptimizerRow,
    Tensors,
    read_whole,
    restore_tensors,
    restore_with_number,
)
from accord.engine.written_out import (
    ADAFACTOR_CLIP,
    ADAFACTOR_EPSILON,
    ADAFACTOR_POWER,
    ADAM_EPSILON,
    adafactor_update,
    adamw_update,
    sgd_update,
)


def _adamw(groups: Groups, peak: float, config: TrainConfig) -> torch.optim.Optimizer:
    assert config.betas is not None, "the config has them for every form of AdamW"
    return torch.optim.AdamW(groups, lr=peak, betas=config.betas, eps=ADAM_EPSILON, fused=True)


def _sgd(groups: Groups, peak: float, config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=peak, momentum=config.momentum or 0.0)


def _adafactor(groups: Groups, peak: float, config: TrainConfig) -> torch.optim.Optimizer:
    """Build transformers' Adafactor as its Trainer does: with the learning rate as it is given.
    torch's own multiplies it by the root mean square of each weight, so that no rate of AdamW's
    would mean the same (decision 0055).
    """
    from transformers.optimization import Adafactor

    return Adafactor(
        groups,
        lr=peak,
        eps=(ADAFACTOR_EPSILON, 1e-3),  # the second is for scaled parameters alone
        clip_threshold=ADAFACTOR_CLIP,
        decay_rate=-ADAFACTOR_POWER,
        scale_parameter=False,
        relative_step=False,
    )


def _factors(shape: tuple[int, ...]) -> Tensors:
    """Return Adafactor's state: sums over rows and columns of matrices, a number for each weight
    of a vector.
    """
    if len(shape) < 2:
        return {"exp_avg_sq": (shape, torch.float32)}
    return {
        "exp_avg_sq_row": (shape[:-1], torch.float32),
        "exp_avg_sq_col": (shape[:-2] + shape[-1:], torch.float32),
    }


ADAMW = OptimizerRow(
    "adamw", "AdamW", _adamw, ("exp_avg", "exp_avg_sq"), adamw_update, epsilon=ADAM_EPSILON
)
SGD = OptimizerRow(
    "sgd",
    "SGD with momentum",
    _sgd,
    ("momentum_buffer",),
    sgd_update,
    restore=restore_tensors,
    moves_by_rate=False,
)
ADAFACTOR = OptimizerRow(
    "adafactor",
    "Adafactor",
    _adafactor,
    (),
    adafactor_update,
    restore=restore_with_number,
    layout=_factors,
    read=read_whole,
    whole_tensors=True,
)

OPTIMIZERS: dict[str, OptimizerRow] = {
    row.name: row for row in (ADAMW, ADAMW_8BIT, PAGED_ADAMW, PAGED_ADAMW_8BIT, ADAFACTOR, SGD)
}


def optimizer_of(config: TrainConfig) -> OptimizerRow:
    """Return the optimizer that a config asks for."""
    row = OPTIMIZERS[config.optimizer]
    # torch keeps no buffer for a momentum of 0
    return replace(row, state=()) if config.momentum == 0 else row
