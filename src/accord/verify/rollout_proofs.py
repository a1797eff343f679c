"""Proofs of a run that learns from its own answers, made before its first update besides those of
every run.

    objective   the configured loss, through the step's own call, has the value and the gradient
                that its formula, written out in plain Python, gives
    on_policy   nothing has moved: the log-probs that the batch was drawn with are the policy's and
                the sampler's
    rewards     each answer's advantage is on its own tokens
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from accord.engine.optimizer import Optimizer
from accord.engine.rollout_losses import sampled_losses
from accord.engine.step import Batch, UpdateContext, accumulate
from accord.evaluate.records import Records
from accord.forward.logps import TokenLogps
from accord.objectives.policy_closed_forms import ABOVE, Token
from accord.objectives.policy_table import BoundPolicy
from accord.types import Finding, Rollout, Tree
from accord.verify.gradient_proofs import gradient_findings

# Two prompts with two answers each; per token: (log-prob now, when drawn, under the reference,
# advantage, the value head's estimate, its target)
_POINTS = (
    (
        ((-0.5, -0.75, -1.0, 0.5, 0.25, 1.0), (-1.25, -1.0, -0.5, 0.5, -0.5, 0.75)),
        ((-2.0, -1.5, -1.75, -1.25, 0.0, -1.0),),
    ),
    (
        ((-0.25, -0.75, -0.5, -0.75, 0.5, 0.25), (-3.0, -3.5, -2.5, -0.75, 1.0, 0.5)),
        ((-1.0, -1.0, -1.0, 2.0, 0.25, 0.5),),
    ),
)
TOLERANCE = 1e-9
ENTROPY = 0.75  # nats of each prediction, where a bonus for it is in the loss


def gradient_of_answers(
    learner: UpdateContext, trees: Sequence[Tree], optimizer: Optimizer
) -> list[Finding]:
    """Make `gradient_findings` of the same answers, with advantages that do not cancel."""
    answers = [tree for tree in trees if isinstance(tree, Rollout)]
    return gradient_findings(learner, Batch(0, uncancelled(answers)), optimizer)


def uncancelled(trees: Sequence[Rollout]) -> list[Rollout]:
    """Change the advantages so that every answer is to become likelier. In a group advantages sum
    to 0, so that little but rounding may be left of its gradient: two splits of one differed by .26
    of their size in bfloat16, of these by .17 (SmolLM2-135M).
    """

    def likelier(tree: Rollout) -> Rollout:
        assert tree.advantages is not None, "a batch's answers have their advantages"
        return replace(tree, advantages=1 + tree.advantages.abs())

    return [likelier(tree) for tree in trees]


def certify_policy(objective: BoundPolicy) -> Finding:
    """Compare the loss and gradient of fixed answers with the formulas written out."""
    logps = torch.tensor(
        [t[0] for tree in _POINTS for answer in tree for t in answer],
        dtype=torch.float64,
        requires_grad=True,
    )
    expected = torch.tensor(
        [t[4] for tree in _POINTS for answer in tree for t in answer], dtype=torch.float64
    )
    count = torch.tensor([len(answer) for tree in _POINTS for answer in tree])
    owner = torch.repeat_interleave(torch.arange(len(count)), count)
    entropy = torch.full_like(logps, ENTROPY, requires_grad=True)
    tokens = TokenLogps(
        logps, entropy, owner, count, expected + ABOVE if objective.critic else None
    )
    losses = sampled_losses(
        objective, [_tree(tree, row) for row, tree in enumerate(_POINTS)], tokens, Records()
    )
    gradient, raised = torch.autograd.grad(
        losses.sum(), (logps, entropy), allow_unused=True, materialize_grads=True
    )
    worst, bonus = 0.0, objective.options["entropy"]
    answers = [answer for tree in _POINTS for answer in tree]
    form = objective.token_form
    slopes, pulls = iter(gradient.tolist()), iter(raised.tolist())
    for answer, loss in zip(answers, losses.tolist(), strict=True):
        value, slope = form([Token(*token) for token in answer], objective.options)
        each = bonus if objective.denominator == "tokens" else bonus / len(answer)
        value -= each * ENTROPY * len(answer)
        worst = max(
            worst,
            abs(loss - value),
            *(abs(next(slopes) - s) for s in slope),
            *(abs(next(pulls) + each) for _ in answer),
        )
    says = (
        f"{objective.name}: loss and gradient of {len(answers)} answers through the step's call are"
        f" the formula's (largest difference {worst:.1e})"
    )
    if worst <= TOLERANCE:
        return Finding("step0.objective", "ok", says, {"worst": worst})
    says = f"{objective.name}: what the step computes is not the formula (difference {worst:.3g})"
    return Finding(
        "step0.objective",
        "refused",
        says,
        {"worst": worst},
        "the loss that runs is not the one configured; report this",
    )


def _tree(tree: Sequence, row: int) -> Rollout:
    columns = [
        torch.tensor([t[i] for answer in tree for t in answer], dtype=torch.float64)
        for i in range(6)
    ]
    _, old, reference, advantages, expected, returns = columns
    return Rollout(
        (1,),
        tuple((2,) * len(answer) for answer in tree),
        row,
        None,
        0.0,
        old,
        advantages,
        reference,
        expected,
        returns,
    )


def on_policy(gap: float, learner: UpdateContext, beyond: float = 0.0) -> Finding:
    """Compare the sampler's log-probs of the answers with those of the path that trains: are the
    first ratios 1?

    Args:
      beyond: nats a token that are allowed beside rounding: of a sampler with kernels of its own.
    """
    allowed = max(2 * learner.forward.bounds.answer, beyond)
    says = (
        f"sampler and training agree on the answers' log-probs within {gap:.1e} nats a token"
        f" (allowed {allowed:g})"
    )
    if gap <= allowed:
        return Finding("step0.on_policy", "ok", says, {"nats_a_token": gap})
    says = (
        f"sampler and training differ by {gap:.3g} nats a token on the policy's own answers: it"
        " would learn off-policy without knowing"
    )
    return Finding(
        "step0.on_policy",
        "refused",
        says,
        {"nats_a_token": gap},
        "report this; --set model.forward=padded may help",
    )


def advantages_placed(trees: Sequence[Tree]) -> Finding:
    """Check that every token of every answer has its own log-prob and advantage, finite, and that
    there is no other.
    """
    for tree in trees:
        assert isinstance(tree, Rollout), "answers that the policy drew"
        tokens = sum(tree.counts)
        for name in ("old", "advantages", "reference", "expected", "returns"):
            values = getattr(tree, name)
            if values is not None and (values.shape != (tokens,) or not values.isfinite().all()):
                says = (
                    f"{name} of {tuple(values.shape)} finite numbers for answers of {tokens} tokens"
                )
                return Finding(
                    "step0.rewards",
                    "refused",
                    says,
                    {},
                    "an advantage would stand on another token, or nowhere; report this",
                )
    total = sum(sum(tree.counts) for tree in trees)
    return Finding("step0.rewards", "ok", f"{total:,} answer tokens, each with its own advantage")


def ratios_unmoved(learner: UpdateContext, batch: Batch, optimizer: Optimizer) -> Finding:
    """Check that all ratios are 1 before the first update: the log-probs of a batch are those that
    it was drawn with.
    """
    optimizer.masters.zero_grad()
    records = accumulate(learner, batch, optimizer.masters, dropout=False)
    optimizer.masters.zero_grad()
    gap = (records["sum/ratio_gap"].sum() / records["tokens"].sum()).item()
    allowed = learner.forward.bounds.answer
    says = (
        f"nothing has moved, and log-probs are within {gap:.1e} nats a token of those that the"
        " answers were drawn with"
    )
    if gap <= allowed:
        return Finding("step0.unmoved", "ok", says, {"nats_a_token": gap})
    return Finding(
        "step0.unmoved",
        "refused",
        f"log-probs of the first batch moved by {gap:.3g} nats a token before any update",
        {},
        "report this",
    )
