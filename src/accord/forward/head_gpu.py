"""The chunked head on a GPU: the steps between its matrix products are compiled into one pass each.

Step by step, log-softmax, gather, entropy and their slope read and write [rows × vocabulary]
numbers a dozen times, in float32, and that takes as long as the products themselves. Compiled,
forward reads the raw logits in the head's dtype, and backward reads them once and writes their
gradient once; float32 lives in registers. Without a compiler the same functions run as they stand,
and a warning says so.

c rows of a chunk · C completion tokens · V vocabulary · D hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from accord.environment.settings import warn_once
from accord.errors import first_line
from accord.models.headspec import HeadSpec

# size of a chunk's logits in float32: 1,024 rows of a vocabulary of 128,000; chosen, not measured
BYTES = 2**29


def rows_at_once(vocabulary: int) -> int:
    """Return the rows of a chunk: enough for the products to be large, whatever the vocabulary."""
    return max(64, BYTES // (4 * vocabulary) // 8 * 8)


def token_logps(
    hidden: Tensor, targets: Tensor, head: HeadSpec, chunk: int, collision: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Compute the same as `accord.forward.head.token_logps`, for a plain head."""
    return _FusedLogps.apply(hidden, head.module.weight, targets, head.scale, chunk, collision)


class _FusedLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets, scale, chunk, collision):
        read = kernels(hidden.device.type).read
        pieces, collisions = [], []
        for h, t in zip(hidden.split(chunk), targets.split(chunk), strict=True):
            raw = h @ weight.T
            pieces.append(read(raw, t, scale))
            if collision:
                collisions.append(collision_entropy(raw, pieces[-1][2], scale))
        logps, entropy, lse = (torch.cat(column) for column in zip(*pieces, strict=True))
        ctx.save_for_backward(hidden, weight, targets, lse, entropy)
        ctx.scale, ctx.chunk = scale, chunk
        ctx.set_materialize_grads(False)  # no gradient of the entropy is None, and not zeros
        if not collision:
            return logps, entropy, None
        collided = torch.cat(collisions)
        ctx.mark_non_differentiable(collided)
        return logps, entropy, collided

    @staticmethod
    def backward(ctx, grad, grad_entropy, _):
        hidden, weight, targets, lse, entropy = ctx.saved_tensors
        grad = torch.zeros_like(lse) if grad is None else grad
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        slope = kernels(hidden.device.type).slope
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        # a sum over chunks
        grad_weight = torch.zeros_like(weight, dtype=lse.dtype) if wants_weight else None
        for start in range(0, len(targets), ctx.chunk):
            rows = slice(start, start + ctx.chunk)
            h = hidden[rows]
            raw = h @ weight.T
            d = slope(raw, targets[rows], lse[rows], grad[rows], ctx.scale)
            if grad_entropy is not None:
                d += entropy_slope(raw, lse[rows], entropy[rows], grad_entropy[rows], ctx.scale)
            if grad_hidden is not None:
                torch.mm(d, weight, out=grad_hidden[rows])
            if grad_weight is not None:
                grad_weight += d.T @ h
        whole = None if grad_weight is None else grad_weight.to(weight.dtype)
        return grad_hidden, whole, None, None, None, None


# ---------------------------------------------------------------- between the products


def _read(raw: Tensor, targets: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Compute from raw logits [c, V] the log-probs of the targets, entropies, log-sum-exps, each
    [c] float32 (float64 stays).
    """
    logits = raw.to(torch.promote_types(raw.dtype, torch.float32)) * scale
    lse = torch.logsumexp(logits, dim=-1)
    logps = logits.gather(1, targets[:, None]).squeeze(1) - lse
    return logps, lse - ((logits - lse[:, None]).exp() * logits).sum(-1), lse


def _slope(raw: Tensor, targets: Tensor, lse: Tensor, grad: Tensor, scale: float) -> Tensor:
    """Compute g · (onehot(target) − softmax) · scale, [c, V] in the head's dtype.

    A comparison makes the onehot, since a scatter is a pass of its own.
    """
    logits = raw.to(lse.dtype) * scale
    hit = torch.arange(raw.shape[1], device=raw.device)[None, :] == targets[:, None]
    return ((hit.to(lse.dtype) - (logits - lse[:, None]).exp()) * (grad * scale)[:, None]).to(
        raw.dtype
    )


def entropy_slope(raw: Tensor, lse: Tensor, entropy: Tensor, grad: Tensor, scale: float) -> Tensor:
    """Compute −g · softmax · (log softmax + H) · scale, [c, V] in the head's dtype. It is not
    compiled: an entropy bonus is rare.
    """
    logps = raw.to(lse.dtype) * scale - lse[:, None]
    return (logps.exp() * (logps + entropy[:, None]) * (-grad * scale)[:, None]).to(raw.dtype)


@torch.no_grad()
def collision_entropy(raw: Tensor, lse: Tensor, scale: float = 1.0) -> Tensor:
    """Compute -log Σ softmax² of each row of raw logits [c, V], [c]. It is not compiled: only wpo
    asks for it.
    """
    return 2 * lse - torch.logsumexp(raw.to(lse.dtype) * (2 * scale), dim=-1)


@dataclass(frozen=True)
class Kernels:
    read: Callable[..., tuple[Tensor, Tensor, Tensor]]
    slope: Callable[..., Tensor]


PLAIN = Kernels(_read, _slope)


@cache
def kernels(device: str, backend: str = "inductor") -> Kernels:
    """Return both functions, compiled on a GPU where that works: tried once, on a few numbers."""
    if device != "cuda":
        return PLAIN
    found = compiled(backend)
    try:
        raw, targets = (
            torch.zeros(8, 64, device=device),
            torch.zeros(8, dtype=torch.long, device=device),
        )
        _, _, lse = found.read(raw, targets, 1.0)
        found.slope(raw, targets, lse, lse, 1.0)
    # no Triton, no compiler for its launcher, …
    except (RuntimeError, ImportError, OSError) as error:
        warn_once(
            "the head's kernels do not compile on this machine and run step by step:"
            f" {first_line(error, 200)}"
        )
        return PLAIN
    return found


def compiled(backend: str) -> Kernels:
    """Compile both functions through torch.compile.

    A second number of rows makes the kernels take any.
    """
    return Kernels(
        torch.compile(_read, backend=backend, fullgraph=True),
        torch.compile(_slope, backend=backend, fullgraph=True),
    )
