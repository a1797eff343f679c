"""Release of unused memory to the system."""

from __future__ import annotations

import gc

import torch

from accord.environment.heap import trim_heap


def release() -> None:
    """Give unused memory back to the system, before a second model is loaded beside the first."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    else:
        trim_heap()
