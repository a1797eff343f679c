"""Release of unused memory to the system."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress

import torch


def release() -> None:
    """Give unused memory back to the system, before a second model is loaded beside the first."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        with suppress(OSError, AttributeError):  # not glibc
            ctypes.CDLL("libc.so.6").malloc_trim(0)
