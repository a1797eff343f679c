"""The rows of a conversation: what `accord sample` writes of its prompts, and pairs that `accord
train` reads.
"""

from __future__ import annotations

from collections.abc import Mapping

from accord.assess.answer_endings import ended_columns
from accord.assess.chat.conversation import Answer, Exchange
from accord.data.convert import prompt_columns
from accord.types import NO_INPUTS, UsageError


def answers_row(exchange: Exchange, provenance: Mapping[str, object]) -> dict:
    """Build one line of a file of answers: a prompt, and every answer that was drawn to it.

    Args:
      provenance: whatever the answers depend on.
    """
    drawn = [(draw, i) for draw in exchange.draws for i in range(len(draw.answers))]
    answers = [draw.answers[i] for draw, i in drawn]
    seeds = [draw.seed for draw, _ in drawn]
    more = {
        "k": len(answers),
        "seed": seeds[0] if len({*seeds}) == 1 else seeds,
        "rows": [draw.row for draw, _ in drawn],
        "drawn_by": [draw.sides[i] for draw, i in drawn],
    }
    return {
        **prompt_columns(exchange.asked, NO_INPUTS),
        "completions": [answer.text for answer in answers],
        "ended": [answer.ended for answer in answers],
        "logprob": [answer.logprob for answer in answers],
        "tokens": [answer.tokens for answer in answers],
        "at": f"chat:{exchange.number}",
        "provenance": {**provenance, **more},
        "row": {},
    }


def pair_row(exchange: Exchange, chosen: int, provenance: Mapping[str, object]) -> dict:
    """Build a pair of the last draw's two answers.

    Args:
      chosen: the better one.

    Raises:
      UsageError: the answers are no pair that could be trained on.
    """
    draw, rejected = exchange.last, 1 - chosen
    good, bad = draw.answers[chosen], draw.answers[rejected]
    _require_pair(good, bad)
    more = {
        "seed": draw.seed,
        "rows": [draw.row, draw.row],
        "drawn_by": [draw.sides[chosen], draw.sides[rejected]],
    }
    return {
        **prompt_columns(exchange.asked, NO_INPUTS),
        "chosen": good.text,
        "rejected": bad.text,
        **ended_columns({"ended": [good.ended, bad.ended]}, 0, 1),
        "at": f"chat:{exchange.number}",
        "provenance": {**provenance, **more},
    }


def _require_pair(good: Answer, bad: Answer) -> None:
    if good.text == bad.text:
        raise UsageError(
            "Both answers are the same text, which is no preference. /again draws two others."
        )
    if not (good.text.strip() and bad.text.strip()):
        raise UsageError(
            "One of the answers is empty, and training refuses such a pair. /again draws two"
            " others."
        )
