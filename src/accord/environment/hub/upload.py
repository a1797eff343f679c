"""Sending files to a repository of a hub, as one commit that is compared with what was sent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from accord.environment.digests import file_digest
from accord.environment.hub import client, words
from accord.environment.hub.client import SECONDS, TOKEN, HubFile
from accord.environment.hub.names import MODEL, HubName
from accord.environment.hub.store import say, size_in_words
from accord.errors import AccordError, UsageError, plural

Content = Path | bytes


def require_sendable(name: HubName) -> None:
    """Check before any work that something can be sent under a name.

    Raises:
      UsageError: there is no token, the network is kept off, or the name is a commit's.
    """
    if name.pinned:
        raise UsageError(f"{name}: a commit does not change. Name a branch, or leave it out.")
    if not client.token():
        raise UsageError(
            f"{name}: a hub takes nothing without a token. Put one that may write into the"
            f" environment variable {TOKEN}; it is sent to {client.endpoint()} alone, and written"
            " nowhere."
        )
    if client.offline():
        raise UsageError(f"{name}: HF_HUB_OFFLINE keeps accord off the network. Unset it.")


def send(name: HubName, files: Mapping[str, Content], message: str) -> str:
    """Make a commit of files in a model's repository, which is made, private, if it is not there.
    Other files that lie there stay.

    Returns:
      the commit.

    Raises:
      AccordError: it could not be sent, or the hub has something else than was sent, in words.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=client.endpoint(), token=client.token(), library_name="accord")
    size = sum(len(c) if isinstance(c, bytes) else c.stat().st_size for c in files.values())
    try:
        with client.online():
            there = api.repo_exists(name.repo, repo_type=MODEL)
            what = "" if there else " into a new private repository"
            say(
                f"{name}: sending {plural(len(files), 'file')}, {size_in_words(size)}, to"
                f" {client.endpoint()}{what}"
            )
            if not there:
                api.create_repo(name.repo, repo_type=MODEL, private=True, exist_ok=True)
            if name.revision:
                api.create_branch(name.repo, branch=name.revision, exist_ok=True)
            done = api.create_commit(
                name.repo,
                [CommitOperationAdd(path, content) for path, content in files.items()],
                commit_message=message,
                revision=name.revision or None,
            )
            info = api.model_info(
                name.repo, revision=done.oid, timeout=SECONDS, files_metadata=True
            )
    except Exception as error:  # libraries of HTTP differ between releases of huggingface_hub
        cause = error.__cause__ if isinstance(error, RuntimeError) else None
        raise _explained(cause if isinstance(cause, Exception) else error, name) from error
    listed = {file.path: file for file in map(client.listed_file, info.siblings or ())}
    _require_same(name, files, listed)
    return str(done.oid)


def _explained(error: Exception, name: HubName) -> AccordError:
    if words.status_of(error) in (401, 403):
        return UsageError(
            f"{name}: {client.endpoint()} does not take it: the token in {TOKEN} may not write"
            " there. Use one with the right to write, of an account that may."
        )
    return client.explained(error, name)


def _require_same(
    name: HubName, files: Mapping[str, Content], listed: Mapping[str, HubFile]
) -> None:
    """Compare what the hub lists with what was sent.

    Raises:
      UsageError: a file is not there, or is another.
    """
    for path, content in files.items():
        there = listed.get(path)
        if there is None or there.digest != _digest(content, there.large):
            raise UsageError(
                f"{name}: {path} is not on the hub as it was sent. Give the command again; do not"
                " use what lies there."
            )


def _digest(content: Content, large: bool) -> str:
    if large and isinstance(content, Path):
        return file_digest(content)
    data = content if isinstance(content, bytes) else content.read_bytes()
    if large:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
