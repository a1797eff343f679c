"""Facts of each policy gradient in words: what its clip means, what its gradient is
while nothing has moved, and where there is none. The divisor stands in the method's row.

Every sentence has its test in tests/objectives/test_policy_facts.py.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LossFacts:
    """Three facts of a loss, with A the advantage, ρ a token's ratio, |y| an answer's tokens."""

    clip: str  # what `clip` and `clip_high` bound
    at_one: str  # slope of the loss in a token's log-prob at ratio 1, before the divisor
    vanishes: str  # where a token with A ≠ 0 has no slope


_CLIPPED = "a token's ρ, on the side that its A asks for"
_OUTSIDE = "A > 0 and ρ above the clip, or A < 0 and ρ below it"

FACTS: dict[str, LossFacts] = {
    "ppo": LossFacts(_CLIPPED, "−A", _OUTSIDE),
    "grpo": LossFacts(_CLIPPED, "−A / |y|", _OUTSIDE),
    "dr_grpo": LossFacts(_CLIPPED, "−A / max_tokens", _OUTSIDE),
    "dapo": LossFacts(_CLIPPED, "−A", _OUTSIDE),
    "gspo": LossFacts(
        "the answer's ratio s, the geometric mean of ρ",
        "−A / |y|",
        "all tokens at once: A > 0 and s above the clip, or A < 0 and s below it",
    ),
    "cispo": LossFacts("a token's weight, of which no gradient is taken", "−A", "nowhere"),
    "reinforce_plus_plus": LossFacts(_CLIPPED, "−A", _OUTSIDE),
    "reinforce_plus_plus_baseline": LossFacts(_CLIPPED, "−A", _OUTSIDE),
    "rloo": LossFacts("no clip", "−A", "nowhere"),
    "reinforce": LossFacts("no clip", "−A", "nowhere"),
}
