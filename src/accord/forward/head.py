"""Log-probs of given tokens from hidden states, without a [tokens × vocabulary] tensor in memory.

Rows are computed in chunks: logits in the head's dtype, then float32 for the log-sum-exp (a bf16
sum of log-probs near -350 is spaced 2 nats). The backward pass computes the logits again instead of
keeping them.

C completion tokens · V vocabulary · D hidden.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from accord.forward import head_gpu
from accord.models.headspec import HeadSpec

# Rows at once on a CPU. 64 × 49,152 float32 logits are 13 MB: an update of truthfulqa took 2.14,
# 1.96, 1.86 s with 64 and 2.21, 2.14, 1.96 s with 256 (SmolLM2-135M, bfloat16, 2 cores).
CHUNK = 64
# Rows of a chunk that are worked on between its matrix products: 16 × 49,152 float32 numbers are
# 3 MB and stay near the processor. 483 tokens forward 134 ms, with 64 rows 152; the products 109.
NEAR = 16


def rows_at_once(device: torch.device, vocabulary: int) -> int:
    """Return the rows of a chunk: few on a CPU, whose cache they should fit; a GPU wants large
    products.
    """
    return head_gpu.rows_at_once(vocabulary) if device.type == "cuda" else CHUNK


# of C tokens: log-probs, entropies, and collision entropies where they were asked for
Columns = tuple[Tensor, Tensor, Tensor | None]


def token_logps(
    hidden: Tensor,
    targets: Tensor,
    head: HeadSpec,
    chunk: int | None = None,
    *,
    collision: bool = False,
) -> Columns:
    """Compute the log-prob of each target and the entropy of each prediction.

    Args:
      hidden: [C, D] states that predict the targets.
      targets: [C] token ids.
      chunk: rows at once; None takes a number that suits the device.
      collision: whether the collision entropy -log Σ p² of each prediction is wanted too.

    Returns:
      log-probs and entropies [C], both float32 in nats and differentiable in `hidden` and in the
      head's weights; collision entropies [C] without a gradient, or None. A backward pass that no
      entropy takes part in costs nothing for them.
    """
    if chunk is None:
        chunk = rows_at_once(hidden.device, head.weight.shape[0])
    if head.plain and hidden.device.type == "cuda":
        return head_gpu.token_logps(hidden, targets, head, chunk, collision)
    if head.plain:
        return _ChunkedLogps.apply(hidden, head.module.weight, targets, head, chunk, collision)
    return _checkpointed(hidden, targets, head.logits, chunk, collision)


class _ChunkedLogps(torch.autograd.Function):
    """The function log softmax(scale · h Wᵀ)[target] and its gradient, both computed by chunks.

    The gradient is g · (onehot(target) − softmax) · scale, and of the entropy H beside it
    −g' · softmax · (log softmax + H) · scale.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets, head, chunk, collision):
        found, collisions = [], []
        for h, t in zip(hidden.split(chunk), targets.split(chunk), strict=True):
            products = h @ weight.T
            for rows, wanted in zip(products.split(NEAR), t.split(NEAR), strict=True):
                logits = head.scaled(rows)
                found.append(_figures(logits, wanted))
                if collision:
                    collisions.append(head_gpu.collision_entropy(logits, found[-1][2]))
        logps, entropy, lse = map(torch.cat, zip(*found, strict=True))
        ctx.save_for_backward(hidden, weight, targets, lse, entropy)
        ctx.head, ctx.chunk = head, chunk
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
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        # float32, since a bf16 sum over many chunks would lose the small ones
        grad_weight = torch.zeros_like(weight, dtype=lse.dtype) if wants_weight else None
        for start in range(0, len(targets), ctx.chunk):
            rows = slice(start, start + ctx.chunk)
            h = hidden[rows]
            d = h @ weight.T
            for at in range(0, len(d), NEAR):
                part = d[at : at + NEAR]
                here = slice(start + at, start + at + len(part))
                t, g, logps = targets[here], grad[here], ctx.head.scaled(part)
                logps.sub_(lse[here, None])
                if grad_entropy is None:
                    slope = logps.exp_().mul_(-g[:, None])
                else:
                    pull = (logps + entropy[here, None]).mul_(grad_entropy[here, None])
                    slope = logps.exp_().mul_(pull.add_(g[:, None]).neg_())
                slope[torch.arange(len(t), device=d.device), t] += g
                part.copy_(slope.mul_(ctx.head.scale))
            if grad_hidden is not None:
                grad_hidden[rows] = d @ weight
            if grad_weight is not None:
                grad_weight += d.T @ h
        whole = None if grad_weight is None else grad_weight.to(weight.dtype)
        return grad_hidden, whole, None, None, None, None


def _figures(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute log-probs, entropies and log-sum-exps of a few rows, all three from one exponential:
    H = lse − Σ e^(x − m) x / Σ e^(x − m), with m the largest logit.
    """
    largest = logits.amax(-1, keepdim=True)
    powers = (logits - largest).exp_()
    total = powers.sum(-1)
    lse = total.log() + largest.squeeze(1)
    logps = logits.gather(1, targets[:, None]).squeeze(1) - lse
    return logps, lse - torch.linalg.vecdot(powers, logits) / total, lse


def _entropy(logits: Tensor, lse: Tensor) -> Tensor:
    """Compute H = lse − Σ softmax · logit, [C] nats."""
    return lse - torch.linalg.vecdot((logits - lse[:, None]).exp(), logits)


def _checkpointed(
    hidden: Tensor,
    targets: Tensor,
    to_logits: Callable[[Tensor], Tensor],
    chunk: int,
    collision: bool,
) -> Columns:
    """Compute the same for any head (bias, soft-capping, adapters on it): autograd through one
    recomputed chunk at a time.
    """

    def piece(h: Tensor, t: Tensor) -> Columns:
        logits = to_logits(h)
        total = torch.logsumexp(logits, dim=-1)
        collided = head_gpu.collision_entropy(logits, total) if collision else None
        return logits.gather(1, t[:, None]).squeeze(1) - total, _entropy(logits, total), collided

    pieces = [
        checkpoint(piece, h, t, use_reentrant=False) if torch.is_grad_enabled() else piece(h, t)
        for h, t in zip(hidden.split(chunk), targets.split(chunk), strict=True)
    ]
    logps, entropy, collided = zip(*pieces, strict=True)
    return torch.cat(logps), torch.cat(entropy), torch.cat(collided) if collision else None
