"""A batch of the policy's own answers, and the part of it that is trained on: groups for a policy
gradient, or pairs. All functions are pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from statistics import fmean

import torch
from torch import Tensor

from accord.objectives import BoundObjective
from accord.objectives.policy_table import BoundPolicy
from accord.rollouts.estimates import Answers, CarryOver, estimate_advantages, flat
from accord.rollouts.mismatch import PLAIN, Mismatch
from accord.rollouts.overlong import KEEP, MASKED, Overlong
from accord.rollouts.pairing import Pairing
from accord.rollouts.record import Answer
from accord.types import Refused, Rollout, Tree, UsageError

TOO_FEW = "fewer than two answers to the prompt have a reward"


@dataclass
class RolloutBatch:
    """A batch to train on: its trees, its metrics, and what the next batch needs of it."""

    trees: list[Tree]
    figures: dict[str, float]
    carried: CarryOver
    reasons: Counter = field(default_factory=Counter)  # why prompts are not trained on
    updates: int = 0  # fewest updates that the weights had had which drew the answers

    @property
    def words(self) -> str:
        """Say which prompts are not trained on, and why."""
        return (
            "; ".join(f"{count} prompts: {reason}" for reason, count in self.reasons.most_common())
            or "no prompt with answers"
        )


def build_batch(
    answers: Sequence[Answer],
    prompts: Sequence[tuple[int, ...]],
    objective: BoundObjective,
    pairing: Pairing,
    carried: CarryOver,
    first_row: int,
    overlong: Overlong = KEEP,
    mismatch: Mismatch = PLAIN,
) -> RolloutBatch:
    """Build groups or pairs from a batch of answers.

    Args:
      answers: the answers to one prompt are next to each other.
      prompts: token ids by the number of a prompt.
      first_row: number of the batch's first tree.
    """
    groups = group_by_prompt(
        [replace(a, reward=overlong.reward(a.reward, a.count, a.ended)) for a in answers]
    )
    if isinstance(objective, BoundPolicy):
        out = _rollouts(groups, prompts, objective, carried, first_row, overlong, mismatch)
    else:
        whole, _ = _trained(groups, overlong)
        out = _pairs(whole, prompts, pairing, carried, first_row)
        if len(whole) < len(groups):
            out.reasons[MASKED] = len(groups) - len(whole)
    if overlong.kind == "soft":
        out.figures["rollouts/length_penalty"] = fmean(overlong.penalty(a.count) for a in answers)
    out.figures = {**figures(answers), **mismatch.figures(answers), **out.figures}
    out.updates = min(answer.updates for answer in answers)
    return out


def nothing_to_train_on(
    number: int, attempts: int, answers: Sequence[Answer], out: RolloutBatch
) -> Refused:
    """Return the error of a batch of which no draw gave anything to train on."""
    lost = {a.failure for a in answers if a.failure}
    return Refused(
        f"Batch {number} of answers gave nothing to train on in {attempts} draws: {out.words}."
        + (f"\nRewards that failed: {'; '.join(sorted(lost)[:3])}." if lost else "")
        + "\nRewards that differ are needed: draw more answers"
        " (--set rollouts.num_generations=8), take more prompts at a time"
        " (--set train.batch_size=16), or look at the reward."
    )


def group_by_prompt(answers: Sequence[Answer]) -> list[list[Answer]]:
    """Group neighbouring answers to one prompt."""
    groups: list[list[Answer]] = []
    for answer in answers:
        if not groups or groups[-1][0].prompt != answer.prompt:
            groups.append([])
        groups[-1].append(answer)
    return groups


def figures(answers: Sequence[Answer]) -> dict[str, float]:
    """Compute metrics of all answers, also of those that are not trained on."""
    rewards = [a.reward for a in answers if a.reward is not None]
    out = {"rollouts/missing": 1 - len(rewards) / len(answers)}
    if rewards:
        mean = fmean(rewards)
        out |= {
            "rollouts/reward": mean,
            "rollouts/reward_std": fmean((r - mean) ** 2 for r in rewards) ** 0.5,
        }
    for name in answers[0].parts:
        if len(answers[0].parts) > 1 and (
            values := [part for a in answers if (part := a.parts.get(name)) is not None]
        ):
            out[f"rollouts/reward/{name}"] = fmean(values)
    return out | {
        "rollouts/tokens": fmean(a.count for a in answers),
        "rollouts/ended": fmean(a.ended for a in answers),
        "rollouts/kl": fmean(sum(a.logps) - sum(a.reference) for a in answers),
        "rollouts/sampler_gap": fmean(
            # one after the other: Python's own sum rounds differently from 3.12 on
            abs(sum(a.logps) - reduce(add, a.sampled, 0.0)) / a.count
            for a in answers
        ),
    }


def _rollouts(
    groups: Sequence[Sequence[Answer]],
    prompts: Sequence[tuple[int, ...]],
    objective: BoundPolicy,
    carried: CarryOver,
    first_row: int,
    overlong: Overlong,
    mismatch: Mismatch,
) -> RolloutBatch:
    """Make one tree per prompt, with the advantages of its answers' tokens; leave out answers
    without a reward, and after the comparison those that are masked.
    """
    known = [[a for a in group if a.reward is not None] for group in groups]
    kept = [group for group in known if len(group) > 1]
    reasons = Counter({TOO_FEW: len(groups) - len(kept)} if len(kept) < len(groups) else {})
    if not kept:
        return RolloutBatch([], {}, carried, reasons)
    batch = _answers(kept, objective.critic)
    advantages, returns, after = estimate_advantages(
        objective.estimate, batch, objective.settings, carried
    )
    # a weight of a token's term in the loss is one of its advantage: w ≥ 0, and every loss here is
    # so for w A what w times it is for A; gspo, which has one term an answer, takes the mean of its
    # tokens' weights (tests/objectives/test_corrections.py)
    weights, weighed = mismatch.weights([a for group in kept for a in group])
    advantages = advantages if weights is None else advantages * weights
    trained, of_tokens = _trained(kept, overlong)
    if len(trained) < len(kept):
        reasons[MASKED] = len(kept) - len(trained)
    per_tree = [sum(a.count for a in group) for group in trained]

    def pieces(values: Tensor | None) -> Sequence[Tensor | None]:
        if values is None:
            return [None] * len(trained)
        return values[of_tokens].float().split(per_tree)

    reference = batch.reference if objective.in_loss else None
    columns = [pieces(v) for v in (batch.logps, advantages, reference, batch.expected, returns)]
    trees: list[Tree] = [
        Rollout(
            prompts[group[0].prompt],
            tuple(a.tokens for a in group),
            first_row + i,
            old=old,
            advantages=advantage,
            reference=known,
            expected=expected,
            returns=goal,
            scored=None if all(a.alone for a in group) else tuple(a.scored for a in group),
        )
        for i, (group, old, advantage, known, expected, goal) in enumerate(
            zip(trained, *columns, strict=True)
        )
    ]
    more = {"rollouts/flat_groups": flat(batch.rewards, batch.groups) / len(kept), **weighed}
    if overlong.kind == "mask":
        more["rollouts/masked"] = 1 - sum(map(len, trained)) / sum(map(len, kept))
    if returns is not None:
        assert batch.expected is not None, "what is to be learned is learned by a value head"
        residual = (returns - batch.expected).square().mean() / returns.var().clamp_min(1e-12)
        more["rollouts/value_explained"] = 1 - residual.item()
    if after.beta is not None:
        more["rollouts/beta"] = after.beta
    return RolloutBatch(trees, more, after, reasons)


def _trained(
    groups: Sequence[Sequence[Answer]], overlong: Overlong
) -> tuple[list[list[Answer]], Tensor]:
    """Return the groups of answers that have a loss, and which of all tokens are theirs, [C]."""
    trained = [[a for a in group if overlong.trains_on(a.ended)] for group in groups]
    of_tokens = [overlong.trains_on(a.ended) for group in groups for a in group for _ in a.sampled]
    return [group for group in trained if group], torch.tensor(of_tokens)


def _answers(groups: Sequence[Sequence[Answer]], critic: bool) -> Answers:
    """Collect the answers as tensors, in float64: rewards compared in a group may differ by
    little.
    """
    flat_ = [a for group in groups for a in group]

    def tokens(name: str) -> Tensor:
        return torch.tensor([v for a in flat_ for v in getattr(a, name)], dtype=torch.float64)

    return Answers(
        torch.tensor([a.reward for a in flat_], dtype=torch.float64),
        torch.tensor([i for i, group in enumerate(groups) for _ in group]),
        torch.tensor([a.count for a in flat_]),
        tokens("logps"),
        tokens("reference"),
        tokens("expected") if critic else None,
        # 0 behind an answer that ended, and behind one that was cut where nothing else is chosen
        torch.tensor([a.behind or 0.0 for a in flat_], dtype=torch.float64) if critic else None,
    )


def _pairs(
    groups: Sequence[Sequence[Answer]],
    prompts: Sequence[tuple[int, ...]],
    pairing: Pairing,
    carried: CarryOver,
    first_row: int,
) -> RolloutBatch:
    """Make pairs of each prompt's answers, token by token as they were sampled. Ties make no pairs,
    and are counted.
    """
    trees: list[Tree] = []
    reasons: Counter[str] = Counter()
    if not all(a.alone for group in groups for a in group):
        raise UsageError(
            "Answers with others' tokens in between make no pairs: a pair's log-prob is over whole"
            " answers. Take a policy gradient (grpo, rloo, …)."
        )
    if not groups:
        return RolloutBatch(trees, {}, carried, reasons)
    for group in groups:
        found, why = pairing.pairs(
            [a.reward for a in group], [a.text for a in group], group[0].prompt + first_row
        )
        reasons.update([why] if why else [])
        for good, bad in found:
            completions = (group[good].tokens, group[bad].tokens)
            trees.append(Tree(prompts[group[0].prompt], completions, first_row + len(trees)))
    return RolloutBatch(
        trees,
        {
            "rollouts/pairs": len(trees),
            "rollouts/paired_prompts": 1 - reasons.total() / len(groups),
        },
        carried,
        reasons,
    )
