"""A reference that follows the policy: every so many updates it becomes α·policy + (1 −
α)·reference.

    ref ← α π + (1 − α) ref        after updates `every`, 2·`every`, …

Source: Gorbatovski et al. 2024, arXiv:2404.09656 (TR-DPO); the two knobs are those of TRL's
`sync_ref_model`, which has it for all weights only. What moves are the parameters that train: of
LoRA the factors A and B each, so that with α < 1 the reference's update is not quite the mix of the
two products. The mix is made in float32, as an update is: in bfloat16 a small α would vanish in the
rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter

from accord.config.schema import MovingConfig
from accord.engine.optimizer import Masters
from accord.forward.choose import Forward
from accord.forward.reference import AdaptersOff, Frozen, Reference
from accord.models.language import CRITIC
from accord.types import Logps, Tree, UsageError

# its tensors in a checkpoint are reference/<name of the parameter that it follows>
KEY = "reference"


class Moving:
    """A copy of what trains, its log-probs, and how it follows."""

    name = "moving"
    moves: ClassVar[bool] = True
    starts_as_policy: ClassVar[bool] = True

    def __init__(self, live: Reference, parameters: dict[str, Parameter], config: MovingConfig):
        """
        Args:
          live: computes with the copy.
          parameters: the copy, by the names of the parameters that it follows.
        """
        self.live, self.config = live, config
        self.copy = Masters(parameters)

    @classmethod
    def of(cls, policy: Forward, config: MovingConfig) -> Moving:
        """Equal to the policy as it is now: a second adapter beside the one that trains, or a
        second network.
        """
        names = [name for name in policy.model.trainable() if not name.startswith(CRITIC)]
        if policy.model.has_adapters:
            return cls(AdaptersOff(policy), policy.model.reference_parameters(names), config)
        frozen = Frozen.copy_of(policy)
        return cls(
            frozen,
            {n: p for n, p in frozen.forward.model.root.named_parameters() if n in names},
            config,
        )

    def logps(self, trees: Sequence[Tree]) -> Logps:
        """[N] log-probs of the trees' completions at this moment, without gradient. Not to be kept
        over an update.
        """
        return self.live.logps(trees)

    @torch.no_grad()
    def follow(self, step: int, policy: Mapping[str, Tensor]) -> None:
        """After update `step` (from 1): mix the policy's float32 masters in, if it is time."""
        if step % self.config.every:
            return
        for name, own in self.copy.masters.items():
            own.mul_(1 - self.config.mix).add_(policy[name], alpha=self.config.mix)
        self.copy.write_back()

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {f"{KEY}/{name}": own.detach() for name, own in self.copy.masters.items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Stand where it stood when these were saved."""
        self.copy.load(tensors, KEY)

    def following(self) -> list[Tensor]:
        """The copy's parameters."""
        return list(self.copy.working.values())


def require_movement(config: MovingConfig | None, steps: int, *, sharded: bool) -> None:
    """Nothing where the reference does not move.

    Raises:
      UsageError: the run ends before an update would see the reference moved, or no process holds
        the weights whole.
    """
    if config is None:
        return
    if sharded:
        raise UsageError(
            "reference = moving mixes whole weights, and each process would hold a part of"
            " them.\nHold them whole (--set train.parallel=replicated), train adapters, or use a"
            " reference that stays."
        )
    if config.every >= steps:
        raise UsageError(
            f"moving.every = {config.every}, and the run makes {steps} updates: its reference would"
            f" never move.\nSynchronise more often (--set moving.every={max(1, steps // 4)}), or"
            " use a reference that stays."
        )
