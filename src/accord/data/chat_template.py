"""Chat templates as programs: what they read from outside, how they end an answer, and their clock.

A template belongs to its tokenizer and is written in Jinja; nothing of it runs here that
transformers would not run.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, TemplateError, meta
from jinja2.ext import Extension
from transformers import PreTrainedTokenizerBase

from accord.data.fidelity import mark
from accord.types import REASONING, Example, Turn, UsageError

# what every template is given; its other variables are options
GIVEN = frozenset(
    "messages tools documents add_generation_prompt bos_token eos_token pad_token unk_token"
    " strftime_now raise_exception namespace dict range continue_final_message".split()
)


@lru_cache(maxsize=16)
def _variables(template: str) -> frozenset[str]:
    environment = Environment(extensions=["jinja2.ext.loopcontrols", GenerationTag])
    try:
        return frozenset(meta.find_undeclared_variables(environment.parse(template)))
    except TemplateError:  # each row will report what is wrong with it
        return frozenset()


def variables(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """Return the names that a tokenizer's chat template reads from outside."""
    found = tokenizer.chat_template or ""
    texts = found.values() if isinstance(found, dict) else [found]
    return frozenset().union(*map(_variables, texts))


class GenerationTag(Extension):
    """The tag {% generation %}, with which templates mark answers; it writes nothing."""

    tags = {"generation"}  # noqa: RUF012 - as jinja declares it

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def asks_for_the_date(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether a tokenizer's chat template writes the date."""
    return "strftime_now" in str(tokenizer.chat_template)


def dated(tokenizer: PreTrainedTokenizerBase, today: str, tools: bool) -> dict:
    """Return the template with a clock that stands still, if it asks for the date; else nothing.

    transformers hands plain data alone to a template, so the clock is a macro in front of it, with
    the date in each form that the template asks for.
    """
    if not asks_for_the_date(tokenizer):
        return {}
    text = tokenizer.get_chat_template(tools=[{}] if tools else None)
    forms = sorted(set(re.findall(r"strftime_now\(\s*[\"']([^\"']*)[\"']\s*\)", text)))
    day = datetime.fromisoformat(today)
    # A form that is put together as the template runs is not known here: no date would be written.
    clock = (
        "{%- macro strftime_now(form) -%}{% if form in dates_of_the_run %}"
        "{{ dates_of_the_run[form] }}{% else %}{{ raise_exception('accord cannot fix the date in"
        ' a template that computes its form; write it out: strftime_now("%Y-%m-%d")\') }}'
        "{% endif %}{%- endmacro %}{{ '' }}"
    )
    # blanks in front of a first block are no text, and the macro stands in front of them
    text = re.sub(r"\A[ \t]+(?=\{[%#])", "", text)
    dates = {form: day.strftime(form) for form in forms}
    return {"chat_template": clock + text, "dates_of_the_run": dates}


def quotes_arguments(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether a template would write a call's arguments as JSON inside JSON.

    In OpenAI's form they are JSON text. Llama 3.1 and Qwen2.5 write them with `tojson`, which needs
    the object: the text would get quotes and backslashes. DeepSeek joins them to a text, which
    needs the text.
    """
    return _quotes_arguments(tokenizer, str(tokenizer.chat_template))


@lru_cache(maxsize=16)
def _quotes_arguments(tokenizer: PreTrainedTokenizerBase, template: str) -> bool:
    if "tool_calls" not in template:
        return False
    arguments = f'{{"{mark(0)}": "{mark(1)}"}}'
    function = {"name": mark(2), "arguments": arguments}
    call = {"id": "000000000", "type": "function", "function": function}
    asked: list[dict] = [
        {"role": "user", "content": mark(3)},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    clock = dated(tokenizer, "2000-01-01", False)
    try:
        text = str(tokenizer.apply_chat_template(asked, tokenize=False, **clock))
    except Exception:  # each row will report what the template refuses
        return False
    return json.dumps(arguments) in text


def with_objects(calls: object) -> object:
    """Return calls of tools with their arguments as objects, where they are JSON text."""
    if not isinstance(calls, list):
        return calls
    return [_with_object(call) for call in calls]


def _with_object(call: object) -> object:
    if not isinstance(call, dict):
        return call
    if isinstance(call.get("function"), dict):
        return {**call, "function": _with_object(call["function"])}
    text = call.get("arguments")
    if not isinstance(text, str):
        return call
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return call
    return {**call, "arguments": found} if isinstance(found, dict) else call


def specials(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Return every special token, by id: those with a role, such as EOS, and those only marked as
    special.

    The latter are many: Llama 3's <|start_header_id|> has no role, and written in a row's text it
    would open a turn.
    """
    marked = {
        i: token.content for i, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    return marked | dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))


def turn_ends(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the first special token, if any, that the template itself puts behind an answer."""
    special = specials(tokenizer)
    # some templates take no answer without thinking
    for answer in (mark(0), f"<think>\n{mark(1)}\n</think>\n\n{mark(0)}"):
        asked = [{"role": "user", "content": mark(2)}, {"role": "assistant", "content": answer}]
        try:
            text = tokenizer.apply_chat_template(asked, tokenize=False)
        except Exception:  # each row will report what the template refuses
            continue
        assert isinstance(text, str), "tokenize=False gives text"
        ids = tokenizer(text.rpartition(mark(0))[2], add_special_tokens=False)["input_ids"]
        return set([token for token in ids if token in special][:1])
    return set()


def template_file(path: str) -> str:
    file = Path(path).expanduser()
    if not file.is_file():
        raise UsageError(
            f"data.template = {path!r}: expected auto, raw, or a Jinja file that exists."
        )
    try:
        return file.read_text(encoding="utf-8")
    except ValueError as error:
        raise UsageError(f"data.template = {path!r}: not a text in UTF-8 ({error}).") from error


def message(turn: Turn, objects: bool) -> dict:
    """Return one message; its reasoning stands under each name that templates know.

    Args:
      objects: the arguments of calls are handed over as objects, not as the JSON text that they are
        in OpenAI's form.
    """
    keys = {name: json.loads(value) for name, value in turn.keys}
    if objects and "tool_calls" in keys:
        keys["tool_calls"] = with_objects(keys["tool_calls"])
    thought = next((keys[name] for name in REASONING if keys.get(name)), None)
    aliases = {} if thought is None else {"reasoning_content": thought, "thinking": thought}
    return {"role": turn.role, "content": turn.content, **aliases, **keys}


def with_answer(example: Example, index: int) -> list[Turn]:
    """Return the prompt's turns and the answer's; an answer continues a final assistant turn."""
    answer, keys = example.completions[index], example.inputs.of_answer(index)
    *before, last = example.prompt
    if last.role == "assistant":
        return [*before, replace(last, content=last.content + answer, keys=(*last.keys, *keys))]
    return [*before, last, Turn("assistant", answer, keys)]
