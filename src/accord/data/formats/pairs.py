"""Formats whose rows hold a chosen and a rejected answer. One function per format; `table.py` says
when each one applies.

Sources: huggingface.co/docs/trl (dataset formats); LLaMA-Factory data/README.md (Alpaca, ShareGPT);
ms-swift, Custom-dataset.md; OpenAI's preference fine-tuning guide; Bai et al. 2022,
arXiv:2204.05862 (HH transcripts).
"""

from __future__ import annotations

from accord.data.formats import inputs, messages, parts, transcripts
from accord.data.formats.drafts import Draft, after_system, folded, pair, prompt_of
from accord.data.formats.parts import Row
from accord.data.ledger import RowError
from accord.types import Turn

CHOSEN, REJECTED = "chosen|chosen_response", "rejected|rejected_response"
ANSWER = "output|completion|response|answer"  # one that no name calls chosen
BESIDE = f"{REJECTED}|rejected_output|rejected_completion|rejected_answer"
DIALOGUE = "conversations|conversation"


def explicit(row: Row) -> list[Draft]:
    """A prompt beside two answers, each text or messages (TRL explicit, Orca, Argilla)."""
    before = prompt_of(row, "prompt|instruction|question|input")
    drafts = pair(row, before, row.pick(CHOSEN), row.pick(REJECTED))
    for name in ("messages", *DIALOGUE.split("|")):
        if isinstance(row.get(name), list):
            _refuse_other_conversation(row, name, drafts[0].prompt)
    return drafts


def _refuse_other_conversation(row: Row, name: str, prompt: tuple[Turn, ...]) -> None:
    """Refuse a row whose conversation stands in it twice, and differs.

    UltraFeedback's messages and Capybara's conversation are second copies, the answer included.
    """
    said = [turn for turn in messages.turns(row[name], name) if turn.role != "system"]
    if said and said[-1].role == "assistant":
        said = said[:-1]
    if folded(said) != folded(prompt):
        raise RowError(
            "two prompts",
            f"{name} holds another conversation than the prompt; which one is meant is not said.",
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
            " known. Add a prompt column, or name it: --columns prompt=COLUMN.",
        )
    return pair(row, after_system(row, ()), row["chosen"], row["rejected"])


def hh(row: Row) -> list[Draft]:
    """Two whole transcripts, which share all but their last turn."""
    sides = [parts.text(row[side], side) for side in ("chosen", "rejected")]
    if all(map(transcripts.is_hh, sides)):
        return pair(row, after_system(row, ()), *map(transcripts.hh_dialogue, sides))
    split = [transcripts.split_answer(side, "the answer") for side in sides]
    assert all(split), "`is_transcripts` looks at the row first"
    row.notes += [each.note for each in split if each]
    return pair(row, after_system(row, ()), *(each.turns for each in split if each))


def is_transcripts(row: Row) -> bool:
    """Tell whether both answers are whole transcripts."""
    sides = [row["chosen"], row["rejected"]]
    if not all(isinstance(side, str) for side in sides):
        return False
    return all(map(transcripts.is_hh, sides)) or all(map(transcripts.split_answer, sides))


def alpaca_outputs(row: Row) -> list[Draft]:
    """The old Alpaca comparison: output is [good, bad]."""
    if len(row["output"]) != 2:
        raise RowError(
            "wrong type", f"output has {len(row['output'])} answers; [good, bad] is expected."
        )
    return pair(row, prompt_of(row, "instruction"), *row["output"])


def is_two_outputs(row: Row) -> bool:
    """Tell whether `output` is a list of answers, and not one answer in a list or as messages."""
    value = row["output"]
    if not isinstance(value, list) or len(value) == 1:
        return False
    if row.name("label|kto_tag"):
        return False
    roles = [each.get("role", each.get("from")) for each in value if isinstance(each, dict)]
    return all(parts.ROLES.get(str(role).lower(), "assistant") == "assistant" for role in roles)


def sharegpt(row: Row) -> list[Draft]:
    """ShareGPT ranking: a conversation and one message for each side."""
    return _after_conversation(row, row.column(DIALOGUE))


def axolotl(row: Row) -> list[Draft]:
    """Axolotl's chat_template.default: messages, and one message for each side."""
    return _after_conversation(row, "messages")


def _after_conversation(row: Row, name: str) -> list[Draft]:
    """Compare two answers to a conversation; or two whole conversations, of which it is a copy."""
    sides = row["chosen"], row["rejected"]
    if all(isinstance(side, list) and len(side) > 1 for side in sides):
        drafts = implicit(row)
        _refuse_other_conversation(row, name, drafts[0].prompt)
        return drafts
    value = row[name]
    inner = value.get("system") if isinstance(value, dict) else None
    before = after_system(row, messages.turns(value, name), inner)
    drafts = pair(row, before, *sides)
    if drafts[0].prompt[-1].role == "assistant":
        raise RowError(
            "conversation ends in an answer",
            f"{name} ends in an assistant turn that is not the chosen answer, so two answers would"
            " stand in a row. End it with the user's turn.",
        )
    return drafts


# keys of OpenAI's input that are settings of a request, and say nothing to the model
SETTINGS = frozenset("parallel_tool_calls tool_choice model temperature top_p max_tokens".split())
INSIDE = frozenset(("messages", "system", *inputs.COLUMNS))


def openai(row: Row) -> list[Draft]:
    """OpenAI, Fireworks and Together: input.messages and, for each side, a list of one assistant
    message; tools stand in the input as well.
    """
    asked = row["input"]
    if not isinstance(asked, dict):
        before = after_system(row, messages.prompt(row, asked, "input", []))
        return pair(row, before, row["preferred_output"], row["non_preferred_output"])
    for name, value in asked.items():
        if name not in INSIDE | SETTINGS and not parts.is_null(value):
            raise RowError(
                "key that is not read",
                f"input has the key {name!r:.40}, which nothing reads; known:"
                f" {', '.join(sorted(INSIDE | SETTINGS))}.",
            )
    before = messages.prompt(row, asked.get("messages"), "input.messages", [])
    before = after_system(row, before, asked.get("system"))
    return pair(row, before, row["preferred_output"], row["non_preferred_output"], inside=asked)


def ms_swift(row: Row) -> list[Draft]:
    """ms-swift: the last message is chosen; the rejected one is text, a message, or a whole
    conversation.
    """
    context, chosen = last_answer(row, "messages")
    return pair(row, context, chosen, row.pick("rejected_response|rejected_messages"))


def is_unlabelled(row: Row) -> bool:
    """Tell whether no label stands in the row: with one, the answer need not be the better."""
    return row.name("label|kto_tag") is None


def beside_rejected(row: Row) -> list[Draft]:
    """An answer beside a rejected one: ms-swift's response and rejected_response, and its kin."""
    before = prompt_of(row, "instruction|prompt|question")
    row.notes.append(f"{row.column(ANSWER)} is the answer that is chosen over the rejected one")
    return pair(row, before, row.pick(ANSWER), row.pick(BESIDE))


def last_answer(row: Row, columns: str) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """Split a conversation into its prompt and its last message, which must be an answer."""
    name = row.column(columns)
    value = row[name]
    messages.refuse_untrained(value[-1] if isinstance(value, list) and value else None, name)
    said = messages.turns(value, name)
    if not said:
        raise RowError("no prompt", f"{name} is an empty list of messages.")
    return after_system(row, said[:-1]), said[-1:]
