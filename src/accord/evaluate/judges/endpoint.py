"""A judge behind any OpenAI-compatible endpoint: both orders, answers kept on disk by content, every failure counted.

The only file of accord that talks to a network, and only to the address that it is given. The key comes from an
environment variable, travels in a header, and is written nowhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import httpx

from accord.evaluate.judges.asking import Verdict, messages, read_verdict
from accord.evaluate.judges.verdict import Contest, Judged
from accord.types import UsageError

KEY = "ACCORD_JUDGE_KEY"  # environment variable
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})  # statuses that another attempt may mend
HOPELESS = frozenset({401, 403, 404})  # statuses that every contest would get
LONGEST_WAIT = 30.0  # seconds between two attempts, whatever the server asks for


@dataclass(frozen=True)
class Settings:
    """How an endpoint is asked."""

    url: str  # such as http://127.0.0.1:8000/v1
    model: str
    timeout: float = 60.0  # seconds for one answer
    attempts: int = 4
    backoff: float = 0.5  # seconds before the second attempt; doubles with each
    workers: int = 4  # questions at a time
    max_tokens: int = 64
    key: str = KEY


class Failed(Exception):
    """No verdict, for a reason of a few words."""


@dataclass
class Usage:
    """What the answers cost, counted by several threads; those from the disk cost nothing."""

    counts: Counter = field(default_factory=lambda: Counter(requests=0, retries=0, cached=0, prompt_tokens=0, completion_tokens=0))
    lock: Lock = field(default_factory=Lock, repr=False)

    def add(self, name: str, amount: int = 1) -> None:
        with self.lock:
            self.counts[name] += amount


@dataclass
class EndpointJudge:
    """A language model that is asked which answer is better."""

    settings: Settings
    cache: Path
    wait: Callable[[float], None] = time.sleep
    usage: Usage = field(default_factory=Usage)

    def __post_init__(self) -> None:
        try:
            self.address = httpx.URL(self.settings.url.rstrip("/") + "/chat/completions")
        except httpx.InvalidURL as error:
            raise UsageError(f"--judge: {error}. Expected an address such as http://127.0.0.1:8000/v1.") from error
        if self.address.scheme not in ("http", "https") or not self.address.host:
            raise UsageError("--judge: expected an address such as http://127.0.0.1:8000/v1.")
        if self.address.userinfo or self.address.query:
            raise UsageError(
                f"The judge's address holds a user name, a password or a query. Give the key in the variable {self.settings.key}."
            )

    @property
    def name(self) -> str:
        return f"{self.settings.model} at {self.address.host}"

    def __call__(self, contests: Sequence[Contest]) -> Judged:
        """Both orders of each contest. One without a verdict in both is left out, and counted.

        Raises:
          UsageError: the endpoint refuses every question, or not one contest got its two verdicts.
        """
        asked = [messages(c.prompt, *pair) for c in contests for pair in ((c.one, c.other), (c.other, c.one))]
        failures: Counter = Counter()
        headers = {"authorization": f"Bearer {key}"} if (key := os.environ.get(self.settings.key)) else {}
        with (
            httpx.Client(timeout=self.settings.timeout, headers=headers, follow_redirects=False, trust_env=False) as client,
            ThreadPoolExecutor(self.settings.workers) as pool,
        ):
            distinct = {chat[-1]["content"]: chat for chat in asked}  # two contests may ask the same: it is paid for once
            found = dict(zip(distinct, pool.map(lambda chat: self._verdict(client, chat), distinct.values()), strict=True))
        verdicts = []
        for one in (found[chat[-1]["content"]] for chat in asked):
            if isinstance(one, Failed):
                failures[str(one)] += 1
                one = None
            verdicts.append(one)
        return self._judged(verdicts[::2], verdicts[1::2], failures)

    def _judged(self, first: list, second: list, failures: Counter) -> Judged:
        scores = [None if a is None or b is None else (a.value + 1 - b.value) / 2 for a, b in zip(first, second, strict=True)]
        both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
        if not both:
            said = "; ".join(f"{count:,} × {reason}" for reason, count in failures.most_common(3))
            raise UsageError(f"The judge {self.name} gave no usable verdict on {len(first):,} contests: {said}.")
        decided = [(a, b) for a, b in both if Verdict.TIE not in (a, b)]
        swapped = sum(a == b for a, b in decided)  # the same letter in both orders: the place decided
        account = {
            "contests": len(first), "judged": len(both), "left_out": len(first) - len(both),
            "swapped_inconsistent": swapped, "swapped_inconsistent_share": swapped / len(both),
            "first_place_share": sum(a is Verdict.A and b is Verdict.A for a, b in decided) / max(1, swapped),
            **self.usage.counts,
        }  # fmt: skip
        return Judged(scores, failures, account)

    # ------------------------------------------------------------ one question

    def _verdict(self, client: httpx.Client, chat: list[dict]) -> Verdict | Failed:
        body = {"model": self.settings.model, "messages": chat, "temperature": 0, "max_tokens": self.settings.max_tokens, "n": 1}
        file = self._file(body)
        if (kept := _kept(file)) is not None:
            self.usage.add("cached")
            return kept
        try:
            verdict = self._read(self._ask(client, body))
        except Failed as reason:
            return reason
        _keep(file, verdict)
        return verdict

    def _file(self, body: dict) -> Path:
        """Where the verdict lies: named by all that it depends on, the address included; failures are never kept."""
        digest = hashlib.sha256(json.dumps([self.settings.url, body], sort_keys=True).encode()).hexdigest()
        return self.cache / digest[:2] / f"{digest}.json"

    def _ask(self, client: httpx.Client, body: dict) -> object:
        """The endpoint's JSON, after as many attempts as it takes.

        Raises:
          Failed: none succeeded. UsageError: the endpoint will refuse everything.
        """
        reason = ""
        for attempt in range(self.settings.attempts):
            if attempt:
                self.usage.add("retries")
            pause = self.settings.backoff * 2**attempt
            self.usage.add("requests")
            try:
                answer = client.post(self.address, json=body)
            except httpx.TimeoutException:
                reason = "timeout"
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                reason = f"no connection ({type(error).__name__})"
            else:
                if answer.status_code in HOPELESS:
                    raise UsageError(
                        f"The judge at {self.address.host} answers {answer.status_code} to /chat/completions. "
                        f"Is the key in {self.settings.key}, are address and model right?"
                    )
                if answer.status_code == 200:
                    try:
                        return answer.json()
                    except ValueError:
                        reason = "no JSON"
                elif answer.status_code not in AGAIN:
                    raise Failed(f"status {answer.status_code}")
                else:
                    reason = f"status {answer.status_code}"
                    pause = max(pause, _asked_to_wait(answer))
            if attempt + 1 < self.settings.attempts:
                self.wait(min(pause, LONGEST_WAIT))
        raise Failed(reason)

    def _read(self, found: object) -> Verdict:
        """
        Raises:
          Failed: not one choice, a refusal, an answer that was cut, or words that are no verdict.
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
        verdict = read_verdict(message.get("content"))
        if verdict is None:
            raise Failed("cut short" if choices[0].get("finish_reason") == "length" else "no verdict in the reply")
        return verdict

    def _count(self, usage: object) -> None:
        for name in ("prompt_tokens", "completion_tokens"):
            value = usage.get(name) if isinstance(usage, dict) else None
            if isinstance(value, int) and value >= 0:
                self.usage.add(name, value)


def _asked_to_wait(answer: httpx.Response) -> float:
    """Seconds of a Retry-After header; 0 for a date or nonsense."""
    try:
        return max(0.0, float(answer.headers.get("retry-after", 0)))
    except ValueError:
        return 0.0


def _kept(file: Path) -> Verdict | None:
    try:
        return Verdict[json.loads(file.read_text(encoding="utf-8"))["verdict"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # not there, or damaged: it is asked again


def _keep(file: Path, verdict: Verdict) -> None:
    """Only the verdict: neither texts nor keys lie in the cache. A disk that is full costs the next run a question."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        staging = file.with_suffix(f".{os.getpid()}.{time.monotonic_ns()}")
        staging.write_text(json.dumps({"verdict": verdict.name}), encoding="utf-8")
        staging.replace(file)
    except OSError:
        pass
