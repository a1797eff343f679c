"""Weights of linear layers in the order in which the processor multiplies: for bfloat16 on a CPU,
while answers are sampled.

oneDNN rearranges a weight into blocks before it multiplies, anew at each call. Training changes the
weights and multiplies thousands of rows. Decoding multiplies tens of rows by the same weights at
every token, so blocking costs as much as the product. Measured on two cores of a Xeon with AMX, 64
rows, SmolLM2-135M: the product with a layer's `gate` took 192 µs, and 99 µs with blocked weights;
with the head 5.4 ms and 3.3 ms; the same bits. Blocking all weights took 0.08 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard

import torch
from torch import Tensor
from torch.nn import Linear, Module, Parameter

from accord import compat
from accord.environment.settings import warn_once
from accord.errors import describe
from accord.models.quantized import QuantizedLinear

ROWS = 64  # products with so many rows are blocked for; others use the same blocks
TOKENS = 8  # fewer are not worth blocking the weights for
AT_MOST = 2**31  # bytes: the blocked weights are a copy that lives as long as answers are sampled
# Blocked weights may differ from the layer by so many times the layer's own difference between a
# row alone and among others, or by so many bfloat16 steps of the largest number.
TIMES = 4
STEP = 2**-8
PROBES = 4  # rows that are compared


@contextmanager
def packed_weights(model: Module, tokens: int) -> Iterator[int]:
    """Make linear layers multiply by blocked weights inside the block, and restore them afterwards.
    Yield how many do.

    It applies to plain and quantised bfloat16 layers on a CPU for which oneDNN has kernels, and to
    the base of an adapted layer. Weights must not change inside. A layer whose blocked weights
    fail, or give other numbers, keeps its own, with a warning.

    Args:
      tokens: number of tokens that will be sampled one after the other.
    """
    changed: list[Linear] = []
    try:
        for layer in _layers(model, tokens):
            if (forward := _forward(layer)) is not None:
                vars(layer)["forward"] = forward
                changed.append(layer)
        yield len(changed)
    finally:
        for layer in changed:
            _restore(layer)


def _layers(model: Module, tokens: int) -> list[Linear]:
    """List the layers whose weights are to be blocked."""
    try:
        if tokens < TOKENS or not _supported():
            return []
    except Exception as error:
        _say(error)
        return []
    layers = [m for m in model.modules() if _fits(m)]
    weights = sum(layer.in_features * layer.out_features for layer in layers)
    return layers if torch.bfloat16.itemsize * weights <= AT_MOST else []


def _supported() -> bool:
    return compat.cpu_has_bfloat16()


def _fits(module: Module) -> TypeGuard[Linear]:
    if not isinstance(module, Linear) or "forward" in vars(module):
        return False
    if isinstance(module, QuantizedLinear):  # it would unpack its weight at every token
        return module.computes_in == torch.bfloat16 and module.device.type == "cpu"
    # A weight that is cut into parts (DTensor) or quantized is a Parameter of another type.
    plain = type(module) is Linear and type(module.weight) is Parameter
    return plain and module.weight.dtype == torch.bfloat16 and module.weight.device.type == "cpu"


def _forward(layer: Linear) -> _Blocked | None:
    """Make the layer's product by blocked weights; None if that fails or gives another product."""
    try:
        forward = _Blocked(layer)
        return forward if _same(layer, forward) else None
    except Exception as error:
        _say(error)
        return None


class _Blocked:
    """The product of a layer by its blocked weights; by its own weights from the first failure
    on.
    """

    def __init__(self, layer: Linear):
        self.layer, self.weight = layer, _blocked(layer)

    def __call__(self, x: Tensor) -> Tensor:
        try:
            return _multiply(self.weight, self.layer.bias, x)
        except Exception as error:
            _say(error)
        _restore(self.layer)
        return self.layer.forward(x)


def _restore(layer: Linear) -> None:
    vars(layer).pop("forward", None)


def _blocked(layer: Linear) -> Tensor:
    return compat.blocked_weight(layer.weight.detach(), ROWS)


def _multiply(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    return compat.multiply_blocked(weight, bias, x)


def _same(layer: Linear, forward: _Blocked) -> bool:
    """Tell whether the blocked weights give the layer's own numbers: torch promises nothing about
    these functions. The allowed rounding is measured on the layer itself, with one row alone and
    among others.
    """
    x = torch.linspace(-1, 1, PROBES * layer.in_features, dtype=torch.bfloat16)
    x = x.view(layer.in_features, PROBES).T.contiguous()  # [PROBES, in], each from -1 to 1
    own = layer(x).float()
    rounding = (layer(x[:1]).float() - own[:1]).abs().max()
    allowed = TIMES * torch.maximum(rounding, STEP * own.abs().max())
    found = (_multiply(forward.weight, layer.bias, x).float() - own).abs().max()
    if found <= allowed:
        return True
    _say(
        f"another product: off by {found:.2g}, where rounding explains {allowed:.2g}",
        cause="blocked weights: another product",
    )
    return False


def _say(why: Exception | str, cause: str | None = None) -> None:
    words = why if isinstance(why, str) else describe(why)
    warn_once(
        f"answers are drawn with the weights as they are, which is slower: blocking: {words}", cause
    )
