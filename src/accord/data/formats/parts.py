"""Parts of rows: text, labels, numbers. Each reader takes any JSON value.

A value that is not what it should be raises RowError with the column's name; nothing is guessed,
and no text is changed: what stands in the file is what the model will see.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from accord.data.formats.transcripts import Transcript
from accord.data.json_rows import kind_of
from accord.data.ledger import RowError

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
    "ai": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "ipython": "tool",
    "observation": "tool",
}


@cache
def alternatives(choice: str) -> tuple[str, ...]:
    """Return the names in `"a|b|c"`; formats ask for the same few with every row."""
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
        # what the prompt was split from; the answers go on from it
        self.transcript: Transcript | None = None
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
        for name in alternatives(choice):
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


TEXTS = ("text", "input_text", "output_text")  # types of content parts


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
    if (part.get("type") or "text") not in TEXTS or not isinstance(part.get("text"), str):
        found = f"{part.get('type')!r:.40}"
        raise RowError(
            "not text", f"{where} has a content part of type {found}; only text parts can be used."
        )
    return part["text"]


GOOD = "true 1 1.0 +1 yes good desirable chosen positive like liked accept accepted preferred"
BAD = "false 0 0.0 -1 no bad undesirable rejected negative dislike disliked reject dispreferred"
LABELS = dict.fromkeys(
    (*GOOD.split(), "thumbs up", "thumbs_up", "upvote", "👍"), True
) | dict.fromkeys((*BAD.split(), "thumbs down", "thumbs_down", "downvote", "👎"), False)


def is_null(value: object, words: tuple[str, ...] = (), depth: int = 0) -> bool:
    """Tell whether a value holds nothing: null, blank text, or lists and objects of such, with
    which a table fills what a row lacks.

    Args:
      words: texts that say so as well, such as "none".
    """
    if isinstance(value, (dict, list, tuple)) and depth < 8:
        held = value.values() if isinstance(value, dict) else value
        return all(is_null(each, words, depth + 1) for each in held)
    if isinstance(value, str):
        return not value.strip() or value.strip().lower() in words
    return value is None or value == b"" or value != value


def label(value: object, where: str) -> bool:
    """Read a label: true, false, 1, 0, 1 and -1, or a word such as "desirable"."""
    if isinstance(value, str):
        value = LABELS.get(value.strip().lower(), value)
    if isinstance(value, (int, float)) and value == -1:
        return False
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    score = isinstance(value, (int, float)) or (isinstance(value, str) and _is_number(value))
    hint = (
        " A score is no label: where good begins is your choice. Write true or false."
        if score
        else " Known words are desirable/undesirable, good/bad, yes/no, chosen/rejected."
    )
    raise RowError(
        "wrong label",
        f"{where} is {value!r:.40}; a label is true or false, 1 or 0 (or 1 and -1).{hint}",
    )


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


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
