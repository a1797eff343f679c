"""The rows of bitsandbytes: AdamW with its moments in 8 bits each, and with moments that leave a
full GPU for main memory.

    adamw_8bit         a CPU or a GPU
    paged_adamw        a GPU: the numbers of AdamW, its moments in memory that CUDA pages
    paged_adamw_8bit   a GPU

Moments in 8 bits share a scale among 256 neighbours (Dettmers et al. 2022, arXiv:2110.02861). Each
update reads them, moves them and rounds them to the nearest of 256 values again, so a run is held
against one update at a time: the weights must go where the kept moments take them, and the new
moments must lie within a step of the written ones. Tensors of under 4,096 weights keep float32.

No GPU has run these rows yet; on a CPU the tests do.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial

import torch
from torch import Tensor

from accord.config.schema import TrainConfig
from accord.engine.optimizer_row import Groups, OptimizerRow, Tensors
from accord.engine.written_out import ADAM_EPSILON, BLOCK, adamw_update, at, dequantized, spacing
from accord.environment.bitsandbytes_package import bitsandbytes_problem
from accord.errors import describe

SMALLEST = 4096  # weights of a tensor whose moments are kept in 8 bits
# The library's kernel for CPUs (0.50.2) looks a number up by 65,536 steps of its block's scale, so
# none comes nearer to 0 than 1.6e-5 of that: measured against the nearest value, up to 3.03e-5 off.
TABLE = 2 / 65_535
# by the names of `adamw_update`: the names of bitsandbytes, and whether the moment has a sign
MOMENTS = {"exp_avg": ("state1", "absmax1", True), "exp_avg_sq": ("state2", "absmax2", False)}


def _build(
    groups: Groups, peak: float, config: TrainConfig, *, bits: int, paged: bool
) -> torch.optim.Optimizer:
    assert config.betas is not None, "the config has them for every form of AdamW"
    from bitsandbytes.optim import AdamW

    return AdamW(
        groups,
        lr=peak,
        betas=config.betas,
        eps=ADAM_EPSILON,
        weight_decay=0.0,  # each group has its own
        optim_bits=bits,
        min_8bit_size=SMALLEST,
        is_paged=paged,
    )


def _layout(shape: tuple[int, ...]) -> Tensors:
    """Return the state in 8 bits: codes, and the largest moment of every block."""
    size = torch.Size(shape).numel()
    if size < SMALLEST:
        return dict.fromkeys(("state1", "state2"), (shape, torch.float32))
    blocks = ((-(-size // BLOCK),), torch.float32)
    codes = (shape, torch.uint8)
    return {"state1": codes, "state2": codes, "absmax1": blocks, "absmax2": blocks}


def _read(kept: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
    return {
        name: dequantized(kept[codes], kept[largest], index, signed=signed)
        if largest in kept
        else at(kept[codes], index)
        for name, (codes, largest, signed) in MOMENTS.items()
    }


def _spacing(kept: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
    return {
        name: spacing(kept[codes], kept[largest], index, signed=signed)
        + TABLE * at(kept[largest], index // BLOCK)
        for name, (codes, largest, signed) in MOMENTS.items()
        if largest in kept
    }


def _restore(
    inner: torch.optim.Optimizer, master: Tensor, kept: dict[str, Tensor], updates: int
) -> None:
    """Have the library make the state, in paged memory where it pages, and fill it."""
    for number, group in enumerate(inner.param_groups):
        for place, parameter in enumerate(group["params"]):
            if parameter is master:
                inner.init_state(group, parameter, number, place)  # type: ignore[attr-defined]
    state = inner.state[master]
    for name, tensor in kept.items():
        state[name].copy_(tensor)
    state["step"] = updates


def _problem(device: torch.device, *, name: str, paged: bool) -> str | None:
    """Explain why an optimizer of bitsandbytes does not run on a device."""
    plain = name.removeprefix("paged_")
    if paged and device.type != "cuda":
        return (
            f"train.optimizer = {name} moves its state from a full GPU to main memory, and on a"
            f" {device.type.upper()} bitsandbytes pages nothing. {plain} makes the same updates:"
            f" --set train.optimizer={plain}"
        )
    if device.type not in ("cpu", "cuda"):
        return (
            f"train.optimizer = {name} runs on a CPU or a CUDA GPU, and this is"
            f" {device.type}: --set train.optimizer=adamw"
        )
    if (missing := bitsandbytes_problem()) is not None:
        return f"train.optimizer = {name} needs {missing}"
    if (failed := _trial(device, 32 if plain == "adamw" else 8, paged)) is not None:
        return (
            f"train.optimizer = {name}: bitsandbytes cannot make an update on {device}: {failed}"
            "\nWithout it: --set train.optimizer=adamw"
        )
    return None


@cache
def _trial(device: torch.device, bits: int, paged: bool) -> str | None:
    """Make one update of a small tensor, since the library finds out only then that it was built
    for another CUDA; return what it raised.
    """
    weight = torch.nn.Parameter(torch.ones(SMALLEST, device=device))
    weight.grad = torch.ones_like(weight)
    try:
        inner = _build([{"params": [weight]}], 0.5, TrainConfig(), bits=bits, paged=paged)
        inner.step()
        moved = weight.detach().cpu()
    # whatever a library raises whose kernels do not fit the machine
    except Exception as error:
        return describe(error)
    # Adam's first step is the learning rate
    if torch.allclose(moved, torch.tensor(0.5), atol=1e-3):
        return None
    return f"a weight of 1 came to {moved[0]:.4g} and should be at 0.5"


def _row(name: str, title: str, bits: int, *, paged: bool) -> OptimizerRow:
    eight = bits == 8
    return OptimizerRow(
        name,
        title,
        partial(_build, bits=bits, paged=paged),
        ("state1", "state2"),
        adamw_update,
        restore=_restore,
        layout=_layout if eight else None,
        read=_read,
        spacing=_spacing if eight else None,
        whole_tensors=eight,
        paged=paged,
        epsilon=ADAM_EPSILON,
        problem=partial(_problem, name=name, paged=paged),
    )


ADAMW_8BIT = _row("adamw_8bit", "8-bit AdamW", 8, paged=False)
PAGED_ADAMW = _row("paged_adamw", "paged AdamW", 32, paged=True)
PAGED_ADAMW_8BIT = _row("paged_adamw_8bit", "paged 8-bit AdamW", 8, paged=True)
