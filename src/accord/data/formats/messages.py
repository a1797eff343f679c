"""Messages: the speaker, the words, and the other keys that a chat template may read.

`{role, content}` and `{from, value}` are messages; so are exchanges such as Capybara's
`{input, output}`, which give two turns. Reasoning and the calls of earlier turns go along in
`Turn.keys`; an answer that calls a tool is refused, since only text is trained on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from accord.data.formats import media, transcripts
from accord.data.formats.literals import Unreadable, literal
from accord.data.formats.parts import ROLES, TEXTS, Row, is_null, text
from accord.data.json_rows import kind_of
from accord.data.ledger import RowError
from accord.types import REASONING, Turn

THOUGHTS = ("thinking", "reasoning")  # types of content parts
# what each of two turns is called in an exchange
EXCHANGES = (
    ("input", "output"),
    ("human", "assistant"),
    ("human", "gpt"),
    ("user", "assistant"),
    ("question", "answer"),
    ("prompt", "response"),
    ("query", "response"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("human", "bot"),
    ("human", "ai"),
    ("user", "bot"),
    ("user", "model"),
)
CONTENTS = ("content", "value", "text", "parts")  # keys of a message that hold its words
CALLS = ("function_call", "tool_call")  # ShareGPT's roles of a turn that calls a tool
# names under which an answer stands in an object without a role
ANSWER_KEYS = ("text", "content", "value", "response", "answer", "output", "completion")
# (key, the values that say that a message is not trained on)
UNTRAINED = (
    ("weight", (0, "0")),
    ("train", (False, 0, "false")),
    ("trainable", (False, 0, "false")),
    ("training", (False, 0, "false")),
    ("loss", (False, 0, "false")),
    ("loss_mask", (False, 0)),
)


def canonical(value: object) -> str:
    """Return a value as JSON text, with its keys in their order."""
    try:
        found = json.dumps(value, ensure_ascii=False, allow_nan=False)
        found.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise RowError("wrong type", f"a value cannot be written as JSON: {error}.") from None
    return found


def parsed(value: object, where: str) -> object:
    """Return a value, or what its text holds as JSON or in Python's notation."""
    if not isinstance(value, str) or not value.strip():
        return value
    try:
        found = literal(value)
    except Unreadable as error:
        raise RowError(
            "wrong type",
            f"{where} is text that is neither JSON nor a Python literal: {error.says}.",
        ) from None
    if found.fault:
        raise found.fault
    return found.value


def turn(message: object, where: str) -> Turn:
    """Read one message, `{role, content}` or `{from, value}`."""
    if not isinstance(message, dict):
        raise RowError("wrong type", f"{where} has {kind_of(message)} where a message is expected.")
    named = _first(message, ("role", "from"))
    role = ROLES.get(named.strip().lower()) if isinstance(named, str) else None
    if role is None or not isinstance(named, str):
        raise RowError(
            "unknown role",
            f"{where} has a message of role {named!r:.40}; known: {', '.join(ROLES)}.",
        )
    content = _words(message, where)
    if named.strip().lower() in CALLS:
        return Turn(role, "", (("tool_calls", canonical(_calls_of_text(content, where))),))
    if len(message) == 2 and isinstance(content, str):  # most messages have nothing else
        return Turn(role, text(content, where))
    media.refuse_keys(message, where)
    calls = _tool_calls(message, where)
    thoughts: list[str] = []
    if isinstance(content, list) and content:
        content = _joined(content, where, thoughts)
    elif content in (None, []) and calls:
        content = ""
    keys = dict(_reasoning(message, thoughts, where))
    if calls:
        keys["tool_calls"] = canonical(calls)
    if role == "tool":
        keys |= {
            name: canonical(message[name])
            for name in ("name", "tool_call_id")
            if isinstance(message.get(name), str) and message[name]
        }
    return Turn(role, text(content, where), tuple(sorted(keys.items())))


def turns(value: object, where: str) -> tuple[Turn, ...]:
    """Read a list of messages or exchanges, or an object that holds one."""
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if not isinstance(value, list):
        raise RowError(
            "wrong type", f"{where} is {kind_of(value)} where a list of messages is expected."
        )
    return tuple(one for each in value for one in _turns_of(each, where))


def exchanges(value: object, where: str) -> tuple[Turn, ...]:
    """Read a history: messages, exchanges, or lists of [question, answer]."""
    if value in ("", None):  # an empty cell of a CSV file
        return ()
    if not isinstance(value, list):
        raise RowError(
            "wrong type",
            f"{where} is no list of [question, answer] pairs or messages, but {kind_of(value)}.",
        )
    said: list[Turn] = []
    for each in value:
        if isinstance(each, list):
            if len(each) != 2:
                raise RowError("wrong type", f"{where} is no list of [question, answer] pairs.")
            each = dict(zip(("input", "output"), each, strict=True))
        said += _turns_of(each, where)
    return tuple(said)


def prompt(row: Row, value: object, where: str, answers: list[str]) -> tuple[Turn, ...]:
    """Read a prompt in any shape: text becomes one user turn, a transcript its turns.

    `row.transcript` keeps the transcript, since the answers go on from it.
    """
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        row.notes.append(f"{where} is a list of one text: read as that text")
        value = value[0]
    if isinstance(value, dict) and "role" not in value and "from" not in value:
        return turns(value, where) if "messages" in value else (Turn("user", _bare(value, where)),)
    if isinstance(value, (list, dict)):
        return turns(value if isinstance(value, list) else [value], where)
    value = text(value, where)
    row.transcript = transcripts.split_prompt(value, where, answers)
    if row.transcript is None:
        if kept := transcripts.note_kept(value, where):
            row.notes.append(kept)
        return (Turn("user", value),)
    if row.transcript.note:
        row.notes.append(row.transcript.note)
    return row.transcript.turns


def answer(row: Row, value: object, where: str) -> tuple[Turn, ...]:
    """Read an answer with its context, if any: text, one message, messages, or turns."""
    if isinstance(value, tuple):
        return value
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        if len(value) > 1:
            raise RowError(
                "several answers",
                f"{where} is a list of {len(value)} texts where one answer is expected.",
            )
        row.notes.append("an answer is a list of one text: read as that text")
        value = value[0]
    if isinstance(value, list):
        if value and all(isinstance(each, dict) and not _speaks(each) for each in value):
            if len(value) > 1 and not all("type" in each for each in value):
                raise RowError("several answers", f"{where} is a list of {len(value)} answers.")
            if "type" in value[0]:
                return (turn({"role": "assistant", "content": value}, where),)
            return (Turn("assistant", _bare(value[0], where)),)
        refuse_untrained(value[-1] if value else None, where)
        return turns(value, where)
    if isinstance(value, dict):
        if isinstance(value.get("messages"), list):
            return answer(row, value["messages"], where)
        if not _speaks(value):
            return (Turn("assistant", _bare(value, where)),)
        refuse_untrained(value, where)
        return (turn(value, where),)
    return (Turn("assistant", text(value, where)),)


def _speaks(message: dict) -> bool:
    return message.get("role") is not None or message.get("from") is not None


def _first(message: dict, names: tuple[str, ...]) -> object:
    """Return the first value that is there; a table fills the keys that a message lacks with
    nulls.
    """
    return next((message[name] for name in names if message.get(name) is not None), None)


def _words(message: dict, where: str) -> object:
    """Return what a message says; an empty value beside a full one is filled by a table.

    Raises:
      RowError: it says two things, and one of them would be lost.
    """
    found = {name: message[name] for name in CONTENTS if not is_null(message.get(name))}
    if not found:
        return _first(message, CONTENTS)
    first, *others = found.values()
    if any(other != first for other in others) and len(set(map(_flat, found.values()))) > 1:
        raise RowError(
            "two texts",
            f"{where} has a message with different texts in {' and '.join(found)}; which of them"
            " is meant is not said. Leave out the other.",
        )
    return first


def _flat(value: object) -> str:
    """Return the text of a message's content, also of content in parts, to compare it."""
    parts = value if isinstance(value, list) else [value]
    texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    return "".join(text if isinstance(text, str) else repr(text) for text in texts).strip()


def _bare(value: dict, where: str) -> str:
    """Return the text of an object without a role."""
    named = [name for name in ANSWER_KEYS if value.get(name) is not None]
    if len(named) != 1:
        raise RowError(
            "unknown role",
            f"{where} is an object without a role, and its text is not one of"
            f" {', '.join(ANSWER_KEYS)}.",
        )
    return text(value[named[0]], where)


def _turns_of(each: object, where: str) -> Iterator[Turn]:
    """Yield the turns of a message, or the two of an exchange."""
    keys = exchange_keys(each)
    if isinstance(each, dict) and keys:
        asked, said = keys
        yield Turn("user", text(each[asked], where))
        # the last exchange of a prompt has no answer yet
        if each.get(said) not in (None, ""):
            yield Turn("assistant", text(each[said], where))
        return
    yield turn(each, where)


def exchange_keys(each: object) -> tuple[str, str] | None:
    """Return the two keys under which an object holds an exchange; None where it holds none."""
    if not isinstance(each, dict) or _speaks(each):
        return None
    begun = [(asked, said) for asked, said in EXCHANGES if asked in each]
    return next((both for both in begun if both[1] in each), begun[0] if begun else None)


def _joined(content: list, where: str, thoughts: list[str]) -> str:
    """Join content parts that are text; put thoughts apart."""
    said = []
    for part in content:
        if not isinstance(part, dict):
            raise RowError("wrong type", f"{where} has {kind_of(part)} as a content part.")
        kind = part.get("type") or "text"
        media.refuse_keys(part, where)
        found = part.get("text")
        if kind in THOUGHTS:
            thought = _first(part, (kind, "text", "content"))
            thoughts.append(text(thought, where))
        elif kind in TEXTS and isinstance(found, str):
            said.append(found)
        else:
            raise RowError(
                "not text",
                f"{where} has a content part of type {kind!r:.40}; only text parts can be used.",
            )
    return "".join(said)


def _reasoning(message: dict, thoughts: list[str], where: str) -> Iterator[tuple[str, str]]:
    """Yield the reasoning of a message under the key that the row uses."""
    found: dict[str, str] = {}
    for name in REASONING:
        value = message.get(name)
        if is_null(value):
            continue
        if (said := text(value, f"{name} of {where}")).strip():
            found[name] = said
    if any(thought.strip() for thought in thoughts):
        found.setdefault("reasoning_content", "\n".join(thoughts))
    if len(set(found.values())) > 1:
        raise RowError(
            "two reasonings", f"{where} has different reasoning in {' and '.join(found)}."
        )
    if found:
        name, said = next(iter(found.items()))
        yield name, canonical(said)


def _tool_calls(message: dict, where: str) -> list:
    """Return the calls of a message, those of the older key `function_call` in the newer form."""
    found = parsed(message.get("tool_calls"), f"tool_calls of {where}")
    old = parsed(message.get("function_call"), f"function_call of {where}")
    given: list = found if isinstance(found, list) else [found]
    # a table fills the calls that a message lacks with objects of nulls
    calls = [call for call in given if not is_null(call)]
    if not is_null(old):
        calls = [*calls, {"type": "function", "function": old}]
    if not all(isinstance(call, dict) for call in calls):
        raise RowError("tool calls", f"tool_calls of {where} is no list of objects.")
    return calls


def _calls_of_text(content: object, where: str) -> list:
    """Return the calls of a ShareGPT turn `function_call`, whose text is JSON."""
    found = parsed(content, where)
    calls = found if isinstance(found, list) else [found]
    if not calls or not all(isinstance(call, dict) for call in calls):
        raise RowError("wrong type", f"{where} has a call of a tool that is no JSON object.")
    return [{"type": "function", "function": call} for call in calls]


def refuse_untrained(message: object, where: str) -> None:
    """Refuse an answer whose message says that it is not to be trained on."""
    if not isinstance(message, dict):
        return
    for name, values in UNTRAINED:
        value = message.get(name)
        value = value.lower() if isinstance(value, str) else value
        if value is not None and value in values:
            raise RowError(
                "not to be trained on", f"{where} has {name}: {value}, so its author leaves it out."
            )
    if message.get("mask") not in (None, False, 0, ""):
        raise RowError(
            "not to be trained on",
            f"{where} has a mask; whether it hides or shows the answer is not said.",
        )
