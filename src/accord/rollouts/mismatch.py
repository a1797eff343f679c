"""A sampler whose log-probs are not the trainer's: the gap of a batch, the bound over which a run
ends, and the weights that make up for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.config.rollouts_section import RolloutsConfig
from accord.objectives.corrections import CORRECTIONS
from accord.rollouts.record import Answer
from accord.types import Refused

TOKEN, WORST, OVER = (f"rollouts/sampler_gap_{name}" for name in ("token", "worst", "over"))


@dataclass(frozen=True)
class Mismatch:
    """The bound of a difference between sampler and trainer, and its correction."""

    max_gap: float = 0.1  # nats a token, of a batch's mean
    correction: str = "none"
    clip: float | None = None  # the correction's upper bound; None: its usual one
    low: float | None = None

    @classmethod
    def of(cls, settings: RolloutsConfig, rounding: float) -> Mismatch:
        """Read the settings of a run.

        Args:
          rounding: nats a token that two right ways to the same log-probs may differ by.
        """
        usual = max(cls.max_gap, rounding)
        return cls(
            usual if settings.max_gap is None else settings.max_gap,
            settings.correction,
            settings.correction_clip,
            settings.correction_low,
        )

    def figures(self, answers: Sequence[Answer]) -> dict[str, float]:
        """Measure the gap of each token: its mean, the largest, and the share over the bound."""
        gaps = [abs(value) for value in _apart(answers)]
        return {
            TOKEN: math.fsum(gaps) / len(gaps),
            WORST: max(gaps),
            OVER: sum(gap > self.max_gap for gap in gaps) / len(gaps),
        }

    def weights(self, answers: Sequence[Answer]) -> tuple[Tensor | None, dict[str, float]]:
        """Compute the weight of each token of these answers, [C] float64, and their summary: the
        mean weight, and the share of tokens that the bound holds or leaves out. None and nothing
        without a correction.
        """
        if self.correction == "none":
            return None, {}
        row = CORRECTIONS[self.correction]
        low = self.low if self.low is not None else row.low
        apart = torch.tensor(_apart(answers), dtype=torch.float64)
        count = torch.tensor([answer.count for answer in answers])
        high = self.clip if self.clip is not None else row.high
        weights = row.weigh(apart, count, 0.0 if low is None else low, high)
        bound = (weights == 0) | (weights == high)
        return weights, {
            "rollouts/correction_weight": weights.mean().item(),
            "rollouts/correction_cut": bound.double().mean().item(),
        }

    def require_near(self, number: int, figures: Mapping[str, float]) -> None:
        """Check a batch's gap.

        Raises:
          Refused: it is over the bound, and nothing makes up for it.
        """
        gap = figures[TOKEN]
        if gap <= self.max_gap or self.correction != "none":
            return
        raise Refused(
            f"Batch {number} of answers: the sampler's log-probs are {gap:.3g} nats a token from"
            f" the trainer's (worst token {figures[WORST]:.3g}, {figures[OVER]:.0%} of the tokens"
            f" over {self.max_gap:g}), and rollouts.max_gap allows {self.max_gap:g}. The answers"
            " are another policy's: older weights, an adapter that is not applied, another dtype or"
            " template, or log-probs at another temperature.\n"
            "Find the cause; or weigh the answers, with --set rollouts.correction=tis (mask,"
            f" icepop); or take them as they are, with --set rollouts.max_gap={2 * gap:.2g}."
        )


PLAIN = Mismatch()


def _apart(answers: Sequence[Answer]) -> list[float]:
    """List the log-ratios of trainer and sampler, nats, of every token of the policy's."""
    return [a - b for n in answers for a, b in zip(n.logps, n.sampled, strict=True)]
