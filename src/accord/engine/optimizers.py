"""The table of optimizers: a new one is a row here, and its update written out in
`written_out.py`.

    name      how a config and a message call it
    build     the torch optimizer over the masters
    state     the tensors that it keeps of each weight: their names in a checkpoint, and what they
              take of memory and disk
    written   one update in float64, as the paper has it: a run is checked against it while it
              trains
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
    """An optimizer as far as anything else must know it."""

    name: str
    title: str  # in messages
    build: Build
    state: tuple[str, ...]  # tensors of each weight, float32, by torch's names
    written: WrittenUpdate
    # whether torch keeps the number of updates beside each weight's tensors, under "step"
    counts_updates: bool = True

    @property
    def state_bytes(self) -> int:
        """What it remembers of one weight."""
        return FLOAT32 * len(self.state)

    @property
    def update_bytes(self) -> int:
        """What one weight takes once updates begin: the master's gradient and the state."""
        return FLOAT32 + self.state_bytes

    @property
    def checkpoint_bytes(self) -> int:
        """What one weight takes on disk: the master and the state."""
        return FLOAT32 + self.state_bytes

    @property
    def training_bytes(self) -> int:
        """What one weight takes in all, beside the network: master, gradient and state."""
        return 2 * FLOAT32 + self.state_bytes


def _adamw(groups: list[dict[str, Any]], peak: float, config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=peak, betas=config.betas, fused=True)


ADAMW = OptimizerRow("adamw", "AdamW", _adamw, ("exp_avg", "exp_avg_sq"), adamw_update)

OPTIMIZERS: dict[str, OptimizerRow] = {row.name: row for row in (ADAMW,)}


def optimizer_of(config: TrainConfig | None = None) -> OptimizerRow:
    """The optimizer that a config asks for. There is one, so no config has a key for it yet."""
    return OPTIMIZERS[ADAMW.name]
