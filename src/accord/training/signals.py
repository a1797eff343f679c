"""Stopping on request: the first signal is noticed at the next safe point, the second stops at once."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

from accord.environment import ranks
from accord.types import Interrupted


class Stop:
    """Whether someone asked to stop. `poll` is called in every long loop."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def poll(self) -> None:
        """
        Raises:
          Interrupted: a signal has come since the start.
        """
        if self.signal is not None:
            raise Interrupted(f"stopped by {signal.Signals(self.signal).name}.")

    def _handle(self, number: int, frame) -> None:
        # Slurm tells every process to stop, and torchrun tells its own again: that is not asking twice.
        again = self.signal is not None and not (number == signal.SIGTERM and ranks()[1] > 1)
        if again:
            os._exit(128 + number)  # asked twice: no more saving
        self.signal = number


@contextmanager
def stop_on_signals():
    """Inside, SIGINT and SIGTERM set a flag instead of killing. Outside the main thread, nothing is installed."""
    stop = Stop()
    try:
        before = {number: signal.signal(number, stop._handle) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # only the main thread may
        before = {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
