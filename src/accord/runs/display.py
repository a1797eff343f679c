"""The display of a run that prepares and trains: a live bar on a terminal, plain lines elsewhere.

Everything goes to standard error when machines read standard output (--json).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

from accord.environment import faults
from accord.environment.wrapping import fit, wrap
from accord.runs.sparks import Sparks
from accord.types import Finding

SHOWN = (
    "loss",
    "rollouts/reward",
    "rollouts/kl",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "grad_norm",
)
SHORT = {
    "rollouts/reward": "reward",
    "rollouts/kl": "KL",
    "rewards/accuracies": "acc",
    "rewards/margins": "margin",
    "logps/chosen": "chosen",
    "logps/rejected": "rejected",
    "grad_norm": "grad",
}
EVERY = 5.0  # seconds between plain progress lines of one phase
MARKS = {"ok": "✓", "note": "·", "warning": "!", "refused": "✗"}


class Display:
    """The display in plain lines. It is also the interface that `LiveDisplay` fills in."""

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream or sys.stderr
        self._last = 0.0

    def line(self, text: str) -> None:
        """Print one line that stays."""
        print(fit(text, self.stream), file=self.stream, flush=True)

    def phase(self, name: str, text: str) -> None:
        """Begin a phase."""
        faults.note_phase(text)
        self._last = time.monotonic()
        self.line(f"· {text}")

    def progress(self, name: str, done: int, total: int) -> None:
        """Show how far the current phase is; print a line now and then."""
        now = time.monotonic()
        if now - self._last >= EVERY and total:
            self._last = now
            self.line(f"  {name} {done:,}/{total:,}")

    def step(
        self, step: int, total: int, metrics: Mapping[str, float], speed: float, eta: float
    ) -> None:
        """Show that an update was made; of long runs, every hundredth is a line."""
        if step in (1, total) or step % max(1, total // 100) == 0:
            self.line(
                f"step {step:>5}/{total}  {figures(metrics)}  {speed:,.0f} tok/s  {clock(eta)} left"
            )

    def doing(self, text: str) -> None:
        """Show that something between two updates begins that may take a while. Plain lines show
        its outcome instead.
        """

    def prepared(self, findings: Sequence[Finding]) -> None:
        """Take the findings before the first update as records; their lines are shown apart."""

    def evaluated(self, step: int, text: str) -> None:
        """Show that an evaluation was made."""
        self.line(f"eval  {step:>5}       {text}")

    def flagged(self, step: int, finding: Finding) -> None:
        """Show a finding: what was noticed, what it means and what to do; these lines stay."""
        means = f"\n    {finding.means}" if finding.means else ""
        remedy = f"\n    what to do: {finding.remedy}" if finding.remedy else ""
        self.line(
            f"{MARKS[finding.verdict]} step {step}  {finding.check}: {finding.says}{means}{remedy}"
        )

    def close(self) -> None:
        """End the display; nothing moves any more."""


class SilentDisplay(Display):
    """The display of Python callers that want no output."""

    def line(self, text: str) -> None:
        return None


class CellDisplay(Display):
    """The display of one run among many: warnings, and now and then how far it is."""

    def __init__(self, outer: Display, name: str):
        super().__init__(outer.stream)
        self.outer, self.name, self.newest = outer, name, time.monotonic()
        self.phases: dict[str, float] = {}  # seconds of each phase of setting up, so far
        self._phase: tuple[str, float] | None = None

    def line(self, text: str) -> None:
        return None

    def phase(self, name: str, text: str) -> None:
        faults.note_phase(text)
        self._end_phase()
        self._phase = name, time.monotonic()

    def _end_phase(self) -> None:
        if self._phase is not None:
            name, began = self._phase
            self.phases[name] = round(self.phases.get(name, 0.0) + time.monotonic() - began, 3)
            self._phase = None

    def progress(self, name: str, done: int, total: int) -> None:
        return None

    def step(
        self, step: int, total: int, metrics: Mapping[str, float], speed: float, eta: float
    ) -> None:
        self._end_phase()
        if time.monotonic() - self.newest > 30 or step == total:
            self.newest = time.monotonic()
            self.outer.line(
                f"    {self.name}: step {step}/{total}, loss {metrics['loss']:.4f}, {speed:,.0f}"
                " tokens/s"
            )

    def flagged(self, step: int, finding: Finding) -> None:
        if finding.verdict in ("warning", "refused"):
            self.outer.line(f"  ! {self.name}, step {step}: {finding.check}: {finding.says}")


class LiveDisplay(Display):
    """A progress bar and a table of sparklines under the lines that stay (rich)."""

    def __init__(self):
        super().__init__(sys.stderr)
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.console = Console(stderr=True, highlight=False)
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
        )
        self.task = None
        self.name = ""
        self.sparks = Sparks()
        self.live = Live(
            console=self.console, transient=True, get_renderable=self._picture, refresh_per_second=4
        )

    def line(self, text: str) -> None:
        # broken here, since rich and the terminal both break commands
        self.console.print(wrap(text, self.console.width), markup=False, soft_wrap=True)

    def phase(self, name: str, text: str) -> None:
        faults.note_phase(text)
        self._clear()
        self.line(f"· {text}")

    def progress(self, name: str, done: int, total: int) -> None:
        self._show(name, done, total, "")

    def step(
        self, step: int, total: int, metrics: Mapping[str, float], speed: float, eta: float
    ) -> None:
        self.sparks.add(metrics)
        self._show("training", step, total, f"{speed:,.0f} tok/s  {clock(eta)} left")

    def doing(self, text: str) -> None:
        # before the first update there is no bar to show it in
        if self.task is None or self.name != "training":
            self._clear()
            self.line(f"· {text}")
        else:
            self.bar.update(self.task, figures=text)

    def flagged(self, step: int, finding: Finding) -> None:
        super().flagged(step, finding)
        if finding.verdict == "warning":
            self.sparks.flags.append(f"{finding.check.removeprefix('flag.')} (step {step})")

    def _picture(self):
        """Draw the bar; while training, the figures above it and the red flags so far."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        if self.name != "training":
            return self.bar
        table = Table.grid(padding=(0, 2))
        for name, line, newest in self.sparks.rows():
            table.add_row(Text(name, style="dim"), Text(line, style="cyan"), Text(newest))
        flags = (
            [Text("red flags: " + ", ".join(self.sparks.flags), style="bold red")]
            if self.sparks.flags
            else []
        )
        return Group(table, *flags, self.bar)

    def _show(self, name: str, done: int, total: int, text: str) -> None:
        if self.task is None or self.name != name:
            self._clear()
            self.task, self.name = self.bar.add_task(name, total=total, figures=""), name
            self.live.start()
        self.bar.update(self.task, completed=done, total=total, figures=text)

    def _clear(self) -> None:
        if self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None

    def close(self) -> None:
        self._clear()
        self.live.stop()


def make_display(json: bool = False) -> Display:
    """Make the display: live on a terminal, plain lines elsewhere; on standard error always, so
    that standard output stays clean.
    """
    return LiveDisplay() if sys.stderr.isatty() and not json else Display(sys.stderr)


def figures(metrics: Mapping[str, float]) -> str:
    """Format the few metrics that a person watches, on one line."""
    return "  ".join(
        f"{SHORT.get(name, name)} {number(metrics[name])}" for name in SHOWN if name in metrics
    )


def number(value: float) -> str:
    """Format a number with four significant places or so, in a steady width."""
    if value != value:
        return "nan"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"


def clock(seconds: float) -> str:
    """Format seconds as 1:23:45 or 2:34."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
