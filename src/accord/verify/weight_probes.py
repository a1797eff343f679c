"""Single weights that are followed through updates: their gradient, their movement, and the tensors
that follow them.

    UpdateProbe      sampled weights go where the optimizer, written out, takes them
    Arrivals         the masters' gradient is what the backward passes of this update gave, once
    ReferenceProbe   a moving reference stands where its recipe says

A few coordinates of every tensor are followed, in float64 on the CPU: a fault in one of them is a
fault in the tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from accord.engine.moving_reference import Moving
from accord.engine.optimizer import Masters, Optimizer, schedule
from accord.engine.written_out import Moment, Whole, at
from accord.models.parts import local
from accord.models.quantized import quantized_layers
from accord.types import Finding

if TYPE_CHECKING:
    from accord.training.prepared import PreparedRun

COORDINATES = 8  # followed weights per tensor
FOLLOWED = 10  # updates after the start of a process in which they are
MOVED = 0.5  # share of the followed weights with a gradient that ten updates must have moved
# Spacings of float32 by which two sums of the same parts may differ, for each part added: if a sum
# cancels, its parts round by their own size, not by that of the sum.
ARRIVED = 4.0


def broken(check: str, says: str, remedy: str = "", **evidence: object) -> Finding:
    return Finding(
        f"running.{check}",
        "refused",
        says,
        evidence,
        remedy or "this is a fault of the program: report it with events.jsonl",
    )


@dataclass
class WeightProbe:
    """A few coordinates of one master, with the optimizer's state of them, in float64."""

    index: Tensor  # [COORDINATES] into the flattened tensor
    start: Tensor
    value: Tensor
    state: dict[str, Tensor]  # by the names of the optimizer's row
    decay: float
    had_gradient: Tensor  # bool: whether there was ever a gradient


class UpdateProbe:
    """The optimizer as its paper writes it (`written_out.py`), on a few coordinates of every
    tensor.
    """

    def __init__(self, ready: PreparedRun, updates: int):
        config = ready.config.train
        self.config, self.updates, self.optimizer = config, updates, ready.optimizer
        self.world = ready.world
        planned = schedule(config.schedule, ready.peak, ready.steps, config.warmup)
        # halved where --on-flag adapt says so
        self.rate = lambda step: planned(step) * ready.optimizer.scale
        self.followed = {
            name: _follow(
                master, ready.optimizer, config.weight_decay if master.dim() >= 2 else 0.0
            )
            for name, master in ready.optimizer.masters.masters.items()
        }

    def too_low(self) -> list[Finding]:
        """Find masters that cannot hold small updates. This comes first, since it explains every
        other difference.
        """
        for name, master in self.optimizer.masters.masters.items():
            if torch.finfo(master.dtype).eps > torch.finfo(torch.float32).eps:
                says = (
                    f"{name} is trained in {master.dtype}, whose rounding swallows small updates: a"
                    " master is kept in float32"
                )
                return [broken("update", says, tensor=name)]
        return []

    def foresee(self, step: int) -> float:
        """Take the gradients as they are before the update, and move the followed values. Returns
        the gradients' norm.
        """
        gradients = self.optimizer.masters.gradients()
        norm = self._norm(gradients)
        clip = self.config.max_grad_norm
        scale = min(1.0, clip / (norm + 1e-6)) if clip is not None else 1.0
        self.updates += 1
        for name, followed in self.followed.items():
            if name in gradients:
                self._move(followed, Whole(gradients[name], scale, followed.index), self.rate(step))
        return norm

    def _norm(self, gradients: Mapping[str, Tensor]) -> float:
        """Compute the norm over all tensors, and over all ranks' parts of sharded ones."""
        squares = {name: g.double().norm().item() ** 2 for name, g in gradients.items()}
        in_parts = self.optimizer.masters.in_parts
        if not in_parts:
            return math.sqrt(sum(squares.values()))
        own = torch.tensor([sum(squares[name] for name in squares if name in in_parts)]).double()
        self.world.sum([own])
        rest = sum(square for name, square in squares.items() if name not in in_parts)
        return math.sqrt(own.item() + rest)

    def _move(self, f: WeightProbe, whole: Whole, rate: float) -> None:
        gradient = whole.scale * at(whole.gradient, f.index)
        moment = Moment(self.updates, rate, f.decay, self.config, whole)
        f.value, f.state = self.optimizer.kind.written(f.value, f.state, gradient, moment)
        f.had_gradient |= gradient != 0

    def verify(self, before: dict[str, Tensor], step: int) -> list[Finding]:
        """Check where the masters are after the update, and what the network holds of them."""
        for name, f in self.followed.items():
            master = self.optimizer.masters.masters[name]
            now = at(master, f.index)
            travel = (f.value - before[name]).abs()
            allowed = 0.01 * travel + 4 * torch.finfo(torch.float32).eps * f.value.abs() + 1e-12
            if not bool(((now - f.value).abs() <= allowed).all()):
                title = self.optimizer.kind.title
                return [_astray(name, title, master, now, before[name], f.value, step)]
            working = local(self.optimizer.masters.working[name])
            if not torch.equal(at(working, f.index), now.to(working.dtype).double()):
                says = (
                    f"after update {step} the network does not hold {name} as its master has it:"
                    " the update did not reach it"
                )
                return [broken("update", says)]
            f.value = now  # rounding must not add up over the updates
            if found := self._rounded_state(name, f, master, step):
                return found
        return []

    def _rounded_state(self, name: str, f: WeightProbe, master: Tensor, step: int) -> list[Finding]:
        """Check that a state kept in few bits is the written one, rounded; follow the kept one from
        here. A state in float32 is followed apart from the optimizer's.
        """
        kind = self.optimizer.kind
        if kind.spacing is None:
            return []
        kept = self.optimizer.state_of(master)
        now = kind.read(kept, f.index)
        for key, spacing in kind.spacing(kept, f.index).items():
            value, allowed = now[key], spacing + 1e-30
            off = (value - f.state[key]).abs()
            if not bool((off <= allowed).all()):
                worst = int((off - allowed).argmax())
                wanted = f.state[key][worst]
                says = (
                    f"after update {step} {kind.title} keeps {value[worst]:.4g} as {key} of a"
                    f" weight of {name}, and its written-out update gives {wanted:.4g}: further"
                    " apart than its few bits account for"
                )
                return [broken("update", says, tensor=name)]
            f.state = {**f.state, key: value}
        return []

    def values(self) -> dict[str, Tensor]:
        masters = self.optimizer.masters.masters
        return {name: at(masters[name], f.index) for name, f in self.followed.items()}

    def moved(self, why: str, remedy: str) -> list[Finding]:
        """Check how many of the followed weights with a gradient have moved from the start.

        Args:
          why, remedy: the cause and the remedy of an update without any gradient.
        """
        moved = total = 0
        for name, now in self.values().items():
            f = self.followed[name]
            moved += int(((now != f.start) & f.had_gradient).sum())
            total += int(f.had_gradient.sum())
        if not total:
            return [
                Finding(
                    "running.moved",
                    "warning",
                    f"no gradient reached any weight that trains, in {FOLLOWED} updates: {why}",
                    {},
                    remedy,
                )
            ]
        share = moved / total
        if share >= MOVED:
            return []
        says = (
            f"only {share:.1%} of the weights with a gradient moved in {FOLLOWED} updates: smaller"
            " than float32 can hold"
        )
        return [
            Finding("running.moved", "warning", says, {"share": share}, "raise train.learning_rate")
        ]


def spread(tensor: Tensor) -> Tensor:
    """Spread the indices of a few coordinates, from the first to the last."""
    # in integers: float32 cannot count to the size of a large embedding
    count = min(COORDINATES, tensor.numel())
    return torch.arange(count, device=tensor.device) * (tensor.numel() - 1) // max(count - 1, 1)


def still(ready: PreparedRun) -> Iterator[tuple[str, Tensor]]:
    """Yield a few coordinates of every parameter that neither trains nor follows one that does, and
    of what packed weights are made of.
    """
    reference = ready.learner.reference
    following = reference.following() if reference is not None else []
    moves = {id(p) for p in (*ready.optimizer.masters.working.values(), *following)}
    for name, parameter in ready.model.root.named_parameters():
        if id(parameter) not in moves and parameter.numel():
            own = local(parameter)  # each rank looks at its part of a sharded one
            yield name, at(own, spread(own))
    for path, layer in quantized_layers(ready.model.root):
        for name, tensor in layer.packed.items():
            yield f"{path}.{name}", at(tensor, spread(tensor))


def _follow(master: Tensor, optimizer: Optimizer, decay: float) -> WeightProbe:
    index = spread(master)
    value = at(master, index)
    state = optimizer.kind.read(optimizer.state_of(master), index)
    return WeightProbe(
        index, value, value.clone(), state, decay, torch.zeros(len(index), dtype=torch.bool)
    )


def _astray(
    name: str, title: str, master: Tensor, now: Tensor, before: Tensor, wanted: Tensor, step: int
) -> Finding:
    """Report a tensor that did not go where the optimizer takes it."""
    due, done = (wanted - before), (now - before)
    still = (done == 0) & (due != 0)
    evidence = {"tensor": name, "due": due.tolist(), "done": done.tolist()}
    if still.all() or (still.any() and master.dtype != torch.float32):
        why = (
            f"it is kept in {master.dtype}, whose rounding swallows the update"
            if master.dtype != torch.float32
            else "the optimizer leaves it out, or its rate is 0"
        )
        return broken("update", f"{name} did not move in update {step}: {why}", "", **evidence)
    factor = (done @ due / (due @ due)).item() if due.any() else math.inf
    says = (
        f"{name} did not go where {title} takes it in update {step}: it went {factor:.3g} times as"
        " far along that way"
    )
    return broken(
        "update",
        says,
        "gradient, clipping, learning rate, decay or moments are not what the config says",
        **evidence,
    )


class Arrivals:
    """The gradients that backward passes leave at some coordinates of trainable parameters, summed
    apart from the masters.

    Over several ranks, each one's share is summed as the gradients are. Sharded parameters are left
    out: their gradients come whole from FSDP's own sum, and no hook sees the passes'.
    """

    def __init__(self, ready: PreparedRun):
        self.masters, self.world = ready.optimizer.masters, ready.world
        own = {n: p for n, p in self.masters.working.items() if n not in self.masters.in_parts}
        self.index = {name: spread(p) for name, p in own.items()}
        self.sums: dict[str, Tensor] = {}
        self.sizes: dict[str, Tensor] = {}  # Σ |part|
        self.counts: dict[str, int] = {}  # parts of this update
        for name, p in own.items():
            p.register_hook(lambda grad, name=name: self._add(name, grad))

    def _add(self, name: str, grad: Tensor) -> None:
        part = grad.detach().reshape(-1)[self.index[name]].float()
        known = name in self.sums
        self.sums[name] = self.sums[name] + part if known else part
        self.sizes[name] = self.sizes[name] + part.abs() if known else part.abs()
        self.counts[name] = self.counts.get(name, 0) + 1

    def begin(self) -> None:
        """Forget everything before this update's first backward pass."""
        self.sums, self.sizes, self.counts = {}, {}, {}

    def check(self) -> list[Finding]:
        """Compare the masters' gradients, complete for this update, with the sums."""
        gradients = self.masters.gradients()
        sums, sizes = (
            [
                kept.get(name, torch.zeros(len(index), device=index.device))
                for name, index in self.index.items()
            ]
            for kept in (self.sums, self.sizes)
        )
        self.world.sum(sums)
        self.world.sum(sizes)
        most = max(self.counts.values(), default=1) * self.world.size
        spacing = ARRIVED * torch.finfo(torch.float32).eps * most
        for (name, index), wanted, size in zip(self.index.items(), sums, sizes, strict=True):
            got = (
                at(gradients[name], index)
                if name in gradients
                else torch.zeros(len(index), dtype=torch.float64)
            )
            wanted = wanted.double().cpu()
            allowed = spacing * size.double().cpu() + 1e-30
            if not bool(((got - wanted).abs() <= allowed).all()):
                factor = (got @ wanted / (wanted @ wanted)).item() if wanted.any() else math.inf
                says = (
                    f"{name} has another gradient than its backward passes gave it: {factor:.3g}"
                    " times that along the same way; something of another update is in it, or it"
                    " was added up twice"
                )
                return [broken("gradient", says, tensor=name)]
        return []


class ReferenceProbe:
    """A few coordinates of a moving reference, moved by hand as its rule says."""

    def __init__(self, reference: Moving, policy: Masters):
        self.reference, self.policy = reference, policy
        self.index = {name: spread(master) for name, master in reference.copy.masters.items()}
        self.value = self._now()

    def _now(self) -> dict[str, Tensor]:
        return {
            name: at(master, self.index[name])
            for name, master in self.reference.copy.masters.items()
        }

    def check(self, step: int) -> list[Finding]:
        """Check the reference's place after `step` updates."""
        every, mix = self.reference.config.every, self.reference.config.mix
        now, before = self._now(), self.value
        for name, was in before.items():
            wanted = (
                was
                if step % every
                else (1 - mix) * was + mix * at(self.policy.masters[name], self.index[name])
            )
            if not bool(
                (
                    (now[name] - wanted).abs()
                    <= 4 * torch.finfo(torch.float32).eps * wanted.abs() + 1e-12
                ).all()
            ):
                due = "should stay" if step % every else f"should be {mix:g} parts policy"
                says = (
                    f"after update {step} the moving reference {due} (moving.every = {every}), and"
                    f" {name} is not there"
                )
                return [broken("moving", says, tensor=name)]
        self.value = now  # rounding must not add up over the updates
        return []
