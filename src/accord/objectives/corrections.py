"""Importance weights of tokens that a sampler drew with other probabilities than the trainer's.

    ρ_t = π_trainer(y_t | …) / π_sampler(y_t | …)      both by the weights that drew the answer

A sampler with kernels, a dtype or a cache of its own draws from a distribution that is not quite
the policy's. Its answers are then another policy's, and the gradient is biased by as much. A weight
for each token makes up for it; a bound on the weight keeps its variance finite, at the price of
some of the bias.

    tis     min(ρ_t, C)                                truncated importance sampling, C = 2
    icepop  ρ_t where α ≤ ρ_t ≤ β, else 0              tokens that are too far apart are left out
    mask    1 where exp(mean |log ρ|) ≤ C, else 0      so are whole answers, by the mean over their
                                                       tokens; those that stay are not weighed

TRL 1.16 calls the first two token_truncate and token_mask. Its sequence modes multiply the ratios
of all tokens, so that a long answer is left out for its length; `mask` takes the mean.

A weight multiplies the policy's term of a token's loss, and nothing else: not the KL term, an
entropy bonus or the value head's loss, and no denominator. No gradient is taken through it.

N answers · C their tokens, end to end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.objectives.numerics import summed

# log-ratios [C], tokens of each answer [N], lower and upper bound -> weights [C]
Weigh = Callable[[Tensor, Tensor, float, float], Tensor]


@dataclass(frozen=True)
class Correction:
    """One row: a way to weigh tokens, and its usual bounds."""

    weigh: Weigh
    high: float  # C or β
    low: float | None  # α; None: there is no lower bound
    source: str


def tis(apart: Tensor, count: Tensor, low: float, high: float) -> Tensor:
    """Truncate the ratio of each token at `high`.

    Source: Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL
    training", fengyao.notion.site/off-policy-rl; Ionides 2008, J. Comput. Graph. Stat. 17.
    """
    return apart.exp().clamp(max=high)


def icepop(apart: Tensor, count: Tensor, low: float, high: float) -> Tensor:
    """Take the ratio of each token within [`low`, `high`], and 0 outside.

    Source: Ling Team 2025, arXiv:2510.18855 (IcePop), with α = .5 and β = 5.
    """
    ratio = apart.exp()
    return torch.where((ratio >= low) & (ratio <= high), ratio, 0.0)


def mask(apart: Tensor, count: Tensor, low: float, high: float) -> Tensor:
    """Leave out the answers whose log-probs differ by more than log `high` in the mean over their
    tokens, in either direction.

    Source: geometric rejection as in verl's rollout correction (seq_mean), of absolute values.
    """
    near = summed(apart.abs(), count) / count <= torch.tensor(high, dtype=torch.float64).log()
    return near.to(apart.dtype).repeat_interleave(count)


CORRECTIONS: dict[str, Correction] = {
    "tis": Correction(tis, 2.0, None, "Yao et al. 2025"),
    "mask": Correction(mask, 1.1, None, "verl, seq_mean"),
    "icepop": Correction(icepop, 5.0, 0.5, "Ling Team 2025, arXiv:2510.18855"),
}
