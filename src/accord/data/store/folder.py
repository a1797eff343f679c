"""The folder of a token store: chunks of examples and of trees, and the accounts of all.

    KEY/000000.examples   the texts, an Arrow file
    KEY/000000.trees      their token ids, the same
    KEY/000000.json       digests of both, and what became of the chunk's examples
    KEY/store.json        the accounts of the whole; it is written last
    KEY/checks/…          findings on all rows, which need not be made again

KEY is a hash of all that the tokens depend on. While a store is made its folder is KEY.partial, and
whoever makes it holds KEY.lock; a process that is killed leaves whole chunks, and the next one goes
on behind them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from accord.environment.caches import accord_cache
from accord.environment.digests import file_digest
from accord.environment.threads import cores

LAYOUT = 1  # of these files; a part of the key
ACCOUNTS = "store.json"
WAIT = 0.5  # seconds between two looks at a store that another process makes


def root() -> Path:
    """Return the folder of all token stores: ACCORD_CACHE/tokens, by default in ~/.cache/accord."""
    return accord_cache() / "tokens"


@dataclass(frozen=True)
class Chunk:
    """The files of one chunk."""

    folder: Path
    number: int

    def file(self, suffix: str) -> Path:
        return self.folder / f"{self.number:06}.{suffix}"

    def record(self, examples: str) -> dict | None:
        """Return what became of the chunk, if its files are whole and of these examples.

        Args:
          examples: the digest of the file that they would be written to.
        """
        try:
            record = json.loads(self.file("json").read_text(encoding="utf-8"))
            whole = record["examples"] == examples == file_digest(self.file("examples"))
            return record if whole and record["trees"] == file_digest(self.file("trees")) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, suffix: str, raw: bytes | pa.Buffer) -> None:
        """Write one of the files in one step."""
        staging = self.file(f"{suffix}.staging")
        staging.write_bytes(raw)
        staging.replace(self.file(suffix))


def as_file(table: pa.RecordBatch) -> pa.Buffer:
    """Return a table as the bytes of an Arrow file: the same for the same table."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as out:
        out.write_batch(table)
    return sink.getvalue()


def mapped(file: Path) -> pa.RecordBatch:
    """Map the table of a file into memory."""
    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_file(source).get_batch(0)


@contextlib.contextmanager
def locked(place: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a store; wait for a process that holds it.

    Raises:
      OSError: the folder cannot be written.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(place.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        waits = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waits:
                    say("another process encodes this file: waiting for its tokens")
                waits = True
                time.sleep(WAIT)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(handle)


def accounts(place: Path) -> dict | None:
    """Return the accounts of a finished store, after each of its files was compared with its
    digest; None where there is no store.

    Raises:
      ValueError: it is damaged; says which file.
    """
    file = place / ACCOUNTS
    if not place.is_dir():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        files = record["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{ACCOUNTS} is damaged") from error
    with ThreadPoolExecutor(cores()) as pool:
        found = list(pool.map(lambda name: _digest(place / name), files))
    wrong = [name for name, now in zip(files, found, strict=True) if files[name] != now]
    if wrong:
        raise ValueError(f"{wrong[0]} is not as it was written")
    return record


def _digest(file: Path) -> str:
    try:
        return file_digest(file)
    except OSError:
        return ""


def set_aside(place: Path) -> None:
    """Take a damaged store out of the way; leave what cannot be moved.

    A process that has it open keeps its files.
    """
    with contextlib.suppress(OSError):
        clear(place)
        place.rmdir()


def clear(place: Path) -> None:
    """Delete the files of a store."""
    for file in place.iterdir():
        if file.is_dir():
            clear(file)
            file.rmdir()
        else:
            file.unlink()
