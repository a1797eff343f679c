"""A row of the table of optimizers, and how state is read and restored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from accord.config.schema import TrainConfig
from accord.engine.written_out import WrittenUpdate, at

FLOAT32 = 4  # bytes: masters and their gradients
PAGED_FROM = 100_000  # weights of a tensor whose state bitsandbytes pages
LARGE = (4096, 4096)  # the matrix whose state a row's bytes a weight are of

Groups = list[dict[str, Any]]
# (groups of masters with their decay, peak rate, config)
Build = Callable[[Groups, float, TrainConfig], torch.optim.Optimizer]
# shape of a weight -> (shape, dtype) of each tensor that is kept for it, by name
Tensors = dict[str, tuple[tuple[int, ...], torch.dtype]]
Layout = Callable[[tuple[int, ...]], Tensors]
# (tensors kept for a weight, coordinates of it) -> what `written` takes, in float64
Read = Callable[[Mapping[str, Tensor], Tensor], dict[str, Tensor]]
# (optimizer, master, the tensors of a checkpoint, updates made)
Restore = Callable[[torch.optim.Optimizer, Tensor, dict[str, Tensor], int], None]


def read_at(kept: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
    """Read state that has a number for each weight."""
    return {name: at(tensor, index) for name, tensor in kept.items()}


def read_whole(kept: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
    """Read state that is the whole tensor's."""
    return {name: tensor.detach().double().cpu() for name, tensor in kept.items()}


def restore_tensors(
    inner: torch.optim.Optimizer, master: Tensor, kept: dict[str, Tensor], updates: int
) -> None:
    inner.state[master] = kept


def restore_with_tensor(
    inner: torch.optim.Optimizer, master: Tensor, kept: dict[str, Tensor], updates: int
) -> None:
    """Restore an optimizer of torch that counts the updates of each weight, on its device."""
    inner.state[master] = {**kept, "step": torch.tensor(float(updates), device=master.device)}


def restore_with_number(
    inner: torch.optim.Optimizer, master: Tensor, kept: dict[str, Tensor], updates: int
) -> None:
    inner.state[master] = {**kept, "step": updates}


@dataclass(frozen=True)
class OptimizerRow:
    """An optimizer: its name, its construction and its state."""

    name: str
    title: str  # in messages
    build: Build
    state: tuple[str, ...]  # float32 tensors kept for each weight, by the library's names
    written: WrittenUpdate
    restore: Restore = restore_with_tensor
    layout: Layout | None = None  # where the state is something else than `state`
    read: Read = read_at
    # distances to which what is kept in few bits may be off the written state, in the arguments and
    # names of `read`; what is kept in float32 has none
    spacing: Read | None = None
    # whether an update needs a weight's whole tensor: no process can update a part of it
    whole_tensors: bool = False
    paged: bool = False  # whether a large state leaves a full GPU for main memory
    # added to the root of the second moment: gradients under it are lost; None: nothing is
    epsilon: float | None = None
    # whether an update moves a weight by about the learning rate, however large its gradient is
    moves_by_rate: bool = True
    # explains why the optimizer does not run on a device, with a command; None where it does
    problem: Callable[[torch.device], str | None] = lambda device: None

    def tensors(self, shape: tuple[int, ...]) -> Tensors:
        """Return shape and dtype of each tensor that is kept for a weight of some shape."""
        if self.layout is not None:
            return self.layout(shape)
        return dict.fromkeys(self.state, (shape, torch.float32))

    def bytes_of(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of state of a weight of some shape."""
        return sum(math.prod(size) * dtype.itemsize for size, dtype in self.tensors(shape).values())

    def resident_bytes_of(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of state that must fit on the device: without those that are paged."""
        large = self.paged and math.prod(shape) >= PAGED_FROM
        return 0 if large else self.bytes_of(shape)

    def saved_bytes_of(self, shape: tuple[int, ...]) -> int:
        """Return the bytes on disk of a weight of some shape: its master and its state."""
        return FLOAT32 * math.prod(shape) + self.bytes_of(shape)

    @property
    def state_bytes(self) -> float:
        """Return the bytes of state for one weight of a large matrix."""
        return self.bytes_of(LARGE) / math.prod(LARGE)

    @property
    def training_bytes(self) -> float:
        """Return all bytes for one weight of a large matrix besides the network: master, gradient
        and state.
        """
        return 2 * FLOAT32 + self.state_bytes
