"""An optimizer on float32 masters, and the learning rate as a function of the step.

bf16 keeps 8 bits: an update smaller than 1/256 of a weight vanishes when it is added to the weight
itself (at a learning rate of 1e-6 only 2 % of weights move in 50 steps). So every trainable
parameter has a float32 master; the network's own copy is the master rounded to the network's dtype,
and gradients are summed over micro-batches in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import Parameter

from accord.config.schema import TrainConfig
from accord.distributed.world import ALONE, World
from accord.engine.optimizers import FLOAT32, OptimizerRow, optimizer_of
from accord.models.parts import local, part, whole


class Masters:
    """float32 masters of the trainable parameters, by name. A float32 parameter is its own master.

    If a parameter is sharded, its master covers this rank's part.
    """

    def __init__(self, trainable: dict[str, Parameter]):
        self.working = trainable
        self.masters = {name: _master(p) for name, p in trainable.items()}

    @property
    def in_parts(self) -> frozenset[str]:
        """Return the names of the sharded ones: this rank holds a part of each."""
        return frozenset(name for name, p in self.working.items() if local(p) is not p)

    @property
    def count(self) -> int:
        """Count the numbers that train."""
        return sum(master.numel() for master in self.masters.values())

    def accumulate_grads(self) -> None:
        """Add the network's gradients to the masters' in float32, after a backward pass."""
        for name, p in self.working.items():
            master = self.masters[name]
            if p is master or p.grad is None:
                continue
            grad = local(p.grad).float()
            master.grad = grad if master.grad is None else master.grad.add_(grad)
            p.grad = None

    @torch.no_grad()
    def all_reduce(self, world: World) -> None:
        """Give every rank the sum of all ranks' gradients, after the last backward pass."""
        # FSDP has summed each rank's part already
        in_parts = self.in_parts
        masters = [m for name, m in self.masters.items() if name not in in_parts]
        if world.size == 1 or not masters:
            return
        got = torch.tensor([float(m.grad is not None) for m in masters], device=masters[0].device)
        world.sum([got])
        # a parameter that no rank used must keep no gradient
        used = [m for m, count in zip(masters, got.tolist(), strict=True) if count]
        for master in used:
            if master.grad is None:  # a rank without rows
                master.grad = torch.zeros_like(master)
        world.sum([master.grad for master in used if master.grad is not None])

    @torch.no_grad()
    def write_back(self) -> None:
        """Round the masters into the network, after an update."""
        for name, p in self.working.items():
            if p is not self.masters[name]:
                local(p).copy_(self.masters[name])

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], key: str = "master") -> None:
        """Load the masters from a checkpoint's tensors, and write them back to the network."""
        for name, master in self.masters.items():
            master.copy_(part(tensors[f"{key}/{name}"], self.working[name]))
        self.write_back()

    def gradients(self) -> dict[str, Tensor]:
        """Map the names of the parameters that got a gradient to their gradients."""
        return {name: m.grad for name, m in self.masters.items() if m.grad is not None}

    def zero_grad(self) -> None:
        for p in (*self.masters.values(), *self.working.values()):
            p.grad = None


class Optimizer:
    """An optimizer of the table `OPTIMIZERS` over masters, with a schedule that is a pure function
    of the step.

    Args:
      kind: the row of the table; by default the config's.
    """

    def __init__(
        self,
        trainable: dict[str, Parameter],
        config: TrainConfig,
        peak: float,
        steps: int,
        kind: OptimizerRow | None = None,
    ):
        self.kind = kind or optimizer_of(config)
        self.masters = Masters(trainable)
        self.clip = config.max_grad_norm
        self.schedule = schedule(config.schedule, peak, steps, config.warmup)
        self.scale = 1.0  # of the learning rate; `--on-flag adapt` may halve it
        matrices = [m for m in self.masters.masters.values() if m.dim() >= 2]
        # norms and biases are not decayed
        others = [m for m in self.masters.masters.values() if m.dim() < 2]
        groups = [
            {"params": params, "weight_decay": decay}
            for params, decay in ((matrices, config.weight_decay), (others, 0.0))
        ]
        self.inner = self.kind.build(groups, peak, config)

    def rate(self, step: int) -> float:
        """Return the learning rate of update `step`, counted from 0."""
        return self.scale * self.schedule(step)

    def grad_norm(self, world: World = ALONE) -> Tensor:
        """Compute the Euclidean norm over all masters' gradients and all ranks' parts of them;
        scalar float32.
        """
        gradients, in_parts = self.masters.gradients(), self.masters.in_parts
        total = torch.nn.utils.get_total_norm
        if not in_parts:
            return total(list(gradients.values()))
        own, common = (
            total([g for name, g in gradients.items() if (name in in_parts) is here])
            for here in (True, False)
        )
        square = own.double().square().reshape(1)
        world.sum([square])
        return (square + common.double().square()).sqrt().float().squeeze(0)

    def update(self, step: int, norm: Tensor) -> float:
        """Clip, update the masters with the learning rate of `step` (from 0), write them back;
        return that rate.
        """
        if self.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(
                list(self.masters.masters.values()), self.clip, norm
            )
        rate = self.rate(step)
        for group in self.inner.param_groups:
            group["lr"] = rate
        self.inner.step()
        self.masters.write_back()
        self.masters.zero_grad()
        return rate

    # ------------------------------------------------------------ contents of a checkpoint

    def state(self) -> dict[str, Tensor]:
        """Return every tensor that the next update depends on, by name: masters and the optimizer's
        state.

        They are whole, so that a world of any size can resume from them. Sharded tensors are
        gathered on the first rank.
        """
        tensors = {}
        for name, master in self.masters.masters.items():
            like = self.masters.working[name]
            tensors[f"master/{name}"] = whole(master.detach(), like)
            for key, tensor in self.state_of(master).items():
                tensors[f"{key}/{name}"] = whole(tensor, like)
        return tensors

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each tensor of `state`, by name; nothing is gathered for it."""
        found = {}
        for name, p in self.masters.working.items():
            found[f"master/{name}"] = tuple(p.shape)
            for key, (shape, _) in self.kind.tensors(tuple(p.shape)).items():
                found[f"{key}/{name}"] = shape
        return found

    def saved_bytes(self) -> int:
        """Return the bytes of the tensors of `state`."""
        shapes = [tuple(p.shape) for p in self.masters.working.values()]
        return sum(self.kind.saved_bytes_of(shape) for shape in shapes)

    def update_bytes(self) -> int:
        """Return the bytes that this rank's updates take on its device: gradients of the masters,
        and the state.
        """
        shapes = [tuple(master.shape) for master in self.masters.masters.values()]
        state = sum(self.kind.resident_bytes_of(shape) for shape in shapes)
        return FLOAT32 * self.masters.count + state

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Restore a checkpoint's tensors, `updates` updates after the start."""
        self.masters.load(tensors)
        for name, master in self.masters.masters.items():
            like = self.masters.working[name]
            state = {
                key: part(tensors[f"{key}/{name}"], like).to(master.device, copy=True)
                for key in self.kind.tensors(tuple(master.shape))
            }
            self.kind.restore(self.inner, master, state, updates)

    def state_of(self, master: Tensor) -> dict[str, Tensor]:
        """Return the optimizer's state of one master; zeros before its first update."""
        state = self.inner.state.get(master)
        return {
            key: state[key] if state else torch.zeros(shape, dtype=dtype, device=master.device)
            for key, (shape, dtype) in self.kind.tensors(tuple(master.shape)).items()
        }


def _master(p: Parameter) -> Parameter:
    if p.dtype == torch.float32 and local(p) is p:
        return p
    return Parameter(local(p.detach()).float())


def schedule(shape: str, peak: float, steps: int, warmup: float) -> Callable[[int], float]:
    """Make the function that gives the learning rate of an update, counted from 0.

    The rate rises linearly over the warm-up (a share of `steps` under 1, else a number of steps).
    Then it stays, or falls to zero linearly or in half a cosine. The first update already moves
    weights: its rate is peak / (warm-up + 1).
    """
    rising = min(round(warmup * steps) if warmup < 1 else round(warmup), steps)

    def rate(step: int) -> float:
        if step < rising:
            return peak * (step + 1) / (rising + 1)
        if shape == "constant":
            return peak
        done = (step - rising) / max(1, steps - rising)
        return peak * (1 - done if shape == "linear" else (1 + math.cos(math.pi * done)) / 2)

    return rate
