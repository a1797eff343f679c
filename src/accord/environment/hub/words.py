"""Failures of a hub in words, and what to do about each."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from accord.environment.hub.names import DATASET, MODEL, PREFIX, HubName
from accord.errors import (
    AccordError,
    CheckpointError,
    DataError,
    UsageError,
    first_line,
    plural,
    shorten,
)

WHAT = {MODEL: "model", DATASET: "data set"}
SHOWN = 12  # names in a message


def failure(name: HubName, text: str) -> AccordError:
    """Make the error of a name's kind: data that is missing, or a model that cannot be used."""
    return (DataError if name.kind == DATASET else UsageError)(f"{name}: {text}")


def download(name: HubName, files: Sequence[str] = ()) -> str:
    """Write the command that puts a repository, or some of its files, into the cache that accord
    reads.
    """
    kind = " --repo-type dataset" * (name.kind == DATASET)
    chosen = "".join(f" {shlex.quote(file)}" for file in files)
    revision = f" --revision {name.revision}" * bool(name.revision)
    return f"hf download {name.repo}{chosen}{kind}{revision}"


def unencrypted(endpoint: str) -> AccordError:
    return UsageError(
        f"HF_ENDPOINT is {endpoint}, and the token in HF_TOKEN would travel there unencrypted. Use"
        " an https address, or unset HF_TOKEN."
    )


def is_offline(name: HubName, cache: Path, files: Sequence[str] = ()) -> AccordError:
    """Say that files are not in the cache. Of the first rows of a set, they are named: the next
    shards, for the whole may be more than the disk holds.
    """
    return failure(
        name,
        f"HF_HUB_OFFLINE keeps accord off the network, and the cache does not have it ({cache})."
        "\nUnset HF_HUB_OFFLINE, or fetch it where there is a network:"
        f" {download(name, files if name.first else ())}",
    )


def unreachable(name: HubName, endpoint: str, cause: str) -> AccordError:
    return failure(
        name,
        f"{endpoint} cannot be reached: {cause}.\nCheck the network, HF_ENDPOINT and the proxy's"
        f" variables. Without a network: {download(name)} on a machine that has one, copy"
        " $HF_HOME/hub, and set HF_HUB_OFFLINE=1 here.",
    )


def no_room(name: HubName, needed: str, free: str, cache: Path, instead: str) -> AccordError:
    return CheckpointError(
        f"{name}: {needed} have to be fetched, and {cache} has room for {free}. Make room there, or"
        " name another folder in the environment variable HF_HOME." + f" {instead}" * bool(instead)
    )


def damaged(name: HubName, path: str, expected: str, found: str) -> AccordError:
    return failure(
        name,
        f"{path} did not arrive as the hub lists it: digest {expected[:16]}… there, {found[:16]}…"
        " here. It was thrown away; give the command again. If it happens again, something between"
        " here and the hub changes files.",
    )


def not_whole(name: HubName, path: str, expected: int, found: int) -> AccordError:
    return failure(
        name,
        f"{path} did not arrive whole: the hub lists {expected:,} bytes of it, and sent"
        f" {found:,}. Give the command again; what came is kept.",
    )


def gone(name: HubName, path: str) -> AccordError:
    return failure(
        name,
        f"the hub lists {path} and does not give it (404): the repository is damaged there. Nothing"
        " was read of it. Name another revision, or tell its owner.",
    )


def other_kind(name: HubName) -> str:
    """Say that a repository is there as the other kind."""
    if name.kind == MODEL:
        return f" There is a data set of this name: it is given as data, --data {PREFIX}{name.repo}"
    return f" There is a model of this name: it is given with --model {PREFIX}{name.repo}"


def known_revisions(names: Sequence[str]) -> str:
    """List the revisions that a repository has."""
    if not names:
        return ""
    more = ", …" * (len(names) > SHOWN)
    return f" It has {', '.join(names[:SHOWN])}{more}, and every full commit."


# ---------------------------------------------------------------- errors of libraries


def status_of(error: BaseException) -> int | None:
    """Return the status of the answer that an error came with, if there was an answer."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def retry_after(error: BaseException) -> int | None:
    """Return the seconds that a busy hub asks to wait, if it says."""
    found = getattr(getattr(error, "response", None), "headers", {}).get("retry-after", "")
    return int(found) if found.isdigit() and len(found) < 6 else None


def is_connection(error: BaseException) -> bool:
    """Tell whether there was no answer at all, or half of one.

    Releases of huggingface_hub raise the errors of httpx or httpx2, which have these names.
    """
    names = {each.__name__ for each in type(error).__mro__}
    return bool(names & {"TransportError", "ConnectionError", "TimeoutError"})


def explain(error: Exception, name: HubName, endpoint: str, token: str) -> AccordError:
    """Say in words why a hub gave no answer about a name.

    Args:
      token: the name of the variable that the token came from; "" where none was sent.
    """
    from huggingface_hub import errors as hub

    status, what = status_of(error), WHAT[name.kind]
    sent = f"the token in {token}" if token else "no token (HF_TOKEN is not set)"
    if isinstance(error, hub.GatedRepoError):
        return failure(
            name,
            f"this {what} is gated: its owner wants its terms accepted, and {sent} was sent.\n"
            f"Accept them at {endpoint}/{'datasets/' * (name.kind == DATASET)}{name.repo}, and put"
            " a token of your account into HF_TOKEN. A token that a login saved is not read:"
            " export HF_TOKEN=$(cat ~/.cache/huggingface/token)",
        )
    if isinstance(error, hub.RevisionNotFoundError):
        return failure(name, f"{name.repo} has no revision {name.revision or 'main'!r}.")
    if isinstance(error, hub.RepositoryNotFoundError) or status in (401, 404):
        return failure(
            name,
            f"{endpoint} has no {what} {name.repo}, or shows it to its members alone; {sent} was"
            " sent. Check the name, or put a token that may read it into HF_TOKEN.",
        )
    if status == 403:
        return failure(
            name, f"{endpoint} refuses access, and {sent} was sent: it needs more rights."
        )
    if status == 429:
        again = retry_after(error)
        when = f" Try again in {plural(again, 'second')}." if again else " Try again later."
        more = "" if token else " With a token in HF_TOKEN a hub allows more."
        return failure(name, f"{endpoint} limits how often it is asked (429).{when}{more}")
    if status is not None:
        return failure(name, f"{endpoint} answers with status {status}. Try again later.")
    if is_connection(error):
        return unreachable(name, endpoint, first_line(error).rstrip("."))
    return failure(
        name,
        f"{endpoint} answers nothing that a hub of models would:"
        f" {shorten(first_line(error), 160)}. Check HF_ENDPOINT, and whether a proxy or a login"
        " page answers in its place.",
    )
