"""The folder of a command of many stages: one process at a time, one plan, and how long each stage
took.

    DIR/plan.json    what everything in it hangs on; a command with another plan is refused, naming
                     what differs
    DIR/log.jsonl    each beginning and end of a stage, with its seconds

A stage leaves a file or a folder that has its name only when it is whole; where that stands, the
stage is over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from accord.engine.release import release
from accord.errors import shorten
from accord.runs.display import Display
from accord.runs.files import STAGING, recover, write_json, writing
from accord.runs.folder import RunFolder
from accord.runs.signals import Stop, stop_on_signals
from accord.types import Interrupted, Refused, UsageError

PLAN, LOG = "plan.json", "log.jsonl"
SHOWN = 6  # differences that are listed


@dataclass(frozen=True)
class CampaignFolder:
    """Where a command of many stages works, and whom it tells."""

    folder: Path  # absolute
    display: Display
    command: tuple[str, ...]
    stop: Stop

    def say(self, text: str) -> None:
        self.display.line(text)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Inside, one stage works; a signal waits until whoever works there lets it through, or
        until it is over.
        """
        self.stop.poll()
        self.say(f"{name} …")
        self._log({"stage": name, "what": "began", "resident": psutil.Process().memory_info().rss})
        began, what = time.monotonic(), "stopped"
        try:
            yield
            what = "ended"
        finally:
            self._log({"stage": name, "what": what, "seconds": round(time.monotonic() - began, 3)})
            release()

    def _log(self, entry: dict) -> None:
        with writing(self.folder), (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def logged(self) -> list[dict]:
        """What happened, in order; a half-written line is left out."""
        return RunFolder(self.folder).appended(LOG)

    def spent(self, prefix: str) -> dict:
        """Seconds of the stages whose names begin so, summed over all processes that worked on
        them.

        A process that was killed outright left no seconds: such are counted as `killed`, and their
        time is not known.
        """
        entries = [entry for entry in self.logged() if entry["stage"].startswith(prefix)]
        began = sum(entry["what"] == "began" for entry in entries)
        over = [entry["seconds"] for entry in entries if entry["what"] != "began"]
        return {"seconds": round(sum(over), 3), "sessions": began, "killed": began - len(over)}


@contextmanager
def campaign_lock(
    output: str, display: Display, command: tuple[str, ...]
) -> Iterator[CampaignFolder]:
    """Inside, the folder is this process's own, and a signal says how to go on.

    Raises:
      UsageError: something else stands there. CheckpointError: another process is at work there.
      Interrupted: a signal has come.
    """
    folder = _opened(output).resolve()
    with stop_on_signals() as stop, RunFolder(folder).alone():
        recover(folder)
        try:
            with stop.at_once():
                yield CampaignFolder(folder, display, command, stop)
        except (Interrupted, KeyboardInterrupt) as signal:
            said = str(signal) if isinstance(signal, Interrupted) else "stopped."
            raise Interrupted(
                f"{said.splitlines()[0] if said else 'stopped.'} What is finished stays. Go on with"
                " the same command."
            ) from None


def _opened(output: str) -> Path:
    """
    Raises:
      UsageError: a file, a run, or a folder of other things stands there.
    """
    folder = Path(output).expanduser()
    if folder.exists() and (not folder.is_dir() or (folder / "config.yaml").exists()):
        raise UsageError(
            f"{output}: a run or a file stands there. Choose another folder: --output DIR."
        )
    others = (
        [file for file in folder.iterdir() if not file.name.startswith(STAGING)]
        if folder.is_dir()
        else []
    )
    if others and not (folder / PLAN).exists():
        raise UsageError(
            f"{output}: a folder with other things in it. Choose another: --output DIR."
        )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def plan_digest(folder: Path) -> dict:
    """The plan that the folder was begun with; empty for a new one."""
    file = folder / PLAN
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def require_same_plan(folder: Path, plan: Mapping[str, object]) -> None:
    """Write the plan of a new folder, or hold it against the one that is there.

    Raises:
      Refused: they differ; in what, a line each.
    """
    fresh, former = json.loads(json.dumps(plan)), plan_digest(folder)
    if not former:
        write_json(folder / PLAN, fresh)
        return
    names = [
        name for name in dict.fromkeys([*former, *fresh]) if former.get(name) != fresh.get(name)
    ]
    if names:
        lines = [
            f"  {name}: then {shorten(str(former.get(name)), 60)},"
            f" now {shorten(str(fresh.get(name)), 60)}"
            for name in names[:SHOWN]
        ]
        lines += [f"  and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
        raise Refused(
            f"{folder} was begun with another plan, and what is in it could not be gone on with:\n"
            + "\n".join(lines)
            + "\nWrite to another folder (--output DIR), or go back to what it was begun with."
        )
