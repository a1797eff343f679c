"""The rewards of a run, and the processes that hold their models."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from accord.config.schema import Config
from accord.distributed.world import World
from accord.engine.memory import free
from accord.models.hub import local_folder
from accord.rewards.load import load_rewards, model_names, permitted_weak
from accord.rewards.reward import Weighted
from accord.types import Finding, UsageError

# share of the free memory that copies of reward models may take; the rest is for the run
ROOM = 0.5


def rewards_of(
    config: Config, world: World, device: torch.device
) -> tuple[Weighted, Weighted | None, list[Finding]]:
    """Load the rewards to train on and the second judgement of held-out answers; report where
    their models are, and what is known of these.

    Raises:
      UsageError: a reward, or an option of one, is unknown; or there is no model to place.
    """
    settings = config.rollout_settings
    names = model_names([*settings.rewards, *settings.gold])
    if settings.reward_models != "auto" and not names:
        raise UsageError(
            f"rollouts.reward_models = {settings.reward_models} would do nothing: no reward is a"
            " model. Leave it out."
        )
    placed, keep = _placed(names, settings.reward_models, world, device)

    def load(specs: list[str], options: dict[str, dict[str, Any]]) -> Weighted:
        return load_rewards(specs, permitted_weak(specs, options, config.allow), keep=keep)

    reward = load(settings.rewards, settings.reward_options)
    gold = load(settings.gold, settings.gold_options) if settings.gold else None
    return reward, gold, [*placed, *_known(reward, gold)]


def _placed(
    names: Sequence[str], wanted: str, world: World, device: torch.device
) -> tuple[list[Finding], Callable | None]:
    """Decide which processes hold the reward models; return how they are kept, or None for a copy
    in each process.
    """
    if world.size == 1 or not names:
        return [], None
    size = sum(_bytes(name) for name in names)
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", world.size)) if device.type != "cuda" else 1
    room = ROOM * min(world.gather(free(device) / beside))
    copies = wanted == "each" or (wanted == "auto" and size <= room)
    where = (
        "a copy in each process"
        if copies
        else "in the first process, which scores the answers of all; the others wait"
    )
    says = (
        f"reward models: {size / 1e9:.2f} GB on disk, {where} (copies may take"
        f" {room / 1e9:.2f} GB of each)"
    )
    evidence = {"bytes": size, "room": room, "copies": copies}
    found = [Finding("rewards.placed", "ok", says, evidence)]
    if copies:
        return found, None
    from accord.rewards.placed import OnFirst

    return found, partial(OnFirst.of, world)


def _bytes(name: str) -> int:
    return sum(file.stat().st_size for file in local_folder(name).glob("*.safetensors"))


def _known(reward: Weighted, gold: Weighted | None) -> list[Finding]:
    """Report what is known of each reward model's own held-out accuracy."""
    notes = [*reward.notes, *(gold.notes if gold is not None else [])]
    return [
        Finding("rewards.model", "warning" if mark == "!" else "note", says) for mark, says in notes
    ]
