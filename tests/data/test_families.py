"""Chat templates of model families in wide use: ordinary rows of theirs are trained as they stand,
with what the template changes by name, or refused for the cause that is true.
"""

import json
import re
import time
from functools import cache

import pytest
from data.families import CONTROL, FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from accord.data import templates
from accord.data.encoding_findings import findings
from accord.data.fidelity import THINK
from accord.data.roundtrip_checks import roundtrip_findings
from accord.data.templates import Template, make_template
from accord.data.tokenizer_text import Unfit
from accord.data.trees import Limits, encode
from accord.types import NO_INPUTS, Origin, Pair, TemplateInputs, Turn

ROW = Origin("f.jsonl", 1)
MARKERS = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|<｜[^<>\s]{1,40}｜>|<(?:start|end)_of_turn>|\[/?[A-Z]+(?:_[A-Z]+)?\]"
    r"|\[\|[a-z]+\|\]"
)
BLANKS = "the template scores blanks of its own before the answer"
EDGES = "the template removes the blanks at the edges of the answer"
ASKED_EDGES = "the template removes the blanks at the edges of a user turn"
HEADER = "the template scores its header of the answer"
MARK_BLANKS = "the template changes the blanks around the think marks of the answer"
HISTORY = "the template drops the thinking of an assistant turn"


def tokenizer_of(text: str, end: str, normalizer=None) -> PreTrainedTokenizerFast:
    """A token for each byte and for each control token of the template."""
    controls = sorted({*MARKERS.findall(text), *CONTROL, "<s>", "</s>", end})
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({t: i for i, t in enumerate([*controls, *letters])}, []))
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token=end,
        additional_special_tokens=[AddedToken(t, special=True) for t in controls if t != end],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = text
    return tokenizer


ENDS = {
    "Llama 3": "<|eot_id|>",
    "Nemotron": "<|eot_id|>",
    "Gemma": "<end_of_turn>",
    "Phi-3": "<|end|>",
    "Command": "<|END_OF_TURN_TOKEN|>",
    "Granite": "<|end_of_text|>",
    "GLM": "<|user|>",
    "gpt": "<|return|>",
    "Hunyuan": "<|eos|>",
    "EXAONE": "[|endofturn|]",
    "DeepSeek V3": "<｜end▁of▁sentence｜>",
    "DeepSeek R1": "<｜end▁of▁sentence｜>",
}


@cache
def template_of(name: str, **options) -> Template:
    text = FAMILIES[name]
    own = next((end for family, end in ENDS.items() if name.startswith(family)), "</s>")
    end = "<|im_end|>" if "<|im_end|>" in text else own
    return make_template(tokenizer_of(text, end), "auto", today="2026-01-31", options=options)


def pair(*turns, chosen="Yes, it is.", rejected="No, not so.", **inputs) -> Pair:
    given = TemplateInputs(**inputs) if inputs else NO_INPUTS
    return Pair(turns, chosen, rejected, ROW, {}, given)


USER, SYSTEM = Turn("user", "Is it?"), Turn("system", "Be kind.")
THOUGHT = {
    "chosen": "<think>\nHm a\n</think>\n\nYes.",
    "rejected": "<think>\nHm b\n</think>\n\nNo.",
}


def outcome(template: Template, example: Pair) -> tuple[object, str, str]:
    """What the template changes (or why it refuses), the decoded prompt, the decoded answer."""
    try:
        encoded = template.encoded(example, 0)
    except Unfit as unfit:
        return unfit.reason, "", unfit.detail
    decode = template.tokenizer.decode
    return (
        {change.cause for change in encoded.changes},
        decode(list(encoded.tree.prompt)),
        decode(list(encoded.tree.completions[0])),
    )


# what a family leaves to the model to write before its answer
LEFT = dict.fromkeys(["Llama 2", "Mistral 0.3", "DeepSeek V2", "Vicuna", "GLM-4"], BLANKS)
LEFT |= {"gpt-oss": HEADER}
EMPTY_BLOCK = "the template puts an empty think block before the answer"
OPENED = "the generation prompt opens a think block, and the answer has none"
REFUSING = {"Qwen3": EMPTY_BLOCK, "Qwen3 thinking": EMPTY_BLOCK, "GLM-4.5": EMPTY_BLOCK}
REFUSING |= {"DeepSeek R1 distilled": OPENED}


@pytest.mark.parametrize("name", FAMILIES)
def test_an_ordinary_row_of_every_family(name):
    """One question, one answer; several turns."""
    several = (USER, Turn("assistant", "Sure."), Turn("user", "Really?"))
    for turns in ((USER,), several):
        changes, prompt, scored = outcome(template_of(name), pair(*turns))
        if name in REFUSING:
            assert changes == REFUSING[name]
            continue
        assert changes == {LEFT[name]} if name in LEFT else not changes
        before = {BLANKS: r"\s", HEADER: r"<\|channel\|>final<\|message\|>"}.get(LEFT.get(name), "")
        end = re.escape(template_of(name).tokenizer.eos_token)
        assert re.fullmatch(rf"{before}Yes, it is\. ?{end}", scored)
        places = [prompt.find(turn.content) for turn in turns]
        assert -1 not in places and places == sorted(places)


@pytest.mark.parametrize("name", ["Qwen3", "GLM-4.5", "SmolLM3"])
def test_the_remedy_for_an_empty_think_block_works(name):
    """`--set data.chat_template_kwargs.enable_thinking=false`, and the same in a row."""
    by_run = outcome(template_of(name, enable_thinking=False), pair(USER))
    by_row = outcome(template_of(name), pair(USER, options='{"enable_thinking": false}'))
    assert by_run == by_row
    assert by_run[0] <= {BLANKS} and by_run[2].lstrip().startswith("Yes, it is.<|")
    assert THINK.search(by_run[1])


SYSTEM_TURNS = {
    "Gemma 2": "the chat template refuses the row",
    "Mistral 0.1": "the chat template refuses the row",
    "Mistral 0.3": "the template renders the prompt otherwise in context",
    "Mistral Nemo": "the template renders the prompt otherwise in context",
    "Phi-3 first": "the template drops a system turn",
    "Gemma 3": {"the template runs a system turn and a user turn together"},
    **{name: {cause} for name, cause in LEFT.items() if name != "Mistral 0.3"},
}


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - set(REFUSING)))
def test_system_turns(name):
    changes, prompt, _ = outcome(template_of(name), pair(SYSTEM, USER))
    assert changes == SYSTEM_TURNS.get(name, set())
    assert isinstance(changes, str) or "Be kind." in prompt


THINKING = {
    "DeepSeek R1": "the template drops the thinking of the answer",
    "DeepSeek R1 distilled": "the template drops the thinking of the answer",
    "Nemotron": "the template drops the thinking of the answer",
    "GLM-4.5": {MARK_BLANKS, BLANKS},
    **{name: {cause} for name, cause in LEFT.items()},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_answers_that_think(name):
    changes, prompt, scored = outcome(template_of(name), pair(USER, **THOUGHT))
    assert changes == THINKING.get(name, set())
    if not isinstance(changes, str):
        whole = re.sub(r"\s", "", prompt + scored)
        assert "<think>Hma</think>Yes." in whole and whole.count("<think>") == 1


@pytest.mark.parametrize("name", ["Qwen3", "Qwen3 thinking", "GLM-4.5"])
@pytest.mark.parametrize("block", ["<think>Hm a</think>", "<think>\nHm a\n</think>\n"])
def test_other_blanks_around_think_marks_are_named(name, block):
    """Public sets write them in every way; the template has one of its own."""
    row = pair(USER, chosen=f"{block}Yes.", rejected="<think>\nHm b\n</think>\n\nNo.")
    changes, prompt, scored = outcome(template_of(name), row)
    assert MARK_BLANKS in changes and changes <= {MARK_BLANKS, BLANKS}
    assert re.sub(r"\s", "", prompt + scored).count("<think>Hma</think>Yes.<|") == 1


def test_a_think_block_is_not_opened_twice():
    """Where the prompt opens one, an answer that opens it with other blanks is refused."""
    text = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
    )
    template = make_template(tokenizer_of(text, "<|end|>"), "auto")
    row = pair(USER, chosen="<think>Hm</think>Yes", rejected="<think>\nHm\n</think>No")
    assert outcome(template, row)[0] == (
        "the generation prompt opens the think block with other blanks"
    )


def test_thinking_of_earlier_answers_is_dropped_by_name():
    turns = (USER, Turn("assistant", "<think>\nHm 1\n</think>\n\nSure."), USER)
    changes, prompt, _ = outcome(template_of("Qwen3"), pair(*turns, **THOUGHT))
    assert changes == {HISTORY} and "Hm 1" not in prompt and "Sure." in prompt


@pytest.mark.parametrize("name", ["Llama 3", "Llama 3.1", "Gemma 2", "Gemma 3", "Command-R"])
def test_trimmed_edges_are_named(name):
    row = pair(Turn("user", "Is it?\n"), chosen="Yes.\n", rejected=" No.\n\n")
    changes, _, scored = outcome(template_of(name), row)
    assert changes == {ASKED_EDGES, EDGES} and scored.startswith("Yes.<")


# ---------------------------------------------------------------- tools

CALL = {"x": 'Pa"ris\n'}
TOOLS = json.dumps([{"type": "function", "function": {"name": "look_up", "description": "Finds"}}])


def called(arguments, result="It is 42"):
    function = {"name": "look_up", "arguments": arguments}
    call = [{"id": "abcdefghi", "type": "function", "function": function}]
    turns = (
        USER,
        Turn("assistant", "", (("tool_calls", json.dumps(call)),)),
        Turn("tool", result, (("tool_call_id", '"abcdefghi"'),)),
    )
    return pair(*turns, tools=TOOLS)


@pytest.mark.parametrize("name", ["Llama 3.1", "Mistral 0.3", "Mistral Nemo", "Qwen2.5", "gpt-oss"])
def test_arguments_as_json_text_are_written_as_arguments_that_are_objects(name):
    """OpenAI's form has them as text; `tojson` would put them in quotes once more."""
    template = template_of(name)
    text, thing = (outcome(template, called(a)) for a in (json.dumps(CALL), CALL))
    assert text == thing and not isinstance(text[0], str)
    assert json.dumps(CALL) in text[1] and '"{' not in text[1]


def test_a_template_that_takes_arguments_as_text_gets_the_text():
    body = (
        "{% for m in messages %}<|{{ m.role }}|>{% for c in m.tool_calls or [] %}"
        "{{ c.function.name + c.function.arguments }}{% endfor %}{{ m.content }}<|end|>"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    template = make_template(tokenizer_of(body, "<|end|>"), "auto")
    given = called('{"x":"Paris"}')
    assert 'look_up{"x":"Paris"}' in template.prompt_text(given.prompt)


@pytest.mark.parametrize("name", ["Llama 3.1", "gpt-oss"])
def test_a_result_written_as_json_is_named(name):
    changes, prompt, _ = outcome(template_of(name), called(CALL, '{"t": 22}\nok'))
    assert "the template escapes a tool turn" in changes
    assert '"{\\"t\\": 22}\\nok"' in prompt


def test_a_template_that_reads_the_text_of_a_turn_is_named_for_it():
    """Qwen3 takes such a question for a tool's result; nothing of it is dropped."""
    reason, _, detail = outcome(
        template_of("Qwen3"), pair(Turn("user", "<tool_response>x</tool_response>"))
    )
    assert reason == "the template writes other text around the turns of some rows"
    assert "<think>" in detail


def test_a_prompt_without_a_header_is_no_header_left_to_the_model():
    """The role's marks before the answer are scored if the generation prompt lacks them."""
    text = "{% for m in messages %}<|im_start|>{{ m.role }}<|im_sep|>{{ m.content }}<|im_end|>"
    template = make_template(tokenizer_of(text + "{% endfor %}", "<|im_end|>"), "auto")
    assert outcome(template, pair(USER))[0] == (
        "the template adds no generation prompt, so the answer's header would be scored"
    )


# ---------------------------------------------------------------- questions, dates, bounds

TEXTS = st.text(st.sampled_from("ab Zé你\u0301\u200d\n\t.<>[]|/"), min_size=1, max_size=20)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(FAMILIES)), st.lists(TEXTS, min_size=1, max_size=5), TEXTS, TEXTS)
def test_a_question_is_the_prompt_of_its_tree(name, texts, good, bad):
    texts = texts if len(texts) % 2 else texts[:-1]
    turns = [Turn("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(texts)]
    template = template_of(name)
    try:
        tree = template.tree(pair(*turns, chosen=good, rejected=bad), 0)
    except Unfit:
        return
    assert template.question(turns) == tree.prompt


HEADS = (
    "\n{{ strftime_now('%d %B %Y') }}",
    "  {% set d = strftime_now('%Y') %}{{ d }}",
    " \n  {%- set d = strftime_now('%Y') -%}\n {{ d }}",
    '  {# c #}\n {{ strftime_now("%Y") }}',
)


@pytest.mark.parametrize("head", HEADS)
def test_the_clock_of_the_run_changes_nothing_but_the_day(head):
    text = head + "{% for m in messages %}<|u|>{{ m.content }}<|e|>{% endfor %}"
    tokenizer = tokenizer_of(text, "<|e|>")
    today = time.strftime("%Y-%m-%d")
    one, two = (make_template(tokenizer, "auto", today=day) for day in (today, ""))
    assert one.prompt_text([USER]) == two.prompt_text([USER])


def test_a_date_whose_form_is_computed_is_refused():
    text = (
        "{% set f = '%Y' %}{{ strftime_now(f) }}{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    template = make_template(tokenizer_of(text, "</s>"), "auto", today="2026-01-31")
    with pytest.raises(Unfit, match="cannot fix the date"):
        template.prompt_text([USER])


def test_every_row_with_tools_of_its_own_keeps_the_memory_bounded(monkeypatch):
    monkeypatch.setattr(templates, "SKELETONS", 8)
    template = template_of("Qwen2.5")
    rows = [pair(USER, tools=TOOLS.replace("look_up", f"look_up_{n}")) for n in range(40)]
    encoding = encode(rows, template, Limits(4096))
    assert len(encoding.trees) == 40 and len(encoding.account.shapes) == 40
    assert len(template._skeletons) <= 8


@pytest.mark.parametrize(
    "text",
    [
        " " * 300_000 + "b<think>",
        "<think>" * 30_000 + "x",
        "<think>x</think>" + " " * 300_000 + "b" + " " * 300_000 + "<think>",
        ("a" + " " * 500) * 600 + "<think>",
    ],
    ids=["blanks", "marks", "blanks between", "many blanks"],
)
def test_hostile_blanks_cost_linear_time(text):
    began = time.monotonic()
    THINK.split(text)
    templates.OPENS.search(text)
    assert time.monotonic() - began < 2


# ---------------------------------------------------------------- tokenizers

CHATML = FAMILIES["ChatML"]


def checked(normalizer, answer: str):
    template = make_template(tokenizer_of(CHATML, "<|im_end|>", normalizer), "auto")
    encoding = encode([pair(USER, chosen=answer)], template, Limits(512))
    found = roundtrip_findings(encoding, template, [template.tokenizer.eos_token_id], 0.0)
    return encoding, next(f.verdict for f in found if f.check == "data.text")


@pytest.mark.parametrize("normalizer", [normalizers.NFC(), normalizers.NFKC()])
def test_composed_characters_are_named_and_the_row_is_used(normalizer):
    encoding, verdict = checked(normalizer, "cafe\u0301")
    assert verdict == "ok" and len(encoding.trees) == 1
    assert [found.mild for found in encoding.account.changed.values()] == [True]


def test_a_tokenizer_that_folds_line_breaks_is_refused():
    fold = normalizers.Replace(Regex(r"\s+"), " ")
    template = make_template(tokenizer_of(CHATML, "<|im_end|>", fold), "auto")
    reason, _, _ = outcome(template, pair(USER, chosen="def f():\n    return 1"))
    assert reason == "the tokenizer changes the blanks of the text"


def test_a_blank_mark_in_the_text_is_named():
    legacy = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    template = make_template(tokenizer_of(CHATML, "<|im_end|>", legacy), "auto")
    reason, _, _ = outcome(template, pair(USER, chosen="a▁b"))
    assert reason == "the tokenizer reads the character ▁ as a blank"
    text = CHATML.replace("<|im_end|>", "<|im▁end|>")
    template = make_template(tokenizer_of(text, "<|im▁end|>", legacy), "auto")
    changes, _, _ = outcome(template, pair(USER, chosen="a b"))
    assert not changes, "the template's own tokens are no text"


def test_a_prompt_that_differs_in_context_has_a_remedy():
    template = template_of("Mistral 0.3")
    encoding = encode([pair(SYSTEM, USER)], template, Limits(512))
    found = next(
        f for f in findings(encoding, template, 0.001, 0.05) if f.check == "data.template_prefix"
    )
    assert found.refused and "--set data.template=FILE.jinja" in found.remedy
