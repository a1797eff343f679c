"""Displays for Python: warnings through `warnings`, progress as lines, as one line that is updated,
or not at all.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from accord.api.warned import say_nothing, warn_of_check, warn_of_flag
from accord.api.words import in_python
from accord.environment import faults
from accord.runs.display import Display, SilentDisplay, clock, number
from accord.types import Finding

WIDTH = 100  # characters of the one line


def display_for(verbose: bool, progress: bool | None) -> Display:
    """Make the display of a call.

    Args:
      verbose: print every line that the command prints.
      progress: one updating line; None: in a notebook and on a terminal.
    """
    if verbose:
        return WarningDisplay(Display(sys.stderr))
    notebook = notebook_line()
    if progress or (progress is None and (notebook is not None or sys.stderr.isatty())):
        return WarningDisplay(OneLine(notebook or TerminalLine(sys.stderr)))
    return WarningDisplay(SilentDisplay())


def sayer(verbose: bool):
    """Return what takes the lines of progress of a call without a run."""
    return _print if verbose else say_nothing


def _print(text: str) -> None:
    if text.lstrip().startswith("! "):
        return say_nothing(text)  # a warning is one here, too
    print(in_python(text), file=sys.stderr, flush=True)


class WarningDisplay(Display):
    """A display that raises warnings for what went wrong, and shows the rest in another one."""

    def __init__(self, inner: Display):
        super().__init__(inner.stream)
        self.inner = inner

    def line(self, text: str) -> None:
        # the lines of findings come as records as well: `flagged` and `prepared`
        if text.startswith("! "):
            say_nothing(text)
        else:
            self.inner.line(in_python(text))

    def phase(self, name: str, text: str) -> None:
        self.inner.phase(name, text)

    def progress(self, name: str, done: int, total: int) -> None:
        self.inner.progress(name, done, total)

    def step(
        self, step: int, total: int, metrics: Mapping[str, float], speed: float, eta: float
    ) -> None:
        self.inner.step(step, total, metrics, speed, eta)

    def doing(self, text: str) -> None:
        self.inner.doing(text)

    def prepared(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            if finding.verdict == "warning":
                warn_of_check(finding)

    def evaluated(self, step: int, text: str) -> None:
        self.inner.evaluated(step, text)

    def flagged(self, step: int, finding: Finding) -> None:
        if finding.verdict in ("warning", "refused"):
            warn_of_flag(finding, step)
        else:
            self.inner.flagged(step, finding)

    def close(self) -> None:
        self.inner.close()


class OneLine(Display):
    """Progress as one line that is updated in place."""

    def __init__(self, shown: TerminalLine | NotebookLine):
        super().__init__(sys.stderr)
        self.shown = shown

    def line(self, text: str) -> None:
        return None

    def flagged(self, step: int, finding: Finding) -> None:
        return None

    def evaluated(self, step: int, text: str) -> None:
        return None

    def phase(self, name: str, text: str) -> None:
        faults.note_phase(text)
        self.shown.show(text)

    def progress(self, name: str, done: int, total: int) -> None:
        self.shown.show(f"{name} {done:,}/{total:,}")

    def step(
        self, step: int, total: int, metrics: Mapping[str, float], speed: float, eta: float
    ) -> None:
        self.shown.show(
            f"step {step}/{total}  loss {number(metrics['loss'])}  {speed:,.0f} tokens/s "
            f" {clock(eta)} left"
        )

    def close(self) -> None:
        self.shown.close()


class TerminalLine:
    """One line of a terminal, rewritten with a carriage return."""

    def __init__(self, stream: TextIO):
        self.stream, self.used = stream, False

    def show(self, text: str) -> None:
        self.used = True
        print(f"\r{text[:WIDTH]:<{WIDTH}}", end="", file=self.stream, flush=True)

    def close(self) -> None:
        if self.used:
            print(f"\r{'':<{WIDTH}}\r", end="", file=self.stream, flush=True)
        self.used = False


class NotebookLine:
    """One output of a notebook, updated in place."""

    def __init__(self, display: Any):
        self.display = display
        self.handle: Any = None

    def show(self, text: str) -> None:
        shown = {"text/plain": text}
        if self.handle is None:
            self.handle = self.display(shown, raw=True, display_id=True)
        else:
            self.handle.update(shown, raw=True)

    def close(self) -> None:
        """Leave the last line where it stands."""


def notebook_line() -> NotebookLine | None:
    """Return the line of the notebook that this process is the kernel of; None elsewhere."""
    if "ipykernel" not in sys.modules:  # a kernel has imported it; nothing else needs IPython
        return None
    from IPython.display import display  # type: ignore[import-not-found, unused-ignore]

    return NotebookLine(display)
