"""The log of a command of several runs: one JSON line for each beginning and end, with its time.

A process that is killed may leave half a line. The next entry begins a new one, and readers leave
the half out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from accord.runs.files import writing
from accord.runs.folder import RunFolder


def append_entry(folder: Path, name: str, entry: dict) -> None:
    """Write one line, with the time as `at` in seconds since 1970."""
    file = folder / name
    torn = file.exists() and not file.read_bytes().endswith(b"\n")
    with writing(folder), file.open("a", encoding="utf-8") as stream:
        stream.write("\n" * torn + json.dumps({"at": round(time.time(), 3), **entry}) + "\n")


def logged(folder: Path, name: str) -> list[dict]:
    """Read the entries, in order."""
    return RunFolder(folder).appended(name)


def stopwatch() -> Callable[[], dict[str, float]]:
    """Start a stopwatch. The result returns the wall clock and processor seconds since then."""
    began, processor = time.monotonic(), time.process_time()
    return lambda: {
        "seconds": round(time.monotonic() - began, 3),
        "cpu_seconds": round(time.process_time() - processor, 3),
    }
