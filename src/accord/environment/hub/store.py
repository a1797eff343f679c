"""Fetching files of a repository into the cache that all tools of the hub share.

The cache has the layout of huggingface_hub: `blobs/` by digest, `snapshots/<commit>/` with links to
them, `refs/<branch>` with the commit that a branch was last seen at. So what `hf download` fetched
is not fetched again, and other tools find what accord fetched. Three things are accord's own. A
file that was cut goes on where it stopped, by the next command too. Its digest is compared with the
one that the hub lists before it gets its place. And what lies at a commit is written down under
accord's cache, so that a complete snapshot is known to be complete without a network.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from accord.environment.caches import accord_cache
from accord.environment.hub import client, words
from accord.environment.hub.client import HubFile, Listing
from accord.environment.hub.names import COMMIT, HubName
from accord.environment.settings import ranks, warn_once
from accord.environment.wrapping import fit
from accord.errors import AccordError, CheckpointError, first_line, plural

MARGIN = 64 << 20  # bytes of a disk that a download leaves free
EVERY = 10  # seconds between two lines about a long download
BLOCK = 1 << 20
ATTEMPTS = 5  # at one file, if none of them brings a byte


def say(text: str) -> None:
    """Say on standard error what is fetched; the first rank does for all."""
    if ranks()[0] == 0:
        print(fit(f"· {text}", sys.stderr), file=sys.stderr, flush=True)


def hub_cache() -> Path:
    """Return the cache of the hub: HF_HUB_CACHE, or the one in HF_HOME."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def size_in_words(count: int) -> str:
    """Write a number of bytes: 12 kB, 3.4 MB, 15 GB."""
    size, unit = count / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if size >= 1000:
            size, unit = size / 1000, larger
    return f"{size:,.1f} {unit}" if size < 10 else f"{size:,.0f} {unit}"


# ---------------------------------------------------------------- which commit


def located(name: HubName) -> Listing:
    """Return the commit behind a name, and the files there.

    A branch is asked for at the hub. Where the hub cannot be reached, or HF_HUB_OFFLINE is set, the
    commit that was last seen is taken, with a line that says so.

    Raises:
      AccordError: no such name, in words.
    """
    if name.pinned and (known := _recorded(name)) is not None:
        return known
    if client.offline():
        return _last_seen(name, None)
    try:
        found = client.look(name)
    except AccordError as error:
        cause = error.__cause__
        if cause is None or not client.passes(cause):  # type: ignore[arg-type]
            raise
        return _last_seen(name, error)
    _write(_record_file(found.name), json.dumps(_as_record(found)))
    if not name.pinned:
        _say_if_moved(name, found.name.revision)
        _write(_ref(name), found.name.revision)
    return found


def _last_seen(name: HubName, error: AccordError | None) -> Listing:
    """Return what the cache has of a name.

    Raises:
      AccordError: `error`, or that the cache does not have it.
    """
    commit = name.revision if name.pinned else _read(_ref(name))
    pinned = name.at(commit) if COMMIT.fullmatch(commit) else None
    found = None if pinned is None else _recorded(pinned) or _walked(pinned)
    if found is None:
        raise error or words.is_offline(name, hub_cache())
    if not name.pinned:
        why = "HF_HUB_OFFLINE is set" if error is None else "the hub cannot be reached"
        warn_once(f"{name}: {why}, so its commit is the one last seen, {commit}")
    return found


def _say_if_moved(name: HubName, commit: str) -> None:
    before = _read(_ref(name))
    if COMMIT.fullmatch(before) and before != commit:
        warn_once(
            f"{name.whole}: {name.branch} has moved since it was last used here, from {before} to"
            f" {commit}. The older one: {name.at(before).whole}"
        )


def _walked(name: HubName) -> Listing | None:
    """List a snapshot that another tool fetched, which may be a part."""
    root = snapshot(name)
    if not root.is_dir():
        return None
    found = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    files = {path: HubFile(path, (root / path).stat().st_size, "", False) for path in found}
    return Listing(HubName(name.repo, name.kind, name.revision), files) if files else None


def snapshot(name: HubName) -> Path:
    """Return the folder of a pinned name's files."""
    return hub_cache() / name.folder / "snapshots" / name.revision


def _ref(name: HubName) -> Path:
    return hub_cache() / name.folder / "refs" / name.branch


def _record_file(name: HubName, what: str = "") -> Path:
    """Return the file of what is known of a commit: its listing, or `what` else."""
    more = f".{what}" * bool(what)
    return accord_cache() / "hub" / name.folder / f"{name.revision}{more}.json"


def _as_record(listing: Listing) -> list[dict]:
    return [asdict(file) for file in listing.files.values()]


def noted(name: HubName, what: str, code: str) -> dict:
    """Return what was written down of a commit's files beside its listing; nothing where that is
    damaged, or was found by other code.

    Args:
      code: the digest of the code that finds it.
    """
    try:
        known = json.loads(_read(_record_file(name, what)))
        return dict(known["found"]) if known["code"] == code else {}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}


def note(name: HubName, what: str, code: str, found: dict) -> None:
    """Write down what was found in a commit's files."""
    _write(_record_file(name, what), json.dumps({"code": code, "found": found}))


def _recorded(name: HubName) -> Listing | None:
    """Read what was written down of a commit; None where nothing usable was."""
    try:
        files = [HubFile(**each) for each in json.loads(_read(_record_file(name)))]
    except (ValueError, TypeError, RecursionError):
        return None
    return Listing(HubName(name.repo, name.kind, name.revision), {f.path: f for f in files})


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except (OSError, ValueError):
        return ""


def _write(file: Path, text: str) -> None:
    """Write a small file as a whole. What cannot be kept is asked for again."""
    with contextlib.suppress(OSError):
        if _read(file) == text:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        staging = file.with_name(f".{file.name}.{os.getpid()}")
        staging.write_text(text, "utf-8")
        staging.replace(file)


# ---------------------------------------------------------------- fetching


def missing(listing: Listing, paths: Sequence[str]) -> list[HubFile]:
    """Return those of some files of a repository that are not on the disk."""
    root = snapshot(listing.name)
    return [file for path in paths if not _is_there(root, file := listing.files[path])]


def fetch(
    listing: Listing,
    paths: Sequence[str],
    shown: HubName,
    *,
    quietly: bool = False,
    instead: str = "",
) -> Path:
    """Have files of a repository on the disk; return the folder of its snapshot.

    Args:
      paths: what is needed, as the listing names it.
      shown: the name to call it by.
      quietly: do not say how much is fetched: settings and cards.
      instead: what else can be done where the disk has no room for them.

    Raises:
      AccordError: they cannot be fetched, in words. CheckpointError: the disk has no room.
    """
    root, wanted = snapshot(listing.name), missing(listing, paths)
    if not wanted:
        return root
    if client.offline() or not all(file.digest for file in wanted):
        raise words.is_offline(shown, hub_cache(), [file.path for file in wanted])
    storage = root.parents[1]
    needed = sum(file.size - _part_size(storage, file) for file in wanted)
    _require_room(shown, needed, instead)
    if not quietly:
        say(
            f"{shown}: fetching {plural(len(wanted), 'file')}, {size_in_words(needed)}, from"
            f" {client.endpoint()}"
        )
    progress = Progress(needed)
    try:
        for file in wanted:
            with _locked(storage, file):
                blob = storage / "blobs" / file.digest
                if not blob.is_file() or blob.stat().st_size != file.size:
                    _transfer(listing.name, file, blob, shown, progress)
                _link(blob, root / file.path)
    except OSError as error:
        raise CheckpointError(
            f"{shown}: cannot be written to {storage}: {error.strerror or first_line(error)}. Name"
            " another folder in the environment variable HF_HOME."
        ) from error
    return root


def _is_there(root: Path, file: HubFile) -> bool:
    try:
        return (root / file.path).stat().st_size == file.size
    except OSError:
        return False


def _part(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.incomplete")


def _part_size(storage: Path, file: HubFile) -> int:
    part = _part(storage / "blobs" / file.digest)
    return min(part.stat().st_size, file.size) if part.is_file() else 0


def _require_room(name: HubName, needed: int, instead: str) -> None:
    folder = hub_cache()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free - MARGIN
    if needed > free:
        shown = size_in_words(needed), size_in_words(max(free, 0))
        raise words.no_room(name, *shown, hub_cache(), instead)


@contextlib.contextmanager
def _locked(storage: Path, file: HubFile) -> Iterator[None]:
    """Keep other processes away from one file, by the lock of huggingface_hub."""
    from huggingface_hub.utils import WeakFileLock

    lock = storage.parent / ".locks" / storage.name / f"{file.digest}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    (storage / "blobs").mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        yield


def _transfer(name: HubName, file: HubFile, blob: Path, shown: HubName, progress: Progress) -> None:
    """Fetch one file, from where an earlier attempt stopped, and give it its place if its digest is
    right.

    Raises:
      AccordError: it cannot be fetched, or is not what the hub lists.
    """
    part, attempt = _part(blob), 1
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            _receive(name, file, part, progress)
            break
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's own
            if words.status_of(error) == 404:
                raise words.gone(shown, file.path) from error
            if part.stat().st_size > before:
                attempt = 1
            whole = words.status_of(error) is None and not words.is_connection(error)
            if attempt < ATTEMPTS and (client.passes(error) or (whole and _is_short(part, file))):
                time.sleep(client.wait(error, attempt))
                attempt += 1
            elif whole and isinstance(error, OSError):  # an answer that ended, with another size
                came = part.stat().st_size
                raise words.not_whole(shown, file.path, file.size, came) from error
            else:
                raise client.explained(error, shown) from error
    found = _digest(part, file)
    if found != file.digest:
        part.unlink()
        raise words.damaged(shown, file.path, file.digest, found)
    part.replace(blob)


def _receive(name: HubName, file: HubFile, part: Path, progress: Progress) -> None:
    """Append to a part what is missing of it. The library drops the token where another host
    answers.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get

    url = hf_hub_url(
        name.repo,
        file.path,
        repo_type=name.kind,
        revision=name.revision,
        endpoint=client.endpoint(),
    )
    part.touch()
    with part.open("r+b") as out, client.online():
        if part.stat().st_size > file.size:  # of another tool
            out.truncate(0)
        start = out.seek(0, os.SEEK_END)
        counted = _Counted(out, progress)
        http_get(
            url,
            counted,  # type: ignore[arg-type]
            resume_size=start,
            headers=client.headers(),
            expected_size=file.size,
        )


def _is_short(part: Path, file: HubFile) -> bool:
    """Tell whether a transfer ended before the file did."""
    return 0 < part.stat().st_size < file.size


def _digest(part: Path, file: HubFile) -> str:
    """Compute a file's digest as the hub lists it."""
    total = hashlib.sha256() if file.large else hashlib.sha1(usedforsecurity=False)
    if not file.large:
        total.update(f"blob {part.stat().st_size}\0".encode())
    with part.open("rb") as stream:
        while block := stream.read(BLOCK):
            total.update(block)
    return total.hexdigest()


def _link(blob: Path, place: Path) -> None:
    """Put a file into its snapshot: a link, or the file itself where the disk has no links."""
    place.parent.mkdir(parents=True, exist_ok=True)
    staging = place.with_name(f".{place.name}.{os.getpid()}")
    staging.unlink(missing_ok=True)
    try:
        staging.symlink_to(os.path.relpath(blob, place.parent))
    except (OSError, NotImplementedError):
        shutil.copyfile(blob, staging)
    staging.replace(place)


class Progress:
    """Counts how much of a download has come; says so every ten seconds."""

    def __init__(self, needed: int):
        self.needed, self.done, self.said = needed, 0, time.monotonic()

    def add(self, count: int) -> None:
        self.done += count
        if time.monotonic() - self.said >= EVERY:
            self.said = time.monotonic()
            say(f"{size_in_words(self.done)} of {size_in_words(self.needed)} fetched")


class _Counted:
    """A file that counts what is written to it."""

    def __init__(self, file: BinaryIO, progress: Progress):
        self.file, self.progress = file, progress

    def write(self, block: bytes) -> int:
        self.progress.add(len(block))
        return self.file.write(block)

    def __getattr__(self, name: str):
        return getattr(self.file, name)
