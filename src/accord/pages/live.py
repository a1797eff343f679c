"""The records of a run that may still be written: each look reads only what is new, and tells
whether a process trains there.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from accord.errors import first_line
from accord.monitor.history import Table
from accord.runs.files import REFUSED
from accord.runs.folder import RunFolder, parsed
from accord.runs.recorded import Recorded, table_name
from accord.types import AccordError

SEAL = 64  # bytes before the place that was read to, which a resume that cuts the file back changes
LOCKS = Path("/proc/locks")
STOPPED_BY = "stopped by SIG"  # how runs/signals.py begins its reason
QUIET = 600.0  # seconds without a line after which a run counts as stopped, where locks are unknown


@dataclass
class GrowingTables:
    """The tables of metrics.jsonl, up to the last whole line that was there. Reading the file from
    its beginning every two seconds would take time quadratic in a run's length.
    """

    file: Path
    tables: dict[str, Table] = field(default_factory=dict)
    lines: int = 0
    _read: int = 0  # bytes
    _seal: bytes = b""

    def refresh(self) -> None:
        """Read the lines that were added; all of them if the file is another one by now."""
        try:
            with self.file.open("rb") as stream:
                self._take(stream)
        except FileNotFoundError:
            self._begin()

    def _take(self, stream) -> None:
        stream.seek(max(0, self._read - SEAL))
        if stream.read(min(SEAL, self._read)) != self._seal:
            self._begin()
        stream.seek(self._read)
        fresh = stream.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        for line in whole.decode("utf-8", errors="replace").splitlines():
            if (entry := parsed(line)) is not None and "step" in entry:
                self.lines += 1
                self.tables.setdefault(table_name(entry), Table()).add(entry)
        self._seal = (self._seal + whole)[-SEAL:]
        self._read += len(whole)

    def _begin(self) -> None:
        self.tables, self.lines, self._read, self._seal = {}, 0, 0, b""

    def table(self, name: str) -> Table:
        """Return "training", "held_out" or "sampled"; empty where no line is of it."""
        return self.tables.get(name) or Table()


class LiveRuns:
    """The runs of a page, each with what was read of it so far."""

    def __init__(self) -> None:
        self._known: dict[Path, GrowingTables] = {}

    def tables(self, folder: Path) -> GrowingTables:
        """Return a run's tables as they stand now."""
        known = self._known.setdefault(folder, GrowingTables(folder / "metrics.jsonl"))
        known.refresh()
        return known

    def brief(self, name: str, folder: Path) -> dict:
        """Return a run's line of the list."""
        line = {
            "name": name,
            "step": 0,
            "flags": 0,
            "touched": touched(folder),
            "state": state_of(folder),
        }
        try:
            run, tables = Recorded(RunFolder.open(str(folder)), {}), self.tables(folder)
            line["objective"] = run.config.objective["name"]
        except AccordError as error:  # refused, or no run at all: it is listed with the reason
            return line | {"says": first_line(error)}
        if not tables.lines:
            return line | {"says": "this run has recorded no figures yet"}
        steps = tables.table("training").steps
        return line | {
            "step": steps[-1] if len(steps) else 0,
            "flags": sum(event["verdict"] == "warning" for event in run.events),
        }


def touched(folder: Path) -> float:
    """Return when a run last wrote a figure, or was begun."""
    file = folder / "metrics.jsonl"
    return (file if file.is_file() else folder / "config.yaml").stat().st_mtime


def state_of(folder: Path) -> str:
    """Return "finished", "refused", "running" or "stopped". A run that was killed looks like one
    that runs, but no process holds its folder.
    """
    if (folder / "README.md").is_file():  # written last
        return "finished"
    if (folder / REFUSED).is_file():
        return "stopped" if _was_stopped(folder / REFUSED) else "refused"
    held = is_held(folder)
    if held is None:
        held = time.time() - touched(folder) < QUIET
    return "running" if held else "stopped"


def _was_stopped(file: Path) -> bool:
    """Tell whether a signal ended a run's preparations; the reason is kept where a refusal is."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").startswith(STOPPED_BY)
    except OSError:
        return False


def is_held(folder: Path) -> bool | None:
    """Tell whether a process has locked a run's folder, as training does; None where the system
    does not say. The lock is not tried: a run that begins at that moment would be refused.
    """
    try:
        about, locks = folder.stat(), LOCKS.read_text(encoding="utf-8")
    except OSError:
        return None
    device = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
    return any("FLOCK" in line and device in line.split() for line in locks.splitlines())
