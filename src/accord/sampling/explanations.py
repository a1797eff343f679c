"""The possible causes of a gap between a sampling server and the trainer, each with the log-probs
that the server would give if it were so: computed here, by the trainer's own model.

A new cause is a function from a `Question` to hypotheses, and its place in `CAUSES`.

C answer tokens of all probed answers, end to end · V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from accord import compat
from accord.errors import plural
from accord.forward.choose import Forward
from accord.forward.logps import padded_rows
from accord.models.language import LanguageModel
from accord.models.parts import local
from accord.sampling.gap import Hypothesis
from accord.sampling.sampler import Prompt
from accord.types import Tree

DTYPE = "other dtype"  # name of the one cause that is rounding, and no other policy
SERVE = "Start the server anew: accord serve-policy prints the command."
TEMPERATURES = (0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0)
NUCLEI = (0.8, 0.9, 0.95, 0.99)
LIKELIEST = (10, 20, 50)
REFINED = 20  # halvings of the interval around the best temperature
OUTSIDE = -50.0  # nats of a token that a nucleus leaves out: it would not have been drawn
CUTS = 48  # lengths of a cut prompt that are tried
SHORTEST_CUT = 1
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Probed:
    """One answer of a probe."""

    prompt: Prompt
    tokens: tuple[int, ...]
    logps: tuple[float, ...]  # nats, as the server gave them


@dataclass(frozen=True)
class Question:
    """A probe whose gap is to be explained."""

    forward: Forward
    probed: Sequence[Probed]
    temperature: float = 1.0  # of the draws
    top_p: float = 1.0
    # trainable weights of the version before, by name
    former: Mapping[str, Tensor] | None = None
    bare: bool = False  # adapters are off, here and there
    # prompt -> the token ids that the server makes of its text, in its own template
    templated: Callable[[Prompt], Prompt | None] | None = None

    @property
    def model(self) -> LanguageModel:
        return self.forward.model

    @property
    def drawn(self) -> list[float]:
        """The server's log-probs, [C] nats."""
        return [logp for one in self.probed for logp in one.logps]

    def under(self, prompts: Sequence[Prompt] | None = None) -> list[float]:
        """Compute the log-probs of the answers, [C] nats, by the path that trains; behind other
        prompts, if they are given.
        """
        prompts = prompts or [one.prompt for one in self.probed]
        return token_logps(
            self.forward,
            [
                Tree(p, (one.tokens,), i)
                for i, (p, one) in enumerate(zip(prompts, self.probed, strict=True))
            ],
        )


@torch.no_grad()
def token_logps(forward: Forward, trees: Sequence[Tree]) -> list[float]:
    """Compute the log-probs of the answers' tokens, end to end, [C] nats."""
    return forward.token_logps(trees).values.double().cpu().tolist()


@contextmanager
def other_weights(model: LanguageModel, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Give the trainable parameters other values inside the block."""
    trained = {name: local(p) for name, p in model.trainable().items()}
    own = {name: p.detach().clone() for name, p in trained.items()}
    try:
        _copy_into(trained, values)
        yield
    finally:
        _copy_into(trained, own)


@torch.no_grad()
def _copy_into(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(values[name])


# ---------------------------------------------------------------- weights


def former_version(q: Question) -> Iterator[Hypothesis]:
    """Suppose that the server still computes with the version before this one."""
    if q.former is None:
        return
    with other_weights(q.model, q.former):
        logps = q.under()
    yield Hypothesis(
        "stale version",
        "the version of the policy before this one: the new one was not taken over",
        "If two trainers use one server, each needs its own. " + SERVE + " Then resume the run.",
        logps,
    )


def adapter_off(q: Question) -> Iterator[Hypothesis]:
    """Suppose that the server leaves the adapter out."""
    if q.bare or not q.model.has_adapters:
        return
    with compat.without_adapters(compat.adapter_layers(q.model.network)):
        logps = q.under()
    yield Hypothesis(
        "adapter not applied",
        "the base without the adapter",
        "Does it run with --enable-lora, and for these modules? " + SERVE,
        logps,
    )


@torch.no_grad()
def other_dtype(q: Question) -> Iterator[Hypothesis]:
    """Suppose that the server computes in another dtype: a copy of the network does so too."""
    if q.model.quantization is not None or q.model.sharded:
        return
    for name, dtype in DTYPES.items():
        if dtype == q.model.dtype:
            continue
        network: Any = copy.deepcopy(q.model.network)
        other = replace(q.model, network=network.to(dtype), peft=None)
        logps = _picked(_log_softmax(_answer_logits(other, q)), q)
        yield Hypothesis(
            DTYPE,
            f"a network that computes in {name}, and the trainer computes in"
            f" {str(q.model.dtype).removeprefix('torch.')}",
            f"Train in that dtype too (--set model.dtype={name}), start the server with --dtype"
            f" {str(q.model.dtype).removeprefix('torch.')}, or accept it: --set"
            " rollouts.max_gap=…",
            logps,
        )


# ---------------------------------------------------------------- prompts


def cut_prompt(q: Question) -> Iterator[Hypothesis]:
    """Suppose that the server keeps so many tokens of a prompt's end: the number that explains the
    longest prompt's answer best.
    """
    longest = max(q.probed, key=lambda one: len(one.prompt))
    full = len(longest.prompt)
    step = max(1, full // CUTS)
    lengths = list(range(SHORTEST_CUT, full, step))
    if not lengths:
        return

    def left(length: int) -> float:
        tree = Tree(longest.prompt[-length:], (longest.tokens,), 0)
        return _distance(token_logps(q.forward, [tree]), longest.logps)

    best = min(lengths, key=left)
    near = range(max(SHORTEST_CUT, best - step + 1), min(full, best + step))
    kept = min(near, key=left) if step > 1 else best
    yield Hypothesis(
        "cut prompts",
        f"answers to the last {plural(kept, 'token')} of each prompt",
        "Start it with room for the longest prompt and answer (--max-model-len), and without a"
        " limit on prompts. " + SERVE,
        q.under([one.prompt[-kept:] for one in q.probed]),
    )


def other_template(q: Question) -> Iterator[Hypothesis]:
    """Suppose that the server puts its own template, or a first token, around a prompt."""
    first = q.model.tokenizer.bos_token_id
    if isinstance(first, int):
        yield Hypothesis(
            "other template",
            "answers to each prompt behind one more first token (BOS)",
            "Something between accord and the server adds it: vLLM does not, to token ids. "
            + SERVE,
            q.under([(first, *one.prompt) for one in q.probed]),
        )
    prompts = [q.templated(one.prompt) if q.templated else None for one in q.probed]
    if all(prompts):
        yield Hypothesis(
            "other template",
            "answers to each prompt inside the server's own chat template once more",
            "Something between accord and the server reads prompts as text: they are token ids, in"
            " the policy's template already. " + SERVE,
            q.under([p for p in prompts if p]),
        )


# ---------------------------------------------------------------- what is done to log-probs


@torch.no_grad()
def other_temperature(q: Question) -> Iterator[Hypothesis]:
    """Suppose that log-probs are returned at another temperature, or after top-p or top-k."""
    logits = _answer_logits(q.model, q)
    remedy = "Start the server with --logprobs-mode raw_logprobs, which is vLLM's default. " + SERVE

    def at(temperature: float) -> list[float]:
        return _picked(_log_softmax(logits / temperature), q)

    found = _best_temperature(at, q)
    yield Hypothesis(
        "log-probs at another temperature",
        f"logits divided by {found:.3g}, and the trainer's are at temperature 1",
        remedy,
        at(found),
    )
    own = _log_softmax(logits / (q.temperature or 1.0))
    for share in sorted({*NUCLEI, q.top_p} - {1.0}):
        yield Hypothesis(
            "log-probs after top-p",
            f"the likeliest tokens that together hold {share:g} (top-p), renormalised",
            remedy,
            _picked(_nucleus(own, share), q),
        )
    for count in LIKELIEST:
        if count < own.shape[1]:
            yield Hypothesis(
                "log-probs after top-k",
                f"the likeliest {count} tokens (top-k), renormalised",
                remedy,
                _picked(_first_tokens(own, count), q),
            )


def _best_temperature(at: Callable[[float], list[float]], q: Question) -> float:
    """Fit the temperature: the best of a list, and then between its neighbours."""
    drawn = q.drawn
    known = sorted({*TEMPERATURES, q.temperature or 1.0} - {1.0})
    best = min(known, key=lambda t: _distance(at(t), drawn))
    low, high = best / 1.25, best * 1.25
    for _ in range(REFINED):  # by thirds: the distance has one minimum near the best
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, b) if _distance(at(a), drawn) < _distance(at(b), drawn) else (a, high)
    fitted = (low + high) / 2
    return min((best, fitted), key=lambda t: _distance(at(t), drawn))


def _nucleus(logps: Tensor, share: float) -> Tensor:
    """Renormalise log-probs [C, V] over the likeliest tokens that together hold a share."""
    ordered, index = logps.sort(dim=1, descending=True)
    weights = ordered.exp()
    inside = weights.cumsum(1) - weights < share
    kept = torch.zeros_like(inside).scatter(1, index, inside)
    return _renormalised(logps, kept)


def _first_tokens(logps: Tensor, count: int) -> Tensor:
    """Renormalise log-probs [C, V] over the likeliest few."""
    return _renormalised(logps, logps >= logps.topk(count, dim=1).values[:, -1:])


def _renormalised(logps: Tensor, kept: Tensor) -> Tensor:
    left = logps.masked_fill(~kept, -torch.inf)
    return (left - left.logsumexp(1, keepdim=True)).clamp_min(OUTSIDE)


def _answer_logits(model: LanguageModel, q: Question) -> Tensor:
    """Compute the logits before each answer token, [C, V] float32: of a probe's few tokens."""
    rows = padded_rows(
        [Tree(o.prompt, (o.tokens,), i) for i, o in enumerate(q.probed)], model.device
    )
    logits = model.network(
        input_ids=rows.ids, attention_mask=rows.mask, position_ids=rows.positions, use_cache=False
    ).logits
    return logits[rows.row, rows.column - 1].float()


def _log_softmax(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits, dim=1)


def _picked(logps: Tensor, q: Question) -> list[float]:
    targets = torch.tensor([t for one in q.probed for t in one.tokens], device=logps.device)
    return logps.gather(1, targets[:, None]).squeeze(1).double().cpu().tolist()


def _distance(some: Sequence[float], others: Sequence[float]) -> float:
    return sum(abs(a - b) for a, b in zip(some, others, strict=True))


# ---------------------------------------------------------------- the table

# asked after every synchronisation: a few forward passes, and one of them is about a gap that is
# no larger than an update
ALWAYS: tuple[Callable[[Question], Iterator[Hypothesis]], ...] = (former_version, adapter_off)
# asked where the gap is over the bound
CAUSES = (*ALWAYS, other_temperature, cut_prompt, other_template, other_dtype)


def hypotheses(q: Question, *, over: bool) -> list[Hypothesis]:
    """List the possible causes of a gap: of every kind if it is over the bound."""
    return [h for cause in (CAUSES if over else ALWAYS) for h in cause(q)]
