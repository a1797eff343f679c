"""Files and folders that are whole or not there: staged, flushed, renamed; and words for a failed
write.

A name that begins with .staging- is being written, one that begins with .former- is being replaced.
A process that is killed leaves them behind; `recover` puts a folder in order again.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from accord.environment.digests import file_digest
from accord.errors import first_line
from accord.types import CheckpointError

# the reason for a refusal before the first update; such a folder may be used again
REFUSED = "refused.txt"
STAGING, FORMER = ".staging-", ".former-"
HALF = ".tmp??????"  # the name of a file while safetensors writes it
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def as_json(value) -> str:
    """Return the one form in which records are written, so that a reader can tell whether a byte
    has changed.
    """
    return json.dumps(value, indent=1, allow_nan=True) + "\n"


def digest(path: str) -> str | None:
    """Return the sha256 of a file's bytes; None where it cannot be read."""
    try:
        return file_digest(Path(path).expanduser())
    except OSError:
        return None


def write_json(file: Path, value) -> None:
    """Write a value as JSON in one step; see `write_text`."""
    write_text(file, as_json(value))


def read_json(file: Path, absent):
    """Read a value that `write_json` wrote; return `absent` where there is no file.

    Raises:
      CheckpointError: what is there is damaged, or is not of `absent`'s type.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else absent
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, type(absent)):
        expected = "an object" if isinstance(absent, dict) else "a list"
        raise CheckpointError(
            f"{file}: damaged: expected {expected} in JSON. Put back a copy of it, or make the"
            " folder again."
        )
    return found


def write_text(file: Path, text: str) -> None:
    """Replace a small file in one step, so that a reader sees the old text or the new one.

    Raises:
      CheckpointError: it cannot be written; the old text stands.
    """
    staging = file.with_name(STAGING + file.name)
    with writing(file.parent):
        staging.write_text(text, encoding="utf-8")
        flush(staging)
        staging.replace(file)
        flush(file.parent)


def copy_in(source: Path, file: Path) -> None:
    """Put a copy of a file into its place in one step.

    Raises:
      CheckpointError: it cannot be written.
    """
    staging = file.with_name(STAGING + file.name)
    with writing(file.parent):
        shutil.copyfile(source, staging)
        flush(staging)
        staging.replace(file)


def flush(path: Path) -> None:
    """Flush a file or folder to the disk (fsync).

    After a rename, a power cut must not leave an empty file under the new name.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---------------------------------------------------------------- folders


def staged(target: Path) -> Path:
    """Make a new empty folder to fill; `put_in_place` gives it the name of `target`."""
    staging = target.with_name(STAGING + target.name)
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    return staging


def put_in_place(staging: Path, target: Path) -> None:
    """Flush a filled folder and give it its name; a former one of that name is deleted after that,
    not before.
    """
    for file in staging.iterdir():
        flush(file)
    flush(staging)
    former = target.with_name(FORMER + target.name)
    if target.exists():
        shutil.rmtree(former, ignore_errors=True)
        target.rename(former)
    try:
        staging.rename(target)
    except OSError:
        if former.exists():
            former.rename(target)
        raise
    flush(target.parent)
    shutil.rmtree(former, ignore_errors=True)


def remove(path: Path) -> None:
    """Delete a folder; a kill in between leaves no half of it under its name."""
    staging = path.with_name(STAGING + path.name)
    shutil.rmtree(staging, ignore_errors=True)
    try:
        path.rename(staging)
    except OSError:
        return  # it stays whole: deleting saves room, and nothing depends on it
    shutil.rmtree(staging, ignore_errors=True)


def recover(folder: Path) -> None:
    """Put a folder in order after a kill: restore what was being replaced, delete what was being
    written.

    Raises:
      CheckpointError: it cannot be written.
    """
    with writing(folder):
        for former in folder.glob(FORMER + "*"):
            target = folder / former.name.removeprefix(FORMER)
            shutil.rmtree(former) if target.exists() else former.rename(target)
        for half in folder.glob(HALF):
            half.unlink()
        for staging in folder.glob(STAGING + "*"):
            shutil.rmtree(staging) if staging.is_dir() else staging.unlink()


# ---------------------------------------------------------------- what can go wrong


@contextmanager
def writing(
    folder: Path, stands: str = "Earlier checkpoints are intact", then: str = "`accord resume`"
):
    """Turn a failed write inside into an error with words.

    Args:
      stands, then: what is left after the failure, and what to do once the folder can be written.

    Raises:
      CheckpointError: no room, or the folder cannot be written.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise unwritable_error(folder, error, stands, then) from error


def unwritable_error(
    folder: Path,
    error: Exception,
    stands: str = "Earlier checkpoints are intact",
    then: str = "`accord resume`",
) -> CheckpointError:
    """Make the error of a write that failed, in words."""
    full = getattr(error, "errno", None) in FULL or "No space left" in str(error)
    cause = "the disk is full" if full else getattr(error, "strerror", None) or first_line(error)
    advice = "Free some room" if full else "Make the folder writable"
    return CheckpointError(
        f"{folder} cannot be written: {cause}.\n{stands}. {advice}, then {then}."
    )


def free_bytes(folder: Path) -> int:
    """Return the free room on the disk that a folder is on, or will be on."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_room(folder: Path, needed: int) -> None:
    """Refuse, before training, a run that would fill the disk at the first checkpoint.

    Raises:
      CheckpointError: fewer free bytes than `needed`.
    """
    free = free_bytes(folder)
    if free < needed:
        raise CheckpointError(
            f"{folder}: {free / 1e6:,.0f} MB free, and this run needs about {needed / 1e6:,.0f} MB"
            " for its checkpoints and its final weights.\nFree some room, keep fewer (--set"
            " checkpoint.keep=1), or write elsewhere (--output)."
        )
