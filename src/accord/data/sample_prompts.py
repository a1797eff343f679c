"""Prompts for a model: their tokens, and what became of those that it cannot answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from accord.data.prompts import Question
from accord.data.templates import Template
from accord.data.tokenizer_text import Unfit
from accord.types import DataError


@dataclass
class PromptRow:
    """Prompts that a model can answer, and what became of the others."""

    questions: list[Question] = field(default_factory=list)
    ids: list[tuple[int, ...]] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)  # reason -> prompts
    unfit: int = 0  # of those, prompts left out for their text and not for their length

    @classmethod
    def of(
        cls,
        questions: Sequence[Question],
        template: Template,
        limit: int | None,
        max_new_tokens: int,
        name: str,
    ) -> PromptRow:
        """Encode questions for a model.

        Args:
          template: of the model that answers, which has `limit` positions.
          name: of that model, for messages.

        Raises:
          DataError: no prompt can be answered.
        """
        asked, room = cls(), (limit or 10**9) - max_new_tokens
        for question in questions:
            try:
                ids = template.question(question.turns, question.inputs)
            except Unfit as problem:
                asked.left_out[problem.reason] += 1
                asked.unfit += 1
                continue
            if len(ids) > room:
                asked.left_out[
                    f"over {room:,} tokens, so that the answer would not fit into the model's"
                    " positions"
                ] += 1
                continue
            asked.questions.append(question)
            asked.ids.append(ids)
        if not asked.ids:
            said = "; ".join(f"{count:,}: {reason}" for reason, count in asked.left_out.items())
            raise DataError(
                f"None of {len(questions):,} prompts can be answered by {name}. {said}."
            )
        return asked
