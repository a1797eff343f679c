"""The C library's heap: how unused memory goes back to the system."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
LARGE = 4 << 20  # bytes


def trim_heap() -> None:
    """Give unused pages of the heap back to the system; nothing where the C library is not
    glibc.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def map_large_blocks() -> None:
    """Let each block of over 4 MB have pages of its own, which go back when it is freed; nothing
    where the C library is not glibc.

    glibc does so from 128 kB, but raises this bound to the largest block that was freed, up to
    32 MB. Weights of a layer that are gathered and let go then stay in the heap: two ranks that
    held half of a model of 2 GB each kept 1.2 GB more behind the first pass.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").mallopt(_MMAP_THRESHOLD, LARGE)
