"""A judge behind any OpenAI-compatible endpoint. Replies are cached on disk by content, and every
failure is counted.

`Endpoint` sends chats and parses each reply; `EndpointJudge` asks it for verdicts, in both orders
(rewards/judge.py asks it for scores). Requests go through `environment/web.py`, only to the address
that is given. The key comes from an environment variable, travels in a header, and is written
nowhere.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

import httpx

from accord.environment.digests import text_digest
from accord.environment.web import (
    AGAIN,
    LONGEST_REPLY,
    NoAnswer,
    Patience,
    TooLong,
    ask,
    open_client,
    parse_address,
    read_json,
)
from accord.errors import plural, printable
from accord.rewards.judges.asking import (
    CUT,
    NOT_ASKED,
    Failed,
    NoReply,
    Verdict,
    messages,
    read_verdict,
)
from accord.rewards.judges.verdict import TRIAL, Contest, Judged
from accord.types import UsageError

KEY = "ACCORD_JUDGE_KEY"  # environment variable
HOPELESS = frozenset({401, 403, 404})  # statuses that every contest would get
GIVE_UP = 3  # questions in a row for each worker without a reply, after which no more are asked
SHOWN = 3  # unread replies that are kept for people to look at
# the way in which replies are read: a cached verdict of another way is asked for again
READING = "2026-11-30"
Chat = list[dict]
T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """The address, the model and the limits of an endpoint."""

    url: str  # such as http://127.0.0.1:8000/v1
    model: str
    timeout: float = 60.0  # seconds for one answer
    attempts: int = 4
    backoff: float = 0.5  # seconds before the second attempt; doubles with each
    workers: int = 4  # questions at a time
    # a judge that thinks first needs them; one that replies as asked stops by itself after ten
    max_tokens: int = 1024
    key: str = KEY


@dataclass(frozen=True)
class Wanted(Generic[T]):
    """A kind of reply: its name, and the functions that read and write it."""

    name: str  # such as "verdict": its name in messages and in the cache
    # parses a reply's text; None if it is no such reply, Failed if it is of no use
    read: Callable[[object], T | Failed | None]
    write: Callable[[T], str]  # the inverse of `read`


BOTH = (TRIAL.one, TRIAL.other)
EXPECTED = '{"verdict": "A"}, "B" or "tie", or words such as [[A]] and "Answer: B"'
VERDICT: Wanted[Verdict] = Wanted("verdict", read_verdict, lambda verdict: verdict.name)


@dataclass
class Usage:
    """Counts of requests and tokens, added up by several threads. Cached answers cost nothing."""

    counts: Counter = field(
        default_factory=lambda: Counter(
            requests=0, retries=0, cached=0, prompt_tokens=0, completion_tokens=0
        )
    )
    lock: Lock = field(default_factory=Lock, repr=False)

    def add(self, name: str, amount: int = 1) -> None:
        with self.lock:
            self.counts[name] += amount


@dataclass
class Halt:
    """The reason why no more questions are asked, if there is one."""

    most_silent: int  # questions in a row without a reply
    refused: str = ""  # the words of an endpoint that will refuse everything
    silent: int = 0
    lock: Lock = field(default_factory=Lock, repr=False)

    @property
    def reason(self) -> str:
        if self.refused:
            return f"{NOT_ASKED}: the endpoint refuses"
        return f"{NOT_ASKED}: no replies came" if self.silent >= self.most_silent else ""

    def heard(self, found: object) -> None:
        with self.lock:
            self.silent = self.silent + 1 if isinstance(found, NoReply) else 0


@dataclass
class Endpoint:
    """An address that answers chats.

    Raises:
      UsageError: no address of that kind, or one that holds a secret.
    """

    settings: Settings
    cache: Path
    wait: Callable[[float], None] = time.sleep
    usage: Usage = field(default_factory=Usage)
    option: str = "--judge"  # option that gave the address, for messages

    def __post_init__(self) -> None:
        self.address = parse_address(
            self.settings.url,
            "/chat/completions",
            self.option,
            self.settings.key,
            "http://127.0.0.1:8000/v1",
        )
        self.patience = Patience(
            self.settings.timeout, self.settings.attempts, self.settings.backoff
        )

    @property
    def name(self) -> str:
        return f"{self.settings.model} at {self.address.host}"

    def ask(self, chats: Sequence[Chat], wanted: Wanted) -> list[object]:
        """Ask every chat. Return each reply as it was read, or a Failed.

        An endpoint that fails in the middle leaves what it said: the other chats are failures.

        Raises:
          UsageError: the endpoint refuses every question.
        """
        halt = Halt(GIVE_UP * self.settings.workers)
        with (
            open_client(self.settings.timeout, self.settings.key, self.settings.workers) as client,
            ThreadPoolExecutor(self.settings.workers) as pool,
        ):
            # two chats may be the same: an answer is paid for once
            distinct = {chat[-1]["content"]: chat for chat in chats}
            found = dict(
                zip(
                    distinct,
                    pool.map(lambda chat: self._one(client, chat, wanted, halt), distinct.values()),
                    strict=True,
                )
            )
        if halt.refused and all(isinstance(one, Failed) for one in found.values()):
            raise UsageError(halt.refused)
        return [found[chat[-1]["content"]] for chat in chats]

    def _one(self, client: httpx.Client, chat: Chat, wanted: Wanted, halt: Halt) -> object:
        body = {
            "model": self.settings.model,
            "messages": chat,
            "temperature": 0,
            "max_tokens": self.settings.max_tokens,
            "n": 1,
        }
        file = self._file(body)
        if (kept := _kept(file, wanted)) is not None:
            self.usage.add("cached")
            return kept
        if halt.reason:
            return NoReply(halt.reason)
        found: object
        try:
            found = self._read(self._ask(client, body), wanted)
        except Failed as reason:
            found = reason
        except UsageError as refused:
            halt.refused = str(refused)
            return NoReply("refused by the endpoint")
        halt.heard(found)
        if not isinstance(found, Failed):
            _keep(file, wanted, found)
        return found

    def _file(self, body: dict) -> Path:
        """Return the cache file of an answer. Its name is a hash of all that the answer depends on,
        the address and the way of reading a reply included. Failures are never cached.
        """
        digest = text_digest(json.dumps([READING, self.settings.url, body], sort_keys=True))
        return self.cache / digest[:2] / f"{digest}.json"

    def _ask(self, client: httpx.Client, body: dict) -> object:
        """Return the endpoint's JSON, after as many attempts as it takes.

        Raises:
          Failed: none succeeded. UsageError: the endpoint will refuse everything.
        """
        try:
            return ask(
                client,
                self.address,
                body,
                self.patience,
                read_json,
                self._refused,
                wait=self.wait,
                count=self.usage.add,
            )
        except NoAnswer as reason:
            raise NoReply(str(reason)) from reason
        except TooLong as error:
            raise Failed("reply too long") from error

    def _refused(self, answer: httpx.Response, content: bytes) -> str:
        """Return the reason, if another attempt may succeed.

        Raises:
          Failed: it will not. UsageError: every other question would be refused as well.
        """
        if answer.status_code in HOPELESS:
            raise UsageError(
                f"The judge at {self.address.host} answers {answer.status_code} to"
                f" /chat/completions. Is the key in {self.settings.key}, are address and model"
                " right?"
            )
        if answer.status_code not in AGAIN:
            raise Failed(f"status {answer.status_code}")
        return f"status {answer.status_code}"

    def _read(self, found: object, wanted: Wanted) -> object:
        """Read the endpoint's JSON as the kind of reply that was requested.

        Raises:
          Failed: not one choice, a refusal, a reply that was cut, or words that are not what was
            asked for.
        """
        if not isinstance(found, dict):
            raise Failed("no object")
        self._count(found.get("usage"))
        choices = found.get("choices")
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            raise Failed("not one choice")
        message = choices[0].get("message")
        if not isinstance(message, dict):
            raise Failed("no message")
        if message.get("refusal") or choices[0].get("finish_reason") == "content_filter":
            raise Failed("refusal")
        content = message.get("content")
        # a verdict that was cut may go on with "but"
        if choices[0].get("finish_reason") == "length":
            raise Failed(CUT, _shown(content))
        if (read := wanted.read(content)) is None:
            raise Failed(f"no {wanted.name} in the reply", _shown(content))
        return read

    def _count(self, usage: object) -> None:
        for name in ("prompt_tokens", "completion_tokens"):
            value = usage.get(name) if isinstance(usage, dict) else None
            if isinstance(value, int) and 0 <= value <= LONGEST_REPLY:
                self.usage.add(name, value)


@dataclass
class EndpointJudge(Endpoint):
    """A language model that is asked which answer is better."""

    def try_out(self) -> list[str]:
        """Ask one question whose answer is plain, in both orders, before anything is measured.
        Return what a person should know.

        Raises:
          UsageError: no reply, or none that can be read. It is shown.
        """
        asked = [messages(TRIAL.prompt, *pair) for pair in (BOTH, BOTH[::-1])]
        found = self.ask(asked, VERDICT)
        for one in found:
            if isinstance(one, Failed):
                said = f' It replied: "{one.said}".' if one.said else ""
                raise UsageError(
                    f"The judge {self.name} was tried with one plain question before anything was"
                    f" measured, and gave no verdict: {one}.{said}\n{self._remedy(one)}"
                )
        if found != [Verdict.A, Verdict.B]:
            said = " and ".join(one.name for one in found if isinstance(one, Verdict))
            return [
                f"! the judge {self.name} was tried with one plain question: A, then B would be"
                f" right, and it said {said}. Do not trust its win rates unread."
            ]
        return []

    def _remedy(self, failed: Failed) -> str:
        """Return what to do about a trial question without a verdict."""
        if str(failed) == CUT:
            limit = self.settings.max_tokens
            return (
                f"The reply reached the limit of {limit:,} tokens before its end; a model that"
                f" thinks first needs more: --judge-max-tokens {4 * limit}."
            )
        return (
            f"Expected {EXPECTED}. Is the server up, does it serve that model, and is the model one"
            " that follows instructions? Another: --judge-model NAME."
        )

    def __call__(self, contests: Sequence[Contest]) -> Judged:
        """Ask for each contest in both orders. A contest without a verdict in both is left out and
        counted.

        Raises:
          UsageError: the endpoint refuses every question, or not one contest got its two verdicts.
        """
        found = self.ask(
            [
                messages(c.prompt, *pair)
                for c in contests
                for pair in ((c.one, c.other), (c.other, c.one))
            ],
            VERDICT,
        )
        failures = Counter(str(one) for one in found if isinstance(one, Failed))
        unread = [one.said for one in found if isinstance(one, Failed) and one.said]
        verdicts = [None if isinstance(one, Failed) else one for one in found]
        judged = self._judged(verdicts[::2], verdicts[1::2], failures, unread)
        if unread:
            judged.account["unread"] = list(dict.fromkeys(unread))[:SHOWN]
        return judged

    def _judged(self, first: list, second: list, failures: Counter, unread: list[str]) -> Judged:
        scores = [
            None if a is None or b is None else (a.value + 1 - b.value) / 2
            for a, b in zip(first, second, strict=True)
        ]
        both = [
            (a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None
        ]
        if not both:
            said = "; ".join(f"{count:,} × {reason}" for reason, count in failures.most_common(3))
            example = f'\nIt replied: "{unread[0]}". Expected {EXPECTED}.' if unread else ""
            raise UsageError(
                f"The judge {self.name} gave no usable verdict on {plural(len(first), 'contest')}:"
                f" {said}.{example}"
            )
        decided = [(a, b) for a, b in both if Verdict.TIE not in (a, b)]
        # the same letter in both orders: the place decided
        swapped = sum(a == b for a, b in decided)
        account = {
            "contests": len(first),
            "judged": len(both),
            "left_out": len(first) - len(both),
            "swapped_inconsistent": swapped,
            "swapped_inconsistent_share": swapped / len(both),
            "first_place_share": (
                sum(a is Verdict.A and b is Verdict.A for a, b in decided) / max(1, swapped)
            ),
            **self.usage.counts,
        }
        return Judged(scores, failures, account)


def _shown(content: object) -> str:
    """Return the beginning and the end of a reply, to look at."""
    text = " ".join(str(content or "").split())
    return printable(text if len(text) <= 160 else f"{text[:80]} … {text[-80:]}")


def _kept(file: Path, wanted: Wanted) -> object | None:
    try:
        return wanted.read(json.loads(file.read_text(encoding="utf-8"))[wanted.name])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, Failed):
        return None  # not there, or damaged: it is asked again


def _keep(file: Path, wanted: Wanted, found: object) -> None:
    """Write the parsed reply to the cache, without any text or key. If the disk is full, the next
    run asks the question again.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        staging = file.with_suffix(f".{os.getpid()}.{time.monotonic_ns()}")
        staging.write_text(json.dumps({wanted.name: wanted.write(found)}), encoding="utf-8")
        staging.replace(file)
    except OSError:
        pass
