"""Tree attention by a plan of padded blocks (blocks.py), forward and backward: a few dozen matrix
products, which suit a CPU.

T packed tokens · n blocks · Lq, Lk queries and keys of a block · h key/value heads · g query heads
of each · d width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accord import compat
from accord.forward.blocks import Batch, Plan, plan_of
from accord.forward.layout import Layout


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tree: Layout,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Attend: query [1, h·g, T, d], key and value [1, h, T, d] → [1, h·g, T, d]."""
    plan = plan_of(tree, query.shape[1] // key.shape[1])
    return _TreeAttention.apply(query[0], key[0], value[0], plan, scale, window, softcap)[None]


class _TreeAttention(torch.autograd.Function):
    """The function softmax(scale · q kᵀ) v of every block. The backward pass computes the weights
    again: keeping them saved only 2 % of an update, and takes memory that grows with the square of
    the length.

    Scores and weights are rounded to the inputs' dtype, as in transformers' eager attention. The
    gradients of keys and values, sums over all blocks that share them, are summed in float32 at
    least.
    """

    @staticmethod
    def forward(ctx, query, key, value, plan: Plan, scale, window, softcap):
        """Attend: query [h·g, T, d], key and value [h, T, d] → [h·g, T, d]."""
        ctx.save_for_backward(query, key, value)
        ctx.plan, ctx.scale, ctx.window, ctx.softcap = plan, scale, window, softcap
        rows, outputs = _stacked(query, plan), []
        for batch in plan.batches:
            q, k, v = _queries(rows, batch).mul_(scale), _keys(key, batch), _keys(value, batch)
            weights, _ = _weights(q, k, batch, window, softcap)
            outputs.append(torch.bmm(weights, v).view(len(key), -1, v.shape[-1]))
        return _unstacked(outputs, plan)

    @staticmethod
    def backward(ctx, grad):
        query, key, value = ctx.saved_tensors
        plan, scale = ctx.plan, ctx.scale
        rows, grads = _stacked(query, plan), _stacked(grad, plan)
        exact = torch.promote_types(key.dtype, torch.float32)
        grad_query = []
        grad_key, grad_value = (
            torch.zeros(x.shape, dtype=exact, device=x.device) for x in (key, value)
        )
        for batch in plan.batches:
            q, k, v = _queries(rows, batch).mul_(scale), _keys(key, batch), _keys(value, batch)
            g = _without_padding(_queries(grads, batch), batch)
            weights, slope = _weights(q, k, batch, ctx.window, ctx.softcap)
            scores = compat.softmax_backward(torch.bmm(g, v.mT), weights)
            if slope is not None:
                scores = (scores * slope).to(k.dtype)
            grad_query.append(torch.bmm(scores, k).mul_(scale).view(len(key), -1, k.shape[-1]))
            for total, piece in (
                (grad_key, torch.bmm(scores.mT, q)),
                (grad_value, torch.bmm(weights.mT, g)),
            ):
                total.index_add_(1, batch.key, piece.view(len(key), len(batch.key), -1).to(exact))
        return (
            _unstacked(grad_query, plan),
            grad_key.to(key.dtype),
            grad_value.to(value.dtype),
            None,
            None,
            None,
            None,
        )


def _stacked(x: Tensor, plan: Plan) -> Tensor:
    """Stack the heads that share a key head: [h·g, T, d] → [h, g·T, d]."""
    return x.reshape(len(x) // plan.groups, -1, x.shape[-1])


def _unstacked(pieces: list[Tensor], plan: Plan) -> Tensor:
    """Put every query back in its place and drop the padding: batches of [h, n·g·Lq, d] → [h·g, T,
    d].
    """
    rows = torch.cat(pieces, dim=1).index_select(1, plan.inverse)
    return rows.view(len(rows) * plan.groups, -1, rows.shape[-1])


def _queries(rows: Tensor, batch: Batch) -> Tensor:
    """Gather a batch's queries: [h, g·T, d] → [h·n, g·Lq, d]."""
    return rows.index_select(1, batch.query).view(
        len(rows) * len(batch.query_at), -1, rows.shape[-1]
    )


def _keys(x: Tensor, batch: Batch) -> Tensor:
    """Gather a batch's keys: [h, T, d] → [h·n, Lk, d]."""
    return x.index_select(1, batch.key).view(-1, batch.key_at.shape[1], x.shape[-1])


def _without_padding(g: Tensor, batch: Batch) -> Tensor:
    """Zero the outputs' gradients [h·n, g·Lq, d] at padded queries, which have none to pass on."""
    if batch.padded is not None:
        n, length = batch.padded.shape
        g.view(-1, n, g.shape[1] // length, length, g.shape[-1]).masked_fill_(
            batch.padded[None, :, None, :, None], 0
        )
    return g


def _weights(
    q: Tensor, k: Tensor, batch: Batch, window: int | None, softcap: float | None
) -> tuple[Tensor, Tensor | None]:
    """Compute the attention weights [h·n, g·Lq, Lk], and the slope of the soft cap at each score,
    if there is one.
    """
    scores, slope = torch.bmm(q, k.mT), None
    if softcap is not None:  # Gemma 2
        squashed = torch.tanh(scores.to(torch.promote_types(scores.dtype, torch.float32)) / softcap)
        scores, slope = squashed * softcap, 1 - squashed.square()
    bias = batch.bias(window, scores.dtype)
    n, length, keys = bias.shape
    scores.view(-1, n, scores.shape[1] // length, length, keys).add_(bias[None, :, None])
    # torch sums in float32 whatever the dtype
    return torch.softmax(scores, dim=-1).to(q.dtype), slope
