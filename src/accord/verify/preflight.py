"""Proofs of step 0 on rows of the first batch: the path, the trainable parameters, the tokens that
are read, the reference, the split of the losses. `step0.py` has their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from accord.engine.step import Batch, UpdateContext, denominator, row_losses, whole_batch_context
from accord.errors import plural
from accord.forward.layout import pack
from accord.forward.rows import as_rows
from accord.forward.scores import score_completions
from accord.models.families import router_losses
from accord.models.language import CRITIC, TRAINED, LanguageModel
from accord.models.quantized import count_weights
from accord.models.targets import unreached
from accord.types import Finding, RowLogps, Scores, Tree
from accord.verify.independent import close, distance, sums_by_definition

PROBE = 4  # rows of the first batch that are computed again and again

# Tolerance of the gradient with respect to log-probs, row by row and at once, in float64: without a
# network, with hardly any rounding. float32 if a custom objective insists on it.
SPLIT_LOGPS = {torch.float64: 1e-9, torch.float32: 1e-5}


def probe(trees: Sequence[Tree]) -> list[Tree]:
    """Choose a few rows: of both labels if rows are labelled, of several prompts if there are
    several.
    """
    chosen: list[Tree] = []
    seen: set = set()
    for tree in sorted(trees, key=lambda t: t.tokens):
        if (tree.prompt, tree.desirable) not in seen:
            seen.add((tree.prompt, tree.desirable))
            chosen.append(tree)
    labels = {tree.desirable for tree in chosen}
    mixed = [next(t for t in chosen if t.desirable == label) for label in sorted(labels, key=str)]
    rest = [tree for tree in (*chosen, *trees) if not any(tree is m for m in mixed)]
    return (mixed + rest)[:PROBE]


def through_the_step(learner: UpdateContext) -> Callable:
    def compute(policy: RowLogps, reference: RowLogps | None, context: dict[str, Tensor]) -> Tensor:
        return row_losses(learner.objective, policy, reference, context).losses

    return compute


def forward_path(learner: UpdateContext) -> Finding:
    forward = learner.forward
    # Padding is normal for an architecture that cannot share a prompt. One that can but gives wrong
    # numbers has a fault.
    astray = "differ from the model's own" in forward.reason
    return Finding(
        "step0.forward",
        "warning" if astray else "ok",
        forward.reason,
        {"worst_nats_a_token": forward.worst},
    )


def trainable(learner: UpdateContext) -> Finding:
    model = learner.forward.model
    names = model.trainable()
    count, total = sum(p.numel() for p in names.values()), count_weights(model.root)
    evidence = {"tensors": list(names), "parameters": count, "share": count / total}
    if not names:
        return Finding("step0.trainable", "refused", "nothing is trainable", evidence)
    # the reference does not use a value head
    own = [n for n in names if not n.startswith(CRITIC)]
    stray = [n for n in own if model.has_adapters and not (f".{TRAINED}" in n and "lora_" in n)]
    if stray and learner.reference is not None:
        says = (
            f"{len(stray)} trainable tensors are no adapters ({', '.join(stray[:3])}): the"
            " reference would move with them"
        )
        return Finding(
            "step0.trainable", "refused", says, evidence, "train adapters alone, or model.lora=null"
        )
    if apart := _untied(model):
        says = f"{apart}: whoever loads the model ties them, and has another model than was trained"
        return Finding(
            "step0.trainable",
            "refused",
            says,
            evidence,
            "tie them, or say tie_word_embeddings: false in config.json",
        )
    kind = "adapters" if model.has_adapters else "all weights"
    says = (
        f"{len(names)} tensors train ({kind}), {count:,} of {total:,} parameters"
        f" ({count / total:.2%}), float32 masters"
    )
    if model.outside:
        says += f"; {', '.join(model.outside)}: frozen, no text reaches them"
        evidence["outside"] = model.outside
    left = unreached(model) if model.has_adapters else {}
    if left:
        evidence["unreached"] = left
        says += (
            f"; LoRA on all linear modules does not reach {', '.join(left)}"
            f" ({sum(left.values()) / total:.0%} of the parameters)"
        )
    return Finding("step0.trainable", "ok", says, evidence)


def router(learner: UpdateContext) -> list[Finding]:
    """Report a router's auxiliary loss that the model was trained with and this run is not."""
    found = router_losses(learner.forward.model.network)
    if not found:
        return []
    named = ", ".join(f"{name} = {value:g}" for name, value in found.items())
    says = (
        f"the router's auxiliary loss is off: config.json sets {named}, and the objective"
        f" {learner.objective.name} is trained without it, so nothing balances the experts' load"
    )
    remedy = "train few updates at a low learning rate, or adapters on attention alone"
    return [Finding("step0.router", "note", says, {"coefficients": found}, remedy)]


def _untied(model: LanguageModel) -> str:
    """Explain in words that embedding and head are two tensors although the model's settings tie
    them; empty if they do not.
    """
    network = model.network
    head, embedding = network.get_output_embeddings(), network.get_input_embeddings()
    tied = getattr(network.config.get_text_config(), "tie_word_embeddings", False)
    if not tied or head is None or embedding is None or head.weight is embedding.weight:
        return ""
    return "embedding and head are tied in config.json, and two tensors in training"


def mask(trees: Sequence[Tree]) -> Finding:
    """Check that each answer token that the policy is to learn is a target once, predicted from
    the token before it, and that no other token is.
    """
    layout = pack(trees)
    scored = [
        (tree, (*tree.prompt[-1:], *completion), place)
        for tree in trees
        for k, completion in enumerate(tree.completions)
        for place in tree.scored_in(k)
    ]
    expected = [tokens[place + 1] for _, tokens, place in scored]
    before = [tokens[place] for _, tokens, place in scored]
    depth = [len(tree.prompt) - 1 + place for tree, _, place in scored]
    right = (
        layout.targets.tolist() == expected
        and layout.ids[layout.source].tolist() == before
        and layout.positions[layout.source].tolist() == depth
        and int(layout.count.sum()) == len(expected)
    )
    says = f"{len(expected):,} answer tokens, {len(layout.targets):,} scored, " + (
        "each from the token before it"
        if right
        else "and not every one from the token before it, in its place"
    )
    return Finding(
        "step0.mask", "ok" if right else "refused", says, {"scored": len(layout.targets)}
    )


def read(trees: Sequence[Tree]) -> Finding:
    """Check that a score is read at the last token of each answer, its end token included, and
    nowhere else.
    """
    layout, last = score_completions(trees)
    wanted = [(c[-1], len(tree.prompt) + len(c) - 1) for tree in trees for c in tree.completions]
    found = zip(layout.ids[last].tolist(), layout.positions[last].tolist(), strict=True)
    right = list(found) == wanted
    says = (
        f"{plural(len(wanted), 'answer')}, each read at its last token"
        if right
        else "an answer is read at another token than its last"
    )
    return Finding("step0.mask", "ok" if right else "refused", says, {"scored": len(last)})


@torch.no_grad()
def deterministic(learner: UpdateContext, trees: Sequence[Tree]) -> Finding:
    first, second = learner.forward(trees).values, learner.forward(trees).values
    if torch.equal(first, second):
        return Finding("step0.deterministic", "ok", "two forwards of one batch agree bit for bit")
    gap, unit = (first - second).abs().max().item(), learner.forward.model.unit
    return Finding(
        "step0.deterministic",
        "refused",
        f"two forwards of one batch differ by up to {gap:.2g} {unit}",
        {"nats": gap},
        "some layer drops or samples while it should not; check the model's dropout settings",
    )


@torch.no_grad()
def at_reference(learner: UpdateContext, batch: Batch, exact: bool) -> Finding:
    """Check that every log-ratio is 0 and the loss is the known one, since nothing has moved."""
    tokens = learner.forward(batch.trees)
    logps, known = tokens.reduce(), learner.reference_logps(batch.trees)
    ratio = ((logps.sum - known.sum) / logps.count).abs().max().item()  # nats per token
    allowed = 0.0 if exact else learner.forward.bounds.answer
    policy, reference = (as_rows(learner.kind, batch.trees, lp) for lp in (logps, known))
    context = whole_batch_context(learner, batch)
    output = row_losses(learner.objective, policy, reference, context)
    value, closed = output.losses.mean().item(), learner.objective.at_reference
    evidence = {
        "largest_log_ratio_a_token": ratio,
        "allowed": allowed,
        "loss": value,
        "closed_form": closed,
    }
    if not ratio <= allowed:
        says = (
            f"policy and reference differ by up to {ratio:.3g} nats a token before the first update"
            f" (allowed {allowed:g})"
        )
        return Finding(
            "step0.reference",
            "refused",
            says,
            evidence,
            "the reference is not the model that training starts from: other weights, another"
            " adapter, precision or a stale cache",
        )
    if exact and closed is not None and not math.isclose(value, closed, rel_tol=1e-5):
        says = f"policy = reference, yet the loss is {value:.6g} instead of {closed:.6g}"
        return Finding(
            "step0.reference",
            "refused",
            says,
            evidence,
            "the loss that runs is not the one configured",
        )
    known_as = (
        "margins exactly 0"
        if ratio == 0
        else f"log-ratios within {ratio:.1e} nats a token (rounding)"
    )
    form = f", loss {value:.6f}" + (
        f" = closed form {closed:.6f}" if closed is not None and exact else ""
    )
    return Finding("step0.reference", "ok", f"policy = reference: {known_as}{form}", evidence)


@torch.no_grad()
def against_base(learner: UpdateContext, batch: Batch) -> Finding:
    """Compare the reference with the bare network's numbers, if the policy has left the reference
    before the run.
    """
    model, known = learner.forward.model, learner.reference_logps(batch.trees)
    with model.as_reference():
        gap = distance(known, sums_by_definition(model, batch.trees))
    policy = learner.forward(batch.trees).reduce()
    left = distance(policy, known).max().item()
    evidence = {"nats": gap.max().item(), "policy_apart": left}
    if model.has_reference_adapter or not close(gap, learner.forward.bounds):
        says = (
            f"the reference is not the model without adapters: up to {gap.max():.3g} nats a token"
            " apart from the bare network"
        )
        return Finding(
            "step0.reference",
            "refused",
            says,
            evidence,
            "an adapter is on in the reference; report this",
        )
    says = (
        f"reference = the bare network without adapters ({gap.max():.1e} nats a token); the adapter"
        f" that is gone on from is up to {left:.3g} nats a token away from it, so margins do not"
        " begin at 0"
    )
    return Finding("step0.reference", "ok", says, evidence)


def split_of_losses(learner: UpdateContext, batch: Batch) -> Finding:
    """Compare d loss / d log-prob of every completion in one piece and row by row: the denominators
    must be the same. It is computed in float64, which rounds too little to hide a difference.
    """
    context = {
        name: value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in whole_batch_context(learner, batch).items()
    }
    with torch.no_grad():
        logps = learner.forward(batch.trees).reduce()
        known = learner.reference.logps(batch.trees) if learner.reference is not None else None
        known = replace(known, sum=known.sum.double()) if known is not None else None
    total = denominator(learner.objective, batch.trees)
    dtypes = set()

    def slopes(groups: list[list[int]]) -> Tensor:
        leaf = logps.sum.double().clone().requires_grad_()  # of each call its own
        policy = replace(logps, sum=leaf)
        for group in groups:
            trees = [batch.trees[i] for i in group]
            index = _completions(batch.trees, group)
            own = as_rows(learner.kind, trees, policy[index])
            other = as_rows(learner.kind, trees, known[index]) if known is not None else None
            losses = row_losses(learner.objective, own, other, context).losses
            dtypes.add(losses.dtype)
            (losses.sum() / total).backward()
        return leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)

    whole = slopes([list(range(len(batch.trees)))])
    pieces = slopes([[i] for i in range(len(batch.trees))])
    gap = ((whole - pieces).norm() / whole.norm().clamp_min(1e-30)).item()
    allowed = max(SPLIT_LOGPS.get(dtype, SPLIT_LOGPS[torch.float32]) for dtype in dtypes)
    ok = gap <= allowed
    says = (
        f"the loss' gradient row by row and at once: relative difference {gap:.1e}, allowed"
        f" {allowed:g}"
    )
    remedy = "" if ok else "a row's loss depends on the rows that it is computed with"
    return Finding("step0.split_losses", "ok" if ok else "refused", says, {"relative": gap}, remedy)


def _completions(trees: Sequence[Tree], group: Sequence[int]) -> Tensor:
    """List the indices of the completions of some trees among the completions of all."""
    starts = [0]
    for tree in trees:
        starts.append(starts[-1] + len(tree.completions))
    return torch.tensor([n for i in group for n in range(starts[i], starts[i + 1])])


@torch.no_grad()
def noise_floor(
    learner: UpdateContext, trees: Sequence[Tree], neighbours: Sequence[Tree] = ()
) -> Finding:
    """Measure the largest reward margin, or difference of a row's margin alone and among others,
    that rounding makes.

    Nothing has moved yet, so with a reference every margin should be 0; a cache of log-probs from
    batches of other shapes makes it differ by rounding. Without a reference, or with one that the
    policy has left, only the difference is rounding.

    Args:
      trees: the rows that are compared.
      neighbours: further rows of their batch; the shapes of a batch decide how it rounds.
    """

    equal = learner.reference is not None and learner.reference.starts_as_policy
    together = _floor_of(learner, [[*trees, *neighbours]], len(trees))
    alone = _floor_of(learner, [[tree] for tree in trees], len(trees))
    width = (together.margins - alone.margins).abs().max().item()
    if equal:
        width = max(width, *(m.abs().max().item() for m in (together.margins, alone.margins)))
    unit, allowed = learner.forward.model.unit, learner.forward.bounds.answer
    apart = ((together.sums - alone.sums).abs() / alone.count).max().item()
    left = max((f.ratios.abs() / f.count).max().item() for f in (together, alone)) if equal else 0.0
    evidence = {"reward_margin": width, "nats": apart, "from_reference": left, "allowed": allowed}
    if not apart <= allowed:
        says = (
            f"rows alone and among {len(neighbours) + len(trees) - 1} others differ by up to"
            f" {apart:.3g} {unit}; rounding on this machine accounts for {allowed:.2g}"
        )
        remedy = "a row's numbers depend on its neighbours' (their length, their text): set"
        return Finding(
            "step0.noise_floor", "refused", says, evidence, f"{remedy} model.forward=padded"
        )
    if not left <= allowed:
        says = (
            f"before anything has moved policy and reference are up to {left:.3g} {unit} apart;"
            f" rounding on this machine accounts for {allowed:.2g}"
        )
        remedy = (
            "the reference's numbers are stale or misaligned: of other weights, rows or precision"
        )
        return Finding("step0.noise_floor", "refused", says, evidence, remedy)
    says = (
        f"rounding makes up reward margins of up to {width:.1e} before anything has moved; smaller"
        " ones count as ties"
    )
    return Finding("step0.noise_floor", "ok", says, evidence)


@dataclass(frozen=True)
class _Floor:
    """The numbers of some rows' answers in one grouping: N answers of the first B rows."""

    margins: Tensor  # [B] of the rewards; for a labelled row its one reward
    sums: Tensor  # [N] nats, or scores
    ratios: Tensor  # [N] nats to the reference; the sums themselves without one
    count: Tensor  # [N] tokens; 1 each for scores


def _floor_of(learner: UpdateContext, groups: Sequence[Sequence[Tree]], first: int) -> _Floor:
    margins, sums, ratios, counts = [], [], [], []
    for group in groups:
        known = learner.reference.logps(group) if learner.reference is not None else None
        policy = learner.forward(group).reduce()
        rewards = learner.objective.reward(policy, known)
        sizes = [len(tree.completions) for tree in group]
        margins += [p[0] - p[-1] if len(p) > 1 else p[0] for p in rewards.split(sizes)]
        sums.append(policy.sum)
        ratios.append(policy.sum - known.sum if known is not None else policy.sum)
        scores = isinstance(policy, Scores)
        counts.append(torch.ones_like(policy.sum) if scores else policy.count.to(policy.sum.dtype))
    answers = sum(len(tree.completions) for tree in [t for g in groups for t in g][:first])
    return _Floor(
        torch.stack(margins)[:first], *(torch.cat(x)[:answers] for x in (sums, ratios, counts))
    )
