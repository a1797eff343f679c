"""The table of optimizers: a new one is a row here, and its update written out in
`written_out.py`.

    name      its name in a config and in messages
    build     the torch optimizer over the masters
    state     the tensors that it keeps for each weight: their names in a checkpoint, and their size
              in memory and on disk
    written   one update in float64, as in the paper: a run is checked against it while it trains
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from accord.config.schema import TrainConfig
from accord.engine.written_out import WrittenUpdate, adamw_update

FLOAT32 = 4  # bytes: masters, their gradients and every state tensor

# (groups of masters with their decay, peak rate, config)
Build = Callable[[list[dict[str, Any]], float, TrainConfig], torch.optim.Optimizer]


@dataclass(frozen=True)
class OptimizerRow:
    """An optimizer: its name, its construction and its state."""

    name: str
    title: str  # in messages
    build: Build
    state: tuple[str, ...]  # float32 tensors kept for each weight, by torch's names
    written: WrittenUpdate
    # whether torch keeps the number of updates beside each weight's tensors, under "step"
    counts_updates: bool = True

    @property
    def state_bytes(self) -> int:
        """Return the bytes of state for one weight."""
        return FLOAT32 * len(self.state)

    @property
    def update_bytes(self) -> int:
        """Return the bytes for one weight once updates begin: the master's gradient and the
        state.
        """
        return FLOAT32 + self.state_bytes

    @property
    def checkpoint_bytes(self) -> int:
        """Return the bytes for one weight on disk: the master and the state."""
        return FLOAT32 + self.state_bytes

    @property
    def training_bytes(self) -> int:
        """Return all bytes for one weight besides the network: master, gradient and state."""
        return 2 * FLOAT32 + self.state_bytes


def _adamw(groups: list[dict[str, Any]], peak: float, config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=peak, betas=config.betas, fused=True)


ADAMW = OptimizerRow("adamw", "AdamW", _adamw, ("exp_avg", "exp_avg_sq"), adamw_update)

OPTIMIZERS: dict[str, OptimizerRow] = {row.name: row for row in (ADAMW,)}


def optimizer_of(config: TrainConfig | None = None) -> OptimizerRow:
    """Return the optimizer that a config asks for. There is only one, so no config has a key for it
    yet.
    """
    return OPTIMIZERS[ADAMW.name]
