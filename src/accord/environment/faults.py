"""The end of a command that fails: words and an exit code, never a traceback on the terminal.

There are three kinds of failure. What a user can mend is an `AccordError` already. A fault of this
machine (a package that is broken or half installed, a disk that is full or cannot be written, no
home directory) becomes one. Everything else is a bug of accord: two lines, exit code 1, and the
traceback in a file with secrets hidden. ACCORD_DEBUG=1 raises it as it is.

This module imports nothing but the standard library and accord's own light modules, so that it
works where torch cannot be imported.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import select
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType, TracebackType
from typing import NoReturn

from accord.environment import versions
from accord.environment.caches import accord_cache
from accord.environment.redaction import redact
from accord.environment.settings import ranks
from accord.environment.wrapping import fit
from accord.errors import (
    AccordError,
    Bug,
    CheckpointError,
    Interrupted,
    UsageError,
    first_line,
    printable,
)

DEBUG = "ACCORD_DEBUG"
PIPE_CLOSED = 141  # the exit code of a process that SIGPIPE ended, in a shell
LONGEST = 300  # characters of somebody else's message
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# The words of libraries that raise no OSError: safetensors, sqlite, torch.
FULL_SAYS = ("no space left on device", "os error 28", "disk is full", "disk quota exceeded")
# Numbers of an OSError without a file that are still the disk's or the machine's fault.
MACHINES = (*FULL, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)
OURS = ("accord", "__main__")

_folders: list[Path] = []  # folders of the runs in progress; the innermost last
_doing: list[str] = [""]


def note_phase(what: str) -> None:
    """Note the current phase of the program, for the report of a bug."""
    _doing[0] = what


@contextmanager
def log_faults_in(folder: Path) -> Iterator[None]:
    """Write the traceback of a bug to this folder while the context lasts."""
    _folders.append(folder)
    try:
        yield
    except Exception as error:
        # now, since the report may be made outside
        if not isinstance(error, BrokenPipeError) and as_accord_error(error) is None:
            log(error)
        raise
    finally:
        _folders.pop()


def run_guarded(command: Callable[[], None]) -> None:
    """Run the command line; turn whatever it raises, even while it is imported, into words."""
    as_json = "--json" in sys.argv[1:]
    try:
        command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        fail(Interrupted("stopped."), as_json)
    except Exception as error:
        end(error, as_json)


def end(error: Exception, as_json: bool) -> NoReturn:
    """End the process on an exception that nobody caught."""
    if isinstance(error, BrokenPipeError) and _reader_gone():
        raise SystemExit(PIPE_CLOSED) from None
    if os.environ.get(DEBUG, "0") not in ("", "0"):
        raise error
    fail(as_accord_error(error) or _bug(error), as_json)


def fail(error: AccordError, as_json: bool) -> NoReturn:
    """Report what went wrong, and exit with the code of its kind."""
    if error.on_all_ranks and ranks()[0]:  # the first rank reports it for all
        raise SystemExit(error.code) from None
    try:
        if as_json:
            print(json.dumps(_as_dict(error)), flush=True)
        kind = "stopped" if error.code == Interrupted.code else "error"
        says = str(error) if str(error).startswith(kind) else f"{kind}: {error}"
        print(fit(says, sys.stderr), file=sys.stderr)
        if isinstance(error, Bug) and error.log is None:
            print(error.traceback, end="", file=sys.stderr)
    except BrokenPipeError:
        _reader_gone()
    raise SystemExit(error.code) from None


def _as_dict(error: AccordError) -> dict:
    about = {"ok": False, "error": type(error).__name__, "says": str(error), "exit": error.code}
    if isinstance(error, Bug):
        about |= {"error": error.kind, "bug": True, "log": error.log}
    return about


def _reader_gone() -> bool:
    """Tell whether nobody reads standard output or error any more.

    If so, discard what is left to print, or Python would complain at its end.
    """
    gone = False
    for stream in (sys.stdout, sys.stderr):
        try:
            handle = stream.fileno()
            if _closed_behind(handle):
                gone = True
                os.dup2(os.open(os.devnull, os.O_WRONLY), handle)
        except (AttributeError, ValueError, OSError):  # closed already, or no file at all
            continue
    return gone


def _closed_behind(handle: int) -> bool:
    """Tell whether this handle is a pipe that nobody reads."""
    asked = select.poll()
    asked.register(handle, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))


# ---------------------------------------------------------------- what the machine is to blame for


def as_accord_error(error: BaseException) -> AccordError | None:
    """Turn a fault of this machine into an error that its user can mend; None for a bug."""
    for one in _chain(error):
        if isinstance(one, AccordError):
            return one
        if (found := _broken_package(one) or _disk(one) or _homeless(one)) is not None:
            return found
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes."""
    one: BaseException | None = error
    seen: set[int] = set()
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def _broken_package(error: BaseException) -> UsageError | None:
    """Recognise a package that is missing, broken or half installed.

    Its import fails, in whatever way, or a module lacks what it should have.
    """
    module = _importing(error.__traceback__)
    if isinstance(error, ImportError) and error.name:
        known = isinstance(error, ModuleNotFoundError) or _is_package(error.name.partition(".")[0])
        module = error.name if known or not module else module
    elif isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        lacking = error.obj.__name__
        # a package that asks Python's own modules for what they never had is itself the broken one
        if not module or _is_package(lacking.partition(".")[0]):
            module = lacking
    elif isinstance(error, SyntaxError) and error.filename:  # its module has not begun to run
        parts = reversed(Path(error.filename).with_suffix("").parts)
        module = next((part for part in parts if part in OURS or _is_package(part)), "")
    if not module or module.partition(".")[0] in OURS:
        return None
    return _unusable(module, error)


def _importing(trace: TracebackType | None) -> str:
    """Return the innermost foreign module that was being imported when an exception came."""
    found = ""
    while trace is not None:
        frame = trace.tb_frame
        name = frame.f_globals.get("__name__") or ""
        top = name.partition(".")[0]
        if frame.f_code.co_name == "<module>" and top not in OURS and _is_package(top):
            found = name
        trace = trace.tb_next
    return found


def _is_package(top: str) -> bool:
    """Tell whether a module is one that accord asks for: not Python's own, nor a user's."""
    return versions.package_of(top) in {*versions.tested_versions(), *versions.required_bounds()}


def _unusable(module: str, error: BaseException) -> UsageError:
    package, said = versions.package_of(module), _words_of(error)
    if module.partition(".")[0] in sys.stdlib_module_names:
        return UsageError(
            f"This Python ({sys.executable}) lacks its own module {module}: {said}\nInstall a"
            " Python that was built with it, and accord with that one."
        )
    version = versions.installed_versions([package]).get(package)
    if version is None and isinstance(error, ModuleNotFoundError):
        return UsageError(
            f"accord needs the package {package}, which is not installed ({said}).\nInstall it"
            f" with: {versions.install([package])}"
        )
    return UsageError(
        f"The package {package} {version or '(of an unknown version)'} cannot be used:"
        f" {type(error).__name__}: {said}\nIt is broken, half installed, or of another version than"
        f" accord knows. Install it afresh: {versions.install([package], again=True)}"
    )


def _disk(error: BaseException) -> CheckpointError | None:
    """Recognise a disk or a folder that cannot be written or read."""
    said = str(error).lower()
    if isinstance(error, OSError) and error.errno is not None:
        if error.filename is None and error.errno not in MACHINES:
            return None
        where = error.filename if error.filename is not None else "a file"
        return CheckpointError(f"{where}: {error.strerror}.")
    if any(words in said for words in FULL_SAYS):
        return CheckpointError(f"The disk is full: {_words_of(error)}")
    return None


def _homeless(error: BaseException) -> UsageError | None:
    if not (isinstance(error, RuntimeError) and "home directory" in str(error)):
        return None
    return UsageError(
        "This user has no home directory, where accord keeps its cache.\nName one in HOME, or a"
        " folder for the cache in ACCORD_CACHE."
    )


# ---------------------------------------------------------------- bugs


def _bug(error: Exception) -> Bug:
    kind, rank, size = type(error).__name__, *ranks()
    at = f" while {_doing[0]}" if _doing[0] else ""
    who = f"rank {rank} of {size}: " if size > 1 else ""
    what = f"{who}accord {_command()} failed{at}: {kind}: {_words_of(error)} ({_place(error)})."
    written = log(error)
    lies = (
        f"Its traceback is in {written}"
        if written is not None
        else "No file could be written for its traceback, which follows"
    )
    bug = Bug(f"{what}\nThis is a bug of accord, not of your input: please report it. {lies}")
    bug.kind, bug.log = kind, None if written is None else str(written)
    bug.traceback = redact("".join(traceback.format_exception(error)))
    # Under torchrun what fails before the ranks meet fails on each of them. Later a rank may be the
    # only one that knows.
    bug.on_all_ranks = getattr(error, "on_all_ranks", False) or (size > 1 and not _met(error))
    return bug


def _met(error: BaseException) -> bool:
    """Tell whether the ranks of the run had met before: its folder is known only then."""
    return getattr(error, "accord_folder", None) is not None


def log(error: BaseException) -> Path | None:
    """Write an exception down, once; return the file, or None where nothing can be written.

    It goes into the run's folder if there is one, else into the cache, else among temporary files.
    Secrets are hidden, and nobody else may read it: a message may quote a row of somebody's data.
    """
    if (known := getattr(error, "accord_log", None)) is not None:
        return known
    rank, size = ranks()
    who = f"rank{rank}-{os.getpid()}" if size > 1 else str(os.getpid())
    name = f"bug-{time.strftime('%Y%m%d-%H%M%S')}-{who}.log"
    text = redact(f"{_about()}\n{''.join(traceback.format_exception(error))}")
    written = next((file for place in _places() if (file := _written(place, name, text))), None)
    error.accord_log = written  # type: ignore[attr-defined]
    error.accord_folder = _folders[-1] if _folders else None  # type: ignore[attr-defined]
    return written


def _places() -> Iterator[Path]:
    if _folders:
        yield _folders[-1]
    with suppress(RuntimeError):  # no home
        yield accord_cache() / "bugs"
    with suppress(OSError):
        yield Path(tempfile.gettempdir())


def _written(folder: Path, name: str, text: str) -> Path | None:
    file = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
    except OSError:
        return None
    return file


def _about() -> str:
    """Describe the process for the log: time, command, and versions."""
    names = sorted({"accord", *versions.tested_versions(), *versions.required_bounds()})
    have = ", ".join(
        f"{name} {version}" for name, version in versions.installed_versions(names).items()
    )
    return (
        f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}\naccord {' '.join(sys.argv[1:])}\n"
        f"{_doing[0]}\nPython {platform.python_version()}, {platform.platform()}\n{have}\n"
    )


def _command() -> str:
    return next((word for word in sys.argv[1:] if not word.startswith("-")), "")


def _place(error: BaseException) -> str:
    """Name the place in accord where an exception was raised, or passed through last."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}accord{os.sep}" in frame.filename]
    if not ours:
        return "outside accord's files"
    frame = ours[-1]
    file = frame.filename.rpartition(f"{os.sep}accord{os.sep}")[2]
    return f"{file}, line {frame.lineno}, in {frame.name}"


def _words_of(error: BaseException) -> str:
    """Give the first line of somebody else's error, with secrets hidden."""
    return printable(redact(first_line(error, None)))[:LONGEST]
