"""Questions to a hub: which commit a name stands for, and which files lie there.

One place decides whether the network may be used, which token is sent, and how often a question is
asked again. A branch is asked for once in ten minutes by a process, so that all that one command
reads of a repository is of one commit.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

from accord.environment.hub import words
from accord.environment.hub.names import COMMIT, DATASET, MODEL, HubName
from accord.environment.settings import offline_by_default
from accord.errors import AccordError

TOKEN = "HF_TOKEN"
SECONDS = 20  # for an answer to begin
TRIES = 4  # of one question, while a hub is busy or a connection breaks
LONGEST_WAIT = 60  # seconds that a busy hub is waited for at once
REMEMBERED = 600  # seconds that a branch's commit is not asked for again
BUSY = (408, 429, 500, 502, 503, 504)
SHA256 = re.compile(r"[0-9a-f]{64}")
LOOPBACK = ("127.0.0.1", "[::1]", "localhost")
ADDRESS = re.compile(r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:]+\]|[\w.-]+)(?::\d+)?(?:/|$)")

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository at a commit."""

    path: str  # with slashes
    size: int
    digest: str  # sha256 of a large file's bytes; else the id that git gives them
    large: bool  # stored beside git (LFS)


@dataclass(frozen=True)
class Listing:
    """The files of a repository at one commit."""

    name: HubName  # pinned
    files: Mapping[str, HubFile]


def endpoint() -> str:
    """Return the hub's address: HF_ENDPOINT, or huggingface.co."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def token() -> str | None:
    """Return the token of the environment. One that a login saved on the disk is not looked for.

    Raises:
      UsageError: it would travel unencrypted.
    """
    value = os.environ.get(TOKEN, "").strip()
    if not value:
        return None
    address = ADDRESS.match(endpoint())
    if address is None or (address["scheme"] != "https" and address["host"] not in LOOPBACK):
        raise words.unencrypted(endpoint())
    return value


def headers() -> dict[str, str]:
    """Return the headers of a request, with the token where there is one."""
    from huggingface_hub.utils import build_hf_headers

    return build_hf_headers(token=token() or False, library_name="accord")


def offline() -> bool:
    """Tell whether the user keeps hubs out: HF_HUB_OFFLINE, unless accord set it itself."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE and not offline_by_default()


@contextmanager
def online() -> Iterator[None]:
    """Let huggingface_hub go to the network: a name with `hub:` asked for it. Its own bars are kept
    off the terminal.
    """
    from huggingface_hub import constants
    from huggingface_hub import utils as hub

    before, bars = constants.HF_HUB_OFFLINE, not hub.are_progress_bars_disabled()
    constants.HF_HUB_OFFLINE = before and offline()
    hub.disable_progress_bars()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        if bars:
            hub.enable_progress_bars()


def ask(name: HubName, question: Callable[[Any], Answer]) -> Answer:
    """Put a question to the hub's API, again while the hub is busy.

    Raises:
      AccordError: it cannot be answered, in words.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint(), token=token() or False, library_name="accord")
    for attempt in range(1, TRIES + 1):
        try:
            with online():
                return question(api)
        except AccordError:
            raise
        except Exception as error:  # libraries of HTTP differ between releases of huggingface_hub
            if attempt == TRIES or not passes(error):
                raise _hint(explained(error, name), error, name, api) from error
            time.sleep(wait(error, attempt))
    raise AssertionError("the last attempt returns or raises")


def explained(error: Exception, name: HubName) -> AccordError:
    """Say in words why the hub gave no answer about a name."""
    return words.explain(error, name, endpoint(), TOKEN if token() else "")


def passes(error: Exception) -> bool:
    """Tell whether asking again may help."""
    status = words.status_of(error)
    return status in BUSY if status is not None else words.is_connection(error)


def wait(error: Exception, attempt: int) -> float:
    """Return the seconds to wait before asking again: what the hub says, or 1, 2, 4, …"""
    asked = words.retry_after(error)
    return min(LONGEST_WAIT, 2 ** (attempt - 1) if asked is None else asked)


# ---------------------------------------------------------------- what lies there

_answers: dict[tuple[str, str, str, str], tuple[float, Listing]] = {}


def look(name: HubName) -> Listing:
    """List the files that a name stands for, at the commit that it stands for now.

    Raises:
      AccordError: no such repository or revision, or the hub cannot be reached, in words.
    """
    key = (endpoint(), name.kind, name.repo, name.revision)
    before = _answers.get(key)
    if before is not None and (name.pinned or time.monotonic() - before[0] < REMEMBERED):
        return before[1]
    info = ask(name, lambda api: _listing(api, name))
    _answers[key] = (time.monotonic(), info)
    _answers[*key[:3], info.name.revision] = (time.monotonic(), info)
    return info


def forget() -> None:
    """Forget every answer."""
    _answers.clear()


def _listing(api: Any, name: HubName) -> Listing:
    info = api.repo_info(
        name.repo,
        repo_type=name.kind,
        revision=name.revision or None,
        timeout=SECONDS,
        files_metadata=True,
    )
    commit = getattr(info, "sha", None)
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
        raise ValueError(f"it names {commit!r:.60} as a commit")
    if name.pinned and commit != name.revision:
        raise ValueError(f"asked for commit {name.revision}, it shows {commit}")
    if info.siblings is None:
        raise ValueError("it lists no files")
    files = [listed_file(each) for each in info.siblings]
    return Listing(HubName(name.repo, name.kind, commit), {file.path: file for file in files})


def listed_file(found: Any) -> HubFile:
    """Read one file of a listing.

    Raises:
      ValueError: it is no file that a hub would list.
    """
    path, parts = found.rfilename, PurePosixPath(str(found.rfilename)).parts
    if not isinstance(path, str) or not parts or ".." in parts or path[:1] in "/~":
        raise ValueError(f"it lists a file called {path!r:.80}")
    if "\\" in path or not path.isprintable():
        raise ValueError(f"it lists a file called {path!r:.80}")
    large = found.lfs is not None
    digest = found.lfs.sha256 if large else found.blob_id
    size = found.lfs.size if large else found.size
    known = (SHA256 if large else COMMIT).fullmatch(str(digest))
    if not known or not isinstance(size, int) or size < 0:
        raise ValueError(f"it gives {path!r:.80} no digest or no size")
    return HubFile(path, size, digest, large)


def _hint(error: AccordError, cause: Exception, name: HubName, api: Any) -> AccordError:
    """Add what the hub knows: the revisions that there are, or the other kind of that name."""
    from huggingface_hub import errors as hub

    if isinstance(cause, hub.GatedRepoError):
        return error
    try:
        with online():
            if isinstance(cause, hub.RevisionNotFoundError):
                refs = api.list_repo_refs(name.repo, repo_type=name.kind)
                known = [ref.name for ref in (*refs.branches, *refs.tags)]
                return type(error)(f"{error}{words.known_revisions(known)}")
            if words.status_of(cause) in (401, 404):
                other = DATASET if name.kind == MODEL else MODEL
                api.repo_info(name.repo, repo_type=other, timeout=SECONDS)
                return type(error)(f"{error}{words.other_kind(name)}")
    except Exception:  # a hint alone is lost
        return error
    return error


def page(name: HubName) -> str:
    """Return the address of a repository's page."""
    return f"{endpoint()}/{'' if name.kind == MODEL else f'{name.kind}s/'}{name.repo}"
