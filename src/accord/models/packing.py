"""The two ways in which a weight is packed: nf4 by bitsandbytes, int8 by a line of arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

import torch
import torch.nn.functional as F
from packaging.version import InvalidVersion, Version
from torch import Tensor

from accord.environment.installing import install_line
from accord.errors import describe
from accord.types import UsageError

BLOCK, OUTER = 64, 256  # weights of one scale of nf4, and scales of one scale of theirs
# Bits of a weight in nf4 whose scales are in 8 bits: 4.127
NF4_BITS = 4 + (8 + 32 / OUTER) / BLOCK
UNPACKED = (torch.float32, torch.bfloat16)  # into these at once; the latter is the former, rounded
OLDEST = "0.50"  # of bitsandbytes; no older one was tried
# The values that a weight of a block can have, as shares of the largest: quantiles of the normal
# distribution (Dettmers et al. 2023, arXiv:2305.14314, appendix E). They are here to compare what
# the library computes with.
NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)


@dataclass(frozen=True)
class Kind:
    """A way of packing.

    `pack(weight [out, in], double)` gives the tensors to keep, by name; `unpack(packed, shape,
    dtype)` the weights again, on the device of the packed ones; `problem(device)` explains why it
    does not serve there, or returns an empty text.
    """

    pack: Callable[[Tensor, bool], dict[str, Tensor]]
    unpack: Callable[[Mapping[str, Tensor], tuple[int, int], torch.dtype], Tensor]
    problem: Callable[[torch.device], str]


# ---------------------------------------------------------------- nf4


# Weights go to the library as a matrix of whole blocks, one to a row, zeros behind the last: its
# kernel for CPUs gives other numbers where blocks go over the end of a row and the columns are a
# multiple of 16 (bitsandbytes 0.50.2: 16, 32, 48, 80, 96, …).


def _pack_nf4(weight: Tensor, double: bool) -> dict[str, Tensor]:
    flat = weight.reshape(-1)
    blocks = F.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    bits, state = _functional().quantize_4bit(
        blocks, blocksize=BLOCK, compress_statistics=double, quant_type="nf4"
    )
    packed = {"codes": bits.reshape(-1), "scales": state.absmax}
    if not double:
        return packed
    return packed | {"outer_scales": state.state2.absmax, "mean": state.offset}


def _unpack_nf4(packed: Mapping[str, Tensor], shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    functional, state, codes = _functional(), None, packed["codes"]
    if "mean" in packed:
        state = functional.QuantState(
            packed["outer_scales"],
            code=_outer_values(codes.device),
            blocksize=OUTER,
            dtype=torch.float32,
        )
    whole = functional.QuantState(
        packed["scales"],
        shape=torch.Size((2 * len(codes) // BLOCK, BLOCK)),
        code=None,
        blocksize=BLOCK,
        quant_type="nf4",
        dtype=dtype if dtype in UNPACKED else torch.float32,
        offset=packed.get("mean"),
        state2=state,
    )
    blocks = functional.dequantize_4bit(codes.view(-1, 1), whole)
    return blocks.reshape(-1)[: shape[0] * shape[1]].view(shape).to(dtype)


@cache
def _outer_values(device: torch.device) -> Tensor:
    """Return the values that a scale of nf4 can have in 8 bits, as shares of the largest."""
    return _functional().create_dynamic_map().to(device)


def _functional() -> Any:
    from bitsandbytes import functional

    return functional


@cache
def _nf4_problem(device: torch.device) -> str:
    """Explain why bitsandbytes does not serve; empty where it gives this table's numbers."""
    install = install_line(f"bitsandbytes>={OLDEST}")
    try:
        found = metadata.version("bitsandbytes")
    except metadata.PackageNotFoundError:
        return f"it needs bitsandbytes, which is not installed.\nInstall it: {install}"
    try:
        old = Version(found) < Version(OLDEST)
    except (InvalidVersion, TypeError):  # a half-installed package has no version
        old = True
    if old:
        return (
            f"it needs bitsandbytes {OLDEST} or newer, and {found} is installed.\nInstall it:"
            f" {install}"
        )
    try:
        apart = _astray(device)
    # a library for another processor or another CUDA: whatever it raises where it is called
    except Exception as error:
        return f"bitsandbytes {found} does not work on {device}: {describe(error)}"
    if apart:
        return f"bitsandbytes {found} computes something else than nf4 on {device}: {apart}"
    return ""


def _astray(device: torch.device) -> str:
    """Pack and unpack weights whose nf4 is known; say in words what came out otherwise."""
    scales = torch.tensor([0.5, 2.0, 3.0, 1.0])
    values = torch.tensor(NF4).repeat(BLOCK // len(NF4))
    weight = (scales[:, None] * values).reshape(2, -1)  # [2, 128]: one block begins within a row
    for double in (False, True):
        packed = _pack_nf4(weight, double)
        there = {name: tensor.to(device) for name, tensor in packed.items()}
        exact = _unpack_nf4(there, (2, 2 * BLOCK), torch.float32)
        off = (exact.cpu() - weight).abs().max().item()
        # the scales of these blocks in 8 bits are off by less than a hundredth of the largest
        if not off <= (0.03 if double else 0.0):
            return f"its own values came back off by {off:.2g}{' (double)' if double else ''}"
        if not torch.equal(_unpack_nf4(there, (2, 2 * BLOCK), torch.bfloat16), exact.bfloat16()):
            return "its numbers in bfloat16 are not those in float32, rounded"
    return ""


# ---------------------------------------------------------------- int8


def _pack_int8(weight: Tensor, double: bool) -> dict[str, Tensor]:
    exact = weight.to(torch.float32)
    scales = exact.abs().amax(dim=1, keepdim=True) / 127
    steps = exact / torch.where(scales == 0, torch.ones_like(scales), scales)
    return {"codes": steps.round_().to(torch.int8), "scales": scales}


def _unpack_int8(
    packed: Mapping[str, Tensor], shape: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    return (packed["codes"].to(torch.float32).mul_(packed["scales"])).to(dtype)


KINDS: dict[str, Kind] = {
    "nf4": Kind(_pack_nf4, _unpack_nf4, _nf4_problem),
    "int8": Kind(_pack_int8, _unpack_int8, lambda device: ""),
}


def require_possible(kind: str, device: torch.device) -> None:
    """Check that weights of a kind can be packed here and computed on a device.

    Raises:
      UsageError: a library is missing, too old, or computes something else on this processor.
    """
    if says := KINDS[kind].problem(device):
        others = [name for name, other in KINDS.items() if not other.problem(device)]
        also = f"\nOr take one that works here: --set model.quantize={others[0]}" if others else ""
        raise UsageError(f"model.quantize = {kind}: {says}{also}")
