"""Strategies: one logical example, and the rows in which strangers' files write it.

`examples()` draws the example; `encodings` has a function for each way to write it as a row, which
returns None where that way cannot hold the example. Whatever the way, reading the row gives the
same example back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from accord.data.formats.transcripts import FAMILIES
from accord.types import Origin, Pair, TemplateInputs, Turn

HERE = Origin("here.jsonl", 1)

# What has fooled readers of other tools: quotes, escapes, braces, line ends, other scripts.
PIECES = [
    "the cat sat",
    "on a mat",
    "Paris",
    "a\nb",
    "a\n\nb",
    "x\r\ny",
    "it's",
    '"quoted"',
    "back\\slash",
    "\\n",
    "{'a': 1}",
    '[{"role": 3}]',
    "None",
    "e\u0301",
    "שלום",
    "漢字",
    "👩‍👩‍👧",
    "a\u2028b",
    "\x85",
    "\U000e0001",
    "    indented",
    "Note: this",
    "<b>",
]
TEXT = st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map(" ".join) | st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=20
)
SAID = TEXT.filter(lambda text: text.strip())
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"q": 'it\'s a "text"'}}}


@dataclass(frozen=True)
class Logical:
    """An example before it is written: user and assistant in turn, the user last."""

    said: tuple[str, ...]
    chosen: str
    rejected: str
    system: str = ""
    thoughts: tuple[str, str] = ("", "")  # before the chosen and before the rejected answer
    tools: bool = False

    @property
    def expected(self) -> Pair:
        """Return the example that every encoding must give back."""
        keys = tuple(
            (("reasoning_content", json.dumps(thought, ensure_ascii=False)),) if thought else ()
            for thought in self.thoughts
        )
        inputs = TemplateInputs(
            tools=json.dumps([TOOL], ensure_ascii=False) if self.tools else "",
            answers=keys if any(keys) else (),
        )
        return Pair(self.turns, self.chosen, self.rejected, HERE, {}, inputs)

    @property
    def turns(self) -> tuple[Turn, ...]:
        roles = ("user", "assistant")
        spoken = tuple(Turn(roles[at % 2], text) for at, text in enumerate(self.said))
        return (Turn("system", self.system), *spoken) if self.system else spoken

    @property
    def is_text(self) -> bool:
        """Tell whether nothing but text is to be kept."""
        return not any(self.thoughts) and not self.tools


def examples(**fixed: object) -> st.SearchStrategy[Logical]:
    """Draw logical examples; `fixed` sets some of their fields."""
    fields = {
        "said": st.lists(SAID, min_size=1, max_size=5)
        .filter(lambda said: len(said) % 2 == 1)
        .map(tuple),
        "chosen": SAID,
        "rejected": SAID,
        "system": st.just("") | SAID,
        "thoughts": st.just(("", "")) | st.tuples(SAID, SAID) | st.tuples(SAID, st.just("")),
        "tools": st.booleans(),
    } | {name: st.just(value) for name, value in fixed.items()}
    drawn = st.builds(Logical, **fields)
    return drawn.filter(lambda one: one.chosen.strip() != one.rejected.strip()).filter(
        lambda one: one.said[-1].strip() not in (one.chosen.strip(), one.rejected.strip())
    )


def _messages(one: Logical, names: tuple[str, str, str, str] = ("role", "content", "", "")) -> list:
    who, what, user, assistant = names
    renamed = {"user": user or "user", "assistant": assistant or "assistant"}
    return [{who: renamed.get(t.role, t.role), what: t.content} for t in one.turns]


def _answers(one: Logical, parts: bool = False) -> tuple[dict, dict]:
    sides = []
    for text, thought in zip((one.chosen, one.rejected), one.thoughts, strict=True):
        message: dict = {"role": "assistant", "content": text}
        if thought and parts:
            message["content"] = [
                {"type": "thinking", "thinking": thought},
                {"type": "text", "text": text},
            ]
        elif thought:
            message["reasoning_content"] = thought
        sides.append(message)
    return sides[0], sides[1]


def _tools(one: Logical) -> dict:
    return {"tools": [TOOL]} if one.tools else {}


def _conversational(one: Logical) -> dict:
    good, bad = _answers(one)
    return {"prompt": _messages(one), "chosen": [good], "rejected": [bad]} | _tools(one)


def _with_parts(one: Logical) -> dict:
    good, bad = _answers(one, parts=True)
    return {"prompt": _messages(one), "chosen": good, "rejected": bad} | _tools(one)


def _implicit(one: Logical) -> dict:
    sides = zip(("chosen", "rejected"), _answers(one), strict=True)
    return {side: [*_messages(one), answer] for side, answer in sides} | _tools(one)


def _sharegpt(one: Logical) -> dict:
    sides = []
    for answer in _answers(one):
        answer = {"from": "gpt", "value": answer.pop("content")} | answer
        sides.append({name: value for name, value in answer.items() if name != "role"})
    conversation = _messages(one, ("from", "value", "human", "gpt"))
    return {"conversations": conversation, "chosen": sides[0], "rejected": sides[1]} | _tools(one)


def _openai(one: Logical) -> dict:
    good, bad = _answers(one)
    return {
        "input": {"messages": _messages(one), "parallel_tool_calls": True} | _tools(one),
        "preferred_output": [good],
        "non_preferred_output": [bad],
    }


def _axolotl(one: Logical) -> dict:
    good, bad = _answers(one)
    return {"messages": _messages(one), "chosen": good, "rejected": bad} | _tools(one)


def _axolotl_answered(one: Logical) -> dict:
    """The conversation already ends in the chosen answer."""
    good, bad = _answers(one)
    return {"messages": [*_messages(one), good], "chosen": good, "rejected": bad} | _tools(one)


def _ms_swift(one: Logical) -> dict:
    good, bad = _answers(one)
    return {"messages": [*_messages(one), good], "rejected_messages": [bad]} | _tools(one)


def _nulls_of_a_table(one: Logical) -> dict:
    """Every key of every message, as Arrow fills them."""
    empty = {
        "name": None,
        "tool_calls": [{"function": {"name": None, "arguments": None}}],
        "reasoning_content": None,
        "images": [{"bytes": None, "path": ""}],
    }
    row = _conversational(one)
    filled = {
        side: [empty | each for each in row[side]] for side in ("prompt", "chosen", "rejected")
    }
    others = dict.fromkeys(("tools", "documents", "images", "videos", "label", "messages"))
    return others | row | filled


def _capybara(one: Logical) -> dict | None:
    if one.system:
        return None
    spoken = [*one.said, "An answer from elsewhere."]
    pairs = zip(spoken[::2], spoken[1::2], strict=True)
    return _implicit(one) | {
        "conversation": [{"input": asked, "output": said} for asked, said in pairs],
        "prompt": one.said[0],
    }


def _system(one: Logical) -> dict:
    return {"system": one.system} if one.system else {}


def _alpaca(one: Logical) -> dict | None:
    asked, _, more = one.said[-1].partition("\n")
    if not one.is_text or not _plain(asked) or not _plain_sides(one) or not _plain(one.system):
        return None
    if bool(more.strip()) != bool(more) or (not more and "\n" in one.said[-1]):
        return None
    history = list(zip(one.said[:-1:2], one.said[1:-1:2], strict=True))
    return {
        "instruction": asked,
        "input": more,
        "history": [list(each) for each in history],
        "chosen": one.chosen,
        "rejected": one.rejected,
    } | _system(one)


def _history_of_messages(one: Logical) -> dict | None:
    row = _alpaca(one)
    if row is None:
        return None
    return row | {"history": [each for each in _messages(one)[:-1] if each["role"] != "system"]}


def _text(one: Logical) -> dict | None:
    if not one.is_text or len(one.said) > 1 or not _plain(one.said[0]) or not _plain_sides(one):
        return None
    if not _plain(one.system):
        return None
    return {"prompt": one.said[0], "chosen": one.chosen, "rejected": one.rejected} | _system(one)


def _lists_of_one(one: Logical) -> dict | None:
    row = _text(one)
    return row and {name: [text] if name != "system" else text for name, text in row.items()}


def _objects_without_role(one: Logical) -> dict | None:
    row = _text(one)
    return row and row | {"chosen": {"text": one.chosen}, "rejected": {"content": one.rejected}}


def _quoted(one: Logical) -> dict | None:
    """Every text as JSON writes it, as a `json` column without its type."""
    if not one.is_text or len(one.said) > 1 or one.system:
        return None
    texts = {"prompt": one.said[0], "chosen": one.chosen, "rejected": one.rejected}
    if any(text.lstrip()[:1] in ("[", "{", '"') for text in texts.values()):
        return None  # such text would be text of text
    return None if not _plain(one.said[0]) else {n: json.dumps(text) for n, text in texts.items()}


def _ranked(one: Logical) -> dict | None:
    row = _text(one)
    return row and _system(one) | {
        "prompt": one.said[0],
        "responses": ["unranked", one.rejected, one.chosen],
        "ranks": [-1, "2", 1],
    }


def _plain(text: str) -> bool:
    """Tell whether a text can be taken for nothing else."""
    lines = text.splitlines() or [""]
    return text.lstrip()[:1] not in ("[", "{", '"', "(") and ":" not in "".join(lines)


def _plain_sides(one: Logical) -> bool:
    return _plain(one.chosen) and _plain(one.rejected)


def _for_transcript(one: Logical) -> bool:
    """Tell whether a transcript can hold an example: blanks around a turn are its layout."""
    texts = (*one.said, one.chosen, one.rejected, *([one.system] if one.system else []))
    return one.is_text and all(text == text.strip() and _plain(text) for text in texts)


def _transcript(family, end: str, whole: bool) -> Callable[[Logical], dict | None]:
    colon = "" if family.human.startswith("[|") else ":"

    def write(one: Logical) -> dict | None:
        if not _for_transcript(one):
            return None
        marks = {
            "user": f"{family.human}{colon} ",
            "assistant": f"{family.answer}{colon} ",
            "system": f"{family.system}{colon} ",
        }
        said = end.join(marks[turn.role] + turn.content for turn in one.turns)
        asked = f"{said}{end}{family.answer}{colon}"
        if whole:
            return {side: f"{asked} {getattr(one, side)}" for side in ("chosen", "rejected")}
        return {"prompt": asked, "chosen": f" {one.chosen}", "rejected": one.rejected}

    return write


def _beside_itself(one: Logical) -> dict | None:
    """Repeat HH's transcript in the answers, with other blanks than in the prompt."""
    row = _transcript(FAMILIES[0], "\n\n", whole=False)(one)
    if row is None:
        return None
    said = row["prompt"].replace("\n\nAssistant:", " \n\nAssistant:")
    return row | {side: f"\n\n{said} {getattr(one, side)}" for side in ("chosen", "rejected")}


def _nemo(one: Logical) -> dict | None:
    if not _for_transcript(one):
        return None
    said = "".join(
        f"<extra_id_{int(turn.role != 'system')}>{turn.role.title()}\n{turn.content}\n"
        for turn in one.turns
    )
    sides = {side: f"{getattr(one, side)}\n<extra_id_1>" for side in ("chosen", "rejected")}
    return {"prompt": f"{said}<extra_id_1>Assistant\n", **sides}


def _as_text(write: Callable, dump: Callable[[object], str]) -> Callable[[Logical], dict | None]:
    """Write every list and object of a row as text, as tables without such types do."""

    def textual(one: Logical) -> dict | None:
        row = write(one)
        return row and {
            name: dump(value) if isinstance(value, (list, dict)) else value
            for name, value in row.items()
        }

    return textual


def _twice(value: object) -> str:
    return json.dumps(json.dumps(value))


_OBJECTS: dict[str, Callable[[Logical], dict | None]] = {
    "conversational": _conversational,
    "implicit": _implicit,
    "sharegpt": _sharegpt,
    "openai": _openai,
    "axolotl": _axolotl,
    "axolotl, answered": _axolotl_answered,
    "ms-swift": _ms_swift,
    "nulls of a table": _nulls_of_a_table,
    "capybara": _capybara,
    "alpaca": _alpaca,
    "history of messages": _history_of_messages,
    "ranked": _ranked,
}
ENDS = {"line": "\n", "blank line": "\n\n", "CRLF": "\r\n\r\n"}

encodings: dict[str, Callable[[Logical], dict | None]] = (
    _OBJECTS
    | {f"{name} as JSON": _as_text(write, json.dumps) for name, write in _OBJECTS.items()}
    | {f"{name} as Python": _as_text(write, str) for name, write in _OBJECTS.items()}
    | {f"{name} as JSON twice": _as_text(write, _twice) for name, write in _OBJECTS.items()}
    | {
        "content parts": _with_parts,
        "text": _text,
        "lists of one": _lists_of_one,
        "lists of one as JSON": _as_text(_lists_of_one, json.dumps),
        "objects without a role": _objects_without_role,
        "JSON strings": _quoted,
        "transcript in prompt and answers": _beside_itself,
        "NeMo": _nemo,
    }
    | {
        f"transcript {family.name} by {end}{' in answers' if whole else ''}": _transcript(
            family, ENDS[end], whole
        )
        for family in FAMILIES
        for end in ENDS
        for whole in (False, True)
        if whole or family.strong
    }
)
