"""Ctrl-C in a conversation: the first one stops the answer that is being drawn.

An exception in the middle of a pass would leave the cache half written, so that it waits for the
end of the token. A second one, before the first was noticed, ends the session.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Pressed(KeyboardInterrupt):
    """Ctrl-C where it was not held back. It is another exception than that of a signal that ends
    the process.
    """


class CtrlC:
    """The request to stop an answer."""

    def __init__(self) -> None:
        self._held = self._asked = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Receive the signal inside; outside the main thread nothing is installed."""
        try:
            before = signal.signal(signal.SIGINT, self._handle)
        except ValueError:
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold a request back inside, until `taken` asks for it."""
        with self._holding(True):
            yield

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Let a request raise `Pressed` at once inside: the user is asked something."""
        with self._holding(False):
            yield

    @contextmanager
    def _holding(self, value: bool) -> Iterator[None]:
        before, self._held, self._asked = self._held, value, False
        try:
            yield
        finally:
            self._held = before

    def taken(self) -> bool:
        """Tell whether a stop was asked for since the last time."""
        asked, self._asked = self._asked, False
        return asked

    def _handle(self, number: int, frame: object) -> None:
        if not self._held or self._asked:
            raise Pressed
        self._asked = True
