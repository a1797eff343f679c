"""The loss and slopes of each policy gradient for one answer, worked out by hand in plain Python
floats.

They are written from the papers and apart from the torch code, so that the first proof of a run can
compare the step's numbers with the method that the recipe names (verify/rollout_proofs.py). A
function takes an answer and the options, and gives the loss and its derivative with respect to each
token's log-prob.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

ABOVE = 0.125  # the value head's estimate now, above its estimate when the answer was drawn


class Token(NamedTuple):
    """One token of an answer, in nats and rewards."""

    now: float  # log-prob under the policy that learns
    old: float  # when it was drawn
    reference: float
    advantage: float
    said: float  # the value head's estimate when it was drawn
    goal: float  # what the value head is to learn


TokenForm = Callable[[Sequence[Token], Mapping], tuple[float, list[float]]]


def reinforce(answer: Sequence[Token], options: Mapping) -> tuple[float, list[float]]:
    """Compute -Σ A log π."""
    return sum(-t.advantage * t.now for t in answer), [-t.advantage for t in answer]


def dapo(answer: Sequence[Token], options: Mapping) -> tuple[float, list[float]]:
    """Compute Σ max(-A r, -A clip(r)) + β KL, over the batch's tokens."""
    return _clipped(answer, options, 1.0)


def grpo(answer: Sequence[Token], options: Mapping) -> tuple[float, list[float]]:
    """Compute the loss of `dapo` as a mean over each answer's tokens."""
    return _clipped(answer, options, 1 / len(answer))


def dr_grpo(answer: Sequence[Token], options: Mapping) -> tuple[float, list[float]]:
    """Compute the loss of `dapo` over one constant length."""
    return _clipped(answer, options, 1 / options["max_tokens"])


def gspo(answer: Sequence[Token], options: Mapping) -> tuple[float, list[float]]:
    """Compute max(-A s, -A clip(s)), of one ratio for the answer, and the mean of β KL."""
    n = len(answer)
    ratio = math.exp(sum(t.now - t.old for t in answer) / n)
    advantage = sum(t.advantage for t in answer) / n
    held = min(max(ratio, 1 - options["clip"]), 1 + _high(options))
    loss = max(-advantage * ratio, -advantage * held)
    inside = -advantage * ratio >= -advantage * held or held == ratio
    slope = -advantage * ratio / n if inside else 0.0
    terms = [_kl(options, t.now - t.reference) for t in answer]
    total = sum(value for value, _ in terms) / n
    if options["kl_correction"] == "ratio":
        return loss + ratio * total, [slope + ratio * (total + rise) / n for _, rise in terms]
    return loss + total, [slope + rise / n for _, rise in terms]


def cispo(answer: Sequence[Token], options: Mapping) -> tuple[float, list[float]]:
    """Compute -Σ w A log π + β KL, with a weight w = clip(r) that has no slope."""
    low = -1.0 if options["clip"] is None else -options["clip"]
    total, slopes = 0.0, []
    for token in answer:
        ratio = math.exp(token.now - token.old)
        weight = min(max(ratio, 1 + low), 1 + options["clip_high"])
        term, rise = _corrected(options, token, ratio)
        total += -weight * token.advantage * token.now + term
        slopes.append(-weight * token.advantage + rise)
    return total, slopes


def ppo(answer: Sequence[Token], options: Mapping) -> tuple[float, list[float]]:
    """Compute the loss of `dapo` and the value head's loss, whose slope at a log-prob is 0."""
    total, slopes = _clipped(answer, options, 1.0)
    for token in answer:
        total += _value(options, token.said + ABOVE, token.said, token.goal)
    return total, slopes


def _clipped(answer: Sequence[Token], options: Mapping, scale: float) -> tuple[float, list[float]]:
    total, slopes = 0.0, []
    for token in answer:
        ratio = math.exp(token.now - token.old)
        held = min(max(ratio, 1 - options["clip"]), 1 + _high(options))
        plain, clipped = -token.advantage * ratio, -token.advantage * held
        loss, slope = (
            (plain, plain) if plain >= clipped else (clipped, plain if held == ratio else 0.0)
        )
        term, rise = _corrected(options, token, ratio)
        total += scale * (loss + term)
        slopes.append(scale * (slope + rise))
    return total, slopes


def _high(options: Mapping) -> float:
    """Return the upper clip: the lower one where it is not given."""
    return options["clip"] if options["clip_high"] is None else options["clip_high"]


def _corrected(options: Mapping, token: Token, ratio: float) -> tuple[float, float]:
    """Compute the KL term, times the ratio where that is chosen, and its slope."""
    term, rise = _kl(options, token.now - token.reference)
    if options.get("kl_correction") == "ratio":
        return ratio * term, ratio * (term + rise)
    return term, rise


def _kl(options: Mapping, d: float) -> tuple[float, float]:
    """Compute the KL term in the loss and its slope; 0 without one."""
    if "kl" not in options or not options["beta"]:
        return 0.0, 0.0
    value, slope = {
        "k1": (d, 1.0),
        "k2": (d * d / 2, d),
        "k3": (math.exp(-d) - 1 + d, 1 - math.exp(-d)),
    }[options["kl"]]
    return options["beta"] * value, options["beta"] * slope


def _value(options: Mapping, now: float, said: float, goal: float) -> float:
    plain = (now - goal) ** 2
    if options["value_clip"] is None:
        return options["value_weight"] * plain / 2
    held = said + min(max(now - said, -options["value_clip"]), options["value_clip"])
    return options["value_weight"] * max(plain, (held - goal) ** 2) / 2
