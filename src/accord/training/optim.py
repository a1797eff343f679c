"""AdamW on float32 masters, and the learning rate as a function of the step.

bf16 keeps 8 bits: an update smaller than 1/256 of a weight vanishes when it is added to the weight itself (at a
learning rate of 1e-6 only 2 % of weights move in 50 steps). So whatever trains has a float32 master; the network's
own copy is the master rounded to the network's dtype, and gradients are summed over micro-batches in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import Parameter

from accord.config import TrainConfig

MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW remembers of each weight


class Masters:
    """float32 masters of the trainable parameters, by name. A parameter that is float32 is its own master."""

    def __init__(self, trainable: dict[str, Parameter]):
        self.working = trainable
        self.masters = {
            name: p if p.dtype == torch.float32 else Parameter(p.detach().float()) for name, p in trainable.items()
        }

    def collect(self) -> None:
        """After a backward pass: move the network's gradients into the masters', adding in float32."""
        for name, p in self.working.items():
            master = self.masters[name]
            if p is master or p.grad is None:
                continue
            grad = p.grad.float()
            master.grad = grad if master.grad is None else master.grad.add_(grad)
            p.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """After an update: round the masters into the network."""
        for name, p in self.working.items():
            if p is not self.masters[name]:
                p.copy_(self.masters[name])

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], key: str = "master") -> None:
        """Take the masters out of a checkpoint's tensors, and publish."""
        for name, master in self.masters.items():
            master.copy_(tensors[f"{key}/{name}"])
        self.publish()

    def gradients(self) -> dict[str, Tensor]:
        """Name -> gradient, for the parameters that got one."""
        return {name: m.grad for name, m in self.masters.items() if m.grad is not None}

    def forget_gradients(self) -> None:
        for p in (*self.masters.values(), *self.working.values()):
            p.grad = None


class Optimizer:
    """AdamW over masters, with a schedule that is a pure function of the step."""

    def __init__(self, trainable: dict[str, Parameter], config: TrainConfig, peak: float, steps: int):
        self.masters = Masters(trainable)
        self.clip = config.clip
        self.rate = schedule(config.schedule, peak, steps, config.warmup)
        matrices = [m for m in self.masters.masters.values() if m.dim() >= 2]
        others = [m for m in self.masters.masters.values() if m.dim() < 2]  # norms and biases are not decayed
        groups = [
            {"params": params, "weight_decay": decay}
            for params, decay in ((matrices, config.weight_decay), (others, 0.0))
        ]
        self.adamw = torch.optim.AdamW(groups, lr=peak, betas=config.betas, fused=True)

    def grad_norm(self) -> Tensor:
        """Euclidean norm over all masters' gradients, scalar float32."""
        return torch.nn.utils.get_total_norm(list(self.masters.gradients().values()))

    def update(self, step: int, norm: Tensor) -> float:
        """Clip, update the masters with the learning rate of `step` (from 0), publish. Returns that rate."""
        if self.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(list(self.masters.masters.values()), self.clip, norm)
        rate = self.rate(step)
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.adamw.step()
        self.masters.publish()
        self.masters.forget_gradients()
        return rate

    # ------------------------------------------------------------ what a checkpoint holds

    def state(self) -> dict[str, Tensor]:
        """Every tensor that the next update depends on: masters and AdamW's moments, by name."""
        tensors = {}
        for name, master in self.masters.masters.items():
            tensors[f"master/{name}"] = master.detach()
            for key in MOMENTS:
                tensors[f"{key}/{name}"] = self._moments(master)[key]
        return tensors

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Put a checkpoint's tensors back, `updates` updates after the start."""
        self.masters.load(tensors)
        for name, master in self.masters.masters.items():
            moments = {key: tensors[f"{key}/{name}"].clone() for key in MOMENTS}
            self.adamw.state[master] = {"step": torch.tensor(float(updates)), **moments}

    def _moments(self, master: Tensor) -> dict[str, Tensor]:
        """AdamW's moments of one master; zeros before the first update."""
        state = self.adamw.state.get(master)
        return state if state else {key: torch.zeros_like(master) for key in MOMENTS}


def schedule(shape: str, peak: float, steps: int, warmup: float) -> Callable[[int], float]:
    """Learning rate of update `step`, counted from 0.

    Rises linearly over the warm-up (a share of `steps` under 1, else a number of steps), then stays, or falls to zero
    in a line or half a cosine. The first update already moves: its rate is peak / (warm-up + 1).
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
