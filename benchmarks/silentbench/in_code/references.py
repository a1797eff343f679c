"""A reference that is not the model before training."""

from __future__ import annotations

from dataclasses import replace

import torch

from accord.forward import reference
from accord.training.setup import offline
from accord.types import Finding
from benchmarks.silentbench.fault import Fault
from benchmarks.silentbench.in_code.patches import during
from benchmarks.silentbench.in_code.trl_patches import _roll_reference, trl_loss, trl_made
from benchmarks.silentbench.world import World


def edited_reference(world: World) -> None:
    right = reference.Frozen.copy_of

    def copy_of(policy):
        frozen = right(policy)
        with torch.no_grad():
            frozen.forward.model.network.model.layers[0].mlp.up_proj.weight.mul_(1.01)
        return frozen

    world.options["reference"] = "frozen"
    world.patch(reference.Frozen, "copy_of", staticmethod(copy_of))


def shared_reference(world: World) -> None:
    """The "copy" is the policy itself."""
    world.options |= {"reference": "frozen", "lora": False}
    world.patch(reference.Frozen, "copy_of", staticmethod(lambda policy: reference.Frozen(policy)))


def cache_forgotten(world: World) -> None:
    """The cache is announced, and the live policy is asked all the same."""
    world.options |= {"reference": "cached", "lora": False}
    world.patch(
        offline,
        "cached_reference",
        lambda learner, *_, **__: (learner.reference, Finding("reference", "ok", "never filled")),
    )


def cache_misaligned(world: World) -> None:
    """The log-probs of a few rows stand under one another's key."""
    right = reference.Cached.recheck

    def recheck(self, *given):
        found = right(self, *given)
        keys = sorted(self.table)
        values = [self.table[key] for key in keys]
        for key, value in zip(keys, values[1:] + values[:1], strict=True):
            self.table[key] = (value[0], self.table[key][1])
        return found

    world.options["reference"] = "cached"
    world.patch(reference.Cached, "recheck", recheck)


def cache_stale(world: World) -> None:
    """The cache holds what another model said of the same rows."""
    world.options["reference"] = "cached"
    right = reference.Cached.fill

    def fill(self, live, trees, *rest):
        done = right(self, live, trees, *rest)
        self.table |= {key: (total * 1.05, count) for key, (total, count) in self.table.items()}
        return done

    world.patch(reference.Cached, "fill", fill)


def stray_norm(world: World) -> None:
    right = offline.make_trainable

    def also(config, model):
        weights = right(config, model)
        model.network.model.norm.weight.requires_grad_(True)
        return weights

    world.options["reference"] = "adapter_off"
    world.patch(offline, "make_trainable", also)


def base_moves(world: World, run) -> None:
    """Frozen weights change while training, and with them the reference."""
    with torch.no_grad():
        run.ready.model.network.get_input_embeddings().weight.mul_(1.001)


def dropping_reference(world: World) -> None:
    right = reference.AdaptersOff.logps

    def logps_of(self, trees):
        found = right(self, trees)
        return replace(found, sum=found.sum * (1 + 1e-3 * torch.rand(())))

    world.options["reference"] = "adapter_off"
    world.patch(reference.AdaptersOff, "logps", logps_of)


FAULTS = (
    Fault("16", "the reference is of other weights", "other weights", edited_reference),
    Fault(
        "16",
        "the reference shares its weights with the policy",
        "reference moves|share weights|same object|same instance",
        shared_reference,
        trl_made(lambda trainer: setattr(trainer, "ref_model", trainer.model), _peft=False),
    ),
    Fault(
        "18",
        "the cache was never filled: the reference is the policy",
        "must not move",
        cache_forgotten,
    ),
    Fault(
        "20",
        "cached log-probs under the wrong rows",
        "stale or misaligned",
        cache_misaligned,
        trl_made(lambda trainer: _roll_reference(trainer), precompute_ref_log_probs=True),
    ),
    Fault("20", "cached log-probs of another model", "stale or damaged", cache_stale),
    Fault(
        "18",
        "a norm trains beside the adapters",
        "norm.weight",
        stray_norm,
        trl_made(
            lambda trainer: trainer.model.base_model.model.model.norm.weight.requires_grad_(True)
        ),
    ),
    Fault(
        "18",
        "frozen weights move while training",
        "does not train, and has changed",
        during(4, base_moves),
        trl_loss(
            lambda loss, trainer: (
                trainer.model.get_input_embeddings().weight.data.mul_(1.001) is None or loss
            )
        ),
    ),
    Fault(
        "19",
        "dropout in the reference alone",
        "two passes of the reference differ|policy and reference differ",
        dropping_reference,
    ),
)
