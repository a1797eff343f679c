"""The device of a rank: a GPU of its own, or its share of the machine's cores."""

from __future__ import annotations

import os
import re

import torch

from accord.distributed.world import World
from accord.errors import UsageError


def take_device(world: World, device: str) -> None:
    """Give this rank the GPU of its LOCAL_RANK, or its share of the cores.

    Args:
      device: what the run was configured for.

    Raises:
      UsageError: there are fewer devices than ranks.
    """
    if world.size == 1:
        return
    local, beside = (
        int(os.environ.get(name, default))
        for name, default in (("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1))
    )
    if re.fullmatch(r"mps|cuda:\d+", device):
        raise UsageError(
            f"model.device = {device} names one device for {world.size} processes. Leave it at"
            " auto."
        )
    if device == "cpu" or not torch.cuda.is_available():
        _share_cores(beside)
        return
    if local >= torch.cuda.device_count():
        raise UsageError(
            f"{beside} processes on a machine with {torch.cuda.device_count()} GPUs: each needs its"
            f" own.\nStart torchrun with --nproc-per-node {torch.cuda.device_count()}, or train on"
            " the CPU: --set model.device=cpu"
        )
    torch.cuda.set_device(local)


def _share_cores(processes: int) -> None:
    """Take an equal share of this machine's cores, unless OMP_NUM_THREADS says otherwise.

    torchrun itself sets it to 1 where the user has not, so 1 is not taken for anyone's wish.
    """
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes))
