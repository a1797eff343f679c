"""One stage after the other, each a group of processes with a deadline; what came of each is
written at once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from gpu_stages.plan import ROOT, Stage, deadline, why_not

LAST_LINES = 15  # of what a stage said that did not end well
GRACE = 3.0  # seconds between the request to end and the end
# The part of its time after which a stage begins nothing new. It ends by itself, before the
# deadline ends it.
BEGIN_NOTHING = 0.85
ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
}


def run_all(
    stages: Sequence[Stage],
    options: dict,
    seconds: float,
    write: Callable[[dict], None],
    say: Callable[[str, dict], None],
) -> dict[str, dict]:
    """Run the stages; return what came of each, by name.

    Args:
      stages: the first is "machine", on which the others depend.
      options: "device" and "tiny".
      write: called with all records before and after every stage.
      say: called with a stage's name and record when it is over.

    Raises:
      SystemExit: the first stage failed: there is no such device, or nothing works on it.
    """
    ends, records = time.monotonic() + seconds, {}
    left_out: dict[str, str] = {}
    going = list(stages)
    for stage in stages:
        if stage.name in left_out:
            records[stage.name] = {"state": "skipped", "why": left_out[stage.name]}
            write(records)
        else:
            given = deadline(going, going.index(stage), ends - time.monotonic())
            record = records[stage.name] = {"state": "cut off", "given_seconds": round(given, 1)}
            write(records)
            try:
                run_stage(stage, options, given, record)
            finally:
                write(records)
        say(stage.name, records[stage.name])
        if stage is stages[0]:
            if records[stage.name]["state"] != "done":
                raise SystemExit(
                    f"Nothing can be measured on {options['device']}: see the lines above. Without"
                    " a GPU: python benchmarks/gpu.py --all --tiny --device cpu"
                )
            free = records[stage.name]["found"]["free"]
            left_out = {s.name: why for s in stages if (why := why_not(s, free, options["tiny"]))}
            going = [s for s in stages if s.name not in left_out]
    return records


def run_stage(stage: Stage, options: dict, seconds: float, record: dict) -> None:
    """Run one stage in a process group of its own, and fill in its record: the state is "done",
    "failed", "out of time", or stays what it was if this process is ended meanwhile.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="accord-gpu-") as name:
        folder = Path(name)
        spec = {
            "stage": stage.name,
            "folder": name,
            "began": time.time(),
            "ends": time.time() + BEGIN_NOTHING * seconds,
            **options,
        }
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                command(json.dumps(spec)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **ENVIRONMENT},
                start_new_session=True,
            )
            try:
                code = process.wait(max(seconds - GRACE, 0))
                record["state"] = "failed" if code else "done"
            except subprocess.TimeoutExpired:
                record["state"] = "out of time"
            finally:
                end_group(process)
                record["seconds"] = round(time.monotonic() - began, 1)
                record["found"] = findings(folder / "findings.jsonl")
                if record["state"] != "done":
                    record["last_lines"] = last_lines(folder / "output")


def command(spec: str) -> list[str]:
    """Make the command that is one stage."""
    return [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--stage", spec]


def end_group(process: subprocess.Popen) -> None:
    """End a process and all that it started, first with a request."""
    with suppress(ProcessLookupError, PermissionError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def findings(file: Path) -> dict:
    """Read what a stage has found: later lines replace what earlier ones say. A line that was cut
    off is left out; NaN and infinity, which are no JSON, become None.
    """
    found: dict = {}
    for line in file.read_text("utf-8").splitlines() if file.exists() else ():
        with suppress(ValueError):
            found.update(json.loads(line, parse_constant=lambda name: None))
    return found


def last_lines(file: Path) -> list[str]:
    """Return the end of a stage's output, for people."""
    lines = [line.rstrip() for line in file.read_text("utf-8", "replace").splitlines()]
    return [line[-300:] for line in lines if line][-LAST_LINES:]
