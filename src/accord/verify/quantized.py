"""The proof of quantised layers: each is the dense layer of its weights, in value and in gradient.

The other proofs compare a path with the bare network, and both compute by the same layers: one that
passes no gradient on would pass them all, and everything below it would train on what the residual
stream lets through. bitsandbytes' own layers become such in a pass without gradients (see
`models/quantized.py`), so this proof stands behind those that make such passes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.models.language import LanguageModel
from accord.models.quantized import QuantizedLinear, quantized_layers
from accord.types import Finding

CHECK = "step0.quantized"
ROWS = 3  # that each layer is tried on
# Relative differences that a kernel's order of adding may make; on a CPU there are none
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-6}
REMEDY = (
    "something changed the layers or their weights behind the run: is another library at work on"
    " the model? With --set model.quantize=null the base stays as it is"
)


def quantized_finding(model: LanguageModel) -> Finding:
    """Compare every quantised layer with a dense one of its weights, on the same numbers."""
    worst, count = 0.0, 0
    for path, layer in quantized_layers(model.network):
        count += 1
        gap = _gap(layer)
        if gap is None:
            says = f"{path} passes no gradient on: whatever lies below it would not train by it"
            return Finding(CHECK, "refused", says, {"layer": path}, REMEDY)
        if not gap <= ROUNDING[layer.computes_in]:
            says = (
                f"{path} is not the dense layer of its weights: values or gradients are"
                f" {gap:.2g} apart (allowed {ROUNDING[layer.computes_in]:.2g})"
            )
            return Finding(CHECK, "refused", says, {"layer": path, "apart": gap}, REMEDY)
        worst = max(worst, gap)
    says = (
        f"all {count:,} quantised layers give the values and gradients of dense ones of their"
        f" weights: apart by {worst:.1e} at most"
    )
    return Finding(CHECK, "ok", says, {"layers": count, "apart": worst})


def _gap(layer: QuantizedLinear) -> float | None:
    """Return the larger relative difference of values and of gradients; None if none flows."""
    weight, bias = layer.weight, layer.bias
    values = torch.linspace(-1, 1, ROWS * layer.in_features, device=weight.device)
    x = values.view(layer.in_features, ROWS).T.to(weight.dtype).contiguous()
    slope = torch.linspace(-1, 2, ROWS * layer.out_features, device=weight.device)
    slope = slope.view(ROWS, layer.out_features).to(weight.dtype)
    with torch.enable_grad():
        one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        found, wanted = layer(one), F.linear(other, weight, bias)
        if not found.requires_grad:
            return None
        found.backward(slope, inputs=[one])
        wanted.backward(slope, inputs=[other])
    if one.grad is None or other.grad is None:
        return None
    return max(_apart(found, wanted), _apart(one.grad, other.grad))


def _apart(one: Tensor, other: Tensor) -> float:
    size = other.double().norm().item()
    off = (one.detach().double() - other.detach().double()).norm().item()
    return off / size if size else float(off > 0)
