"""The table of step 0: the proofs of a run before its first update. A proof that fails refuses to
train and names the cause.

Runs on the rows of a file, on pairs of the policy's own answers and on rollouts share one table,
and make the rows whose needs they meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from accord.engine.optimizer import Optimizer
from accord.engine.rollout_losses import as_rollouts
from accord.engine.step import Batch, UpdateContext, make_batch
from accord.objectives.policy_table import BoundPolicy
from accord.rollouts.batches import RolloutBatch
from accord.types import Finding, Tree
from accord.verify import independent, preflight, rollout_proofs, row_lengths
from accord.verify.certificate import certify
from accord.verify.checks import (
    ALL,
    AT_START,
    COLUMNS,
    LEFT,
    LOGPS,
    QUANTISED,
    REFERENCE,
    ROLLOUTS,
    ROWS,
    SCORES,
    SPREAD,
    Check,
    Found,
    run_table,
)
from accord.verify.columns import columns_finding
from accord.verify.gradient_proofs import gradient_findings
from accord.verify.quantized import quantized_finding


@dataclass(frozen=True)
class StepZero:
    """The things that proofs are made on. Weights, optimizer and the order of the data stay as they
    are.
    """

    learner: UpdateContext
    optimizer: Optimizer
    batch: Batch
    exact: bool = True
    fixed: bool = True
    sampler_gap: float = 0.0  # nats per token, of rollouts
    allowed_gap: float = 0.0  # beside rounding
    spread: Sequence[Tree] = ()  # rows of the shortest, middle and longest length

    @property
    def trees(self) -> Sequence[Tree]:
        return self.batch.trees

    @property
    def policy(self) -> BoundPolicy:
        assert isinstance(self.learner.objective, BoundPolicy), "a policy gradient's proof"
        return self.learner.objective

    @property
    def offers(self) -> frozenset[str]:
        learner = self.learner
        found = {ROLLOUTS if isinstance(learner.objective, BoundPolicy) else ROWS}
        found.add(LOGPS if learner.objective.needs == "logps" else SCORES)
        if learner.reference is not None:
            found |= {REFERENCE, AT_START if learner.reference.starts_as_policy else LEFT}
        found |= {SPREAD} if self.spread else set()
        found |= {COLUMNS} if learner.objective.columns else set()
        found |= {QUANTISED} if learner.forward.model.quantization is not None else set()
        return frozenset(found)


# Checks that the later ones build on: after a refusal here, those would only repeat it.
BASICS = ("objective", "forward", "trainable", "mask", "deterministic", "reference")
OF_ROLLOUTS = (*BASICS, "on_policy", "rewards")


def _proof(
    name: str,
    shows: str,
    function: Callable[[StepZero], Found],
    *needs: str,
    after: tuple[str, ...] = (),
) -> Check[StepZero]:
    return Check(name, "step 0", shows, function, frozenset(needs), after)


STEP0: tuple[Check[StepZero], ...] = (
    _proof(
        "objective",
        "the step's own call has the value and gradient of the objective's closed form",
        lambda c: certify(c.learner.objective, preflight.through_the_step(c.learner)),
        ROWS,
    ),
    _proof(
        "objective",
        "the step's own call has the value and gradient of the method's formula",
        lambda c: rollout_proofs.certify_policy(c.policy),
        ROLLOUTS,
    ),
    _proof(
        "forward",
        "the chosen path computes the model's own numbers",
        lambda c: preflight.forward_path(c.learner),
    ),
    _proof(
        "trainable",
        "what an update may move, and that the reference does not move with it",
        lambda c: preflight.trainable(c.learner),
    ),
    _proof(
        "router",
        "a router's auxiliary loss that config.json sets is said to be off",
        lambda c: preflight.router(c.learner),
    ),
    _proof(
        "mask",
        "every answer token is scored once, from the token before it, and no other",
        lambda c: preflight.mask(c.trees),
        LOGPS,
    ),
    _proof(
        "mask",
        "every answer is read at its last token, and nowhere else",
        lambda c: preflight.read(c.trees),
        SCORES,
    ),
    _proof(
        "deterministic",
        "two forwards of one batch agree bit for bit",
        lambda c: preflight.deterministic(c.learner, c.trees),
    ),
    _proof(
        "quantized",
        "every quantised layer is the dense layer of its weights, in value and gradient",
        lambda c: quantized_finding(c.learner.forward.model),
        QUANTISED,
    ),
    _proof(
        "reference",
        "policy = reference: margins are 0, the loss is its closed form",
        lambda c: preflight.at_reference(c.learner, c.batch, c.exact),
        ROWS,
        AT_START,
    ),
    _proof(
        "reference",
        "the reference is the bare network without adapters",
        lambda c: preflight.against_base(c.learner, c.batch),
        ROWS,
        LEFT,
    ),
    _proof(
        "on_policy",
        "sampler and training agree on the answers' log-probs",
        lambda c: rollout_proofs.on_policy(c.sampler_gap, c.learner, c.allowed_gap),
        ROLLOUTS,
    ),
    _proof(
        "rewards",
        "every answer token has its own advantage",
        lambda c: rollout_proofs.advantages_placed(c.trees),
        ROLLOUTS,
    ),
    _proof(
        "split_losses",
        "any split of the batch gives the same slopes along the log-probs",
        lambda c: preflight.split_of_losses(c.learner, c.batch),
        ROWS,
        after=BASICS,
    ),
    _proof(
        "definition",
        "log-probs in a batch are those of each row alone in the bare network",
        lambda c: independent.definition(c.learner, c.trees),
        ROWS,
        after=BASICS,
    ),
    _proof(
        "columns",
        "what the objective reads beside sums is what its name says",
        lambda c: columns_finding(c.learner, c.trees),
        ROWS,
        COLUMNS,
        after=(*BASICS, "definition"),
    ),
    _proof(
        "causal",
        "later tokens leave earlier log-probs as they are",
        lambda c: row_lengths.causal_path(c.learner, c.spread),
        ROWS,
        LOGPS,
        SPREAD,
        after=BASICS,
    ),
    _proof(
        "lengths",
        "rows of all lengths together are what each is alone",
        lambda c: row_lengths.lengths_finding(c.learner, c.spread),
        ROWS,
        SPREAD,
        after=(*BASICS, "definition"),
    ),
    _proof(
        "numerics",
        "sums are those of float64, and a NaN stays a NaN",
        lambda c: independent.numerics(c.learner, c.trees),
        ROWS,
        after=BASICS,
    ),
    _proof(
        "reference_steady",
        "two passes of the reference agree bit for bit",
        lambda c: independent.steady(c.learner, c.trees),
        ROWS,
        REFERENCE,
        after=BASICS,
    ),
    _proof(
        "moved",
        "with every trainable tensor nudged, the policy moves and the reference stays",
        lambda c: independent.weights_moved(c.learner, c.optimizer, c.trees, c.fixed),
        ROWS,
        after=(*BASICS, "definition", "numerics", "reference_steady"),
    ),
    # last: a gradient needs the right tokens, in a path that computes the right numbers
    _proof(
        "gradient",
        "any split gives one gradient, and it is the one by definition",
        lambda c: gradient_findings(c.learner, c.batch, c.optimizer),
        ROWS,
        after=ALL,
    ),
    _proof(
        "gradient",
        "any split gives one gradient, and it is the one by definition",
        lambda c: rollout_proofs.gradient_of_answers(c.learner, c.trees, c.optimizer),
        ROLLOUTS,
        after=ALL,
    ),
    _proof(
        "unmoved",
        "log-probs of the first batch are those that it was drawn with",
        lambda c: rollout_proofs.ratios_unmoved(c.learner, c.batch, c.optimizer),
        ROLLOUTS,
        after=OF_ROLLOUTS,
    ),
)


def prove(
    learner: UpdateContext,
    optimizer: Optimizer,
    trees: Sequence[Tree],
    *,
    exact: bool,
    fixed: bool = True,
    spread: Sequence[Tree] = (),
) -> list[Finding]:
    """Make every proof on rows of the first batch.

    Args:
      learner: with a reference that computes (not a cache of it), where the objective has one.
      exact: policy and reference are one network now, so log-ratios must be exactly 0. False for
        DoRA, whose first output equals the base's only up to rounding.
      fixed: the live reference must stay when the policy moves. False if a cache is filled from
        the policy itself, before the first update.
      spread: rows of the run's shortest, middle and longest length.
    """
    batch = make_batch(learner, 0, preflight.probe(trees))
    about = StepZero(learner, optimizer, batch, exact=exact, fixed=fixed, spread=spread)
    return run_table(STEP0, about, about.offers)


def prove_sampled(
    learner: UpdateContext, optimizer: Optimizer, first: RolloutBatch, allowed_gap: float = 0.0
) -> list[Finding]:
    """Make every proof of a run that learns from its own answers, on the first batch, which stays
    as it is.

    Args:
      allowed_gap: nats a token by which the sampler may differ from the trainer beside rounding.
    """
    trees = as_rollouts(sorted(first.trees, key=lambda tree: tree.tokens)[:4])
    gap = first.figures["rollouts/sampler_gap"]
    about = StepZero(learner, optimizer, Batch(0, trees), sampler_gap=gap, allowed_gap=allowed_gap)
    return run_table(STEP0, about, about.offers)
