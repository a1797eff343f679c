"""Formats whose rows hold one answer: with a label (for KTO and its kin), or to imitate."""

from __future__ import annotations

from accord.data.formats import parts
from accord.data.formats.drafts import Draft, demonstration, labelled, prompt_of
from accord.data.formats.pairs import last_answer
from accord.data.formats.parts import Row

CONVERSATION = "messages|conversations|conversation"
COMPLETION = "completion|response|answer"
OUTPUT = f"output|{COMPLETION}"  # of an instruction: Alpaca, Dolly
LABEL = "label|kto_tag"


def unpaired(row: Row) -> list[Draft]:
    """TRL unpaired: prompt, completion, label."""
    return labelled(row, prompt_of(row, "prompt|question"), row.pick(COMPLETION), _label(row))


def alpaca_label(row: Row) -> list[Draft]:
    """Alpaca with LLaMA-Factory's kto_tag."""
    return labelled(row, prompt_of(row, "instruction"), row.pick(OUTPUT), _label(row))


def conversation_label(row: Row) -> list[Draft]:
    """A conversation whose last message is labelled: ShareGPT's kto_tag, ms-swift's label."""
    return labelled(row, *last_answer(row, CONVERSATION), _label(row))


def completion(row: Row) -> list[Draft]:
    """A prompt and the answer to imitate."""
    return demonstration(row, prompt_of(row, "prompt|question"), row.pick(COMPLETION))


def alpaca_output(row: Row) -> list[Draft]:
    """Alpaca for supervised fine-tuning."""
    return demonstration(row, prompt_of(row, "instruction"), row.pick(OUTPUT))


def conversation(row: Row) -> list[Draft]:
    """A conversation; its last message is the answer."""
    return demonstration(row, *last_answer(row, CONVERSATION))


def _label(row: Row) -> bool:
    return parts.label(row.pick(LABEL), row.column(LABEL))
