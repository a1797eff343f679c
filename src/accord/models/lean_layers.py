"""Layers of the trunk that keep less for the backward pass: the same numbers from less memory.

transformers' RMSNorm keeps a float32 copy of its input, and its gated MLP keeps silu(gate) beside
gate and up. Both can be had again from what is kept anyway. Per token and layer of SmolLM2-135M in
bfloat16 that is 5 of 18 kB.

No model code is touched: a module's class becomes a subclass with another `forward`, and only where
that forward gave bitwise what the module's own gives (`Gemma`'s norm, which adds 1 to its weight,
stays as it is).
"""

from __future__ import annotations

import inspect
from functools import cache
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Module

from accord.compat import silu_backward

# sizes of the rows on which a replacement is tried: some layers cut off what is large
SIZES = (1.0, 30.0, 1000.0)


def make_lean(network: Module) -> int:
    """Replace the layers that can be replaced; return how many."""
    replaced = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for module in network.modules():
            lean = next((lean for fits, lean in KINDS if fits(module)), None)
            # weights in parts cannot be computed with: they are gathered unit by unit
            if lean is None or any(isinstance(p, DTensor) for p in module.parameters()):
                continue
            if _same_numbers(module, lean):
                own: type = type(module)
                module.__class__ = _subclass(own, lean)
                replaced += 1
    return replaced


@torch.no_grad()
def _same_numbers(module: Module, lean: type) -> bool:
    """Tell whether the replacement computes bitwise what the module itself computes.

    A module that takes more than its input (a gate: Qwen3-Next, Mamba 2) is another one.
    """
    if len(inspect.signature(type(module).forward).parameters) != 2:
        return False
    # the weight of a quantised layer is no parameter
    weights = (m.weight for m in module.modules() if isinstance(m, torch.nn.Linear))
    weight = next(chain(weights, module.parameters()))
    sizes = torch.tensor(SIZES, dtype=weight.dtype, device=weight.device)[:, None]
    x = torch.randn(len(SIZES), weight.shape[-1], dtype=weight.dtype, device=weight.device) * sizes
    return torch.equal(module(x), vars(lean)["forward"](module, x))


@cache
def _subclass(own: type, lean: type) -> type:
    forward = vars(lean)["forward"]
    return type(f"Lean{own.__name__}", (own,), {"forward": forward, "__doc__": lean.__doc__})


class LeanRMSNorm:
    """The layer weight · x / sqrt(mean(x²) + ε), in float32 inside, keeping x and one number per
    token.
    """

    weight: Tensor  # these two: of the module that takes this `forward`
    variance_epsilon: float

    def forward(self, x: Tensor) -> Tensor:
        return _RMSNorm.apply(x, self.weight, self.variance_epsilon)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, epsilon):
        exact = x.to(torch.float32)
        scale = torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + epsilon)
        ctx.save_for_backward(x, weight, scale)
        return weight * (exact * scale).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        """Compute dx = s (w·g − x̂ · mean(w·g · x̂)),  x̂ = s x,  s = 1 / sqrt(mean(x²) + ε)."""
        x, weight, scale = ctx.saved_tensors
        unit = x.to(torch.float32) * scale
        grad_weight = None
        if ctx.needs_input_grad[1]:
            products = grad.to(torch.float32) * unit.to(x.dtype)
            grad_weight = products.sum(dim=tuple(range(grad.dim() - 1))).to(weight.dtype)
        inner = (grad * weight).to(torch.float32)
        along = (inner * unit).mean(-1, keepdim=True)
        return inner.addcmul_(unit, along, value=-1).mul_(scale).to(x.dtype), grad_weight, None


class LeanGatedMLP:
    """The layer down(silu(gate(x)) · up(x)), keeping gate and up."""

    gate_proj: Module  # these three: of the module that takes this `forward`
    up_proj: Module
    down_proj: Module

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(_Gated.apply(self.gate_proj(x), self.up_proj(x)))


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate, up):
        ctx.save_for_backward(gate, up)
        return F.silu(gate) * up

    @staticmethod
    def backward(ctx, grad):
        gate, up = ctx.saved_tensors
        return silu_backward(grad * up, gate), grad * F.silu(gate)


def _is_norm(module: Module) -> bool:
    own = dict(module.named_parameters())
    if set(own) != {"weight"} or not hasattr(module, "variance_epsilon"):
        return False
    return own["weight"].dim() == 1


def _is_gated_mlp(module: Module) -> bool:
    children = dict(module.named_children())
    return {"gate_proj", "up_proj", "down_proj"} <= set(children) <= {
        "gate_proj",
        "up_proj",
        "down_proj",
        "act_fn",
    } and all(
        isinstance(children[name], torch.nn.Linear)
        for name in ("gate_proj", "up_proj", "down_proj")
    )


KINDS = ((_is_norm, LeanRMSNorm), (_is_gated_mlp, LeanGatedMLP))
