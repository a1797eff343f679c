"""Estimate of the memory that a run will take, made before it starts; and remedies if it is too
much.

    peak ≈ resident bytes now + OVERHEAD · kept bytes per token · tokens of the largest micro-batch
    + head + optimizer + the largest layer of a quantised base, unpacked

"Kept" is measured on a row of the run: the bytes that autograd holds between forward and backward.
A CPU gives no second chance (the kernel kills the process), so the plan is made before the first
update; if an allocation fails nevertheless, the micro-batch budget is halved and the update is
repeated.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from accord.compat import is_out_of_memory as is_out_of_memory  # one rule for decoding too
from accord.config.schema import TrainConfig
from accord.distributed.world import ALONE
from accord.engine.optimizer import Optimizer
from accord.engine.step import UpdateContext
from accord.errors import plural
from accord.forward.choose import Forward
from accord.forward.head import rows_at_once
from accord.forward.layout import pack, tokens_at_most
from accord.forward.shares import shares
from accord.models.parts import local
from accord.models.quantized import largest_dequantized
from accord.models.recompute import recompute_activations
from accord.types import Finding, Tree

# Peak divided by kept bytes: temporaries, and on a CPU the holes in glibc's heap.
# Measured on SmolLM2-135M: kept 0.28, 0.57, 0.69 and (float32) 1.13 GB, peaks 0.7, 1.2, 1.5 and 2.6
# GB over the start. GPU: chosen, not measured.
OVERHEAD = {"cpu": 2.0, "cuda": 1.2}
# float32 [rows, V] tensors at once in the head's backward pass, holes included; on a GPU two in the
# head's dtype, or four where its kernels do not compile: counted, not measured
HEAD_COPIES = {"cpu": 8, "cuda": 4}
ROOM = 0.9  # the share of free memory that may be used
SMALLEST = 64  # tokens: the least that train.micro_tokens may be


@dataclass(frozen=True)
class Estimate:
    """The estimated memory, in bytes."""

    resident: int  # before the first update
    kept_per_token: float
    tokens: int  # unique tokens of the largest micro-batch
    fixed: int  # head, gradients and moments; the largest quantised layer's weights, unpacked
    device: str

    @property
    def peak(self) -> int:
        return int(self.resident + self.growth)

    @property
    def growth(self) -> float:
        return (
            OVERHEAD.get(self.device, OVERHEAD["cuda"]) * self.kept_per_token * self.tokens
            + self.fixed
        )


def estimate(
    forward: Forward, optimizer: Optimizer, batches: Sequence[Sequence[Tree]], budget: int
) -> Estimate:
    """Estimate the peak of a run over these batches with micro-batches of `budget` tokens."""
    model = forward.model
    groups = [group for trees in batches for group in shares(trees, budget, ALONE)[0]]
    largest = sorted(groups, key=lambda group: -tokens_at_most(group))[:4]
    probe = min((tree for tree in largest[0]), key=lambda tree: tree.tokens)
    vocabulary = model.head.weight.shape[0]
    # a working copy in another dtype has a gradient of its own
    own = 0 if model.dtype == torch.float32 else model.dtype.itemsize
    trained = optimizer.update_bytes() + own * optimizer.masters.count
    head = (
        rows_at_once(model.device, vocabulary)
        * vocabulary
        * 4
        * HEAD_COPIES.get(model.device.type, HEAD_COPIES["cuda"])
    )
    return Estimate(
        resident(model.device),
        kept_bytes(forward, [probe]) / pack([probe]).tokens,
        max(pack(group).tokens for group in largest),
        head + trained + largest_dequantized(model.network),
        model.device.type,
    )


def fit_into_memory(
    config: TrainConfig,
    learner: UpdateContext,
    optimizer: Optimizer,
    batches: Sequence[Sequence[Tree]],
) -> Finding:
    """Set the budget of micro-batches so that the run fits, and report how much memory it will
    take.

    If the configured budget does not fit, it is lowered. If not even the longest row fits, layers
    recompute their activations (if train.recompute allows). If that is still too much, the finding
    refuses.

    Args:
      optimizer: before its first update: its state is not there yet.
      batches: some that need as much memory as any of the run.
    """
    model, budget = learner.forward.model, learner.budget
    longest = max(tree.tokens for trees in batches for tree in trees)
    # all ranks must decide alike, or sharded passes hang
    room = ROOM * min(learner.world.gather(free(model.device)))
    if config.recompute == "always":
        recompute_activations(model)
    for recomputing in (False, True):
        if recomputing and (config.recompute != "auto" or not recompute_activations(model)):
            break
        wanted = budget.tokens
        needed = estimate(learner.forward, optimizer, batches, wanted)
        fits = fitting(needed, room, wanted)
        if fits is not None and (fits == wanted or fits >= longest):
            budget.tokens = fits
            return _finding(needed, room, wanted, fits, recomputing)
    return _refused(needed, room, longest)


def _finding(needed: Estimate, room: float, wanted: int, budget: int, recomputing: bool) -> Finding:
    tokens = min(needed.tokens, budget)
    peak = replace(needed, tokens=tokens).peak
    says = (
        f"about {peak / 1e9:.1f} GB at the peak ({needed.resident / 1e9:.1f} now,"
        f" {needed.kept_per_token / 1e3:,.0f} kB kept a token, {plural(tokens, 'token')} at once);"
        f" {room / 1e9:.1f} GB free for it"
    )
    if budget < wanted:
        says += f"; micro-batches of {budget:,} tokens instead of {wanted:,}, which should fit"
    if recomputing:
        says += (
            "; activations are computed again for the backward pass, since the longest row would"
            " not fit otherwise"
        )
    evidence = {
        **vars(needed),
        "peak": peak,
        "room": int(room),
        "micro_tokens": budget,
        "recomputing": recomputing,
    }
    return Finding("memory", "note" if recomputing or budget < wanted else "ok", says, evidence)


def _refused(needed: Estimate, room: float, longest: int) -> Finding:
    per_token = OVERHEAD.get(needed.device, OVERHEAD["cuda"]) * needed.kept_per_token
    says = (
        f"the longest row ({longest:,} tokens) takes about"
        f" {(per_token * longest + needed.fixed) / 1e9:.1f} GB more than the"
        f" {needed.resident / 1e9:.1f} GB in use, and {room / 1e9:.1f} GB are free for it"
    )
    remedy = (
        "lower data.max_tokens, train adapters instead of all weights (on a quantised base: --set"
        " model.quantize=nf4), allow --set train.recompute=auto, keep less beside each weight"
        " (--set train.optimizer=adafactor; on a GPU paged_adamw keeps it elsewhere), or free"
        " memory"
    )
    return Finding("memory", "refused", says, vars(needed), remedy)


def kept_bytes(forward: Forward, trees: Sequence[Tree]) -> int:
    """Count the bytes that autograd holds after one forward pass. Parameters are not counted, and
    nothing is counted twice.
    """
    own = {local(p).untyped_storage().data_ptr() for p in forward.model.network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage

    # Nothing is packed, since no backward pass follows. A node that packed its own output would
    # hold itself, where no collector of garbage sees it: 0.3 GB for good with a model of 135M.
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda nothing: nothing):
        forward(trees)
    # afterwards: gathered copies of sharded weights are empty then
    return sum(storage.nbytes() for storage in kept.values())


def resident(device: torch.device) -> int:
    """Return the bytes in use now by this process, or on the GPU."""
    return (
        torch.cuda.memory_allocated(device)
        if device.type == "cuda"
        else psutil.Process().memory_info().rss
    )


def gpu_peak(device: torch.device) -> dict[str, int]:
    """Return the most bytes that this process ever had on the GPU; an empty dict on a CPU."""
    return {"gpu_peak": torch.cuda.max_memory_allocated(device)} if device.type == "cuda" else {}


def free(device: torch.device) -> int:
    """Return the bytes still available: on the GPU, or under the machine's, the container's and the
    shell's limits.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    limits = [psutil.virtual_memory().available]
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # no such file, or "max"
        limits.append(
            int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
        )
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft != resource.RLIM_INFINITY:
        limits.append(soft - psutil.Process().memory_info().vms)
    return max(0, min(limits))


def fitting(needed: Estimate, room: float, budget: int) -> int | None:
    """Find the largest budget of at most `budget` tokens whose growth fits into `room` bytes; None
    if there is none.
    """
    per_token = OVERHEAD.get(needed.device, OVERHEAD["cuda"]) * needed.kept_per_token
    tokens = int((room - needed.fixed) / per_token)
    return None if tokens < SMALLEST else min(budget, tokens)
