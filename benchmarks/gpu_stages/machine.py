"""The machine, and the rate at which it multiplies matrices at the models' shapes."""

from __future__ import annotations

import platform
import time
from importlib import metadata

import psutil
import torch
from gpu_stages.shapes import shape_of, vendor_rate
from gpu_stages.tasks import Given, wait

PACKAGES = ("accord", "torch", "transformers", "peft", "trl", "bitsandbytes", "triton")
TOKENS = {"cuda": 16_384, "cpu": 1_024}
ROUNDS, IN_A_ROUND = 12, 8  # the first two rounds are not counted


def run(given: Given) -> None:
    """Find out, and measure."""
    device = torch.device(given.device)
    found = {"device": given.device, "python": platform.python_version(), "versions": versions()}
    if device.type == "cuda":
        torch.empty(1, device=device)  # an error of the driver is this stage's
        about = torch.cuda.get_device_properties(device)
        found |= {
            "name": about.name,
            "memory": about.total_memory,
            "free": torch.cuda.mem_get_info(device)[0],
            "cuda": torch.version.cuda,
            "capability": f"{about.major}.{about.minor}",
        }
    else:
        found |= {"name": platform.processor() or platform.machine()}
        memory = psutil.virtual_memory()
        found |= {"memory": memory.total, "free": memory.available}
        found |= {"threads": torch.get_num_threads()}
    given.emit(**found, vendor_flops=vendor_rate(str(found["name"]), given.dtype))
    rates = {}
    for name in ("1b", "8b"):
        layer = shape_of(name, given.tiny).linear
        rates[name] = matmul_rate(layer, given.dtype, given.device)
        given.emit(matmul_flops=rates)


def versions() -> dict[str, str]:
    """Versions of the packages that are there."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def matmul_rate(layer: tuple[tuple[int, int], ...], dtype: str, device: str) -> float:
    """Operations a second: products of many tokens with each weight of a layer, [out, in] each; the
    median of some rounds.
    """
    tokens, kind = TOKENS[torch.device(device).type], getattr(torch, dtype)
    work = [
        (
            torch.randn(tokens, i, device=device, dtype=kind),
            torch.randn(o, i, device=device, dtype=kind),
        )
        for o, i in layer
    ]
    flops = sum(2 * tokens * w.numel() for _, w in work)
    rates = []
    for _ in range(ROUNDS):
        wait(device)
        began = time.perf_counter()
        for _ in range(IN_A_ROUND):
            for x, w in work:
                x @ w.T
        wait(device)
        rates.append(IN_A_ROUND * flops / (time.perf_counter() - began))
    return sorted(rates[2:])[(ROUNDS - 2) // 2]
