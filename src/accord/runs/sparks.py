"""Figures of a run as a small table with sparklines, for a terminal."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 32  # characters
KEPT = 512  # newest values of each figure

# figure -> its name for people, in the order of the table
FIGURES = {
    "loss": "loss",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "diag/log_ratio_token/chosen": "chosen, nats/token",
    "diag/log_ratio_token/rejected": "rejected, nats/token",
    "entropy": "entropy",
    "grad_norm": "gradient",
}
# changes: the sign says which way
SIGNED = ("rewards/margins", "diag/log_ratio_token/chosen", "diag/log_ratio_token/rejected")


class Sparks:
    """The newest values of the figures that a person watches."""

    def __init__(self) -> None:
        self.values: dict[str, deque[float]] = {}
        self.flags: list[str] = []

    def add(self, metrics: Mapping[str, float]) -> None:
        for name in FIGURES:
            if name in metrics:
                self.values.setdefault(name, deque(maxlen=KEPT)).append(metrics[name])

    def rows(self) -> list[tuple[str, str, str]]:
        """Return (name, sparkline, newest value) of each figure that there is."""
        return [
            (
                FIGURES[name],
                spark(list(values)),
                f"{values[-1]:{'+' if name in SIGNED else ' '}.3f}",
            )
            for name, values in self.values.items()
        ]


def spark(values: Sequence[float], width: int = WIDTH) -> str:
    """Draw means of equal pieces as blocks from the lowest to the highest; a gap where a value is
    not finite.
    """
    pieces = (
        [values[i * len(values) // width : (i + 1) * len(values) // width] for i in range(width)]
        if len(values) > width
        else [[v] for v in values]
    )
    means = [sum(piece) / len(piece) for piece in pieces]
    finite = [mean for mean in means if math.isfinite(mean)]
    if not finite:
        return " " * len(means)
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    return "".join(
        BLOCKS[round((mean - low) / span * 7)] if math.isfinite(mean) else " " for mean in means
    )
