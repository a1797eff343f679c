"""Advantages from rewards: how much better than expected each token was. They are computed for the
whole batch, before any split of it.

All of it is arithmetic on numbers that are known once the answers are sampled and scored; no
gradient flows.

N answers · C their tokens, laid end to end · K answers of one prompt (a group).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from accord.types import UsageError

# added to a group's deviation, as in TRL: a group of nearly equal rewards must not be amplified
SMALLEST_STD = 1e-4


# ---------------------------------------------------------------- where rewards land


@torch.no_grad()
def on_last_token(rewards: Tensor, count: Tensor) -> Tensor:
    """Put the rewards of N answers on the last token of each (its end token, if it ended); 0
    elsewhere. [C]
    """
    out = rewards.new_zeros(int(count.sum()))
    out[count.cumsum(0) - 1] = rewards
    return out


@torch.no_grad()
def kl_penalised(
    rewards: Tensor, logps: Tensor, reference: Tensor, count: Tensor, beta: float
) -> Tensor:
    """Compute the token rewards of RLHF: -β (log π - log ref) at each token, and the answer's
    reward on its last. [C]

    This is k1 in the reward, whose policy gradient is that of β·KL(π‖ref); see
    `objectives.policy_gradient.kl_terms`.

    Args:
      rewards: [N].
      logps, reference: [C] under the policy that sampled and the reference.
      count: [N].

    Source: Ziegler et al. 2019, arXiv:1909.08593, Eq. 2; Ouyang et al. 2022, arXiv:2203.02155, Eq.
    2.
    """
    return on_last_token(rewards, count) - beta * (logps - reference)


@torch.no_grad()
def spread_over_tokens(values: Tensor, count: Tensor) -> Tensor:
    """Repeat one number per answer for each of its tokens: [N] to [C]."""
    return torch.repeat_interleave(values, count)


# ---------------------------------------------------------------- with a value head


@torch.no_grad()
def gae(
    rewards: Tensor,
    values: Tensor,
    count: Tensor,
    *,
    gamma: float = 1.0,
    lam: float = 0.95,
    after: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute generalized advantage estimates and the returns that a value head is to learn, [C]
    each.

        δ_t = r_t + γ V_{t+1} - V_t          A_t = δ_t + γλ A_{t+1}          R_t = A_t + V_t

    Args:
      rewards, values: [C]; V_t is the estimate *before* token t, from its prompt and the tokens
        before it.
      after: [N] the value after the last token: 0 for an answer that ended, V for one that was cut
        off. None: all ended.

    Source: Schulman et al. 2015, arXiv:1506.02438, Eq. 16.
    """
    advantages = torch.zeros_like(rewards)
    start = 0
    for n, length in enumerate(count.tolist()):
        follows = values.new_zeros(()) if after is None else after[n]
        running = values.new_zeros(())
        for t in range(start + length - 1, start - 1, -1):
            running = rewards[t] + gamma * follows - values[t] + gamma * lam * running
            advantages[t], follows = running, values[t]
        start += length
    return advantages, advantages + values


@torch.no_grad()
def whiten(values: Tensor, *, shift: bool = True) -> Tensor:
    """Scale the numbers of the whole batch to variance 1, and move them to mean 0 unless `shift` is
    off. A single number stays as it is.

    They are scaled over every token of every answer at once. Whitened per micro-batch, an answer's
    advantage would depend on its neighbours.

    Source: Ziegler et al. 2019, arXiv:1909.08593, §2.2; Huang et al. 2024, arXiv:2403.17031, §4.
    """
    if len(values) < 2:
        return values
    mean = values.mean()
    scaled = (values - mean) / (values.std() + 1e-8)
    return scaled if shift else scaled + mean


# ---------------------------------------------------------------- without a value head


@torch.no_grad()
def group_advantages(rewards: Tensor, groups: Tensor, *, scale: str = "std") -> Tensor:
    """Subtract the group's mean from each reward, and divide by the group's deviation unless
    `scale` is "none". [N]

    A group whose rewards are all equal teaches nothing: 0.

    Args:
      groups: [N] number of each answer's prompt, from 0.

    Raises:
      UsageError: a group has one answer, and so nothing to compare it with.

    Source: Shao et al. 2024, arXiv:2402.03300, §4.1.2; without the deviation Liu et al. 2025,
    arXiv:2503.20783.
    """
    assert scale in ("std", "none"), scale
    size, mean = _groups(rewards, groups)
    apart = rewards - mean[groups]
    if scale == "none":
        return apart
    square = torch.zeros_like(mean).index_add(0, groups, apart.square())
    return apart / ((square / (size - 1)).sqrt()[groups] + SMALLEST_STD)


@torch.no_grad()
def leave_one_out(rewards: Tensor, groups: Tensor) -> Tensor:
    """Subtract from each reward the mean of the *other* answers of its group: an unbiased baseline
    without a value head. [N]

    Raises:
      UsageError: a group has one answer.

    Source: Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et al.
    2024, arXiv:2402.14740.
    """
    size, mean = _groups(rewards, groups)
    return (rewards - mean[groups]) * (size / (size - 1))[groups]


def _groups(rewards: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the size and the mean reward of each group."""
    size = torch.bincount(groups).to(rewards.dtype)
    if bool((size == 1).any()):
        raise UsageError(
            "A prompt has one answer alone: a group needs two or more to be compared. Sample more"
            " answers a prompt."
        )
    return size, torch.zeros_like(size).index_add(0, groups, rewards) / size


@dataclass(frozen=True)
class RunningBaseline:
    """The mean reward of former batches: a baseline that does not depend on this batch's
    answers.
    """

    value: float = 0.0
    decay: float = 0.9
    seen: bool = False

    def advantages(self, rewards: Tensor) -> Tensor:
        """Subtract the baseline from the [N] rewards; the first batch uses its own mean."""
        return rewards - (self.value if self.seen else rewards.mean())

    def after(self, rewards: Tensor) -> RunningBaseline:
        """Return the baseline for the next batch."""
        mean = rewards.mean().item()
        value = self.decay * self.value + (1 - self.decay) * mean if self.seen else mean
        return RunningBaseline(value, self.decay, True)


# ---------------------------------------------------------------- the weight of the KL term


@dataclass(frozen=True)
class AdaptiveKL:
    """A KL weight that rises while the KL is above its target, and falls while it is below.

        e = clip((KL - target) / target, -0.2, 0.2)          β ← β (1 + 0.1 e)

    Source: Ziegler et al. 2019, arXiv:1909.08593, §2.2.
    """

    beta: float
    target: float  # nats per answer
    rate: float = 0.1
    bound: float = 0.2

    def after(self, kl: float) -> AdaptiveKL:
        """Return the controller for the next batch, after a mean KL of `kl` nats per answer."""
        error = max(-self.bound, min(self.bound, kl / self.target - 1))
        return AdaptiveKL(self.beta * (1 + self.rate * error), self.target, self.rate, self.bound)
