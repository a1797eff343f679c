"""Independent proofs: the run's numbers compared with a computation that shares none of its code.

    definition   log-probs: one sequence at a time through the bare network, eager attention, whole
                 logits, float32
    moved        with every trainable tensor nudged, the policy moves, the reference does not, the
                 path still agrees
    reference    two passes of the reference agree bit for bit
    numerics     a NaN stays a NaN; sums are those of float64
    order        each row as often per epoch as it should come (of one file: once), shuffled, in
                 batches of one size, repeatable

At step 0 adapters do nothing yet and policy equals reference, so many faults show in no number
there. Nudged weights, and a gradient by definition (gradient_proofs.py), show them before the first
update. `step0.py` has the order of the proofs. Each leaves weights, moments and gradients as they
were.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from accord import compat
from accord.data.order import Order
from accord.engine.optimizer import Optimizer
from accord.engine.step import UpdateContext, row_losses
from accord.errors import plural
from accord.forward.rounding import Bounds, allowed_mean
from accord.forward.rows import as_rows
from accord.models.language import LanguageModel
from accord.models.parts import gathered, local
from accord.models.parts import part as part_of
from accord.models.reward import RewardModel
from accord.types import Finding, Logps, PerCompletion, Scores, Tree

# of a tensor's own size: visible in any precision, and small enough to keep the network in its
# range
NUDGE = 0.05
# of a sum's size: float32 sums of 100 tokens are off by 1e-7, float64 ones by 1e-16
SUMS_APART = 1e-12


# ---------------------------------------------------------------- log-probs by definition


@contextmanager
def own_attention(model: LanguageModel):
    """Make the network attend by transformers' eager code inside the block."""
    network, before = model.network, compat.attention_name(model.network)
    if before in (None, "eager") or not compat.can_switch_attention(network):
        yield
        return
    network.set_attn_implementation("eager")
    try:
        yield
    finally:
        network.set_attn_implementation(before)


def by_definition(model: LanguageModel, prompt: Sequence[int], completion: Sequence[int]) -> Tensor:
    """Compute the log-prob of each token of one completion, [C] nats: no padding, no packing, no
    mask, whole logits in float32.

    For a reward model it is the score that its network gives the sequence, [1].
    """
    if not isinstance(model, RewardModel):
        ids = torch.tensor(completion, device=model.device)
        predictions = answer_log_softmax(model, prompt, completion)
        return predictions.gather(1, ids[:, None]).squeeze(1)
    return _logits(model, [*prompt, *completion])


def answer_log_softmax(
    model: LanguageModel, prompt: Sequence[int], completion: Sequence[int]
) -> Tensor:
    """Compute the log-probs of all tokens at each place of one completion, [C, V] nats."""
    # the last token has no log-prob behind it
    logits = _logits(model, [*prompt, *completion[:-1]])
    return torch.log_softmax(logits[len(prompt) - 1 :], dim=-1)


def _logits(model: LanguageModel, ids: Sequence[int]) -> Tensor:
    """Compute the logits behind each token, [T, V]; a reward model's score of the whole, [1]."""
    with own_attention(model):
        output = model.network(input_ids=torch.tensor([ids], device=model.device), use_cache=False)
    logits = output.logits[0]
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


@torch.no_grad()
def sums_by_definition(model: LanguageModel, trees: Sequence[Tree]) -> PerCompletion:
    """Compute the sums [N] of the completions of some trees, in their order."""
    answers = [(tree.prompt, completion) for tree in trees for completion in tree.completions]
    with own_attention(model):  # once for all: each switch walks through every module
        sums = torch.stack([by_definition(model, *answer).sum() for answer in answers])
    count = torch.tensor([len(completion) for _, completion in answers], device=model.device)
    return Scores(sums, count) if isinstance(model, RewardModel) else Logps(sums, count)


def distance(path: PerCompletion, other: PerCompletion) -> Tensor:
    """Compute |difference| in nats per token, [N]; for scores, as it is."""
    apart = (path.sum - other.sum).abs()
    return apart if isinstance(other, Scores) else apart / other.count


def close(distances: Tensor, bounds: Bounds) -> bool:
    """Tell whether rounding may account for these distances of answers. False for NaN."""
    return bool(distances.max() <= bounds.answer) and bool(distances.mean() <= bounds.mean)


@torch.no_grad()
def definition(learner: UpdateContext, trees: Sequence[Tree]) -> Finding:
    """Compare the path's sums and counts, in the order of the batch and in reverse, with the
    definition.
    """
    model = learner.forward.model
    wanted = sums_by_definition(model, trees)
    got = learner.forward(trees).reduce()
    reverse = learner.forward(list(reversed(trees))).reduce()
    back = _reversed(trees, reverse)
    if got.count.tolist() != wanted.count.tolist():
        says = (
            f"the forward path counts {got.count.tolist()} answer tokens; there are"
            f" {wanted.count.tolist()}"
        )
        return Finding(
            "step0.definition",
            "refused",
            says,
            {},
            "the mask scores other tokens than the answer's; report this",
        )
    gaps = {"together": distance(got, wanted), "in reverse order": distance(back, wanted)}
    for how, gap in gaps.items():
        if not close(gap, learner.forward.bounds):
            says = (
                f"{model.measures} of rows {how} differ from those of each alone by up to"
                f" {gap.max():.3g} {model.unit}: they depend on the batch, or are of other tokens"
                " than the answer's"
            )
            return Finding(
                "step0.definition",
                "refused",
                says,
                {"nats": gap.max().item()},
                "set model.forward=padded; report this",
            )
    worst = max(gap.max().item() for gap in gaps.values())
    says = (
        f"{model.measures} in a batch, in either order, are those of each row alone in the bare"
        f" network ({worst:.1e} {model.unit})"
    )
    return Finding("step0.definition", "ok", says, {"nats": worst})


def _reversed(trees: Sequence[Tree], logps: PerCompletion) -> PerCompletion:
    """Compute the log-probs of the reversed trees, and put them back in the trees' order."""
    sizes = [len(tree.completions) for tree in reversed(trees)]
    pieces = list(zip(logps.sum.split(sizes), logps.count.split(sizes), strict=True))[::-1]
    return type(logps).join([type(logps)(*piece) for piece in pieces])


@torch.no_grad()
def steady(learner: UpdateContext, trees: Sequence[Tree]) -> Finding:
    """Compare two passes of the reference over the same rows."""
    first, second = learner.reference_logps(trees), learner.reference_logps(trees)
    gap = (first.sum - second.sum).abs().max().item()
    if gap == 0:
        return Finding(
            "step0.reference_steady", "ok", "two passes of the reference agree bit for bit"
        )
    says = (
        f"two passes of the reference differ by up to {gap:.2g} nats: something in it drops or"
        " samples"
    )
    return Finding(
        "step0.reference_steady",
        "refused",
        says,
        {"nats": gap},
        "check the reference's dropout settings",
    )


def numerics(learner: UpdateContext, trees: Sequence[Tree]) -> Finding:
    """Check that log-probs are summed in float64, and that a NaN log-prob gives a NaN loss."""
    with torch.no_grad():
        tokens = learner.forward(trees)
        logps = tokens.reduce()
    exact = torch.zeros(len(logps), dtype=torch.float64, device=logps.sum.device)
    exact = exact.index_add(0, tokens.owner, tokens.values.double())
    error = ((logps.sum - exact).abs() / exact.abs().clamp(min=1)).max().item()
    if not error <= SUMS_APART:
        says = (
            f"sums of log-probs are off by {error:.1e} of their value ({logps.sum.dtype}): summed"
            " in too low a precision"
        )
        return Finding(
            "step0.numerics",
            "refused",
            says,
            {"relative": error},
            "log-probs must be summed in float64; report this",
        )
    if not _nan_stays(learner, trees, logps):
        says = (
            "a log-prob of NaN gives a finite loss: whatever breaks would be trained on as if"
            " nothing were wrong"
        )
        return Finding("step0.numerics", "refused", says, {}, "nothing may replace NaN in the loss")
    says = (
        f"{learner.forward.model.measures}, summed, are those of float64 to"
        f" {max(error, 1e-12):.0e}; a NaN stays a NaN"
    )
    return Finding("step0.numerics", "ok", says, {"relative": error})


def _nan_stays(learner: UpdateContext, trees: Sequence[Tree], logps: Logps | Scores) -> bool:
    context = learner.objective.of_batch([tree.counts for tree in trees])
    context |= learner.objective.from_running(learner.running)
    if learner.objective.context is not None:
        assert isinstance(logps, Logps), "a baseline is one of log-probs"
        context |= learner.objective.context(logps, logps)
    broken = replace(logps, sum=torch.full_like(logps.sum, float("nan")))
    rows = as_rows(learner.kind, trees, broken)
    known = as_rows(learner.kind, trees, logps) if learner.objective.reference else None
    return not bool(row_losses(learner.objective, rows, known, context).losses.isfinite().any())


# ---------------------------------------------------------------- nudged weights


@torch.no_grad()
def weights_moved(
    learner: UpdateContext, optimizer: Optimizer, trees: Sequence[Tree], fixed: bool
) -> Finding:
    """Nudge all trainable weights: does the policy move, does the reference stay, does the path
    still agree? Then restore them.
    """
    trainable = optimizer.masters.working
    # less memory than AdamW's moments will take
    saved = {name: local(p.detach()).clone() for name, p in trainable.items()}
    watched = learner.reference is not None and fixed
    before = learner.forward(trees).reduce()
    known = learner.reference_logps(trees) if watched else None
    try:
        _nudge(trainable)
        after, wanted = (
            learner.forward(trees).reduce(),
            sums_by_definition(learner.forward.model, trees),
        )
        later = learner.reference_logps(trees) if watched else None
        allowed = allowed_mean(learner.forward.model, trees, wanted)
    finally:
        for name, p in trainable.items():
            local(p).copy_(saved[name])
    return _verdict(before, after, wanted, known, later, learner.forward.model, allowed)


def _verdict(
    before: PerCompletion,
    after: PerCompletion,
    wanted: PerCompletion,
    known: Logps | None,
    later: Logps | None,
    model: LanguageModel,
    allowed: float,
) -> Finding:
    check, shift, gap = "step0.moved", distance(after, before).max().item(), distance(after, wanted)
    drift = 0.0 if known is None or later is None else distance(later, known).max().item()
    evidence = {
        "policy_nats": shift,
        "path_nats": gap.max().item(),
        "path_nats_mean": gap.mean().item(),
        "allowed_mean": allowed,
        "reference_nats": drift,
    }
    if shift == 0:
        says = (
            "with every trainable tensor moved, the policy's log-probs stay: what trains is not"
            " what is computed"
        )
        return Finding(
            check,
            "refused",
            says,
            evidence,
            "the forward path skips the adapters, or computes another model",
        )
    if drift > 0:
        says = (
            f"with the policy's weights moved, the reference moves too, by up to {drift:.3g} nats a"
            " token"
        )
        return Finding(
            check,
            "refused",
            says,
            evidence,
            "policy and reference share weights; use reference=cached",
        )
    if not gap.mean().item() <= allowed:
        says = (
            "with its weights moved, the forward path differs from the bare network by"
            f" {gap.mean():.3g} {model.unit} (rounding accounts for {allowed:.2g})"
        )
        return Finding(
            check,
            "refused",
            says,
            evidence,
            "the path skips or doubles a part of the adapters; report this",
        )
    stays = ", the reference stays" if known is not None else ""
    says = (
        f"with all trainable tensors nudged, the policy moves by {shift:.2g} {model.unit}{stays},"
        " the path agrees"
    )
    return Finding(check, "ok", says, evidence)


def _nudge(trainable: dict[str, torch.nn.Parameter]) -> None:
    """Add noise of a few per cent of each tensor's size; of a size of its own to a zero tensor,
    such as LoRA's B.
    """
    generator = torch.Generator().manual_seed(0)
    for p in trainable.values():
        size = gathered(p.detach()).float().square().mean().sqrt().item() or 0.4
        noise = torch.randn(p.shape, generator=generator) * (NUDGE * size)
        local(p).add_(part_of(noise.to(p.device, p.dtype), p))


# ---------------------------------------------------------------- the order of the rows


def order_finding(order: Order, labels: np.ndarray) -> Finding:
    """Check the plan of the first epoch: each row as often as it should come, shuffled, batches of
    one size, labels mixed, twice the same.

    Args:
      labels: of each row, [N].
    """
    whole = order.batches_per_epoch
    batches = [order.batch(index) for index in range(whole)]
    rows, kinds = np.concatenate(batches), np.unique(labels)
    sizes, problem = [len(batch) for batch in batches], ""
    unmixed = _unmixed(labels[rows], kinds, sizes) if len(kinds) > 1 else 0
    if not all(np.array_equal(order.batch(index), batch) for index, batch in enumerate(batches)):
        problem = "asked twice, the order is another one: a resumed run would not see the same rows"
    elif (miscounted := _miscounted(order, rows, len(labels))) or max(sizes) - min(
        sizes
    ) > order.unit:
        problem = miscounted or f"batches have {min(sizes)} to {max(sizes)} rows"
    elif len(rows) > 8 and (np.diff(rows) > 0).all():
        problem = "rows come in the order of the file: they are not shuffled"
    if problem:
        return Finding(
            "step0.order", "refused", problem, {}, "the order of the rows is broken; report this"
        )
    if unmixed:
        says = (
            f"{unmixed:,} of {len(batches):,} batches hold one label only: their gradient knows no"
            " contrast"
        )
        return Finding(
            "step0.order", "warning", says, {"batches": unmixed}, "raise train.batch_size"
        )
    often = (
        f"each of {len(labels):,} rows at most once an epoch"
        if not order.parts
        else f"each epoch takes {plural(len(rows), 'row')}, of each file as its weight says"
    )
    return Finding("step0.order", "ok", f"{often}, {plural(whole, 'batch', 'batches')} of a size")


def _unmixed(labels: np.ndarray, kinds: np.ndarray, sizes: Sequence[int]) -> int:
    """Count the batches that lack a label.

    Args:
      labels: of the rows of all batches, in their order.
    """
    starts = np.cumsum([0, *sizes[:-1]])
    there = [np.logical_or.reduceat(labels == kind, starts) for kind in kinds]
    return int((~np.logical_and.reduce(there)).sum())


def _miscounted(order: Order, rows: np.ndarray, of: int) -> str:
    """Say in words how often rows come, if it is not as often as they should; "" if it is.

    Args:
      rows: those of the first epoch.
      of: the number of rows of all files.
    """
    times = np.bincount(rows, minlength=of)
    if len(times) > of:
        return f"a row comes that is none of the {of:,} rows"
    if not order.parts:
        if (times > 1).any():
            more = int((times - 1).clip(0).sum())
            return f"{plural(more, 'row comes', 'rows come')} more than once in an epoch"
        lost = int((times == 0).sum())
        return f"{lost:,} of {of:,} rows never come" if lost else ""
    later = [order.batch(order.batches_per_epoch + i) for i in range(order.batches_per_epoch)]
    both, start = times + np.bincount(np.concatenate(later), minlength=of), 0
    for number, part in enumerate(order.parts, 1):
        own = slice(start, start := start + part.rows)
        wanted = max(1, round(part.weight * (part.rows // order.unit))) * order.unit
        for epochs, found in ((1, times[own]), (2, both[own])):
            if (came := int(found.sum())) != epochs * wanted:
                return (
                    f"file {number} should give {plural(epochs * wanted, 'row')} in"
                    f" {plural(epochs, 'epoch')}, and gives {came:,}"
                )
            if len(found) and found.max() - found.min() > 1:
                return (
                    f"of file {number} one row comes {plural(int(found.max()), 'time')} in"
                    f" {plural(epochs, 'epoch')}, and another {plural(int(found.min()), 'time')}"
                )
    return ""
