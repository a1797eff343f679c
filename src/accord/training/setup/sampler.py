"""The choice of what draws the policy's answers: the model in this process, or a server that is
tried before the first update.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Literal

from accord.config.sampler_section import SamplerConfig
from accord.config.schema import Config
from accord.distributed.world import World
from accord.engine.optimizer import Optimizer
from accord.environment.installing import install_line
from accord.forward.choose import Forward
from accord.rollouts.mismatch import Mismatch
from accord.rollouts.prompts import PromptSet
from accord.runs.display import Display
from accord.runs.files import writing
from accord.sampling.local import LocalSampler
from accord.sampling.sampler import Sampler
from accord.types import Finding, UsageError

PROBED = 6  # prompts of a probe
RECORD = "sampler.jsonl"  # in a run's folder: what each probe found
FOLDER = "policy"  # in a run's folder: the versions that a server reads


def choose_sampler(
    config: Config,
    forward: Forward,
    optimizer: Optimizer,
    prompts: PromptSet,
    world: World,
    display: Display,
    place: Path | None,
) -> tuple[Sampler, list[Finding]]:
    """Make the sampler of a run; a server is tried, and what was found is returned.

    Args:
      place: the run's folder; None if nothing is to be kept there.

    Raises:
      UsageError, Refused: the server cannot draw this policy's answers.
    """
    settings, masters = config.rollout_settings.sampler, optimizer.masters.masters
    if settings is None:
        return LocalSampler.of(forward.model, masters), []
    try:
        from accord.sampling.policy_sync import PolicySync
        from accord.sampling.served_base import find_base
        from accord.sampling.server_client import ServerClient
        from accord.sampling.server_sampler import ServerSampler
    except ImportError as error:
        raise UsageError(
            f"rollouts.sampler needs {error.name}: {install_line('accord[server]')}"
        ) from error
    kind = sync_kind(config, settings)
    client = ServerClient(settings)
    display.phase("sampler", f"trying the server at {client.name}")
    served = world.on_first(lambda: vars(find_base(client, settings.model)))
    folder = _folder(settings, place)
    sync = PolicySync(
        client,
        forward.model,
        masters,
        kind,
        served["name"],
        folder,
        settings.seen_as or str(folder),
    )
    sampler = ServerSampler(
        sync,
        forward,
        world,
        settings,
        sorted(set(prompts.trees), key=len)[:PROBED],
        config.rollout_settings.temperature,
        lambda line: _record(place, line),
        display.line,
        Mismatch.of(config.rollout_settings, forward.bounds.mean).max_gap,
        config.rollout_settings.correction != "none",
        served["longest"],
    )
    if world.first:
        sync.sweep(client.models())
    longest = max(map(len, prompts.trees))
    sampler.require_room(longest, config.rollout_settings.max_new_tokens)
    return sampler, sampler.prove()


def sync_kind(config: Config, settings: SamplerConfig) -> Literal["adapter", "weights"]:
    """Choose how the policy reaches the server, and check that it can.

    Raises:
      UsageError: a way that this run has not.
    """
    lora = config.model.lora
    kind = settings.sync or ("adapter" if lora is not None else "weights")
    wrong = {
        "adapter trains all weights: set rollouts.sampler.sync to weights": (
            kind == "adapter" and lora is None
        ),
        "weights trains adapters: set rollouts.sampler.sync to adapter": (
            kind == "weights" and lora is not None
        ),
        "adapter has DoRA adapters, which vLLM does not compute: --set model.lora.dora=false": (
            lora is not None and lora.dora
        ),
        "weights has sharded weights, which are whole nowhere: --set train.parallel=replicated": (
            kind == "weights" and config.train.parallel == "sharded"
        ),
    }
    for words, is_so in wrong.items():
        if is_so:
            raise UsageError(f"rollouts.sampler.sync = {words.replace(' ', ', and this run ', 1)}.")
    return kind


def _folder(settings: SamplerConfig, place: Path | None) -> Path:
    if settings.folder is not None:
        return Path(settings.folder).expanduser().resolve()
    if place is not None:
        return (place / FOLDER).resolve()
    return Path(tempfile.mkdtemp(prefix="accord-policy-"))  # of a dry run


def _record(place: Path | None, line: dict) -> None:
    if place is not None:
        with writing(place), (place / RECORD).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
