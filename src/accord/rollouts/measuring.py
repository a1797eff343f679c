"""Measurements of answers: their rewards, and their log-probs under policy and reference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from accord.engine.step import UpdateContext
from accord.evaluate.probe import KLReference
from accord.objectives.policy_table import BoundPolicy
from accord.rewards.reward import Reward, Rewards
from accord.rollouts.prompts import PromptSet
from accord.rollouts.record import Answer
from accord.types import Tree


def kl_reference(learner: UpdateContext) -> KLReference:
    """Return the reference, token by token."""
    reference = learner.reference
    start = KLReference.of(learner.forward, getattr(reference, "live", reference))
    assert start is not None, "where answers are drawn, the reference is in memory"
    return start


@torch.no_grad()
def measure_logps(
    own: Sequence[Answer], pack: Sequence[Tree], learner: UpdateContext, start: KLReference
) -> None:
    tokens = learner.forward.token_logps(pack)
    with start.inside():
        known = start.forward(pack).values
    columns = {"logps": tokens.values, "reference": known}
    if isinstance(learner.objective, BoundPolicy) and learner.objective.critic:
        assert tokens.expected is not None, "the model has a value head"
        columns["expected"] = tokens.expected
    sizes = [count for tree in pack for count in tree.counts]
    for name, values in columns.items():
        for answer, piece in zip(own, values.float().cpu().split(sizes), strict=True):
            found = piece.tolist()
            setattr(answer, name, found[: answer.count])
            # one token more: `Overlong.measured`
            if name == "expected" and len(found) > answer.count:
                answer.behind = found[answer.count]


def assign_rewards(reward: Reward, prompts: PromptSet, answers: Sequence[Answer]) -> None:
    """Give each answer its reward, or the reason why it has none."""
    found = score_answers(reward, prompts, answers)
    for i, answer in enumerate(answers):
        value = float(found.values[i])
        answer.reward, answer.failure = (
            (None, found.failures[i]) if math.isnan(value) else (value, "")
        )
        answer.parts = {
            name: None if math.isnan(part[i]) else float(part[i])
            for name, part in found.parts.items()
        }


def score_answers(reward: Reward, prompts: PromptSet, answers: Sequence[Answer]) -> Rewards:
    """Score some answers by a reward."""
    asked = [prompts.question(a.prompt).turns for a in answers]
    return reward(asked, [a.text for a in answers], [prompts.row(a.prompt) for a in answers])
