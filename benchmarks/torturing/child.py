"""`accord` commands in forked children of a process that has imported everything, and what can
befall them.

A fork saves the ten seconds of imports that a new interpreter takes. It is sound here because the
parent has one thread and has computed nothing in torch (`only_thread` holds it): no lock is held,
and no pool of threads is missing in the child. A boundary is the moment before an operation on
files under the trial's folder, as Python's audit hooks report them, and before each fsync.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

UNLIMITED = 1 << 62
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
GROW = ("open", "os.mkdir")  # what a full disk refuses
# arguments that are paths
PATHS = {"open": 1, "os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1}


@dataclass(frozen=True)
class Fault:
    """What happens at boundary number `at` (from 0), and for a disk at all later ones."""

    kind: str  # "kill", "term", "int", "full" or "read-only"
    at: int = UNLIMITED


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int  # its exit code; minus the signal that killed it
    said: str  # standard output and error
    boundaries: int  # file operations seen
    seconds: float  # on a processor: other work on the machine does not count
    waited: float  # the same, from the parent's signal to the end; 0 without one

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


def only_thread() -> None:
    """The condition under which a fork is sound."""
    assert len(os.listdir("/proc/self/task")) == 1, "a thread was started before the fork"


def apart(work: Callable[[], object]) -> None:
    """Do something in a child of its own: whatever threads it starts end with it."""
    only_thread()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0, "see the traceback above"


def accord(
    arguments: list[str],
    trial: Path,
    *,
    fault: Fault | None = None,
    after: float | None = None,
    number: int = signal.SIGKILL,
    environment: Mapping[str, str] = {},
) -> Outcome:
    """Run a command line in a child and wait for it.

    Args:
      trial: folder of the run and of its reference cache; boundaries are counted under it.
      fault: what happens at a boundary.
      after: seconds on a processor until the parent sends `number`.
    """
    only_thread()
    trial.mkdir(parents=True, exist_ok=True)
    seen = mmap.mmap(-1, 8)  # shared with the child
    log = trial.parent / f"{trial.name}.log"
    child = os.fork()
    if child == 0:
        _be(arguments, trial, log, seen, fault, environment)
    sent = _wait_and_send(child, after, number) if after is not None else None
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    seconds = _busy(child)
    status = os.waitpid(child, 0)[1]
    return Outcome(
        os.waitstatus_to_exitcode(status),
        log.read_text(errors="replace"),
        struct.unpack("q", seen[:8])[0],
        seconds,
        seconds - sent if sent is not None else 0.0,
    )


def _wait_and_send(child: int, after: float, number: int) -> float | None:
    """How long the child had been busy when the signal was sent; None where it had ended before."""
    while (busy := _busy(child)) < after:
        time.sleep(0.002)
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return None
    os.kill(child, number)
    return busy


def _busy(process: int) -> float:
    """Seconds that a process has spent on a processor."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9


def _be(
    arguments: list[str],
    trial: Path,
    log: Path,
    seen: mmap.mmap,
    fault: Fault | None,
    environment: Mapping[str, str],
) -> None:
    """The child: the command line's own entry point; never returns."""
    code = 99
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1), os.dup2(handle, 2)
        os.environ.update({"ACCORD_CACHE": str(trial / "cache"), **environment})
        sys.argv = ["accord", *arguments]
        _watch(str(trial.resolve()) + os.sep, seen, fault or Fault("none"))
        from accord.cli.app import main

        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def _watch(root: str, seen: mmap.mmap, fault: Fault) -> None:
    """Count what happens to files under `root`; at the chosen count, the fault."""
    busy = False

    def boundary(event: str) -> None:
        number = struct.unpack("q", seen[:8])[0]
        seen[:8] = struct.pack("q", number + 1)
        if number >= fault.at:
            STRIKES[fault.kind](event, number == fault.at)

    def hook(event: str, arguments: tuple) -> None:
        nonlocal busy
        if busy or event not in PATHS or (event == "open" and not _writes(arguments)):
            return
        busy = True  # finding out where a path leads must not count
        try:
            inside = any(
                _absolute(event, arguments, i).startswith(root) for i in range(PATHS[event])
            )
        finally:
            busy = False
        if inside:
            boundary(event)

    fsync = os.fsync

    def watched(handle) -> None:
        boundary("fsync")
        fsync(handle)

    os.fsync = watched
    sys.addaudithook(hook)


def _writes(arguments: tuple) -> bool:
    _, mode, flags = arguments
    return (
        any(letter in mode for letter in "wax+")
        if isinstance(mode, str)
        else bool((flags or 0) & WRITES)
    )


def _absolute(event: str, arguments: tuple, index: int) -> str:
    """Where a path argument leads; `shutil.rmtree` names files beside a handle of their folder."""
    path = arguments[index]
    if isinstance(path, int):
        return ""
    folders = arguments[2:4] if event == "os.rename" else arguments[-1:]
    base = folders[min(index, len(folders) - 1)] if event != "open" else -1
    start = (
        os.readlink(f"/proc/self/fd/{base}") if isinstance(base, int) and base >= 0 else os.getcwd()
    )
    return os.path.abspath(os.path.join(start, os.fsdecode(path)))


def _send(number: int) -> Callable[[str, bool], None]:
    return lambda event, first: os.kill(os.getpid(), number) if first else None


def _full(event: str, first: bool) -> None:
    if event in GROW:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _read_only(event: str, first: bool) -> None:
    if event != "fsync":
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


STRIKES = {
    "kill": _send(signal.SIGKILL),
    "term": _send(signal.SIGTERM),
    "int": _send(signal.SIGINT),
    "full": _full,
    "read-only": _read_only,
}
