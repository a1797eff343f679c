"""A client of a vLLM server: its endpoints, each as a method. vLLM itself is never imported.

    GET  /v1/models               what is served: the model and its adapters
    POST /v1/completions          one answer: token ids in, token ids and log-probs out
    POST /v1/load_lora_adapter    an adapter from a folder, under a name
    POST /v1/unload_lora_adapter
    POST /collective_rpc          reload_weights from a folder
    POST /update_weight_version   the name that whole weights go by; GET /weight_info tells it
    POST /pause, /resume, /sleep, /wake_up
    POST /tokenize                token ids of a text or of a conversation

From /collective_rpc to /wake_up they exist with VLLM_SERVER_DEV_MODE=1, loading adapters with
VLLM_ALLOW_RUNTIME_LORA_UPDATING=True; `accord serve-policy` sets both.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TypeVar

import httpx

from accord.config.sampler_section import SamplerConfig
from accord.environment import web
from accord.errors import plural, printable
from accord.sampling import server_protocol as protocol
from accord.sampling.sampler import Prompt
from accord.sampling.server_protocol import Completion, Draw, Served
from accord.types import Refused, UsageError

KEY = "ACCORD_SAMPLER_KEY"  # environment variable with the key that the server wants, if any
START = "Start one with the command that `accord serve-policy` prints."
FIRST_ATTEMPTS = 3  # before the first update: a wrong address is not waited for
SETTLING = 600.0  # seconds in which a server must have read weights
NO_PATH = "Not Found"  # what its framework says of a path that it does not have
T = TypeVar("T")


class NotServed(Exception):
    """The server does not know the model or adapter that it was asked for (404)."""


@dataclass
class ServerClient:
    """The server at one address."""

    settings: SamplerConfig
    wait: Callable[[float], None] = time.sleep
    counts: Counter = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        option = "rollouts.sampler.server"
        # checked once; paths are put behind it
        web.parse_address(self.settings.server, "", option, KEY, "http://127.0.0.1:8000")
        self.base = httpx.URL(self.settings.server.rstrip("/").removesuffix("/v1"))
        self.client = web.open_client(self.settings.timeout, KEY, 2 * self.settings.workers)
        limits = self.settings
        self.patience = web.Patience(limits.timeout, limits.attempts)

    @property
    def name(self) -> str:
        """The address for messages."""
        port = f":{self.base.port}" if self.base.port else ""
        host = f"[{self.base.host}]" if ":" in self.base.host else self.base.host
        return f"{host}{port}"

    # ------------------------------------------------------------ endpoints

    def models(self, *, first: bool = False) -> dict[str, Served]:
        """List what is served, by name.

        Args:
          first: nothing was ever heard from this server: it is not waited for.

        Raises:
          UsageError: nobody answers there, or no server of models.
        """
        patience = replace(self.patience, attempts=FIRST_ATTEMPTS) if first else self.patience
        return self._ask("/v1/models", None, protocol.read_models, patience)

    def complete(
        self, model: str, draw: Draw, stops: frozenset[int], vocabulary: int
    ) -> Completion:
        """Draw one answer.

        Raises:
          NotServed: the server has no model of that name. Refused: it cannot answer this prompt, or
            answered another. UsageError: no attempt brought an answer.
        """
        body = protocol.completion_request(model, draw, stops)
        return self._ask(
            protocol.COMPLETIONS,
            body,
            lambda content: protocol.read_completion(content, body, vocabulary),
            self.patience,
        )

    def load_adapter(self, name: str, path: str) -> None:
        """Load an adapter from a folder that the server can read."""
        self._tell("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})

    def unload_adapter(self, name: str) -> None:
        self._tell("/v1/unload_lora_adapter", {"lora_name": name})

    def reload_weights(self, path: str, version: str) -> None:
        """Read whole weights from a folder, in place of those that are served, and name them. No
        answer is drawn meanwhile.
        """
        self._tell("/pause?mode=wait", {})
        try:
            body = {"method": "reload_weights", "kwargs": {"weights_path": path}}
            self._tell("/collective_rpc", body)
            self._tell("/update_weight_version", {"new_version": version})
        finally:
            self._tell("/resume", {})

    def weight_version(self) -> str:
        """Return the name of the whole weights that are served."""
        return self._ask("/weight_info", None, protocol.read_version, self.patience)

    def sleep(self) -> None:
        """Let the server give its memory back; its weights stay in main memory."""
        self._tell("/sleep?level=1", {})

    def wake_up(self) -> None:
        self._tell("/wake_up", {})

    def tokenize(self, model: str, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens of the tokenizer's own."""
        body = {"model": model, "prompt": text, "add_special_tokens": False}
        return self._ask("/tokenize", body, protocol.read_tokens, self.patience)

    def templated(self, model: str, text: str) -> Prompt | None:
        """Return the token ids of a question in the server's own chat template; None without
        one.
        """
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        try:
            return tuple(self._ask("/tokenize", body, protocol.read_tokens, self.patience))
        except (Refused, UsageError, NotServed):
            return None

    def close(self) -> None:
        """Break off what is under way; nothing can be asked afterwards."""
        self.client.close()

    # ------------------------------------------------------------ requests

    def _tell(self, path: str, body: dict) -> None:
        patience = replace(self.patience, timeout=max(SETTLING, self.patience.timeout))
        self._ask(path, body, lambda content: None, patience)

    def _ask(
        self, path: str, body: dict | None, read: Callable[[bytes], T], patience: web.Patience
    ) -> T:
        address = httpx.URL(str(self.base).rstrip("/") + path)

        def refused(answer: httpx.Response, content: bytes) -> str:
            return self._refused(path, answer, content)

        try:
            return web.ask(
                self.client,
                address,
                body,
                patience,
                read,
                refused,
                wait=self.wait,
                count=self._count,
            )
        except web.NoAnswer as error:
            raise UsageError(self._silent(path, str(error), patience)) from error
        except web.TooLong as error:
            raise UsageError(f"The server at {self.name} answers {path} without end.") from error

    def _count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1

    def _refused(self, path: str, answer: httpx.Response, content: bytes) -> str:
        """Return the reason, if another attempt may succeed.

        Raises:
          NotServed, Refused, UsageError: it will not.
        """
        status = answer.status_code
        if status in web.AGAIN:
            return f"status {status}"
        said = _said(content)
        if status in (401, 403):
            raise UsageError(
                f"The server at {self.name} answers {status} to {path}. Is its key in the"
                f" environment variable {KEY}?"
            )
        if status == 404 and path == protocol.COMPLETIONS and said != NO_PATH:
            raise NotServed(said)
        if status in (404, 405) and said in (NO_PATH, "Method Not Allowed"):
            raise UsageError(
                f"The server at {self.name} has no {path}: {_MISSING.get(path, START)}"
            )
        if 300 <= status < 400:
            place = printable(answer.headers.get("location", "elsewhere"))[:300]
            raise UsageError(
                f"The server at {self.name} answers {status} to {path}: it sends to {place}, and"
                " accord follows nobody there. Give the server's own address:"
                " rollouts.sampler.server."
            )
        words = f"The server at {self.name} refuses {path} ({status}): {said}"
        if path == "/v1/load_lora_adapter":  # whoever loads one knows more
            raise Refused(words)
        raise Refused(f"{words}\nIs rollouts.sampler.server a vLLM server's address? {START}")

    def _silent(self, path: str, reason: str, patience: web.Patience) -> str:
        attempts = plural(patience.attempts, "attempt")
        if reason in (protocol.NO_IDS, protocol.NO_LOGPS):
            return (
                f"The server at {self.name} answers with {reason}: accord needs exact token ids and"
                f" their log-probs, as vLLM from 0.10 on gives them (return_token_ids).\n{START}"
            )
        if reason.startswith("answered by"):
            return (
                f"version raced: an answer of the server at {self.name} was {reason}, in"
                f" {attempts}. It is used by no other policy than the one that drew it, so it is"
                " not used.\nDoes something else load or unload adapters on this server?"
            )
        return (
            f"The server at {self.name} gave no answer to {path} in {attempts}: {reason}.\n"
            f"Is it up, and is rollouts.sampler.server its address? {START} Nothing is lost: once"
            " it answers, resume the run: it goes on where it stood."
        )


_DEV_MODE = (
    "start it with the environment variable VLLM_SERVER_DEV_MODE=1, as accord serve-policy does."
)
_MISSING = {
    "/v1/load_lora_adapter": (
        "it takes no adapters. Start it with --enable-lora and the environment variable"
        " VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, as accord serve-policy does."
    ),
    "/collective_rpc": _DEV_MODE,
    "/pause?mode=wait": _DEV_MODE,
    "/resume": _DEV_MODE,
    "/sleep?level=1": _DEV_MODE,
    "/wake_up": _DEV_MODE,
    "/weight_info": "whole weights need vLLM 0.32 or newer; " + _DEV_MODE,
    "/update_weight_version": "whole weights need vLLM 0.32 or newer; " + _DEV_MODE,
}


def _said(content: bytes) -> str:
    """Return what the server says of a failure, in one line."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        text = " ".join(content.decode("utf-8", "replace").split())
        return printable(text)[:300] or "no reason"
    while isinstance(found, dict):
        found = found.get("error", found.get("message", found.get("detail")))
    return printable(" ".join(str(found or "no reason").split()))[:300]
