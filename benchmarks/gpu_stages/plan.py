"""The stages of gpu.py: their order, their time, and the reasons for which one is left out."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_stages.shapes import Shape, shape_of

ROOT = Path(__file__).resolve().parents[2]
# The share of the free memory that what is known beforehand may fill: activations come on top.
ROOM = 0.9
NF4_BYTES = 4.127 / 8  # a weight, its scales in 8 bits too


@dataclass(frozen=True)
class Stage:
    """One process."""

    name: str
    task: str  # one of tasks.TASKS
    share: float  # of the time, relative to the others'
    shape: str = "1b"
    trains: str = ""  # "lora", "qlora" or "all"
    side: str = ""  # "accord" or "trl"

    @property
    def pair(self) -> str:
        """Its name without the side; both sides of a comparison have the same."""
        return f"{self.trains} {self.shape}"


def _training(trains: str, shape: str, accord: float, trl: float) -> tuple[Stage, Stage]:
    return (
        Stage(f"{trains} {shape} by accord", "training", accord, shape, trains, "accord"),
        Stage(f"{trains} {shape} by TRL", "training_trl", trl, shape, trains, "trl"),
    )


# Shares are guesses in seconds of an H200: 10 for a process to begin, 15 to 30 for kernels to be
# compiled where they are first met, the rest for updates. Nothing of this was measured.
STAGES: tuple[Stage, ...] = (
    Stage("machine", "machine", 25),
    Stage("tests", "tests", 130),
    Stage("paths", "paths", 60),
    *_training("lora", "1b", 65, 40),
    *_training("all", "1b", 40, 40),
    *_training("lora", "8b", 60, 50),
    *_training("all", "8b", 60, 60),
    *_training("qlora", "8b", 55, 50),
    Stage("generation", "generation", 45),
)


def deadline(stages: Sequence[Stage], index: int, left: float) -> float:
    """Seconds that stage `index` may take, when `left` are left for it and all behind it: its share
    of them. What a stage does not use is everybody's behind it.
    """
    return left * stages[index].share / sum(stage.share for stage in stages[index:])


# ---------------------------------------------------------------- what is left out


def why_not(stage: Stage, free: int, tiny: bool) -> str:
    """Explain why a stage cannot run here; empty if it can.

    Args:
      free: bytes of the device that nobody has taken.
    """
    if stage.task == "tests" and not _installed("pytest"):
        return "pytest is not installed: pip install -e '.[test]'"
    if stage.side == "trl" and not _installed("trl"):
        return "TRL is not installed: pip install -e '.[bench]'"
    if stage.trains == "qlora":
        if not _installed("bitsandbytes"):
            return "bitsandbytes is not installed: pip install bitsandbytes"
        if stage.side == "accord" and not can_quantize():
            return "this accord has no model.quantize"
    return _too_large(stage, free, tiny)


def can_quantize() -> bool:
    """Tell whether this accord has the field `model.quantize`."""
    from accord.config.schema import ModelConfig

    return "quantize" in ModelConfig.model_fields


def _too_large(stage: Stage, free: int, tiny: bool) -> str:
    if not stage.trains:
        return ""
    shape = shape_of(stage.shape, tiny)
    needed = {side: known_bytes(shape, stage.trains, side) for side in ("accord", "trl")}
    takes = f"about {needed[stage.side] / 1e9:.0f} GB before activations"
    held = HELD.get((stage.trains, stage.side), HELD[stage.trains, ""])
    if needed[stage.side] > ROOM * free:
        return (
            f"{takes} for {shape.weights / 1e9:.1f} billion weights ({held}), and of the"
            f" {free / 1e9:.0f} GB that are free {ROOM:.0%} may be filled by what is known before"
        )
    if needed["accord"] > ROOM * free:
        return (
            "accord's side does not fit, so there is nothing to compare with; this one would take"
            f" {takes} ({held})"
        )
    return ""


HELD = {
    ("lora", ""): "frozen, in bfloat16",
    ("qlora", ""): "in bfloat16, from which those in 4 bits are made",
    ("all", "accord"): "float32 masters, gradients and moments; weights, gradients and a frozen"
    " reference in bfloat16",
    ("all", ""): "weights, gradients, moments and a reference in bfloat16, without float32 masters",
}


def known_bytes(shape: Shape, trains: str, side: str) -> float:
    """Bytes that a training in bfloat16 holds at the least, before activations.

    Adapters and all that goes with them are below a hundredth of the weights, and left out.
    """
    if trains == "lora":
        return 2 * shape.weights
    if trains == "qlora":
        return 2 * shape.weights + NF4_BYTES * shape.trunk
    if side == "trl":
        # weights and gradients, two moments, all in bfloat16; and the reference
        return (2 + 2 + 2 * 2 + 2) * shape.weights
    from accord.config.schema import TrainConfig
    from accord.engine.optimizers import optimizer_of

    return (2 + 2 + optimizer_of(TrainConfig()).training_bytes + 2) * shape.weights


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
