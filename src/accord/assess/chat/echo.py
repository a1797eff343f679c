"""The echo of a terminal: off while an answer is written, so that keys pressed meanwhile do not
stand in its middle. They are there when the next line is read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

try:
    import termios
except ImportError:  # not on Windows
    termios = None  # type: ignore[assignment]


@contextmanager
def echo(wanted: bool) -> Iterator[None]:
    """Switch the echo of the terminal on or off inside; it is then as it was before."""
    if termios is None or not sys.stdin.isatty():
        yield
        return
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    modes = [*before]
    modes[3] = modes[3] | termios.ECHO if wanted else modes[3] & ~termios.ECHO
    try:
        termios.tcsetattr(handle, termios.TCSADRAIN, modes)
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


def forget_typed() -> None:
    """Forget the lines that were typed and not read yet."""
    if termios is not None and sys.stdin.isatty():
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
