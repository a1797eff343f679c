"""Requests to an address that the user names (a judge, a sampling server): limited in time and
size, and made again where that may help. Needs httpx.

Nothing is sent anywhere else: no proxy of the environment, no redirect.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import httpx

from accord.errors import UsageError

# statuses after which another attempt may succeed
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
LONGEST_WAIT = 30.0  # seconds between two attempts, whatever the server asks for
LONGEST_REPLY = 1 << 22  # bytes
T = TypeVar("T")


class NoAnswer(Exception):
    """No attempt brought an answer; the message is the last one's reason, in a few words."""


class TooLong(Exception):
    """A reply goes on and on."""


class Unread(Exception):
    """A reply is not what was asked for; the message says why, in a few words."""


@dataclass(frozen=True)
class Patience:
    """The time that an address is waited for, and the number of times that it is asked."""

    timeout: float = 60.0  # seconds for one answer
    attempts: int = 4
    backoff: float = 0.5  # seconds before the second attempt; doubles with each
    longest: int = LONGEST_REPLY  # bytes of a reply


def parse_address(url: str, path: str, option: str, key: str, example: str) -> httpx.URL:
    """Parse an address, and put a path behind it.

    Args:
      option: the option that gave it, for messages.
      key: environment variable of the key, which does not belong into an address.
      example: an address as it should be.

    Raises:
      UsageError: no address of that kind, or one that holds a secret (which is not shown).
    """
    try:
        address = httpx.URL(url.rstrip("/") + path)
        host = address.host
    except (httpx.InvalidURL, ValueError) as error:  # a host's name has rules of its own (IDNA)
        raise UsageError(f"{option}: {error}. Expected an address such as {example}.") from error
    if address.scheme not in ("http", "https") or not host:
        raise UsageError(f"{option}: expected an address such as {example}.")
    if address.userinfo or address.query or address.fragment:
        raise UsageError(
            f"{option}: the address holds a user name, a password, a query or a fragment. A key"
            f" goes into the variable {key}."
        )
    return address


def open_client(timeout: float, key: str, connections: int = 100) -> httpx.Client:
    """Open a client that goes nowhere but where it is sent, with the key of an environment
    variable, if it is set.

    Args:
      connections: requests that may be under way at a time; one more would wait for a connection,
        and its wait would read as the server's.

    Raises:
      UsageError: the key cannot stand in a request.
    """
    value = os.environ.get(key)
    if value and not all("!" <= letter <= "~" for letter in value):
        raise UsageError(
            f"{key}: a key is of ASCII letters, digits and signs, without a space or a line's end."
            f" Set it anew: export {key}=…"
        )
    headers = {"authorization": f"Bearer {value}"} if value else {}
    return httpx.Client(
        timeout=timeout,
        headers=headers,
        follow_redirects=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
    )


def ask(
    client: httpx.Client,
    address: httpx.URL,
    body: dict | None,
    patience: Patience,
    read: Callable[[bytes], T],
    refused: Callable[[httpx.Response, bytes], str],
    *,
    wait: Callable[[float], None] = time.sleep,
    count: Callable[[str], None] = lambda name: None,
) -> T:
    """Return the answer (status 200) to a POST, or to a GET where there is no body, after as many
    attempts as are allowed.

    Args:
      read: reads a reply's content; it raises `Unread`, and another attempt may be readable.
      refused: given an answer of another status, returns the reason if another attempt may
        succeed; else it raises.
      count: told "requests" at each attempt, and "retries" at each but the first.

    Raises:
      NoAnswer: no attempt succeeded. TooLong: a reply does not end. Whatever `refused` raises.
    """
    reason = ""
    for attempt in range(patience.attempts):
        if attempt:
            count("retries")
        pause = patience.backoff * 2**attempt
        count("requests")
        try:
            answer, content = _once(client, address, body, patience)
        except httpx.TimeoutException:
            reason = "timeout"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = f"no connection ({type(error).__name__})"
        else:
            if answer.status_code == 200:
                try:
                    return read(content)
                except Unread as error:
                    reason = str(error)
            else:
                reason = refused(answer, content)
                pause = max(pause, _asked_to_wait(answer))
        if attempt + 1 < patience.attempts:
            wait(min(pause, LONGEST_WAIT))
    raise NoAnswer(reason)


def read_json(content: bytes) -> object:
    """Read a reply as JSON.

    Raises:
      Unread: it is none.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Unread("no JSON") from error


def _once(
    client: httpx.Client, address: httpx.URL, body: dict | None, patience: Patience
) -> tuple[httpx.Response, bytes]:
    """Make one attempt and return the whole reply. httpx limits the wait for each piece of a reply;
    this limits the wait for all of them together.
    """
    until, content = time.monotonic() + patience.timeout, b""
    method, kind, sent = "GET", {}, None
    if body is not None:
        # As ASCII, since half a surrogate pair in a stranger's text has no UTF-8.
        method, sent = "POST", json.dumps(body).encode("ascii")
        kind = {"content-type": "application/json"}
    with client.stream(method, address, content=sent, headers=kind) as answer:
        for piece in answer.iter_bytes():
            content += piece
            if len(content) > patience.longest:
                raise TooLong
            if time.monotonic() > until:
                raise httpx.ReadTimeout("the reply comes in drops")
    return answer, content


def _asked_to_wait(answer: httpx.Response) -> float:
    """Return the seconds of a Retry-After header; 0 for a date or nonsense."""
    try:
        return max(0.0, float(answer.headers.get("retry-after", 0)))
    except ValueError:
        return 0.0
