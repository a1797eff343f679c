"""Weights of linear layers in the order in which the processor multiplies: bfloat16 on a CPU, while
answers are sampled.

oneDNN brings a weight into blocks before it multiplies, and does so anew at each call. Training
changes the weights and multiplies thousands of rows; decoding multiplies tens of rows by the same
weights at every token, so that blocking costs as much as the product. Measured on two cores of a
Xeon with AMX, 64 rows, SmolLM2-135M: the product with a layer's `gate` 192 µs as it is and 99 µs
with blocked weights, with the head 5.4 ms and 3.3 ms; the same bits. Blocking all weights took 0.08
s.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeGuard

import torch
from torch import Tensor
from torch.nn import Linear, Module, Parameter

ROWS = 64  # that weights are blocked for; other numbers of rows are computed with the same blocks
TOKENS = 8  # fewer are not worth blocking the weights for
AT_MOST = 2**31  # bytes: the blocked weights are a copy that lives as long as answers are sampled
# relative: bfloat16 has 8 bits, and products of other numbers of rows may be summed in another
# order
TOLERANCE = 0.02


@contextmanager
def packed(model: Module, tokens: int) -> Iterator[int]:
    """Linear layers multiply by blocked weights inside; afterwards they are what they were. Yields
    how many do.

    Only plain bfloat16 layers on a CPU that oneDNN has kernels for; of an adapted layer, its base.
    Weights must not change inside.

    Args:
      tokens: how many will be sampled one after the other.
    """
    layers = [m for m in model.modules() if _fits(m)] if tokens >= TOKENS and _supported() else []
    if sum(layer.weight.nbytes for layer in layers) > AT_MOST:
        layers = []
    changed: list[Linear] = []
    try:
        for layer in layers:
            forward = partial(_multiply, _blocked(layer), layer.bias)
            if _same(layer, forward):
                vars(layer)["forward"] = forward
                changed.append(layer)
        yield len(changed)
    finally:
        for layer in changed:
            del layer.forward


def _supported() -> bool:
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _fits(module: Module) -> TypeGuard[Linear]:
    # A weight that is cut into parts (DTensor) or quantized is a Parameter of another type.
    plain = (
        type(module) is Linear
        and type(module.weight) is Parameter
        and "forward" not in vars(module)
    )
    return plain and module.weight.dtype == torch.bfloat16 and module.weight.device.type == "cpu"


def _blocked(layer: Linear) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)


def _multiply(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _same(layer: Linear, forward) -> bool:
    """Whether the blocked weights give the layer's own numbers: torch does not promise these two
    functions to anyone.
    """
    x = torch.linspace(-1, 1, layer.in_features, dtype=torch.bfloat16)[None]
    own = layer(x).float()
    return (forward(x).float() - own).abs().max() <= TOLERANCE * own.abs().max()
