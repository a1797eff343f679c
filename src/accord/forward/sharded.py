"""All weights, sharded over the ranks (FSDP2, torch.distributed.fsdp.fully_shard): no rank holds
them whole.

Parameters are gathered block by block while a pass goes through them, and let go behind it;
gradients are added up over the ranks in float32 and scattered. Each rank keeps the float32 masters
and AdamW's moments of its own part.

Zhao et al. 2023, arXiv:2304.11277 (FSDP); the sum over ranks is not divided, since losses already
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from accord.distributed.world import World
from accord.errors import first_line
from accord.forward.choose import Forward
from accord.forward.logps import PATHS, TokenLogps
from accord.models.language import LanguageModel
from accord.models.load import load
from accord.types import Tree, UsageError


def choose_parallel(
    wanted: str, world: World, *, adapters: bool, whole_tensors: bool = False
) -> bool:
    """Decide whether the weights are to be sharded.

    Args:
      whole_tensors: the optimizer cannot update a part of a tensor.

    Raises:
      UsageError: sharding asked for where adapters train: they are small, and their base would be
        gathered for nothing.
    """
    if wanted == "sharded" and adapters:
        raise UsageError(
            "train.parallel = sharded is for training all weights (--all-weights). "
            "Adapters are small: every process holds them whole. Leave it at auto."
        )
    return world.size > 1 and not adapters and not whole_tensors and wanted != "replicated"


class _Joint(nn.Module):
    """The root of what is sharded: the whole way from trees to log-probs.

    The head's weights are used outside the network's own forward pass. Inside this one, FSDP has
    gathered them, and gathers them again for the backward pass.
    """

    def __init__(self, model: LanguageModel, path: str):
        super().__init__()
        self.network = model.network
        self.model, self.path = model, path

    def forward(self, trees: Sequence[Tree]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        tokens = PATHS[self.path](self.model, trees)
        return tokens.values, tokens.entropy, tokens.owner, tokens.count


@dataclass(frozen=True)
class Sharded(Forward):
    """A forward path whose every call is a joint one: all ranks must make it, each with trees of
    its own.
    """

    joint: nn.Module

    def __call__(self, trees: Sequence[Tree]) -> TokenLogps:
        return TokenLogps(*self.joint(trees))


def shard(forward: Forward, world: World) -> tuple[Sharded, World]:
    """Shard the model in place; return the forward path through it, and the world whose ranks go in
    lockstep from now on.

    Raises:
      UsageError: FSDP does not take this network.
    """
    model = forward.model
    mesh = init_device_mesh(model.device.type, (world.size,))
    policy = MixedPrecisionPolicy(reduce_dtype=torch.promote_types(model.dtype, torch.float32))
    joint = _Joint(model, forward.path)
    try:
        for module in (*blocks(model), joint):
            fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
    except (ValueError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"{model.source} cannot be sharded: {first_line(error)}\n"
            "Hold it whole in every process: --set train.parallel=replicated"
        ) from error
    for module in joint.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            # gloo has no sum that also scales
            module.set_force_sum_reduction_for_comms(True)
    path = Sharded(
        model, forward.path, forward.reason, forward.worst, joint, rounding=forward.rounding
    )
    return path, replace(world, sharded=True)


def blocks(model: LanguageModel) -> list[nn.Module]:
    """List the decoder layers, each gathered on its own: the list of modules that holds most of the
    weights.
    """
    lists = [
        module
        for module in model.trunk.modules()
        if isinstance(module, nn.ModuleList) and len(module)
    ]
    return list(
        max(lists, key=lambda found: sum(p.numel() for p in found.parameters()), default=[])
    )


# ---------------------------------------------------------------- parts and wholes


def local(tensor: Tensor) -> Tensor:
    """Return this rank's part of a sharded tensor; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(part: Tensor, like: Tensor) -> Tensor:
    """Gather a tensor sharded as `like` is from the ranks' parts: on the first rank, and there in
    main memory.
    """
    if not isinstance(like, DTensor):
        return part
    pieces = DTensor.from_local(
        part,
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )
    full = pieces.full_tensor()
    return full.cpu() if dist.get_rank() == 0 else full.new_empty(0)


def part(full: Tensor, like: Tensor) -> Tensor:
    """Return this rank's part of a tensor that is to be sharded as `like` is; the inverse of
    `whole`.
    """
    if not isinstance(like, DTensor):
        return full
    return distribute_tensor(
        full.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    ).to_local()


@torch.no_grad()
def whole_model(model: LanguageModel, world: World) -> LanguageModel:
    """Return the trained model with all its weights, on the first rank.

    Where nothing is sharded, this is the model itself.
    """
    if not world.sharded:
        return model
    tensors = {name: whole(local(p), p) for name, p in model.network.named_parameters()}
    if not world.first:
        return model
    plain = load(str(model.folder), dtype=str(model.dtype).removeprefix("torch."), device="cpu")
    for name, p in plain.network.named_parameters():
        p.copy_(tensors[name])
    return replace(plain, source=model.source)
