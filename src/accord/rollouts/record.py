"""The record of an answer: who wrote which of its tokens, which weights drew them, and what was
measured of it before an update.

    prompt ─▶ policy's tokens ─▶ others' tokens ─▶ policy's tokens ─▶ …

Tokens are kept as they were drawn and read; text is never encoded again. What others wrote (a tool,
a user) is attended to, and is in no loss, no mean and no count. So far every answer is one segment
of the policy's.

All of it is plain numbers, so that a batch can be written to disk and read again, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Literal, Self

from accord.types import UsageError


@dataclass(frozen=True)
class Segment:
    """Tokens of one author, one after the other."""

    author: Literal["policy", "other"]
    tokens: tuple[int, ...]
    # nats of each of the policy's tokens, as the sampler computed them; none of others' tokens
    sampled: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        wanted = len(self.tokens) if self.author == "policy" else 0
        if self.author not in ("policy", "other") or not self.tokens or len(self.sampled) != wanted:
            raise UsageError(
                f"A segment of {len(self.tokens)} tokens by {self.author!r} with"
                f" {len(self.sampled)} log-probs of the sampler: expected at least one token, by"
                " 'policy' with a log-prob each, or by 'other' with none."
            )
        if any(math.isnan(value) for value in self.sampled):
            raise UsageError("The sampler gave NaN as a token's log-prob: it cannot be compared.")


@dataclass
class Answer:
    """An answer and everything known about it before an update.

    Numbers per token are of the tokens that the policy drew, in their order.
    """

    prompt: int  # number of its prompt in the file
    text: str
    segments: tuple[Segment, ...]  # behind the prompt
    ended: bool
    policy: str = ""  # the weights that drew it, as `Sampler.policy_version` names them
    updates: int = 0  # updates that these weights had had
    reward: float | None = None
    failure: str = ""  # why there is no reward
    parts: dict[str, float | None] = field(default_factory=dict)
    logps: list[float] = field(default_factory=list)  # nats, by the path that trains
    reference: list[float] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)  # the value head's estimates, if any
    behind: float | None = None  # its estimate behind the last token, where rollouts.overlong asks

    def __post_init__(self) -> None:
        if all(segment.author == "other" for segment in self.segments):
            raise UsageError("An answer without a token of the policy's: nothing can be learned.")

    @property
    def tokens(self) -> tuple[int, ...]:
        """Return all tokens behind the prompt, whoever wrote them."""
        return tuple(chain.from_iterable(segment.tokens for segment in self.segments))

    @property
    def scored(self) -> tuple[int, ...]:
        """Return the places of the policy's tokens among `tokens`."""
        authors = chain.from_iterable([s.author] * len(s.tokens) for s in self.segments)
        return tuple(place for place, author in enumerate(authors) if author == "policy")

    @property
    def sampled(self) -> tuple[float, ...]:
        """Return the sampler's log-prob of each of the policy's tokens, nats."""
        return tuple(chain.from_iterable(segment.sampled for segment in self.segments))

    @property
    def count(self) -> int:
        """Count the policy's tokens."""
        return sum(len(segment.sampled) for segment in self.segments)

    @property
    def alone(self) -> bool:
        """Tell whether every token is the policy's."""
        return all(segment.author == "policy" for segment in self.segments)

    def as_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping) -> Self:
        """Make the answer of `as_dict`, also after its way through JSON."""
        segments = tuple(
            Segment(one["author"], tuple(one["tokens"]), tuple(one["sampled"]))
            for one in found["segments"]
        )
        return cls(**{**found, "segments": segments})


def restored(told: Iterable[dict]) -> list[Answer]:
    """Make answers of their records."""
    return [Answer.from_dict(answer) for answer in told]
