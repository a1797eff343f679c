"""The table of estimates that turn rewards into advantages, by the names in
`accord.objectives.policy_table`; and the numbers carried from batch to batch.

    gae                       PPO: KL in the reward at each token, a value head, GAE, whitening
    group, group_unscaled     GRPO, DAPO; Dr. GRPO: less the prompt's mean
    leave_one_out             RLOO: less the mean of the prompt's other answers, KL in the reward
    baseline                  REINFORCE: less the mean of former batches, KL in the reward
    whitened                  REINFORCE++: KL in the reward at each token, scaled over the batch
    group_whitened            REINFORCE++ with baseline: less the prompt's mean, scaled over the
                              batch

N answers · C their tokens, end to end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from accord.objectives.numerics import summed
from accord.rollouts.advantages import (
    AdaptiveKL,
    RunningBaseline,
    gae,
    group_advantages,
    kl_penalised,
    leave_one_out,
    spread_over_tokens,
    whiten,
)


@dataclass(frozen=True)
class Answers:
    """A batch of sampled answers, before any update."""

    rewards: Tensor  # [N]
    groups: Tensor  # [N] number of each answer's prompt, from 0
    count: Tensor  # [N] tokens
    logps: Tensor  # [C] nats, under the policy that gave them
    reference: Tensor  # [C]
    expected: Tensor | None = None  # [C] the value head's estimates
    behind: Tensor | None = None  # [N] its estimates behind the answers; 0 for those that ended

    @property
    def kl(self) -> Tensor:
        """Compute the [N] log-ratio of each answer; its mean is an unbiased estimate of
        KL(π‖ref).
        """
        return summed(self.logps - self.reference, self.count)


@dataclass(frozen=True)
class CarryOver:
    """The numbers that one batch hands to the next."""

    beta: float | None = None  # the KL weight, if it follows a target
    baseline: float | None = None  # mean reward of the batches so far

    def as_dict(self) -> dict:
        return asdict(self)


Estimate = Callable[[Answers, Mapping, CarryOver], tuple[Tensor, Tensor | None, CarryOver]]


def estimate_advantages(
    name: str, answers: Answers, settings: Mapping, carried: CarryOver
) -> tuple[Tensor, Tensor | None, CarryOver]:
    """Compute advantages [C], the value head's targets ([C] or None), and what the next batch
    needs.

    Args:
      settings: the objective's own, see `BoundPolicy.settings`.
    """
    return ESTIMATES[name](answers, settings, carried)


def _gae(a: Answers, settings: Mapping, carried: CarryOver) -> tuple[Tensor, Tensor, CarryOver]:
    """Estimate PPO's advantages. An answer that was cut counts as ended unless
    `rollouts.overlong: value` says otherwise: its reward is that of the text as cut, and the value
    behind it is 0. The limit is a part of the task; the value head's estimate behind it would be of
    a reward that is never given, on top of the one that was (Pardo et al. 2018, arXiv:1712.00378,
    §2: a limit of the task's own). With `value` the estimate stands in place of the reward (§3).
    """
    assert a.expected is not None, "GAE needs what a value head says of each token"
    beta = settings["beta"] if carried.beta is None else carried.beta
    rewards = kl_penalised(a.rewards, a.logps, a.reference, a.count, beta)
    advantages, returns = gae(
        rewards, a.expected, a.count, gamma=settings["gamma"], lam=settings["lam"], after=a.behind
    )
    if settings["whitening"] == "advantages":
        advantages = whiten(advantages)
    if settings["kl_target"] is not None:
        carried = replace(
            carried, beta=AdaptiveKL(beta, settings["kl_target"]).after(a.kl.mean().item()).beta
        )
    return advantages, returns, carried


def _group(a: Answers, settings: Mapping, carried: CarryOver) -> tuple[Tensor, None, CarryOver]:
    return spread_over_tokens(group_advantages(a.rewards, a.groups), a.count), None, carried


def _group_unscaled(
    a: Answers, settings: Mapping, carried: CarryOver
) -> tuple[Tensor, None, CarryOver]:
    return (
        spread_over_tokens(group_advantages(a.rewards, a.groups, scale="none"), a.count),
        None,
        carried,
    )


def _leave_one_out(
    a: Answers, settings: Mapping, carried: CarryOver
) -> tuple[Tensor, None, CarryOver]:
    return (
        spread_over_tokens(leave_one_out(a.rewards - settings["beta"] * a.kl, a.groups), a.count),
        None,
        carried,
    )


def _baseline(a: Answers, settings: Mapping, carried: CarryOver) -> tuple[Tensor, None, CarryOver]:
    rewards = a.rewards - settings["beta"] * a.kl
    known = RunningBaseline(
        carried.baseline or 0.0, settings["decay"], carried.baseline is not None
    )
    return (
        spread_over_tokens(known.advantages(rewards), a.count),
        None,
        replace(carried, baseline=known.after(rewards).value),
    )


def _whitened(a: Answers, settings: Mapping, carried: CarryOver) -> tuple[Tensor, None, CarryOver]:
    """Sum the token rewards of this token and those that follow: GAE with γ = λ = 1 and nothing
    expected.
    """
    rewards = kl_penalised(a.rewards, a.logps, a.reference, a.count, settings["beta"])
    to_come, _ = gae(rewards, torch.zeros_like(rewards), a.count, gamma=1.0, lam=1.0)
    return whiten(to_come), None, carried


def _group_whitened(
    a: Answers, settings: Mapping, carried: CarryOver
) -> tuple[Tensor, None, CarryOver]:
    apart = group_advantages(a.rewards, a.groups, scale="none")
    return whiten(spread_over_tokens(apart, a.count)), None, carried


ESTIMATES: dict[str, Estimate] = {
    "gae": _gae,
    "group": _group,
    "group_unscaled": _group_unscaled,
    "leave_one_out": _leave_one_out,
    "baseline": _baseline,
    "whitened": _whitened,
    "group_whitened": _group_whitened,
}


def flat(rewards: Tensor, groups: Tensor) -> int:
    """Count the groups whose rewards are all equal: a comparison within such a group teaches
    nothing.
    """
    number = int(groups.max()) + 1
    low = torch.full((number,), torch.inf, dtype=rewards.dtype).scatter_reduce(
        0, groups, rewards, "amin"
    )
    high = torch.full((number,), -torch.inf, dtype=rewards.dtype).scatter_reduce(
        0, groups, rewards, "amax"
    )
    return int((low == high).sum())
