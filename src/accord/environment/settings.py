"""Settings that must be made before torch and transformers are imported, and the place for
warnings.

This module imports nothing heavy; a user's own values win.

A library's warning in the middle of a run tears the display and is lost when the terminal scrolls.
So inside `keep_warnings` nothing of a library reaches the terminal: neither Python's `warnings` nor
a logger. It is written into a file, each text once, or waits for the command's end. Accord's own
warnings (`AccordWarning`) reach the terminal at once, one line each.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from accord.environment.wrapping import fit
from accord.errors import AccordWarning, FindingWarning, printable

DEFAULTS = {
    # OpenMP threads spin at barriers while they wait. With a second process on the machine they
    # spin away the time that the other thread needs: one update of SmolLM2-135M on 2 cores took 21
    # to 134 s instead of 4.3. Measured side by side under such load, seconds an update: 3,000 spins
    # 4.6 · 30,000 spins 21 · no spinning at all 6.3.
    "GOMP_SPINCOUNT": "3000",
    # oneDNN keeps its last 1,024 kernels, and torch again as many. Each is for one shape, a batch
    # of trees is as long as its texts, and so old ones are never asked for again: SmolLM2-135M in
    # bfloat16 with AMX held 2.66 GB after 24 updates and was growing, with 64 of them 1.74 GB, with
    # the same bits. The layers of a model ask for the same kernels, one after the other.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    "LRU_CACHE_CAPACITY": "64",
    # the tokenizers' warning about forks; rows are encoded one by one
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # cuBLAS then adds in one order: the same product twice is the same bits
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    # the allocator of Arrow starts a thread when it is imported, and a process with two threads
    # cannot be forked safely
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}

# Warnings that are dropped, with the reason.
DROPPED = {
    r".*is_gradient_checkpointing.*": (
        "PEFT and transformers talk to each other here; a user can do nothing about it"
    ),
    r".*Failed to load CPU gemm_4bit_forward.*": (
        "bitsandbytes 0.50 looks for a faster kernel on a hub, and has one of its own"
    ),
}

# Loggers that say nothing below an error. Where bitsandbytes is installed, PEFT imports it, and it
# warns that machine code which it looks for on a hub is not there; nobody here uses that.
QUIET = ("bitsandbytes.backends.cpu.ops",)

# Packages whose loggers are kept off the terminal: those that accord calls, and those they call.
LIBRARIES = frozenset(
    "accelerate bitsandbytes datasets filelock fsspec gguf httpx huggingface_hub numpy peft"
    " safetensors scipy sklearn tokenizers torch transformers urllib3".split()
)

# handlers that write on a standard stream; files and a program's own handlers are of other classes
PRINTING = (logging.StreamHandler, type(logging.lastResort))

LOG = "warnings.log"  # in a run's folder; only there when something was warned of


def ranks() -> tuple[int, int]:
    """Return this process' rank and the number of ranks, as torchrun sets them; (0, 1) without
    it.
    """
    told = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR")]
    return (int(told[0]), int(told[1])) if all(told) else (0, 1)


OFFLINE = "HF_HUB_OFFLINE"
# The value by which accord keeps libraries off the network: a user writes 1. Processes that this
# one starts see whose it is.
BY_DEFAULT = "on"


def apply_env_defaults() -> None:
    """Apply the defaults. No library goes to a hub by itself; a name of a hub that was asked for is
    fetched all the same (`environment/hub`).
    """
    for pattern in DROPPED:
        warnings.filterwarnings("ignore", message=pattern)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault(OFFLINE, os.environ.get("TRANSFORMERS_OFFLINE") or BY_DEFAULT)


def offline_by_default() -> bool:
    """Tell whether it is accord, and not the user, who keeps libraries off the network."""
    return os.environ.get(OFFLINE) == BY_DEFAULT


# ---------------------------------------------------------------- accord's own warnings

_warned: set[str] = set()


def warn_once(text: str, cause: str | None = None) -> None:
    """Warn a person in one line, once in a process for each cause; without one, for each text."""
    line = printable(" ".join(text.split()))
    if (cause or line) not in _warned:
        _warned.add(cause or line)
        warnings.warn(line, AccordWarning, stacklevel=2)


def _on_terminal(text: str) -> None:
    print(fit(f"! {text}", sys.stderr), file=sys.stderr, flush=True)


# ---------------------------------------------------------------- warnings of libraries


@contextlib.contextmanager
def keep_warnings(
    file: Path | None = None, own: Callable[[str], None] | None = None
) -> Iterator[list[str]]:
    """Keep warnings of libraries off the terminal inside; yield those that no file has.

    Contexts may be nested: the inner one's file is written while it lasts, and accord's own
    warnings go on to the outer one.

    Args:
      file: where each different warning is written, one per line. Without one, and where it cannot
        be written, warnings wait for the outer context.
      own: what is done with a warning of accord; None leaves it to whoever showed warnings before.
    """
    keeper = _Keeper(file)
    _keepers.append(keeper)
    shown_before = warnings.showwarning

    def show(message, category, filename, lineno, to=None, line=None):
        if to is not None:
            return shown_before(message, category, filename, lineno, to, line)
        if not issubclass(category, AccordWarning):
            return keeper.keep(f"{category.__name__}: {message} ({_place(filename)}:{lineno})")
        if file is not None and not issubclass(category, FindingWarning):  # it has its own records
            keeper.keep(str(message))
        if own is not None:
            return own(str(message))
        return shown_before(message, category, filename, lineno, to, line)

    emit_before = logging.StreamHandler.emit

    # The class is changed, since libraries install handlers when they are first imported, which may
    # be in the middle of a command.
    def emit(handler: logging.StreamHandler, record: logging.LogRecord) -> None:
        if type(handler) not in PRINTING or record.name.split(".")[0] not in LIBRARIES:
            return emit_before(handler, record)
        try:
            return keeper.keep(f"{record.name}: {record.getMessage()}")
        except Exception:  # as in logging: a record whose arguments do not fit must not stop a run
            return handler.handleError(record)

    warnings.showwarning = show
    # a class is given another method, whose first argument mypy takes for the base class'
    logging.StreamHandler.emit = emit  # type: ignore[method-assign, assignment]
    try:
        yield keeper.waiting
    finally:
        logging.StreamHandler.emit = emit_before  # type: ignore[method-assign]
        if warnings.showwarning is show:
            warnings.showwarning = shown_before
        _keepers.remove(keeper)
        if _keepers:
            for text in keeper.waiting:
                _keepers[-1].keep(text)


@contextlib.contextmanager
def warnings_of_command() -> Iterator[None]:
    """Keep warnings of libraries off the terminal while a command works.

    Those that no run's folder has are printed after it, once each. Accord's own are printed at
    once.
    """
    waiting: list[str] = []
    try:
        with keep_warnings(own=_on_terminal) as waiting:
            yield
    finally:
        for text in waiting if ranks()[0] == 0 else ():  # the first rank prints them for all
            print(f"· a library's warning: {text}", file=sys.stderr)


_keepers: list[_Keeper] = []  # the innermost last


class _Keeper:
    """The warnings so far, each text once: in a file, or waiting."""

    def __init__(self, file: Path | None):
        self.file = file
        self.seen: set[str] = set()
        self.waiting: list[str] = []

    def keep(self, text: str) -> None:
        line = printable(" ".join(text.split()))
        if line in self.seen or any(re.search(pattern, line) for pattern in DROPPED):
            return
        self.seen.add(line)
        try:
            if self.file is None or not self.file.parent.is_dir():
                raise OSError("no file to write to")
            with self.file.open("a", encoding="utf-8") as out:
                out.write(line + "\n")
        except OSError:
            self.waiting.append(line)


def _place(filename: str) -> str:
    """Shorten a path to its part from the package on: nobody needs to know where packages are
    installed.
    """
    return filename.rpartition("site-packages/")[2]
