"""Conversions from the kind of row that a file holds to the kind that an objective trains on, where
that is honest.

    pairs ──▶ labelled           each pair serves as two labels: chosen desirable, rejected not
    pairs ──▶ demonstrations     the chosen answer
    labelled ──▶ demonstrations  the desirable ones; the others are left out and counted

Labelled answers are not paired: which two would be compared is a choice that changes what is
learnt.
"""

from __future__ import annotations

from accord.data.endings import extra_of_side
from accord.data.ledger import RowError
from accord.types import Demonstration, Example, Labelled, Pair


def as_kind(example: Example, kind: str) -> list[Example]:
    """Convert the example to the kind `"pairs"`, `"labelled"` or `"demonstrations"`.

    Raises:
      RowError: there is no honest way; says what to do instead.
    """
    return KINDS[kind](example)


def _pairs(example: Example) -> list[Example]:
    if isinstance(example, Pair):
        return [example]
    if isinstance(example, Labelled):
        raise RowError(
            "labelled, not paired",
            "answers labelled good or bad one at a time; they are not paired silently. Train on"
            " them as they are: --method kto (rows 'labelled').",
        )
    raise RowError(
        "not a comparison",
        "one answer and nothing to compare it with. Tune on such answers: --method sft (rows"
        " 'demonstrations').",
    )


def _labelled(example: Example) -> list[Example]:
    if isinstance(example, Labelled):
        return [example]
    if isinstance(example, Pair):
        sides = ((example.chosen, True), (example.rejected, False))
        return [
            Labelled(
                example.prompt,
                said,
                good,
                example.origin,
                extra_of_side(example.extra, at),
                example.inputs.only(at),
            )
            for at, (said, good) in enumerate(sides)
        ]
    raise RowError(
        "no label",
        "a prompt and an answer without a column 'label' (true or false, 1 or 0). To tune on the"
        " answers as they are: --method sft.",
    )


def _demonstrations(example: Example) -> list[Example]:
    if isinstance(example, Demonstration):
        return [example]
    if isinstance(example, Pair):
        inputs, extra = example.inputs.only(0), extra_of_side(example.extra, 0)
        return [Demonstration(example.prompt, example.chosen, example.origin, extra, inputs)]
    if example.desirable:
        return [
            Demonstration(
                example.prompt, example.completion, example.origin, example.extra, example.inputs
            )
        ]
    raise RowError("undesirable", "labelled undesirable, so nothing to imitate.")


KINDS = {"pairs": _pairs, "labelled": _labelled, "demonstrations": _demonstrations}
