"""Arithmetic on the gap between a sampler's log-probs and the trainer's, and on its causes.

A gap has a cause: an older version of the weights, an adapter that is not applied, another
temperature. Each cause says what the sampler's log-probs would be if it were so, since the trainer
can compute them: with the older weights, without the adapter, at that temperature. So each is a
hypothesis that is measured. With y the sampler's log-probs minus the trainer's, and x those of the
hypothesis minus the trainer's, token by token,

    y = θ x + noise,   θ = Σxy / Σx²,   se² = Σ(y − θx)² / (n − 1) / Σx²

θ is 0 if the sampler computes what the trainer does, and 1 if the hypothesis is true. Its standard
error says whether the two can be distinguished: an update moves log-probs by less than another
kernel's rounding, and yet the rounding of many tokens does not point along x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CERTAIN = 5.0  # standard errors that θ must be away from 0
ABOUT_ONE = (0.5, 1.5)  # rounding is shared in part: bfloat16 weights, not bfloat16 activations
TOLD_APART = 0.2  # standard error of θ up to which 0 and 1 are told apart: CERTAIN of them make 1
EXPLAINED = 0.5  # share of a gap over the bound that a cause may leave
AS_GOOD = 1.25  # a second cause that leaves at most so much more cannot be told from the first


@dataclass(frozen=True)
class Gap:
    """Differences of log-probs of the same tokens."""

    mean: float  # nats a token, absolute
    worst: float  # nats, of one token
    over: float  # share of tokens that differ by more than the bound
    tokens: int


@dataclass(frozen=True)
class Hypothesis:
    """A possible cause of a gap, and the log-probs that the sampler would give if it were so."""

    name: str
    cause: str  # in words, as the end of "the sampler's log-probs are those of …"
    remedy: str
    logps: Sequence[float]  # [C] nats


@dataclass(frozen=True)
class Weighed:
    """The numbers of one hypothesis."""

    hypothesis: Hypothesis
    slope: float  # θ; 0 is the trainer's own log-probs, 1 the hypothesis
    error: float  # its standard error; infinite if both predict the same
    left: float  # nats a token, the mean gap if the hypothesis is true

    @property
    def told_apart(self) -> bool:
        """Tell whether the probe could decide between it and the trainer's own log-probs."""
        return self.error <= TOLD_APART

    @property
    def holds(self) -> bool:
        """Tell whether θ is about 1, and surely not 0."""
        low, high = ABOUT_ONE
        return low <= self.slope <= high and self.slope >= CERTAIN * self.error

    def as_dict(self) -> dict:
        """Return its numbers for a record."""
        error = self.error if math.isfinite(self.error) else None
        return {"slope": self.slope, "error": error, "left": self.left}


@dataclass(frozen=True)
class Verdict:
    """A gap, and its cause where one was found."""

    gap: Gap
    bound: float
    weighed: tuple[Weighed, ...]  # the likeliest first
    causes: tuple[Weighed, ...]  # several only where they cannot be told apart

    @property
    def fine(self) -> bool:
        return not self.causes and self.gap.mean <= self.bound


def measure_gap(drawn: Sequence[float], trained: Sequence[float], bound: float) -> Gap:
    """Compare the sampler's log-probs with the trainer's, token by token.

    Args:
      drawn, trained: [C] nats.
      bound: nats a token.
    """
    apart = [abs(a - b) for a, b in zip(drawn, trained, strict=True)]
    count = len(apart)
    return Gap(
        math.fsum(apart) / count, max(apart), sum(each > bound for each in apart) / count, count
    )


def weigh(drawn: Sequence[float], trained: Sequence[float], hypothesis: Hypothesis) -> Weighed:
    """Measure θ of a hypothesis, and what it leaves of the gap."""
    y = [a - b for a, b in zip(drawn, trained, strict=True)]
    x = [a - b for a, b in zip(hypothesis.logps, trained, strict=True)]
    left = measure_gap(drawn, hypothesis.logps, 0.0).mean
    power = math.fsum(each * each for each in x)
    if power == 0 or len(x) < 2:
        return Weighed(hypothesis, 0.0, math.inf, left)
    slope = math.fsum(a * b for a, b in zip(x, y, strict=True)) / power
    noise = math.fsum((b - slope * a) ** 2 for a, b in zip(x, y, strict=True)) / (len(x) - 1)
    return Weighed(hypothesis, slope, math.sqrt(noise / power), left)


def find_cause(
    drawn: Sequence[float], trained: Sequence[float], hypotheses: Sequence[Hypothesis], bound: float
) -> Verdict:
    """Weigh every hypothesis, and name those that hold.

    A gap within the bound has a cause too where one holds: weights one update old are within it.
    Over the bound a cause must account for half of the gap.
    """
    gap = measure_gap(drawn, trained, bound)
    weighed = sorted((weigh(drawn, trained, h) for h in hypotheses), key=lambda w: w.left)
    most = EXPLAINED * gap.mean if gap.mean > bound else math.inf
    holding = [w for w in weighed if w.holds and w.left <= most]
    causes = [w for w in holding if w.left <= AS_GOOD * holding[0].left + 1e-6]
    return Verdict(gap, bound, tuple(weighed), tuple(causes))
