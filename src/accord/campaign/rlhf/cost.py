"""The cost of a phase: time, memory, updates, hyper-parameters, and the models that it had in
memory.

Bytes of models are counted from their weights, in the dtype that they compute in. Resident memory
is the memory of the process after each update. Phases run one after the other in one process, so a
later one may begin with memory that an earlier one's allocator kept; `resident_before` is that
amount.
"""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open

from accord.assess.opened import OpenModel
from accord.campaign.folder import CampaignFolder
from accord.campaign.rlhf.phases import DPO, PPO, REWARD_MODEL, Recipe, knobs
from accord.config.schema import Config
from accord.engine.optimizers import optimizer_of
from accord.models.language import REFERENCE, TRAINED
from accord.models.load import pick_device, pick_dtype
from accord.models.quantized import packed_bytes
from accord.objectives.configured import resolve_objective
from accord.objectives.policy_table import BoundPolicy
from accord.rewards.load import parse_weighted
from accord.runs import checkpoint
from accord.runs.folder import RunFolder


def cost(desk: CampaignFolder, recipe: Recipe, phase: str, config: Config, name: str) -> dict:
    """Sum up the cost of one finished phase; `name` is that of its stages."""
    run = RunFolder(config.run_folder)
    timings, updates = (
        run.appended("timings.jsonl"),
        [line for line in run.metrics() if "loss" in line],
    )
    begun = [
        entry["resident"]
        for entry in desk.logged()
        if entry["stage"] == name and entry["what"] == "began"
    ]
    return {
        **desk.spent(name),
        "update_seconds": round(sum(line["seconds"] for line in timings), 3),
        "resident_peak": max((line["rss"] for line in timings), default=0),
        "resident_before": max(begun, default=0),
        "gpu_peak": max((line.get("gpu_peak", 0) for line in timings), default=0),
        "updates": len(updates),
        "tokens": updates[-1].get("num_tokens", 0) if updates else 0,
        "hyper_parameters": {"set": recipe.options(phase), "of_the_method": knobs(config)},
    }


def ways(seeds: list[dict]) -> dict:
    """Sum up the cost of each way from the tuned model, over all its phases: time as the sum over
    seeds, memory as the maximum.

    Args:
      seeds: records of the seeds, each with its phases.
    """
    found = {}
    for way, phases in {"rlhf": (REWARD_MODEL, PPO), "dpo": (DPO,)}.items():
        rows = [one["phases"][phase] for one in seeds for phase in phases if phase in one["phases"]]
        if not rows:
            continue
        one = [seeds[0]["phases"][phase] for phase in phases]
        held = [row["models"] for row in rows if "models" in row]
        found[way] = {
            "phases": len(phases),
            "seconds": round(sum(row["seconds"] for row in rows), 3),
            "killed": sum(row["killed"] for row in rows),
            "updates": sum(row["updates"] for row in one),
            "resident_peak": max(row["resident_peak"] for row in rows),
            "model_bytes": max(models["bytes"] for models in held),
            "networks": max(models["networks"] for models in held),
            "hyper_parameters_set": sum(len(row["hyper_parameters"]["set"]) for row in one),
            "hyper_parameters_of_the_methods": sum(
                len(row["hyper_parameters"]["of_the_method"]) for row in one
            ),
        }
    return found


def in_memory(opened: OpenModel, config: Config) -> dict:
    """List the models that a policy's run holds at once, role -> bytes, and count the whole
    networks among them.

    Args:
      opened: the model of the finished run.
    """
    model, objective = opened.model, resolve_objective(config)
    adapters = dict.fromkeys((TRAINED, REFERENCE), 0)
    network = packed_bytes(model.network)
    shapes: dict[str | None, list[tuple[int, ...]]] = {TRAINED: [], REFERENCE: [], None: []}
    for name, parameter in model.root.named_parameters():
        size = parameter.numel() * parameter.element_size()
        adapter = next((kind for kind in adapters if f".{kind}" in name and "lora_" in name), None)
        shapes[adapter].append(tuple(parameter.shape))
        if adapter is None:
            network += size
        else:
            adapters[adapter] += size
    trained = shapes[TRAINED] or shapes[None]
    kind = _reference_kind(config)
    # a whole network of its own
    second = kind == "frozen" or (kind == "moving" and not model.has_adapters)
    beside = adapters[REFERENCE] if kind in ("adapter_off", "moving") else 0
    out = {"policy": network + adapters[TRAINED], "reference": network if second else beside}
    if isinstance(objective, BoundPolicy) and objective.critic:
        out["value head"] = 4 * (model.head.weight.shape[1] + 1)
    specs = config.rollouts.rewards if config.rollouts is not None else []
    rewards = [
        folder
        for name, _ in map(parse_weighted, specs)
        if (folder := Path(name).expanduser()).is_dir()
    ]
    if rewards:
        out["reward model"] = sum(_weights(folder, config) for folder in rewards)
    return {
        "roles": out,
        "bytes": sum(out.values()),
        "networks": 1 + second + len(rewards),
        "optimizer": sum(map(optimizer_of(config.train).saved_bytes_of, trained)),
    }


def _reference_kind(config: Config) -> str:
    """Return the reference that the run settled on. Adapters that are switched off take no memory,
    and cached log-probs next to none.
    """
    return checkpoint.load(RunFolder(config.run_folder).checkpoints).state["identity"]["reference"]


def _weights(folder: Path, config: Config) -> int:
    """Count the bytes of a model folder's weights in the dtype that it is loaded in."""
    size = pick_dtype("auto", pick_device(config.model.device)).itemsize
    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as shard:
            for name in shard.keys():  # noqa: SIM118 (no mapping)
                count = 1
                for length in shard.get_slice(name).get_shape():
                    count *= length
                total += count * size
    return total
