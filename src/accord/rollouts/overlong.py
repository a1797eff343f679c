"""Handling of answers that were cut at `rollouts.max_new_tokens`.

    keep    it counts as ended there: its reward is that of the text as cut
    mask    it is compared with the others of its prompt, and is not trained on itself
    soft    DAPO's length penalty is taken off every answer's reward: 0 up to max_new_tokens less
            the buffer, then falling to -1
    value   ppo: it gets no reward of its own; the value head's estimate behind the cut stands for
            what would have followed

All of it is arithmetic on answers that are recorded as they were drawn and judged, so that a batch
that is read again from disk comes out the same.

Source: Yu et al. 2025, arXiv:2503.14476, §3.4 (overlong filtering) and Eq. 13 (soft overlong
punishment); Pardo et al. 2018, arXiv:1712.00378, §3 (partial-episode bootstrapping).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accord.config.rollouts_section import RolloutsConfig
from accord.rollouts.record import Answer
from accord.types import Rollout, Tree

MASKED = "every answer to the prompt was cut, and rollouts.overlong is mask"
SHARE = 5  # DAPO's buffer is a fifth of its limit: 4,096 of 20,480 tokens


@dataclass(frozen=True)
class Overlong:
    """Settings of how cut answers are handled."""

    kind: str = "keep"
    limit: int = 0  # tokens: rollouts.max_new_tokens
    buffer: int = 1  # tokens before the limit over which the penalty grows

    @classmethod
    def of(cls, settings: RolloutsConfig) -> Overlong:
        limit = settings.max_new_tokens
        buffer = settings.overlong_buffer or max(1, limit // SHARE)
        return cls(settings.overlong, limit, buffer)

    def penalty(self, tokens: int) -> float:
        """Compute what is taken off the reward of an answer of so many tokens, from 0 to 1."""
        if self.kind != "soft":
            return 0.0
        return min(1.0, max(0.0, (tokens - (self.limit - self.buffer)) / self.buffer))

    def reward(self, given: float | None, tokens: int, ended: bool) -> float | None:
        """Return the reward that is learned from."""
        if given is None:
            return None
        return 0.0 if self.looks_behind(ended) else given - self.penalty(tokens)

    def trains_on(self, ended: bool) -> bool:
        """Tell whether an answer has a loss."""
        return ended or self.kind != "mask"

    def looks_behind(self, ended: bool) -> bool:
        """Tell whether the value head's estimate behind an answer is asked for."""
        return self.kind == "value" and not ended

    def tree(self, prompt: tuple[int, ...], answers: Sequence[Answer], row: int) -> Tree:
        """Make the tree whose log-probs and expected rewards are measured.

        One token more stands behind a cut: the value head's estimate before it is the one behind
        the answer. It is only ever a target, so it is not computed and needs no position.
        """
        behind = [self.looks_behind(a.ended) for a in answers]
        completions = tuple(
            (*a.tokens, *a.tokens[-1:] * more) for a, more in zip(answers, behind, strict=True)
        )
        if all(a.alone for a in answers):
            return Tree(prompt, completions, row)
        scored = tuple(
            (*a.scored, *(len(a.tokens),) * more) for a, more in zip(answers, behind, strict=True)
        )
        return Rollout(prompt, completions, row, scored=scored)


KEEP = Overlong()
