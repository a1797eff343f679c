"""Parts of rows: text, messages, transcripts, answers, labels. Each reader takes any JSON value.

A value that is not what it should be raises RowError with the column's name; nothing is guessed,
and no text is changed: what stands in the file is what the model will see.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from accord.data.json_rows import kind_of
from accord.data.ledger import RowError
from accord.types import Turn

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "function": "tool",
    "ipython": "tool",
    "observation": "tool",
}

# A turn of an HH transcript: a blank line, then the speaker. Only the first may stand at the very
# start. "Human:" elsewhere is text: 28 of 2,312 rows of HH harmless-base have it inside an answer.
SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
# HelpSteer2 writes several turns into one prompt, the first of them the user's, without a marker.
EXTRA_ID = re.compile(r"\s*<extra_id_1>(User|Assistant)\n")


@lru_cache(maxsize=1024)
def _choices(choice: str) -> tuple[str, ...]:
    """Split "a|b|c". Every row asks for the same few choices, a hundred times."""
    return tuple(choice.split("|"))


class Row(dict):
    """One row as the recognisers see it: its columns, how lists are to be paired, the notes made on
    it, and the columns whose values were read.

    A column counts as read when its value is taken: by `row[…]`, `pick` or `get`. To ask for its
    name (`name`, `column`, `in`) reads nothing.
    """

    def __init__(self, columns: dict, pairing=None) -> None:
        super().__init__(columns)
        self.pairing = pairing
        self.notes: list[str] = []
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        if name in self:
            self.read.add(name)
        return super().get(name, default)

    def name(self, choice: str) -> str | None:
        """Return the first of the columns `"a|b|c"` that the row has."""
        for name in _choices(choice):
            if name in self:
                return name
        return None

    def column(self, choice: str) -> str:
        """Return the same as `name`, for a format that needs one of these columns."""
        name = self.name(choice)
        assert name is not None, f"the row has none of {choice}"
        return name

    def pick(self, choice: str, default: object = None) -> object:
        """Return the value of the first of the columns `"a|b|c"` that the row has."""
        name = self.name(choice)
        return default if name is None else self[name]


def text(value: object, where: str) -> str:
    """Read a string, or a list of content parts that are all text.

    Raises:
      RowError: another type, a part that is not text, a NUL character, half a surrogate pair.
    """
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        value = "".join(_part(part, where) for part in value)
    if not isinstance(value, str):
        raise RowError("wrong type", f"{where} is {kind_of(value)} where text is expected.")
    if "\0" in value:
        raise RowError(
            "NUL character", f"{where} holds a NUL character, so it is not text or was damaged."
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise RowError(
            "lone surrogate", f"{where} holds half a surrogate pair, which no tokenizer takes."
        ) from None
    return value


def _part(part: dict, where: str) -> str:
    if part.get("type", "text") != "text" or not isinstance(part.get("text"), str):
        found = f"{part.get('type')!r:.40}"
        raise RowError(
            "not text", f"{where} has a content part of type {found}; only text parts can be used."
        )
    return part["text"]


def turn(message: object, where: str) -> Turn:
    """Read one message, `{role, content}` or `{from, value}`."""
    if not isinstance(message, dict):
        raise RowError("wrong type", f"{where} has {kind_of(message)} where a message is expected.")
    if message.get("tool_calls") or message.get("function_call"):
        raise RowError(
            "tool calls", f"{where} calls a tool; the call would be lost, since only text is kept."
        )
    role = message.get("role", message.get("from"))
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise RowError(
            "unknown role",
            f"{where} has a message of role {role!r:.40}; known: {', '.join(ROLES)}.",
        )
    return Turn(ROLES[role.lower()], text(message.get("content", message.get("value")), where))


def turns(value: object, where: str) -> tuple[Turn, ...]:
    """Read a list of messages."""
    if not isinstance(value, list):
        raise RowError(
            "wrong type", f"{where} is {kind_of(value)} where a list of messages is expected."
        )
    return tuple(turn(message, where) for message in value)


def prompt(value: object, where: str = "prompt") -> tuple[Turn, ...]:
    """Read a prompt in any shape: text becomes one user turn, a transcript its turns."""
    if isinstance(value, list):
        return turns(value, where)
    value = text(value, where)
    if is_transcript(value):
        return dialogue(value)[:-1]  # the last "Assistant:" hands over to the answer: it is no turn
    if EXTRA_ID.search(value):
        return _alternating(["User", *EXTRA_ID.split(value)])
    return (Turn("user", value),)


def is_transcript(value: str) -> bool:
    """Tell whether text is a whole HH prompt: it starts with a human's turn and ends by handing
    over.
    """
    found = SPEAKER.match(value)
    return found is not None and found[1] == "Human" and value.rstrip().endswith("\n\nAssistant:")


def is_dialogue(value: object) -> bool:
    """Tell whether a value is text with both speakers' markers, as HH publishes whole dialogues."""
    return isinstance(value, str) and {"Human", "Assistant"} <= set(SPEAKER.findall(value))


def dialogue(value: str) -> tuple[Turn, ...]:
    """Read the turns of an HH transcript; text before the first marker is the system's.

    Blanks around a turn are the transcript's layout, not its content.
    """
    before, *marked = SPEAKER.split(value)
    spoken = _alternating(marked)
    return (Turn("system", before.strip()), *spoken) if before.strip() else spoken


def _alternating(marked: list[str]) -> tuple[Turn, ...]:
    """Make turns from [speaker, words, speaker, words, …]."""
    speakers, words = marked[::2], marked[1::2]
    return tuple(
        Turn(ROLES[who.lower()], said.strip()) for who, said in zip(speakers, words, strict=True)
    )


def answer(value: object, where: str) -> tuple[Turn, ...]:
    """Read an answer with its context, if any: text, one message, messages, a whole dialogue, or
    turns.
    """
    if isinstance(value, tuple):
        return value
    if isinstance(value, dict):
        return (turn(value, where),)
    if isinstance(value, list):
        return turns(value, where)
    value = text(value, where)
    if value.startswith("\n\nHuman:") and "\n\nAssistant:" in value:
        return dialogue(value)
    return (Turn("assistant", value),)


def label(value: object, where: str) -> bool:
    """Read a label: true, false, 0, 1, or these words as text."""
    if isinstance(value, str):
        value = {"true": True, "false": False, "1": True, "0": False}.get(
            value.strip().lower(), value
        )
    if not isinstance(value, (bool, int, float)) or value not in (0, 1):
        raise RowError(
            "wrong label", f"{where} is {value!r:.40}; a label is true or false, 1 or 0."
        )
    return bool(value)


def number(value: object, where: str) -> float:
    """Read a finite number, also as text (CSV); a boolean is no number."""
    try:
        found = (
            float(value)
            if isinstance(value, (int, float, str)) and not isinstance(value, bool)
            else None
        )
    except (ValueError, OverflowError):
        found = None
    if found is None or found != found or found in (float("inf"), float("-inf")):
        raise RowError("wrong type", f"{where} is {value!r:.40} where a number is expected.")
    return found
