"""A reference that follows the policy: every so many updates it becomes α·policy + (1 −
α)·reference.

    ref ← α π + (1 − α) ref        after updates `every`, 2·`every`, …

Source: Gorbatovski et al. 2024, arXiv:2404.09656 (TR-DPO); the two options are those of TRL's
`sync_ref_model`, which supports only training of all weights. The parameters that train are mixed.
For LoRA these are the factors A and B separately, so with α < 1 the reference's update is not quite
the mix of the two products. The mix is made in float32, like an update: in bfloat16 a small α would
vanish in the rounding.
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
    """A copy of the trainable parameters, its log-probs, and the rule by which it follows."""

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
        """Make a reference equal to the policy as it is now: a second adapter beside the one that
        trains, or a second network.
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

    @property
    def joint(self) -> bool:
        return self.live.joint

    def logps(self, trees: Sequence[Tree]) -> Logps:
        """Compute the [N] log-probs of the trees' completions at this moment, without gradient. Do
        not keep them across an update.
        """
        return self.live.logps(trees)

    @torch.no_grad()
    def follow(self, step: int, policy: Mapping[str, Tensor]) -> None:
        """Mix the policy's float32 masters in after update `step` (from 1), if it is due."""
        if step % self.config.every:
            return
        for name, own in self.copy.masters.items():
            own.mul_(1 - self.config.mix).add_(policy[name], alpha=self.config.mix)
        self.copy.write_back()

    def state(self) -> dict[str, Tensor]:
        """Return the copy's tensors for a checkpoint."""
        return {f"{KEY}/{name}": own.detach() for name, own in self.copy.masters.items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the copy from saved tensors."""
        self.copy.load(tensors, KEY)

    def following(self) -> list[Tensor]:
        """Return the copy's parameters."""
        return list(self.copy.working.values())


def require_movement(config: MovingConfig | None, steps: int, *, sharded: bool) -> None:
    """Check that a moving reference would move; without one, do nothing.

    Raises:
      UsageError: the run ends before an update would use a moved reference, or no process holds
        the whole weights.
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
