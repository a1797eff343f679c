"""Threads of the libraries that numpy, scipy and scikit-learn compute with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread inside the block or the decorated function, torch included.

    Small problems gain nothing from a second thread, and its waiting is not idle: beside other
    work on 2 cores, an audit of 600 pairs took 15.3 s of CPU time with two threads, 2.2 with one.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def cores() -> int:
    """Return how many cores this process may use."""
    known = getattr(os, "sched_getaffinity", None)
    return len(known(0)) if known is not None else os.cpu_count() or 1
