"""Formats whose rows hold a chosen and a rejected answer. One function per format; `table.py` says
when each one applies.

Sources: huggingface.co/docs/trl (dataset formats); LLaMA-Factory data/README.md (Alpaca, ShareGPT);
ms-swift, Custom-dataset.md; OpenAI's preference fine-tuning guide; Bai et al. 2022,
arXiv:2204.05862 (HH transcripts).
"""

from __future__ import annotations

from accord.data.formats import parts
from accord.data.formats.drafts import Draft, after_system, pair, prompt_of
from accord.data.formats.parts import Row
from accord.data.ledger import RowError
from accord.types import Turn


def explicit(row: Row) -> list[Draft]:
    """A prompt beside two answers, each text or messages (TRL explicit, Orca, Argilla)."""
    before = prompt_of(row, "prompt|instruction|question|input")
    return pair(
        row, before, row.pick("chosen|chosen_response"), row.pick("rejected|rejected_response")
    )


def ultrafeedback(row: Row) -> list[Draft]:
    """UltraFeedback binarized: answers that repeat the prompt's turn, with scores, which stay in
    `extra`.
    """
    if row["score_chosen"] == row["score_rejected"]:
        row.notes.append("chosen and rejected have equal scores")
    return explicit(row)


def implicit(row: Row) -> list[Draft]:
    """Two whole conversations that share all but their last message (TRL implicit)."""
    if isinstance(row["chosen"], str) or isinstance(row["rejected"], str):
        raise RowError(
            "ambiguous prompt",
            "no prompt column and plain text without turn markers: where the prompt ends cannot be"
            " known. Add a prompt column, or name it with columns={'prompt': …}.",
        )
    return pair(row, after_system(row, ()), row["chosen"], row["rejected"])


def hh(row: Row) -> list[Draft]:
    """Two HH transcripts, split at their last common assistant marker."""
    chosen, rejected = (
        parts.dialogue(parts.text(row[side], side)) for side in ("chosen", "rejected")
    )
    return pair(row, after_system(row, ()), chosen, rejected)


def hh_prompt(row: Row) -> list[Draft]:
    """An HH transcript as the prompt, with answers apart; the blank after the marker belongs to
    neither.
    """
    sides = (parts.text(row[side], side) for side in ("chosen", "rejected"))
    asked = row["prompt"].strip()
    answers = (side.strip().removeprefix(asked).strip() for side in sides)
    return pair(row, prompt_of(row, "prompt"), *answers)


def alpaca(row: Row) -> list[Draft]:
    """Alpaca comparison: instruction and input in one user turn, after the history's turns."""
    return pair(row, alpaca_prompt(row), row["chosen"], row["rejected"])


def alpaca_outputs(row: Row) -> list[Draft]:
    """The old Alpaca comparison: output is [good, bad]."""
    if len(row["output"]) != 2:
        raise RowError(
            "wrong type", f"output has {len(row['output'])} answers; [good, bad] is expected."
        )
    return pair(row, alpaca_prompt(row), *row["output"])


def alpaca_prompt(row: Row) -> tuple[Turn, ...]:
    """System, history as [[question, answer], …],
    then instruction and input joined by a newline.
    """
    asked = parts.text(row["instruction"], "instruction")
    more = parts.text(row.pick("input", ""), "input")
    said = tuple(turn for exchange in _exchanges(row.pick("history", [])) for turn in exchange)
    return after_system(row, (*said, Turn("user", f"{asked}\n{more}" if more.strip() else asked)))


def _exchanges(history: object):
    if history == "":  # an empty cell of a CSV file
        return
    if not isinstance(history, list) or not all(
        isinstance(item, list) and len(item) == 2 for item in history
    ):
        raise RowError("wrong type", "history is no list of [question, answer] pairs.")
    for question, reply in history:
        yield (
            Turn("user", parts.text(question, "history")),
            Turn("assistant", parts.text(reply, "history")),
        )


def sharegpt(row: Row) -> list[Draft]:
    """ShareGPT ranking: a conversation and one message for each side."""
    return pair(row, prompt_of(row, "conversations|conversation"), row["chosen"], row["rejected"])


def openai(row: Row) -> list[Draft]:
    """OpenAI, Fireworks and Together: input.messages and, for each side, a list of one assistant
    message.
    """
    asked = row["input"]
    messages = asked.get("messages") if isinstance(asked, dict) else asked
    if isinstance(asked, dict) and asked.get("tools"):
        row.notes.append("tools are not shown to the model")
    before = after_system(row, parts.prompt(messages, "input.messages"))
    return pair(row, before, row["preferred_output"], row["non_preferred_output"])


def ms_swift(row: Row) -> list[Draft]:
    """ms-swift: the last message is chosen; the rejected one is text, a message, or a whole
    conversation.
    """
    context, chosen = last_answer(row, "messages")
    return pair(row, context, chosen, row.pick("rejected_response|rejected_messages"))


def last_answer(row: Row, columns: str) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """Split a conversation into its prompt and its last message, which must be an answer."""
    name = row.column(columns)
    said = parts.turns(row[name], name)
    if not said:
        raise RowError("no prompt", f"{name} is an empty list of messages.")
    return after_system(row, said[:-1]), said[-1:]
