"""The folder of a command of many stages: one process at a time, one plan, and the time of each
stage.

    DIR/plan.json    what everything in it depends on; a command with another plan is refused,
                     naming the differences
    DIR/log.jsonl    each beginning and end of a stage, with its seconds

A stage writes a file or a folder, which gets its name only when it is complete. So a stage is over
if that name exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from accord.campaign.log import append_entry, logged, stopwatch
from accord.campaign.plan import PLAN
from accord.distributed.world import ALONE, World, join_world
from accord.engine.release import release
from accord.runs.display import Display
from accord.runs.files import STAGING, recover, writing
from accord.runs.folder import RunFolder
from accord.runs.ranks import display_for_rank
from accord.runs.signals import Stop, stop_on_signals
from accord.types import Interrupted, UsageError

LOG = "log.jsonl"


@dataclass(frozen=True)
class CampaignFolder:
    """The folder of a command of many stages, with its display and its stop signal."""

    folder: Path  # absolute
    display: Display
    command: tuple[str, ...]
    stop: Stop
    world: World = ALONE  # the processes that work on it together; the first one writes

    def say(self, text: str) -> None:
        self.display.line(text)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Run one stage. A signal waits until the code of the stage lets it through, or until the
        stage is over.
        """
        self.world.agree(self.stop.poll)
        self.say(f"{name} …")
        resident = psutil.Process().memory_info().rss
        self._log({"stage": name, "what": "began", "resident": resident})
        took, what = stopwatch(), "stopped"
        try:
            yield
            what = "ended"
        finally:
            self._log({"stage": name, "what": what, **took()})
            release()

    def _log(self, entry: dict) -> None:
        if self.world.first:
            append_entry(self.folder, LOG, entry)

    def logged(self) -> list[dict]:
        """Read what happened, in order."""
        return logged(self.folder, LOG)

    def spent(self, prefix: str) -> dict:
        """Sum the seconds of the stages whose names begin with the prefix, over all processes that
        worked on them.

        A process that was killed outright left no seconds. It is counted as `killed`, and its time
        is not known.
        """
        entries = [entry for entry in self.logged() if entry["stage"].startswith(prefix)]
        began = sum(entry["what"] == "began" for entry in entries)
        over = [entry["seconds"] for entry in entries if entry["what"] != "began"]
        return {"seconds": round(sum(over), 3), "sessions": began, "killed": began - len(over)}


@contextmanager
def campaign_lock(
    output: str,
    display: Display,
    command: tuple[str, ...],
    *,
    signs: Sequence[str] = (PLAN,),
    at_once: bool = True,
) -> Iterator[CampaignFolder]:
    """Lock the folder for this process, and those that torchrun started with it. A signal ends the
    work with a message on how to resume.

    Args:
      signs: files or folders, one of which exists in a folder that can be resumed.
      at_once: True if a signal ends the work at once; else it waits for the next poll, as it does
        where there are several processes.

    Raises:
      UsageError: something else stands there, or not all processes see the folder.
      CheckpointError: another process is at work there.
      Interrupted: a signal has come.
    """
    with join_world() as world, stop_on_signals() as stop, ExitStack() as held:
        display = display_for_rank(display, world)

        def take() -> str:
            folder = _opened(output, signs).resolve()
            held.enter_context(RunFolder(folder).alone())
            recover(folder)
            return str(folder)

        folder = Path(world.on_first(take))
        world.agree(lambda: _require_seen(folder))
        try:
            with stop.at_once() if at_once and world.size == 1 else stop.at_safe_points():
                yield CampaignFolder(folder, display, command, stop, world)
        except (Interrupted, KeyboardInterrupt) as signal:
            # its hint is about the run of one stage, which the same command goes on with
            if not isinstance(signal, Interrupted):
                signal = Interrupted("stopped.")
            # of its own class: a world that has lost a process is not taken down in order
            stopped = type(signal)(
                f"{signal.without_hint} What is finished stays. Go on with the same command."
            )
            stopped.on_all_ranks = signal.on_all_ranks
            raise stopped from None


def _require_seen(folder: Path) -> None:
    """
    Raises:
      UsageError: this process does not see the folder that the first one made.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is not on this machine: the processes of this command read what the first"
            " one writes. Name a folder on a disk that all of them see: --output DIR."
        )


def _opened(output: str, signs: Sequence[str]) -> Path:
    """Return the folder, if it is new, empty or a folder of such a command.

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
    if others and not any((folder / sign).exists() for sign in signs):
        raise UsageError(
            f"{output}: a folder with other things in it. Choose another: --output DIR."
        )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder
