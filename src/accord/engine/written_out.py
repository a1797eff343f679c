"""One update of each optimizer as in its paper: plain arithmetic in float64 on a few weights, which
shares nothing with torch's optimizers.

A run's weights are compared with this in its first updates (verify/weight_probes.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from accord.config.schema import TrainConfig

ADAM_EPSILON = 1e-8


@dataclass(frozen=True)
class Moment:
    """The inputs of one update besides the weights, their state and their gradient."""

    number: int  # of this update, from 1
    rate: float
    decay: float  # 0 for a weight that is not decayed
    config: TrainConfig


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
    first, second = moment.config.betas
    mean = first * state["exp_avg"] + (1 - first) * gradient
    square = second * state["exp_avg_sq"] + (1 - second) * gradient.square()
    size = (square / (1 - second**moment.number)).sqrt() + ADAM_EPSILON
    value = (
        value * (1 - moment.rate * moment.decay)
        - moment.rate * (mean / (1 - first**moment.number)) / size
    )
    return value, {"exp_avg": mean, "exp_avg_sq": square}
