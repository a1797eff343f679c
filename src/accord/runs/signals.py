"""Stopping on request.

The first signal stops the work, at once or at its next safe point; the second ends the process.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

from accord.environment.settings import ranks
from accord.errors import Interrupted


class Stop:
    """The request to stop, if someone made it. Every long loop calls `poll`."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._raises = False

    def poll(self) -> None:
        """Stop here if a signal has come.

        Raises:
          Interrupted: a signal has come since the start.
        """
        if self.signal is not None:
            raise Interrupted(f"stopped by {signal.Signals(self.signal).name}.")

    @contextmanager
    def at_once(self):
        """Let a signal end the work inside where it stands: a restart would make all of it again.

        Raises:
          Interrupted: a signal has come.
        """
        try:
            with self._raising(True):
                self.poll()
                yield
        except KeyboardInterrupt:
            self.poll()
            raise

    @contextmanager
    def at_safe_points(self):
        """Let a signal wait for the next `poll`, whoever called this from inside `at_once`."""
        with self._raising(False):
            yield

    @contextmanager
    def _raising(self, value: bool):
        before, self._raises = self._raises, value
        try:
            yield
        finally:
            self._raises = before

    def _handle(self, number: int, frame) -> None:
        if self.signal is not None:
            if number == signal.SIGTERM and ranks()[1] > 1:
                # Slurm tells every process to stop, and torchrun tells its own again: that is not
                # asking twice
                return
            os._exit(128 + number)  # asked twice: no more saving
        self.signal = number
        if self._raises:
            # no library catches it in passing, as many do with an Exception
            raise KeyboardInterrupt


@contextmanager
def stop_on_signals():
    """Note SIGINT and SIGTERM instead of dying of them. Outside the main thread, nothing is
    installed.

    A nested context shares the outer one's `Stop`: the command line begins it before heavy imports,
    and a run continues with it.
    """
    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if isinstance(owner, Stop):
        yield owner
        return
    stop = Stop()
    try:
        before = {
            number: signal.signal(number, stop._handle)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
    except ValueError:  # only the main thread may
        before = {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
