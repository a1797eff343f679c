"""One update of each optimizer as in its paper: plain arithmetic in float64 on a few weights, which
shares nothing with the libraries' optimizers.

A run's weights are compared with this in its first updates (verify/weight_probes.py).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.config.schema import TrainConfig

ADAM_EPSILON = 1e-8
# Adafactor's: added to squared gradients; how fast the second moment's memory grows; the largest
# root mean square of an update before the learning rate
ADAFACTOR_EPSILON, ADAFACTOR_POWER, ADAFACTOR_CLIP = 1e-30, 0.8, 1.0
CHUNK = 1 << 22  # numbers of a large tensor that are squared in float64 at once: 32 MB


@dataclass(frozen=True)
class Whole:
    """The tensor that followed weights are part of, for an update that depends on all of it."""

    gradient: Tensor  # of any shape, clipped but for `scale`
    scale: float
    index: Tensor  # of the followed weights, into the flattened tensor


@dataclass(frozen=True)
class Moment:
    """The inputs of one update besides the weights, their state and their gradient."""

    number: int  # of this update, from 1
    rate: float
    decay: float  # 0 for a weight that is not decayed
    config: TrainConfig
    whole: Whole


def at(tensor: Tensor, index: Tensor) -> Tensor:
    """Read some coordinates, in float64 on the CPU."""
    return tensor.detach().reshape(-1)[index.to(tensor.device)].double().cpu()


# (weights, state by name, clipped gradient, moment) -> (weights, state) after the update
WrittenUpdate = Callable[
    [Tensor, Mapping[str, Tensor], Tensor, Moment], tuple[Tensor, dict[str, Tensor]]
]


def adamw_update(
    value: Tensor, state: Mapping[str, Tensor], gradient: Tensor, moment: Moment
) -> tuple[Tensor, dict[str, Tensor]]:
    """Update by AdamW: the mean gradient over its root mean square, and decay separate from both.

    Source: Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithm 2.
    """
    assert moment.config.betas is not None, "the config has them for every form of AdamW"
    first, second = moment.config.betas
    mean = first * state["exp_avg"] + (1 - first) * gradient
    square = second * state["exp_avg_sq"] + (1 - second) * gradient.square()
    size = (square / (1 - second**moment.number)).sqrt() + ADAM_EPSILON
    value = (
        value * (1 - moment.rate * moment.decay)
        - moment.rate * (mean / (1 - first**moment.number)) / size
    )
    return value, {"exp_avg": mean, "exp_avg_sq": square}


def sgd_update(
    value: Tensor, state: Mapping[str, Tensor], gradient: Tensor, moment: Moment
) -> tuple[Tensor, dict[str, Tensor]]:
    """Update by gradient descent with momentum. Decay is a part of the gradient, and the first
    gradient enters whole.

    Source: Sutskever et al. 2013, ICML, Eq. 1 and 2, with the learning rate outside the momentum as
    torch has it, so that a change of the rate acts at once.
    """
    gradient = gradient + moment.decay * value
    if "momentum_buffer" not in state:
        return value - moment.rate * gradient, {}
    buffer = (moment.config.momentum or 0.0) * state["momentum_buffer"] + gradient
    return value - moment.rate * buffer, {"momentum_buffer": buffer}


def adafactor_update(
    value: Tensor, state: Mapping[str, Tensor], gradient: Tensor, moment: Moment
) -> tuple[Tensor, dict[str, Tensor]]:
    """Update by Adafactor: as Adam without a mean, the squared gradients of a matrix known by their
    sums over rows and columns. The state is the whole tensor's, not the followed weights'.

        R = β R + (1-β) mean over columns of G²+ε        C = β C + (1-β) mean over rows of G²+ε
        V = R C / mean(R)     β = 1 - t^-0.8             U = G / √V, over max(1, RMS(U))

    Source: Shazeer & Stern 2018, arXiv:1804.04235, Algorithms 4 and 5, with a learning rate that is
    given (no relative step, no scale of the parameter) and decay apart from the gradient.
    """
    whole = moment.whole
    memory = 1 - moment.number**-ADAFACTOR_POWER
    matrix = whole.gradient.dim() >= 2
    seen = _squares(whole)
    names = ("exp_avg_sq_row", "exp_avg_sq_col") if matrix else ("exp_avg_sq",)
    state = {
        name: memory * state[name] + (1 - memory) * fresh
        for name, fresh in zip(names, seen, strict=True)
    }
    total = 0.0  # of U², over the whole tensor
    for rows, part in _slices(whole):
        total += (part.square() * _precision(state, rows, whole)).sum().item()
    size = math.sqrt(total / whole.gradient.numel())
    picked = _precision(state, None, whole)
    update = gradient * picked.sqrt() / max(1.0, size / ADAFACTOR_CLIP)
    return value * (1 - moment.rate * moment.decay) - moment.rate * update, state


def _slices(whole: Whole) -> Iterator[tuple[slice, Tensor]]:
    """Yield the gradient in float64 on the CPU, some rows at once: which ones, and [rows, columns].
    A vector has one column.
    """
    gradient = whole.gradient.detach()
    flat = gradient.reshape(-1, gradient.shape[-1] if gradient.dim() >= 2 else 1)
    step = max(1, CHUNK // flat.shape[1])
    for start in range(0, flat.shape[0], step):
        rows = slice(start, min(start + step, flat.shape[0]))
        yield rows, whole.scale * flat[rows].double().cpu()


def _squares(whole: Whole) -> tuple[Tensor, ...]:
    """Compute the means of squared gradients: over each row and each column of a matrix, or each
    alone in a vector.
    """
    shape = whole.gradient.shape
    matrix = len(shape) >= 2
    height, width = (shape[-2], shape[-1]) if matrix else (whole.gradient.numel(), 1)
    each = torch.zeros(whole.gradient.numel() // width, dtype=torch.float64)
    # a stack of matrices has columns of its own for each of them
    columns = torch.zeros(len(each) // height, width, dtype=torch.float64)
    for rows, part in _slices(whole):
        squares = part.square() + ADAFACTOR_EPSILON
        each[rows] = squares.mean(1)
        columns.index_add_(0, torch.arange(rows.start, rows.stop) // height, squares)
    if not matrix:
        return (each,)
    return each.reshape(shape[:-1]), (columns / height).reshape(*shape[:-2], width)


def _precision(state: Mapping[str, Tensor], rows: slice | None, whole: Whole) -> Tensor:
    """Compute 1 / V for some rows of the whole tensor, or for the followed weights alone."""
    shape, index = whole.gradient.shape, whole.index.cpu()
    if "exp_avg_sq" in state:
        kept = state["exp_avg_sq"].reshape(-1)
        return 1 / (kept[index] if rows is None else kept[rows].unsqueeze(1))
    height, width = shape[-2:]
    each, columns = state["exp_avg_sq_row"], state["exp_avg_sq_col"].reshape(-1, width)
    inverse = (each.mean(-1, keepdim=True) / each).reshape(-1)
    if rows is None:
        row = index // width
        return inverse[row] / columns[row // height, index % width]
    matrices = torch.arange(rows.start, rows.stop) // height
    return inverse[rows].unsqueeze(1) / columns[matrices]


# ---------------------------------------------------------------- eight bits

BLOCK = 256  # numbers that share a scale


@functools.cache
def dynamic_map(signed: bool) -> Tensor:
    """Return the 256 values that 8 bits stand for, in [-1, 1] or [0, 1], rising; float64.

    A leading run of zeros is a power of ten, the bits behind it are a fraction between 0.1 and 1:
    small numbers keep their size, large ones more digits.

    Source: Dettmers et al. 2022, arXiv:2110.02861, §2 and Appendix F.2 (dynamic tree quantization);
    without a sign its bit is one more of the fraction.
    """
    values = [0.0, 1.0]
    for power in range(7):
        count = 2 ** (power if signed else power + 1)
        edges = torch.linspace(0.1, 1, count + 1, dtype=torch.float64)
        sizes = 10.0 ** (power - 6) * (edges[:-1] + edges[1:]) / 2
        values += [*sizes.tolist(), *((-sizes).tolist() if signed else ())]
    return torch.tensor(sorted(values), dtype=torch.float64)


def dequantized(codes: Tensor, largest: Tensor, index: Tensor, *, signed: bool) -> Tensor:
    """Read numbers that are kept in 8 bits, at some coordinates; float64.

    Args:
      codes: uint8, of any shape.
      largest: [blocks] the size of the largest number of each block of 256.
      index: into the flattened codes.
    """
    code, scale = at(codes, index).long(), at(largest, index // BLOCK)
    return dynamic_map(signed)[code] * scale


def spacing(codes: Tensor, largest: Tensor, index: Tensor, *, signed: bool) -> Tensor:
    """Return the distance of each kept number to the farther of its neighbours: the number that it
    was made from lies nearer than that. Arguments as of `dequantized`.
    """
    code, scale = at(codes, index).long(), at(largest, index // BLOCK)
    steps = dynamic_map(signed).diff()
    return torch.maximum(steps[code.clamp(max=254)], steps[(code - 1).clamp(min=0)]) * scale
