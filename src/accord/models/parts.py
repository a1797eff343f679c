"""A network whose weights lie in parts on several processes (FSDP2,
torch.distributed.fsdp.fully_shard): no rank holds them whole.

Parameters are gathered block by block while a pass goes through them, and let go behind it;
gradients are added up over the ranks in float32 and scattered. Between processes on CPUs each
weight is gathered straight into its place: FSDP's own way goes through a buffer of the unit's size,
and gloo's through another, which is kept until the next unit. So every pass is a joint one: all
ranks make it, in the same order. `network(...)` is one; the way from a trunk to a head of its own
is one inside `jointly`.

Zhao et al. 2023, arXiv:2304.11277 (FSDP); the sum over ranks is not divided, since losses already
are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from accord.compat import set_gathering
from accord.errors import first_line
from accord.models.lean_layers import make_lean
from accord.types import UsageError

T = TypeVar("T")
JOINT = "joint_pass"  # the method of a sharded network whose calls FSDP treats as a forward pass


def cut(network: nn.Module, source: str, device: torch.device, size: int) -> None:
    """Shard a network in place over all ranks: each decoder layer on its own, and the rest.

    Its parameters may be on the meta device: those of the parts are then there as well.

    Args:
      source: the model as the user named it.
      size: the number of ranks.

    Raises:
      UsageError: FSDP does not take this network.
    """
    # by this name PEFT knows that a layer still computes with its whole weight
    mesh = init_device_mesh(device.type, (size,), mesh_dim_names=("fsdp",))
    dtype = next(p.dtype for p in network.parameters())
    policy = MixedPrecisionPolicy(reduce_dtype=torch.promote_types(dtype, torch.float32))
    try:
        for module in (*blocks(network), network):
            fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
    except (ValueError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"{source} cannot be sharded: {first_line(error)}\n"
            "Hold it whole in every process: --set train.parallel=replicated"
        ) from error
    for unit in units(network):
        unit.set_gradient_divide_factor(1.0)
        # gloo has no sum that also scales
        unit.set_force_sum_reduction_for_comms(True)
    setattr(network, JOINT, lambda work: work())
    register_fsdp_forward_method(network, JOINT)


def blocks(network: nn.Module) -> list[nn.Module]:
    """List the decoder layers, each gathered on its own: the list of modules that holds most of the
    weights.
    """
    lists = [
        module for module in network.modules() if isinstance(module, nn.ModuleList) and len(module)
    ]
    return list(
        max(lists, key=lambda found: sum(p.numel() for p in found.parameters()), default=[])
    )


def units(network: nn.Module) -> list[FSDPModule]:
    """List the modules whose weights are gathered at once: the whole network is the last."""
    found = [module for module in network.modules() if isinstance(module, FSDPModule)]
    return [*found[1:], *found[:1]]


def jointly(network: nn.Module, work: Callable[[], T]) -> T:
    """Do work that reads weights outside the network's own forward pass; all ranks do it.

    Args:
      work: returns a tuple of tensors.
    """
    joint: Any = getattr(network, JOINT)
    return joint(work)


def make_parts_lean(network: nn.Module) -> None:
    """Replace layers as `make_lean` does, with one unit's weights gathered at a time; all ranks do
    it.
    """
    for unit in units(network):
        unit.unshard()
        assert isinstance(unit, nn.Module)
        make_lean(unit)
        unit.reshard()


# ---------------------------------------------------------------- gathering


def gather_into(full: Tensor, own: Tensor, group: dist.ProcessGroup) -> None:
    """Write every rank's rows into one tensor, each straight into their place; all ranks do it.

    gloo's all_gather needs the whole a second time.

    Args:
      full: what is written, cut over the ranks as torch.chunk cuts it.
      own: this rank's rows.
    """
    rank = dist.get_rank(group)
    jobs = []
    for source, rows in enumerate(full.chunk(dist.get_world_size(group))):
        if source == rank:
            rows.copy_(own)
        jobs.append(dist.broadcast(rows, group=group, group_src=source, async_op=True))
    for job in jobs:
        job.wait()


def gather_in_place(network: nn.Module) -> None:
    """Let each weight of a network that was cut be gathered by `gather_into`, where processes are
    joined on CPUs and its rows fall into equal parts; before the first pass.
    """
    for p in network.parameters():
        # FSDP pads uneven parts, on some of the ranks only
        if isinstance(p, DTensor) and p.device.type == "cpu" and not len(p) % p.device_mesh.size():
            gathering = _InPlace(local(p.detach()), p.shape)
            set_gathering(p, gathering.before, gathering.after)


class _InPlace:
    """The two functions that FSDP asks around its own gathering: it is given one number a rank, and
    the weight is gathered behind it.
    """

    def __init__(self, own: Tensor, shape: torch.Size):
        self.own, self.shape = own, shape

    def before(self, mesh: DeviceMesh) -> tuple[tuple[Tensor, ...], DeviceMesh]:
        return (self.own.reshape(-1)[:1],), mesh

    def after(self, numbers, mesh: DeviceMesh, dtype: torch.dtype, *, out: Tensor | None = None):
        # .data: backward compares the versions of what it kept, and the content is what it was
        full = self.own.new_empty(self.shape) if out is None else out.data
        gather_into(full, self.own, mesh.get_group())
        return (full, (full,)) if out is None else None


# ---------------------------------------------------------------- parts and wholes


def local(tensor: Tensor) -> Tensor:
    """Return this rank's part of a sharded tensor; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor on every rank, which must all ask; return any other as it is."""
    return _full(local(tensor), tensor) if isinstance(tensor, DTensor) else tensor


def _full(part: Tensor, like: DTensor) -> Tensor:
    """Gather a tensor cut as `like` is from the ranks' parts."""
    full = part.new_empty(like.shape)
    gather_into(full, part.detach(), like.device_mesh.get_group())
    return full


def whole(part: Tensor, like: Tensor) -> Tensor:
    """Gather a tensor sharded as `like` is from the ranks' parts: on the first rank, and there in
    main memory.
    """
    if not isinstance(like, DTensor):
        return part
    full = _full(part, like)
    return full.cpu() if dist.get_rank() == 0 else full.new_empty(0)


def assembled(part: Tensor, like: DTensor) -> DTensor:
    """Return the sharded tensor that this rank's part belongs to, cut as `like` is."""
    return DTensor.from_local(
        part,
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )


def part(full: Tensor, like: Tensor) -> Tensor:
    """Return this rank's part of a tensor that is to be sharded as `like` is; the inverse of
    `whole`.
    """
    if not isinstance(like, DTensor):
        return full
    return distribute_tensor(
        full.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    ).to_local()


def all_finite(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, bool]:
    """Tell of each named tensor whether all its entries are finite, on every rank's part of it."""
    found, sharded = {}, False
    for name, tensor in tensors:  # one at a time: quantised ones are made when they are looked at
        # in pieces: the test itself needs twice what it looks at
        pieces = local(tensor.detach()).reshape(-1).split(1 << 24)
        found[name] = all(bool(torch.isfinite(piece).all()) for piece in pieces)
        sharded = sharded or isinstance(tensor, DTensor)
    if not sharded:
        return found
    flags = torch.tensor(list(found.values())).long()
    dist.all_reduce(flags, op=dist.ReduceOp.MIN)
    return dict(zip(found, flags.bool().tolist(), strict=True))
