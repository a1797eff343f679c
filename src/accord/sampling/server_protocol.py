"""The bodies of requests to a vLLM server, and its answers, read strictly: what is not exactly an
answer to the question is not read as one.

A prompt goes as token ids and an answer comes as token ids, so that no text is tokenised a second
time. Options are all sent: what is left out, the server takes from the model's own
generation_config.json (temperature, top-k, penalties). Log-probs are asked for as the model has
them; whether they are at temperature 1 is measured (sampling/probe.py), since an answer does not
say so.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accord.environment.web import Unread, read_json
from accord.sampling.sampler import FinishReason, Prompt
from accord.types import Refused

COMPLETIONS = "/v1/completions"
# a log-prob is not above 0; bfloat16 logits may give one above by their rounding
ABOVE_ZERO = 1e-2
NO_IDS = "no token ids"
NO_LOGPS = "no log-probs"


@dataclass(frozen=True)
class Draw:
    """One answer to be drawn."""

    prompt: Prompt
    seed: int  # of this answer alone
    max_new_tokens: int
    temperature: float
    top_p: float


@dataclass(frozen=True)
class Completion:
    """One answer as the server gave it."""

    tokens: tuple[int, ...]
    logps: tuple[float, ...]  # nats
    finish_reason: FinishReason


@dataclass(frozen=True)
class Served:
    """A model that the server lists."""

    name: str
    parent: str | None  # the model under an adapter
    root: str  # the folder that it was read from
    longest: int | None  # tokens of a prompt and its answer together


def row_seed(seed: int, row: int) -> int:
    """Derive the seed of one answer from those of the run and of the row: 53 bits, which JSON
    carries whole.
    """
    digest = hashlib.blake2b(f"{seed}:{row}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 11


def completion_request(model: str, draw: Draw, stops: frozenset[int]) -> dict:
    """Write the request of one answer."""
    return {
        "model": model,
        "prompt": list(draw.prompt),
        "max_tokens": draw.max_new_tokens,
        "temperature": draw.temperature,
        "top_p": draw.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "seed": draw.seed,
        "n": 1,
        "stop_token_ids": sorted(stops),
        "logprobs": 0,
        "return_token_ids": True,
        "add_special_tokens": False,
    }


def read_completion(content: bytes, request: Mapping, vocabulary: int) -> Completion:
    """Read the answer to a request.

    Args:
      vocabulary: token ids are below it.

    Raises:
      Unread: it is no such answer; another attempt may bring one.
      Refused: the answer is one to another prompt than the one that was sent.
    """
    found = read_json(content)
    if not isinstance(found, dict):
        raise Unread("no object")
    if found.get("model") != request["model"]:
        raise Unread(f"answered by {found.get('model')!r:.80}, not by {request['model']}")
    choices = found.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        count = len(choices) if isinstance(choices, list) else 0
        raise Unread(f"{count} choices in place of 1")
    choice = choices[0]
    _same_prompt(choice.get("prompt_token_ids"), found.get("usage"), request["prompt"])
    tokens = _ids(choice.get("token_ids"), vocabulary)
    logps = _logps(choice.get("logprobs"), len(tokens))
    return Completion(tokens, logps, _ending(choice.get("finish_reason"), tokens, request))


def _same_prompt(ids: object, usage: object, sent: Sequence[int]) -> None:
    """Compare the prompt that was read with the one that was sent, by its ids, or by its length
    where the server does not show them.
    """
    counted = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if isinstance(ids, list):
        if ids == list(sent):
            return
        read = len(ids)
        cut = ids == list(sent[len(sent) - read :]) if read < len(sent) else False
    elif counted in (None, len(sent)):
        return
    else:
        read, cut = counted, isinstance(counted, int) and counted < len(sent)
    if cut:
        raise Refused(
            f"cut prompt: of a prompt of {len(sent):,} tokens the server read {read:,}. Answers"
            " would be those to another question.\nStart it with room for the longest prompt and"
            " answer (--max-model-len) and without a limit on prompts: accord serve-policy prints"
            " the command."
        )
    raise Refused(
        f"another prompt: the server read {read:,} token ids where {len(sent):,} were sent, and"
        " they are not the same. It puts a template or special tokens around a prompt, or something"
        " between it and accord does.\nAnswers need vLLM's own /v1/completions: accord serve-policy"
        " prints the command."
    )


def _ids(found: object, vocabulary: int) -> tuple[int, ...]:
    if not isinstance(found, list):
        raise Unread(NO_IDS)
    if not found:  # as after an abort
        raise Unread("an answer without tokens")
    if not all(type(i) is int and 0 <= i < vocabulary for i in found):
        raise Unread(f"token ids that are none (the vocabulary has {vocabulary:,})")
    return tuple(found)


def _logps(found: object, count: int) -> tuple[float, ...]:
    values = found.get("token_logprobs") if isinstance(found, dict) else None
    if not isinstance(values, list):
        raise Unread(NO_LOGPS)
    if len(values) != count:
        raise Unread(f"{len(values)} log-probs of {count} tokens")
    if not all(type(v) in (int, float) and math.isfinite(v) and v <= ABOVE_ZERO for v in values):
        raise Unread("log-probs that are none")
    return tuple(min(float(v), 0.0) for v in values)


def _ending(reason: object, tokens: Sequence[int], request: Mapping) -> FinishReason:
    """Tell how an answer ended, and check that its tokens say so too."""
    over, limit = tokens[-1] in request["stop_token_ids"], request["max_tokens"]
    if any(token in request["stop_token_ids"] for token in tokens[:-1]):
        raise Unread("an answer that goes on after its end")
    if reason == "stop" and over and len(tokens) <= limit:
        return "stop"
    if reason == "length" and len(tokens) == limit:
        return "stop" if over else "length"
    raise Unread(f"an end ({reason!r:.20}) that its {len(tokens)} tokens do not show")


def read_models(content: bytes) -> dict[str, Served]:
    """Read the list of served models, by name.

    Raises:
      Unread: it is no such list.
    """
    found = read_json(content)
    rows = found.get("data") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Unread("no list of models")
    return {served.name: served for served in map(_served, rows)}


def _served(row: Mapping[str, Any]) -> Served:
    name, parent, root = row.get("id"), row.get("parent"), row.get("root")
    longest = row.get("max_model_len")
    if not isinstance(name, str):
        raise Unread("a model without a name")
    return Served(
        name,
        parent if isinstance(parent, str) else None,
        root if isinstance(root, str) else "",
        longest if type(longest) is int and longest > 0 else None,
    )


def read_tokens(content: bytes) -> list[int]:
    """Read the token ids of a text.

    Raises:
      Unread: it is no such answer.
    """
    found = read_json(content)
    ids = found.get("tokens") if isinstance(found, dict) else None
    if not isinstance(ids, list) or not all(type(i) is int for i in ids):
        raise Unread(NO_IDS)
    return ids


def read_version(content: bytes) -> str:
    """Read the name of the weights that are served.

    Raises:
      Unread: it is no such answer.
    """
    found = read_json(content)
    version = found.get("weight_version") if isinstance(found, dict) else None
    if not isinstance(version, str):
        raise Unread("no version of the weights")
    return version
