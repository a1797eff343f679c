"""A network or a forward path that computes something else."""

from __future__ import annotations

import torch

from accord.forward import logps
from benchmarks.silentbench.fault import Fault
from benchmarks.silentbench.in_code.patches import during, later, with_path
from benchmarks.silentbench.in_code.trl_patches import trl_made
from benchmarks.silentbench.world import World


def dropout_on(world: World, chosen) -> None:
    def drop(module, args, output):
        first = output if torch.is_tensor(output) else output[0]
        dropped = torch.nn.functional.dropout(first, 0.1)
        return dropped if torch.is_tensor(output) else (dropped, *output[1:])

    chosen.model.trunk.layers[0].register_forward_hook(drop)


def adapters_skipped(world: World, chosen) -> None:
    def skipping(right, model, trees):
        with model.as_reference():
            return right(model, trees)

    with_path(world, chosen, skipping)


def skipped_later(world: World, run) -> None:
    """From now on the path computes the base, as a stale fused kernel would:
    nothing else changes.
    """
    adapters_skipped(world, run.ready.learner.forward)


def head_detached(world: World, chosen) -> None:
    """The fast head gives no gradient to its weights."""
    right = logps.token_logps

    def detached(hidden, targets, head, chunk=None):
        values, entropy = right(hidden, targets, _Still(head))
        return values, entropy

    world.patch(logps, "token_logps", detached)


class _Still:
    def __init__(self, head):
        self._head = head
        self.module = torch.nn.Linear(1, 1, bias=False)
        self.module.weight = torch.nn.Parameter(head.module.weight.detach(), requires_grad=False)

    def __getattr__(self, name: str):
        return getattr(self._head, name)


def low_precision_sums(world: World, chosen) -> None:
    right = logps.TokenLogps._sum
    world.patch(
        logps.TokenLogps, "_sum", lambda self, values: right(self, values).bfloat16().float()
    )


FAULTS = (
    Fault(
        "19",
        "dropout in the network",
        "two forwards of one batch differ",
        later(dropout_on),
        trl_made(
            lambda trainer: setattr(
                trainer.model.base_model.model.model.layers[0].self_attn, "attention_dropout", 0.1
            )
        ),
    ),
    Fault(
        "24",
        "the path skips the adapters",
        "skips|is not what is computed",
        later(adapters_skipped),
    ),
    Fault(
        "24",
        "the path skips the adapters from the fifth update on",
        "skips what trains|the forward path differs from the bare network",
        during(5, skipped_later),
    ),
    Fault(
        "24",
        "the fast head gives its weights no gradient",
        "not the one by definition|get no gradient",
        later(head_detached, {"lora": False}),
    ),
    Fault("26", "log-probs summed in bfloat16", "too low a precision", later(low_precision_sums)),
)
