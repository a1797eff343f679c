"""Structured text: messages and lists that a file holds in a string.

A table writer that has no type for messages writes their text, and a second one writes the text of
that text. Such a string is read as what it holds where nothing else can be meant, and a note says
so. An answer that is JSON without being messages stays text, as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from accord.data.formats.literals import Literal, Unreadable, literal
from accord.data.formats.parts import ROLES
from accord.data.ledger import RowError

# A message's text stands under one of these keys.
CONTENT = ("content", "value", "text", "parts", "tool_calls", "function_call")

CONVERSATIONS = frozenset(
    "messages conversations conversation rejected_messages chosen_messages".split()
)
LISTS = frozenset(
    "responses completions candidates answers generations scores ratings rewards rating ranks rank"
    " ranking order history".split()
)
PROMPTS = frozenset("prompt question instruction input context".split())
ANSWERS = frozenset(
    "chosen rejected chosen_response rejected_response completion response answer output"
    " preferred_output non_preferred_output response_0 response_1 response_2 response1 response2"
    " answer_0 answer_1 human_ref_A human_ref_B".split()
)
SYSTEMS = frozenset("system system_prompt system_message".split())
COLUMNS = CONVERSATIONS | LISTS | PROMPTS | ANSWERS | SYSTEMS

_STARTS = re.compile(r"\s*+(?:[\[{(\"]|array\()")
# possessive: a text of blanks is looked at once
_OPENS = re.compile(r"""\s*+"?\s*+(?:array\()?[\[(\s]*+\{\s*+\\*+["']\w++\\*+["']\s*+:""")
_ROLES = "|".join(sorted(ROLES))
_ROLE = re.compile(
    rf"""["'](?:role|from)\\*+["']\s*+:\s*+\\*+["'](?:{_ROLES})\\*+["']""", re.IGNORECASE
)

LISTED = "prompt is the text of a list of texts: kept as it is"
QUOTED = "answers stand in quotation marks: kept as they are"


@dataclass
class Decoded:
    """A row whose structured text is parsed.

    Args:
      columns: the row; a string that holds messages is replaced by them.
      notes: what was done to a column.
      faults: why a column cannot be read; `settle` raises them.
    """

    columns: dict
    notes: dict[str, str] = field(default_factory=dict)
    faults: dict[str, RowError] = field(default_factory=dict)

    def replace(self, name: str, value: object, note: str) -> None:
        self.columns[name], self.notes[name] = value, note

    def settle(self, read: Collection[str], notes: list[str]) -> None:
        """Add the notes on the columns that a format reads, or raise the fault of one of them."""
        for name in read:
            if name in self.faults:
                raise self.faults[name]
        notes += [self.notes[name] for name in read if name in self.notes]


def decode(columns: dict, format: str | None = None) -> Decoded:
    """Parse the structured text of a row.

    Args:
      format: the format that the caller insists on; it settles what is ambiguous otherwise.
    """
    texts = {
        name: value
        for name, value in columns.items()
        if isinstance(value, str) and name in COLUMNS and _STARTS.match(value)
    }
    if not texts:
        return Decoded(columns)
    found = Decoded(dict(columns))
    held: dict[str, Literal] = {}
    for name, text in texts.items():
        try:
            held[name] = literal(text)
        except Unreadable as error:
            if fault := _broken(name, text, error):
                found.faults[name] = fault
    for name, each in held.items():
        _replace_messages(name, each, found)
    _replace_lists_of_one(columns, held, found)
    _replace_quoted(columns, held, found, format)
    _settle_two_outputs(columns, held, found, format)
    _note_listed(columns, held, found)
    return found


def is_message(value: object) -> bool:
    """Tell whether a value has a message's keys: who speaks, and what."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("role", value.get("from")), str)
        and any(key in value for key in CONTENT)
    )


def holds_messages(value: object) -> bool:
    """Tell whether a value is one message or a list of them, with a role that is known."""
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    messages: list = value if isinstance(value, list) else [value]
    bare = isinstance(value, list) and all(isinstance(e, dict) and "role" in e for e in messages)
    return (
        bool(messages)
        # messages in a list that have lost their text are refused as such
        and (bare or all(map(is_message, messages)))
        and any(str(each.get("role", each.get("from"))).lower() in ROLES for each in messages)
    )


def _replace_messages(name: str, each: Literal, found: Decoded) -> None:
    if holds_messages(each.value):
        what = "messages"
    elif name in CONVERSATIONS | LISTS and isinstance(each.value, list):
        what = "a list"
    elif name == "question" and isinstance(each.value, dict) and "full_text" in each.value:
        what = "an object"
    else:
        return
    if each.fault:
        found.faults[name] = each.fault
    found.replace(name, each.value, f"{name} holds {what} as {each.notation} text: parsed")


def _broken(name: str, text: str, error: Unreadable) -> RowError | None:
    """Return the fault of a text that holds messages and cannot be read; None if it is only text.

    Text that goes on in words after a whole value talks about messages.
    """
    if not _OPENS.match(text) or not _ROLE.search(text):
        return None
    if error.rest and error.rest[0] not in "[{(,":
        return None
    return RowError(
        "messages in broken text",
        f"{name} holds messages as text that is neither JSON nor a Python literal ({error.says})."
        " Lists that numpy or pandas printed have lost their commas: write the file again with"
        " to_json(…, lines=True) or to_parquet.",
    )


def _replace_lists_of_one(columns: dict, held: dict[str, Literal], found: Decoded) -> None:
    """Read lists of one text as that text where prompt and answers are such lists alike."""
    texts = [name for name in columns if name in PROMPTS | ANSWERS and columns[name] is not None]
    lists = {
        name: held[name].value
        for name in texts
        if name in held and isinstance(held[name].value, list)
    }
    if len(texts) != len(lists) or not (set(texts) & PROMPTS and set(texts) & ANSWERS):
        return
    if not all(_all_text(value) for value in lists.values()):
        return
    for name, value in lists.items():
        assert isinstance(value, list), "`_all_text` looked"
        if len(value) == 1:
            note = f"{name} holds a list of one text as {held[name].notation} text: parsed"
            found.replace(name, value[0], note)
        else:
            found.faults[name] = RowError(
                "several texts in a list",
                f"{name} holds a list of {len(value)} texts; which of them are turns of one"
                " conversation is not said. Write messages with roles.",
            )


def _note_listed(columns: dict, held: dict[str, Literal], found: Decoded) -> None:
    """Note a prompt that is a list of texts as text: some sets write its turns so."""
    for name in PROMPTS & held.keys():
        if found.columns[name] == columns[name] and _all_text(held[name].value):
            found.notes[name] = LISTED


def _all_text(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _replace_quoted(
    columns: dict, held: dict[str, Literal], found: Decoded, format: str | None
) -> None:
    """Read JSON strings as the text that they encode, where prompt and answers are such strings,
    or all answers are and have escapes. Text that merely stands in quotation marks stays.
    """
    answers = [n for n in columns if n in ANSWERS and isinstance(columns[n], str)]
    asked = [n for n in columns if n in PROMPTS and isinstance(columns[n], str) and columns[n]]
    quoted = {
        name: each.value
        for name, each in held.items()
        if each.notation == "JSON" and isinstance(each.value, str)
    }
    inside = [name for name in answers if name in quoted]
    escaped = {name for name in quoted if "\\" in columns[name]}
    if answers and len(inside) == len(answers):
        if (asked and all(name in quoted for name in asked)) or escaped & set(inside):
            chosen = quoted
        else:
            if format is None:
                found.notes.update(dict.fromkeys(inside, QUOTED))
            return
    elif escaped & set(inside) and format is None:
        for name in escaped & set(inside):
            found.faults[name] = RowError(
                "one answer is a JSON string",
                f"{name} is a JSON string with escapes, and the other answer is plain text. Write"
                " both alike, or take both as they stand with --set data.format=NAME.",
            )
        return
    else:
        chosen = {name: quoted[name] for name in escaped if name in asked}
    for name in chosen:
        if name in answers or name in asked:
            found.replace(name, chosen[name], f"{name} is a JSON string: parsed")


def _settle_two_outputs(
    columns: dict, held: dict[str, Literal], found: Decoded, format: str | None
) -> None:
    """Settle whether `output` as the text of two texts is [good, bad], or one answer that is JSON.

    A label beside it says that it is one answer.
    """
    value = held["output"].value if "output" in held else None
    labelled = any(columns.get(name) is not None for name in ("label", "kto_tag"))
    if not _all_text(value) or labelled or "instruction" not in columns:
        return
    assert isinstance(value, list), "`_all_text` looked"
    if format == "alpaca-outputs":
        notation = held["output"].notation
        found.replace("output", value, f"output holds a list as {notation} text: parsed")
    elif len(value) == 2 and format is None:
        found.faults["output"] = RowError(
            "one answer or two",
            "output is the text of a list of two texts: one answer in JSON, or [good, bad]?"
            " Say it with --set data.format=alpaca-sft or --set data.format=alpaca-outputs.",
        )
