"""Fresh answers to held-out prompts: their length, and how far the model has moved from the
reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np

from accord.assess.anchor import EvalReference
from accord.assess.opened import OpenModel
from accord.data.prompts import Question
from accord.data.rows import Rows
from accord.data.templates import Template
from accord.data.tokenizer_text import Unfit
from accord.evaluate.intervals import AT_LEAST_ZERO, bootstrap_difference, bootstrap_mean
from accord.evaluate.probe import divergences, sample_metrics
from accord.forward.choose import Forward
from accord.models.language import LanguageModel
from accord.sampling.local import LocalSampler
from accord.sampling.sampler import Prompt, Sample
from accord.types import UsageError


@dataclass(frozen=True)
class Drawing:
    """Options for drawing fresh answers. The temperature is 1, so the answers follow the model's
    own distribution.
    """

    prompts: int = 64
    max_new_tokens: int = 64
    seed: int = 0


@dataclass
class Side:
    """A model that answers, with its template."""

    name: str
    model: LanguageModel
    inside: Callable[[], AbstractContextManager]  # within it, the model computes as this side
    template: Template

    def answer(self, asked: Sequence[Question], drawing: Drawing) -> list[Sample]:
        """Draw one answer to each prompt.

        Raises:
          UsageError: a prompt that this side's template or length does not take.
        """
        try:
            ids = [tuple(self.template.question(one.turns, one.inputs)) for one in asked]
        except Unfit as problem:
            raise UsageError(
                f"{self.name} cannot be asked the same prompts: {problem}."
            ) from problem
        with self.inside():
            return LocalSampler.of(self.model).sample(
                ids, max_new_tokens=drawing.max_new_tokens, seed=drawing.seed
            )


def sides(
    opened: OpenModel, anchor: EvalReference | None, policy: Forward
) -> tuple[Side, Side | None]:
    """Return the policy and the model that it is measured against, if that one is in memory."""
    own = Side(opened.name, opened.model, nullcontext, opened.template)
    if anchor is None:
        return own, None
    start = anchor.start(policy)
    return own, Side(anchor.says, start.forward.model, start.inside, opened.template)


def questions(
    rows: Rows, opened: OpenModel, drawing: Drawing
) -> tuple[list[Question], list[Prompt], list[dict]]:
    """Select the first distinct prompts that leave room for an answer. Return them as text and as
    tokens, with the other columns of their rows.
    """
    room = (opened.limit or 10**9) - drawing.max_new_tokens
    first: dict[Prompt, tuple[Question, dict]] = {}
    for tree in rows.trees:
        example = rows.encoding.examples[tree.row]
        asked = Question(example.prompt, example.origin, replace(example.inputs, answers=()))
        ids = tuple(opened.template.question(asked.turns, asked.inputs))
        if len(ids) <= room:
            first.setdefault(ids, (asked, example.extra))
        if len(first) == drawing.prompts:
            break
    return [asked for asked, _ in first.values()], list(first), [row for _, row in first.values()]


def sample_figures(own: list[Sample], other: list[Sample] | None, limit: int) -> dict:
    """Sum up lengths, repetition and endings of the answers. With two sides, add the differences
    paired by prompt.

    Args:
      limit: tokens that no answer exceeds.
    """
    lengths = np.array([len(answer.tokens) for answer in own])
    found = {
        **sample_metrics(own),
        "prompts": len(own),
        "tokens": bootstrap_mean(lengths, bounds=(0, limit)).as_dict(),
    }
    if other is not None:
        theirs = np.array([len(answer.tokens) for answer in other])
        found["reference_tokens"] = bootstrap_mean(theirs, bounds=(0, limit)).as_dict()
        apart = bootstrap_difference(lengths, theirs, bounds=(-limit, limit))
        found["tokens_difference"] = apart.as_dict()
        found["longer"] = sample_metrics(own, theirs.tolist())["longer"]
    else:
        del found["longer"]
    return found


def divergence(
    policy: Forward, anchor: EvalReference, ids: list[Prompt], own: list[Sample]
) -> dict:
    """Measure KL(policy ‖ reference) in nats per answer of limited length, from the whole
    distribution at each position.
    """
    values = divergences(policy.model, ids, own, anchor.start(policy))
    return bootstrap_mean(values, bounds=AT_LEAST_ZERO).as_dict()
