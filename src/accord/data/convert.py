"""Writers of examples in the formats of other tools.

Each row is read back before it is handed out, so that a format which cannot hold an example (a
system turn in an HH transcript's middle, several turns in a text prompt) is an error and never a
changed example.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from accord.data.formats import as_kind, recognise
from accord.data.ledger import RowError
from accord.types import (
    DataError,
    Demonstration,
    Example,
    Labelled,
    Pair,
    TemplateInputs,
    Turn,
    UsageError,
)

FROM = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
SPEAKERS = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: "}

Answered = Labelled | Demonstration  # a row of one answer
Row = TypeVar("Row", Pair, Labelled, Demonstration)


@dataclass(frozen=True)
class Writer:
    """One format to write: the kind of rows it holds and how an example becomes its columns."""

    kind: str
    columns: Callable[[Example], dict]


def to_format(
    examples: Iterable[Example], name: str, lost: Counter | None = None
) -> Iterator[dict]:
    """Write the examples as rows of the named format; keep their other columns beside its own.

    Args:
      examples: of any kind that can honestly become the format's: a pair gives two labelled rows.
      name: a key of `WRITERS`.
      lost: filled with what the rows do not hold, in words, and how often.

    Raises:
      UsageError: there is no such format.
      DataError: the format cannot hold an example; names the example's place.
    """
    if name not in WRITERS:
        raise UsageError(f"no format to write is called {name!r}. Known: {', '.join(WRITERS)}.")
    return (row for example in examples for row in _rows(example, name, lost))


def _rows(example: Example, name: str, lost: Counter | None) -> Iterator[dict]:
    writer = WRITERS[name]
    try:
        for each in as_kind(example, writer.kind):
            own = writer.columns(each)
            row = each.extra | own
            _refuse_changed(each, row, writer.kind)
            if lost is not None:
                lost.update(
                    f"column {column!r} of the file: the format has a column of this name"
                    for column, value in each.extra.items()
                    if column in own and value != own[column]
                )
            yield row
        if lost is not None and (what := _left_behind(example, writer.kind)):
            lost[what] += 1
    except RowError as error:
        raise DataError(
            f"{example.origin}: cannot be written as {name}. {error}\ntrl-conversational,"
            " trl-unpaired and messages hold every pair, label and demonstration."
        ) from error


def _left_behind(example: Example, kind: str) -> str:
    """Say what of an example a kind of rows has no place for."""
    if isinstance(example, Pair) and kind == "labelled":
        return "pairs: the format holds single answers, and not which was compared with which"
    if isinstance(example, Pair) and kind == "demonstrations":
        return "rejected answers: the format holds one answer to each prompt"
    if isinstance(example, Labelled) and kind == "demonstrations":
        return "labels: the format holds answers to imitate"
    return ""


def _refuse_changed(example: Example, row: dict, kind: str) -> None:
    """Read the row back, and refuse it unless it means the same: turns with their further keys,
    answers, label, and the inputs of the chat template.
    """
    found, read = recognise(row)
    back = [
        one for each in found.examples(read, example.origin, row) for one in as_kind(each, kind)
    ]
    if [_meaning(one) for one in back] != [_meaning(example)]:
        raise RowError("not held by the format", "read back, the row would be another example.")


def _meaning(example: Example) -> tuple:
    label = getattr(example, "desirable", None)
    return example.prompt, example.completions, label, example.inputs


def _messages(turns: Iterable[Turn]) -> list[dict]:
    return [
        {"role": turn.role, "content": turn.content}
        | {key: json.loads(value) for key, value in turn.keys}
        for turn in turns
    ]


def _answer(example: Example, index: int = 0) -> list[dict]:
    """Write one answer as a list of one message, with its further keys."""
    keys = example.inputs.of_answer(index)
    return _messages([Turn("assistant", example.completions[index], keys)])


def prompt_columns(turns: Sequence[Turn], inputs: TemplateInputs) -> dict:
    """Write a prompt as our files store it: a single question as text, a conversation as its
    messages; tools, documents and options of the template in their columns.
    """
    alone = len(turns) == 1 and turns[0].role == "user" and not turns[0].keys
    return {"prompt": turns[0].content if alone else _messages(turns)} | input_columns(inputs)


def _inputs(example: Example) -> dict:
    return input_columns(example.inputs)


INPUT_COLUMNS = ("tools", "documents", "chat_template_kwargs")


def input_columns(inputs: TemplateInputs) -> dict:
    """Write the inputs of the chat template as the columns that TRL has for them."""
    values = (inputs.tools, inputs.documents, inputs.options)
    return {
        name: json.loads(text) for name, text in zip(INPUT_COLUMNS, values, strict=True) if text
    }


def _explicit(pair: Pair) -> dict:
    return {"prompt": pair.prompt[-1].content, "chosen": pair.chosen, "rejected": pair.rejected}


def _conversational(pair: Pair) -> dict:
    return {
        "prompt": _messages(pair.prompt),
        "chosen": _answer(pair, 0),
        "rejected": _answer(pair, 1),
    } | _inputs(pair)


def _unpaired(one: Labelled) -> dict:
    return {
        "prompt": _messages(one.prompt),
        "completion": _answer(one),
        "label": one.desirable,
    } | _inputs(one)


def _hh(pair: Pair) -> dict:
    said = "".join(SPEAKERS.get(turn.role, "") + turn.content for turn in pair.prompt)
    return {side: f"{said}\n\nAssistant: {getattr(pair, side)}" for side in ("chosen", "rejected")}


def _alpaca(pair: Pair) -> dict:
    said = [turn.content for turn in pair.prompt if turn.role != "system"]
    row: dict[str, object] = {
        "instruction": said[-1],
        "input": "",
        "chosen": pair.chosen,
        "rejected": pair.rejected,
    }
    if pair.prompt[0].role == "system":
        row["system"] = pair.prompt[0].content
    if len(said) > 1:
        row["history"] = [said[at : at + 2] for at in range(0, len(said) - 1, 2)]
    return row


def _sharegpt(pair: Pair) -> dict:
    said = [{"from": FROM[turn.role], "value": turn.content} for turn in pair.prompt]
    sides = {side: {"from": "gpt", "value": getattr(pair, side)} for side in ("chosen", "rejected")}
    return {"conversations": said, **sides}


def _openai(pair: Pair) -> dict:
    inputs = _inputs(pair)
    asked: dict[str, object] = {"messages": _messages(pair.prompt)}
    if "tools" in inputs:
        asked["tools"] = inputs.pop("tools")
    return {
        "input": asked,
        "preferred_output": _answer(pair, 0),
        "non_preferred_output": _answer(pair, 1),
    } | inputs


def _ms_swift(pair: Pair) -> dict:
    return {
        "messages": _messages(pair.prompt) + _answer(pair),
        "rejected_response": pair.rejected,
    } | _inputs(pair)


def _conversation(one: Answered) -> dict:
    return {"messages": _messages(one.prompt) + _answer(one)} | _inputs(one)


def _implicit(pair: Pair) -> dict:
    return {
        side: _messages(pair.prompt) + _answer(pair, at)
        for at, side in enumerate(("chosen", "rejected"))
    } | _inputs(pair)


def _hh_prompt(pair: Pair) -> dict:
    said = "".join(SPEAKERS.get(turn.role, "") + turn.content for turn in pair.prompt)
    return {"prompt": f"{said}\n\nAssistant:", "chosen": pair.chosen, "rejected": pair.rejected}


def _scored(pair: Pair) -> tuple:
    """Return the scores of both sides, which some formats cannot do without."""
    names = (
        ("score_chosen", "score_rejected"),
        ("chosen_score", "rejected_score"),
        ("rating_chosen", "rating_rejected"),
        ("chosen_rating", "rejected_rating"),
    )
    for chosen, rejected in names:
        if chosen in pair.extra and rejected in pair.extra:
            return pair.extra[chosen], pair.extra[rejected]
    raise RowError("no scores", "the format holds scores of both answers, and the row has none.")


def _ultrafeedback(pair: Pair) -> dict:
    scores = _scored(pair)
    return _implicit(pair) | {
        "prompt": pair.prompt[-1].content,
        "score_chosen": scores[0],
        "score_rejected": scores[1],
    }


def _argilla(pair: Pair) -> dict:
    scores = _scored(pair)
    return _explicit(pair) | {"chosen_rating": scores[0], "rejected_rating": scores[1]}


def _orca(pair: Pair) -> dict:
    row = {"question": pair.prompt[-1].content, "chosen": pair.chosen, "rejected": pair.rejected}
    return row | ({"system": pair.prompt[0].content} if pair.prompt[0].role == "system" else {})


def _ranked(pair: Pair) -> dict:
    return {
        "prompt": pair.prompt[-1].content,
        "responses": [pair.chosen, pair.rejected],
        "ranks": [1, 2],
    }


def _shp(pair: Pair) -> dict:
    return {
        "history": pair.prompt[-1].content,
        "human_ref_A": pair.chosen,
        "human_ref_B": pair.rejected,
        "labels": 1,
    }


def _pku(pair: Pair) -> dict:
    return {
        "prompt": pair.prompt[-1].content,
        "response_0": pair.chosen,
        "response_1": pair.rejected,
        "better_response_id": 0,
    }


def _webgpt(pair: Pair) -> dict:
    said = {
        "question": {"full_text": pair.prompt[-1].content},
        "answer_0": pair.chosen,
        "answer_1": pair.rejected,
    }
    return said | dict(zip(("score_0", "score_1"), _scored(pair), strict=True))


def _helpsteer(pair: Pair) -> dict:
    return {
        "context": _messages(pair.prompt),
        "response1": pair.chosen,
        "response2": pair.rejected,
        "overall_preference": -1,
    }


def _alpaca_outputs(pair: Pair) -> dict:
    row = _alpaca(pair)
    return {name: value for name, value in row.items() if name not in ("chosen", "rejected")} | {
        "output": [row["chosen"], row["rejected"]]
    }


def _sharegpt_label(one: Labelled) -> dict:
    said = [*one.prompt, Turn("assistant", one.completion)]
    return {
        "conversations": [{"from": FROM[turn.role], "value": turn.content} for turn in said],
        "kto_tag": one.desirable,
    }


def _messages_label(one: Labelled) -> dict:
    return _conversation(one) | {"label": one.desirable}


def _alpaca_answer(one: Answered) -> dict:
    row = _alpaca(Pair(one.prompt, one.completion, one.completion, one.origin))
    return {name: value for name, value in row.items() if name not in ("chosen", "rejected")} | {
        "output": one.completion
    }


def _alpaca_label(one: Labelled) -> dict:
    return _alpaca_answer(one) | {"kto_tag": one.desirable}


def _prompt_completion(one: Answered) -> dict:
    return {"prompt": _messages(one.prompt), "completion": _answer(one)} | _inputs(one)


def _sharegpt_answer(one: Answered) -> dict:
    said = [*one.prompt, Turn("assistant", one.completion)]
    return {"conversations": [{"from": FROM[turn.role], "value": turn.content} for turn in said]}


def _writer(kind: str, row: type[Row], columns: Callable[[Row], dict]) -> Writer:
    """Make a writer of rows of one kind; `as_kind` gives it rows of that kind."""

    def checked(example: Example) -> dict:
        assert isinstance(example, row), f"{kind} are not {type(example).__name__}"
        return columns(example)

    return Writer(kind, checked)


WRITERS = {
    "trl-explicit": _writer("pairs", Pair, _explicit),
    "trl-conversational": _writer("pairs", Pair, _conversational),
    "trl-unpaired": _writer("labelled", Labelled, _unpaired),
    "hh": _writer("pairs", Pair, _hh),
    "alpaca": _writer("pairs", Pair, _alpaca),
    "sharegpt": _writer("pairs", Pair, _sharegpt),
    "openai": _writer("pairs", Pair, _openai),
    "ms-swift": _writer("pairs", Pair, _ms_swift),
    "trl-implicit": _writer("pairs", Pair, _implicit),
    "hh-prompt": _writer("pairs", Pair, _hh_prompt),
    "ultrafeedback": _writer("pairs", Pair, _ultrafeedback),
    "argilla": _writer("pairs", Pair, _argilla),
    "orca": _writer("pairs", Pair, _orca),
    "ranked": _writer("pairs", Pair, _ranked),
    "shp": _writer("pairs", Pair, _shp),
    "pku-saferlhf": _writer("pairs", Pair, _pku),
    "webgpt": _writer("pairs", Pair, _webgpt),
    "helpsteer": _writer("pairs", Pair, _helpsteer),
    "alpaca-outputs": _writer("pairs", Pair, _alpaca_outputs),
    "sharegpt-kto": _writer("labelled", Labelled, _sharegpt_label),
    "ms-swift-kto": _writer("labelled", Labelled, _messages_label),
    "alpaca-kto": _writer("labelled", Labelled, _alpaca_label),
    "messages": _writer("demonstrations", Demonstration, _conversation),
    "alpaca-sft": _writer("demonstrations", Demonstration, _alpaca_answer),
    "prompt-completion": _writer("demonstrations", Demonstration, _prompt_completion),
    "sharegpt-sft": _writer("demonstrations", Demonstration, _sharegpt_answer),
}
