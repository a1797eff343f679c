"""Gradients of a few rows, computed without the step's code, to compare the step's gradient with.

They answer three questions, each with its own bound. (One comparison of two splits would mix them.)

    bookkeeping   Does the step give every row its slope, once, over one denominator? The step
                  against the same passes added up here: the same shapes, so that hardly anything
                  rounds.
    mixing        Does a row's gradient depend on the rows it is computed with? The path with all
                  rows in one pass and with each alone.
    definition    Is it the model's own? The path against the bare network.

The last two compare other shapes and other kernels, which round differently: in float32 by 8e-5 on
one processor and by 4e-7 on the same with one thread, since products of few rows with 49,152
columns are summed in another order. So they take the slopes' absolute values: chosen and rejected
answers do not cancel, and no sum is small compared with its own rounding. (With signs, bfloat16
differed by .06 to .26, depending on the rows.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from accord.engine.optimizer import Masters
from accord.engine.rollout_losses import as_rollouts, sampled_losses
from accord.engine.step import Batch, UpdateContext, accumulate, row_losses, whole_batch_context
from accord.evaluate.records import Records
from accord.forward.logps import TokenLogps, attending, oracle
from accord.forward.rounding import answer_alone
from accord.forward.rows import as_rows
from accord.forward.scores import TokenScores, oracle_scores
from accord.models.reward import RewardModel
from accord.objectives.closed_forms import Answer, Row
from accord.objectives.policy_table import BoundPolicy
from accord.types import Logps, PerCompletion, Tree

Gradient = dict[str, Tensor]
ClosedForm = Callable[[Row, dict, float], tuple[float, tuple[float, ...]]]

# |step − bookkeeping| / |bookkeeping|: the same passes over the same rows. In float32 they
# differ by the rounding of slopes and of sums over micro-batches (0 to 3e-7 measured). In bfloat16
# the last bit of a slope also changes the backward pass: by at most one rounding of each number,
# 2^-8 (8e-4 measured with all weights). The faults to catch (a mean per micro-batch, a micro-batch
# lost or counted twice, dropout in the path, a row's loss that depends on its neighbours) differ by
# .05 to 3.
BOOKKEEPING = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 1e-2}

# Bound on |one − other| / |other| for two correct computations of one gradient by different shapes
# or kernels: the measured difference of transformers' own two ways, times FACTOR, between FLOOR and
# CEILING. With absolute slopes float32 differed by up to 1.5e-4 (whole SmolLM2 on an AMD Zen 2).
# CEILING: a layer that mixes rows, or a path that skips a module or sees a neighbour, differs by
# .05 to 1.
FACTOR = 16.0
FLOOR = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.03}
CEILING = {torch.float64: 1e-4, torch.float32: 1e-2, torch.bfloat16: 0.3}


def allowed(dtype: torch.dtype, rounding: float | None) -> float:
    """Bound the difference of two computations of one gradient, from measured rounding (None: not
    measured).
    """
    if rounding is None or not math.isfinite(rounding):
        return CEILING[dtype]
    return min(max(FACTOR * rounding, FLOOR[dtype]), CEILING[dtype])


def relative(one: Gradient, other: Gradient) -> float:
    """Compute |one − other| / |other| over all tensors; a tensor that only one of them has counts
    whole.
    """
    names = one.keys() | other.keys()
    gap = math.sqrt(sum(_square(one.get(n), other.get(n)) for n in names))
    norm = math.sqrt(sum(_square(g, None) for g in other.values()))
    return gap / norm if norm else (0.0 if gap == 0 else math.inf)


def _square(one: Tensor | None, other: Tensor | None) -> float:
    if one is None or other is None:
        only = one if one is not None else other
        return only.double().square().sum().item() if only is not None else 0.0
    return (one.double() - other.double()).square().sum().item()


# ---------------------------------------------------------------- the step's gradient, and by hand


def of_step(
    learner: UpdateContext, batch: Batch, masters: Masters, budget: int
) -> tuple[Gradient, Records]:
    """Return the gradient that the step leaves in the masters, and its records, with micro-batches
    of `budget` tokens.
    """
    masters.zero_grad()
    records = accumulate(learner.with_budget(budget), batch, masters, dropout=False)
    return _taken(masters), records


@dataclass(frozen=True)
class Slopes:
    """d (loss of the whole batch) / d (log-prob) of every answer token, tree by tree."""

    trees: Sequence[Tree]
    values: tuple[Tensor, ...]  # one tensor per tree, [its answer tokens] (of scores: [answers])
    expected: tuple[Tensor | None, ...]  # the same for a value head's estimates, if there is one


def slopes_of(learner: UpdateContext, batch: Batch) -> Slopes:
    """Compute the slopes at each row's log-probs, each row alone, with the objective's own
    losses.
    """
    context, total = whole_batch_context(learner, batch), _total(learner, batch.trees)
    values, expected = [], []
    for tree in batch.trees:
        with torch.no_grad():
            tokens = learner.forward([tree])
        found = _slopes(learner, [tree], tokens, context, total)
        values.append(found[0])
        expected.append(found[1])
    return Slopes(batch.trees, tuple(values), tuple(expected))


def by_hand(learner: UpdateContext, batch: Batch, masters: Masters, whole: bool) -> Gradient:
    """Compute Σ slope · ∇ log-prob over all rows in one pass, or one row at a time, summed here."""
    context, total = whole_batch_context(learner, batch), _total(learner, batch.trees)

    def weigh(tokens: TokenLogps | TokenScores, trees: Sequence[Tree]) -> Tensor:
        return _weighted(tokens, *_slopes(learner, trees, tokens, context, total))

    groups = [list(batch.trees)] if whole else [[tree] for tree in batch.trees]
    return _gradient(masters, groups, learner.forward, weigh)


def _slopes(
    learner: UpdateContext,
    trees: Sequence[Tree],
    tokens: TokenLogps | TokenScores,
    context: dict[str, Tensor],
    total: int,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Compute d (losses of these rows / total) / d values, / d the value head's estimates, and / d
    the entropies.
    """
    leaf = tokens.values.detach().clone().requires_grad_()
    others = {
        name: said.detach().clone().requires_grad_()
        for name in ("expected", "entropy")
        if (said := getattr(tokens, name, None)) is not None
    }
    own = replace(tokens, values=leaf, **others)
    if learner.kind == "rollouts":
        assert isinstance(own, TokenLogps) and isinstance(learner.objective, BoundPolicy)
        losses = sampled_losses(learner.objective, as_rollouts(trees), own, Records())
    else:
        known = learner.reference.logps(trees) if learner.reference is not None else None
        rows = as_rows(learner.kind, trees, own.reduce())
        reference = as_rows(learner.kind, trees, known) if known is not None else None
        losses = row_losses(learner.objective, rows, reference, context).losses
    losses.sum().div(total).backward()
    values = leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)
    expected, entropy = (
        others[name].grad if name in others else None for name in ("expected", "entropy")
    )
    return values, expected, entropy


def _total(learner: UpdateContext, trees: Sequence[Tree]) -> int:
    """Count the rows, answers or answer tokens of the batch here, not with the step's code."""
    if learner.objective.denominator == "tokens":
        return sum(n for tree in trees for n in tree.counts)
    if learner.kind == "rollouts":
        return sum(len(tree.completions) for tree in trees)
    return len(trees)


def by_closed_form(
    learner: UpdateContext, batch: Batch, masters: Masters, form: ClosedForm
) -> Gradient:
    """Compute the gradient of `by_hand` in one pass, with the closed form's slopes at the pass' own
    log-probs. The slopes are plain Python; no code of the objective or of the step is used.
    """
    total = _total(learner, batch.trees)
    z0 = next(iter(whole_batch_context(learner, batch).values()), None)
    baseline = z0.item() if z0 is not None else 0.0

    def weigh(tokens: TokenLogps | TokenScores, trees: Sequence[Tree]) -> Tensor:
        policy = tokens.reduce()
        known = learner.reference.logps(trees) if learner.reference is not None else policy
        numbers = iter(_answers(policy, known))
        slopes: list[float] = []  # along the sums
        first: list[float] = []  # and along the shared ones
        for tree in trees:
            answers = tuple(next(numbers) for _ in tree.completions)
            row = Row("", answers, tree.desirable, tree.margin)
            found = form(row, learner.objective.options, baseline)[1]
            slopes += found[: len(answers)]
            first += found[len(answers) :]
        weighed = (policy.sum * _like(policy.sum, slopes)).sum()
        if isinstance(policy, Logps) and policy.shared is not None and first:
            weighed = weighed + (policy.shared * _like(policy.shared, first)).sum()
        return weighed / total

    return _gradient(masters, [list(batch.trees)], learner.forward, weigh)


# ---------------------------------------------------------------- without cancellation


def by_path(learner: UpdateContext, slopes: Slopes, masters: Masters, whole: bool) -> Gradient:
    """Compute Σ |slope| · ∇ log-prob through the forward path: all rows in one pass, or each
    alone.
    """
    numbers = range(len(slopes.trees))
    groups = [list(numbers)] if whole else [[n] for n in numbers]

    def forward(group: list[int]) -> TokenLogps | TokenScores:
        return learner.forward([slopes.trees[n] for n in group])

    def weigh(tokens: TokenLogps | TokenScores, group: list[int]) -> Tensor:
        return _weighted(tokens, torch.cat([slopes.values[n].abs() for n in group]))

    return _gradient(masters, groups, forward, weigh)


def by_network(learner: UpdateContext, slopes: Slopes, masters: Masters, plain: bool) -> Gradient:
    """Compute the same with the bare network, each answer alone. `plain` uses eager attention and
    whole logits; otherwise SDPA, if the model has it, and the logits of the answer's own positions.
    """
    model = learner.forward.model
    scores = isinstance(model, RewardModel)
    pieces: list[tuple[Tree, Tensor]] = []
    for tree, values in zip(slopes.trees, slopes.values, strict=True):
        sizes = [1] * len(tree.completions) if scores else tree.counts
        for k, part in enumerate(values.split(sizes)):
            pieces.append((tree.only(k), part))
    second = _second_attention(learner)

    def forward(piece: tuple[Tree, Tensor]) -> TokenLogps | TokenScores:
        if not plain:
            return answer_alone(model, piece[0], second)
        if isinstance(model, RewardModel):
            return oracle_scores(model, [piece[0]])
        return oracle(model, [piece[0]])

    def weigh(tokens: TokenLogps | TokenScores, piece: tuple[Tree, Tensor]) -> Tensor:
        return _weighted(tokens, piece[1].abs())

    # once for all answers: each switch walks through every module
    with attending(model, "eager" if plain else second):
        return _gradient(masters, pieces, forward, weigh)


def _like(column: Tensor, values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=column.dtype, device=column.device)


def _answers(policy: PerCompletion, known: PerCompletion) -> list[Answer]:
    """Return completions as closed forms read them."""
    found = [
        Answer(*numbers)
        for numbers in zip(
            policy.sum.tolist(), known.sum.tolist(), policy.count.tolist(), strict=True
        )
    ]
    if isinstance(policy, Logps) and isinstance(known, Logps):
        if policy.shared is not None and known.shared is not None:
            pairs = zip(policy.shared.tolist(), known.shared.tolist(), strict=True)
            found = [replace(a, shared=pair) for a, pair in zip(found, pairs, strict=True)]
        if policy.collision is not None:
            values = policy.collision.tolist()
            found = [replace(a, collision=one) for a, one in zip(found, values, strict=True)]
    return found


def _second_attention(learner: UpdateContext) -> str:
    try:
        with attending(learner.forward.model, "sdpa"):
            return "sdpa"
    except (ValueError, ImportError):  # a model with only one attention raises these
        return "eager"


def _weighted(
    tokens: TokenLogps | TokenScores,
    values: Tensor,
    expected: Tensor | None = None,
    entropy: Tensor | None = None,
) -> Tensor:
    total = (tokens.values * values).sum()
    if entropy is not None and isinstance(tokens, TokenLogps):
        total = total + (tokens.entropy * entropy).sum()
    if expected is not None and isinstance(tokens, TokenLogps) and tokens.expected is not None:
        total = total + (tokens.expected * expected).sum()
    return total


def _gradient(masters: Masters, groups: Sequence, forward: Callable, weigh: Callable) -> Gradient:
    """Sum the gradients of backward passes, group by group, in float32; leave the masters without
    any.
    """
    masters.zero_grad()
    for group in groups:
        weigh(forward(group), group).backward()
        masters.accumulate_grads()
    return _taken(masters)


def _taken(masters: Masters) -> Gradient:
    found = {name: grad.clone() for name, grad in masters.gradients().items()}
    masters.zero_grad()
    return found
