"""The most memory that this process ever had: resident, and on a GPU."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_gb() -> float:
    """Linux: VmHWM, since ru_maxrss starts at what the parent had when it forked."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def device_peak_gb() -> float | None:
    """Most bytes that torch had allocated on the GPU, / 1e9; None where there is none."""
    import torch

    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None


def forget_device_peak() -> None:
    """Begin to measure `device_peak_gb` anew."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
