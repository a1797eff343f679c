"""The benchmark of reading: its templates have the habits that they are named for, and a refusal
under the model's own template fails it.
"""

from __future__ import annotations

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from accord.data.templates import make_template
from accord.types import Origin, Pair, Turn
from benchmarks import reading

TURNS = [
    {"role": "system", "content": "Be kind. "},
    {"role": "user", "content": " Hi\n"},
    {"role": "assistant", "content": "Yes\n"},
]
OPEN, END = "<|im_start|>", "<|im_end|>\n"


def rendered(start: str, turns: list[dict]) -> str:
    text = next(each for name, each in reading.TEMPLATES.items() if name.startswith(start))
    return render_jinja_template([turns], chat_template=text)[0][0]


@pytest.mark.parametrize(
    "name, text",
    [
        ("Llama 3", f"{OPEN}system\nBe kind.{END}{OPEN}user\nHi{END}{OPEN}assistant\nYes{END}"),
        ("Gemma", f"{OPEN}user\nBe kind.\n\nHi{END}{OPEN}assistant\nYes{END}"),
        (
            "Qwen3",
            f"{OPEN}system\nBe kind. {END}{OPEN}user\n Hi\n{END}"
            f"{OPEN}assistant\n<think>\n\n</think>\n\nYes\n{END}",
        ),
    ],
)
def test_templates_have_their_habit(name, text):
    assert rendered(name, TURNS) == text


def test_a_refusal_under_the_own_template_counts_and_one_under_another_does_not():
    def under(own: dict, other: dict) -> dict:
        return {"templates": {reading.OWN: {"refused": own}, "other": {"refused": other}}}

    files = {
        "right": under({}, {"data.template_text": "it trims"}),
        "changed": under({"data.text": "lost"}, {}),
        "unread": {"refused": "content that nothing reads"},
    }
    assert reading.refused_in(files) == {
        "changed": {"data.text": "lost"},
        "unread": "content that nothing reads",
    }


def test_rows_are_spread_from_the_first_to_the_last():
    assert reading.spread(range(10), 4) == [0, 2, 5, 7]
    assert reading.spread(range(3), 4) == [0, 1, 2]


def test_without_the_comparison_a_changed_text_passes_and_afterwards_it_does_not(tokenizer):
    """The cost is the difference of two encodings: one must compare, the other must not."""
    tokenizer = type(tokenizer).from_pretrained(tokenizer.name_or_path)
    tokenizer.chat_template = reading.TEMPLATES["Llama 3: trims every turn"].replace(
        "trim", "lower"
    )
    template = make_template(tokenizer, "auto")
    example = Pair((Turn("user", "Hi"),), "Yes", "No", Origin("f.jsonl", 1))
    with reading.without_comparison():
        assert len(reading.encode([example], template, reading.WHOLE).trees) == 1
    assert reading.encode([example], template, reading.WHOLE).reasons == {
        "the template lower-cases a user turn": 1
    }
    found = reading.cost([example], lambda: template, repeats=2, rows=3)
    assert (found["rows"], found["distinct_rows"], len(found["shares"])) == (3, 1, 2)
