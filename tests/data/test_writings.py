"""One example in every way that files write it: reading gives it back exactly.

The rows come from tests/data/strategies.py, whose strategies other tests may use as well.
"""

import ast
import json

import pytest
from data.strategies import HERE, SAID, TOOL, Logical, encodings, examples
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.data.formats import recognise
from accord.data.formats.literals import Unreadable, literal
from accord.data.ledger import RowError
from accord.types import Pair, Turn

# A text example, so that every encoding can hold one of the two.
PLAIN = Logical(("Capital of France?",), "Paris.", "Lyon.")
CHAT = Logical(("Hi", "Hello there", "Capital?"), "Paris.", "Lyon.", system="Be brief")
RICH = Logical(("q", "a", "r"), "yes", "no", "s", ("why\nso", ""), tools=True)


def examples_of(row):
    found, seen = recognise(row)
    return found.examples(seen, HERE, row)


def meaning(pair):
    return pair.prompt, pair.completions, pair.inputs


@pytest.mark.parametrize("name", encodings)
def test_plain_examples_in_every_encoding(name):
    written = [(one, encodings[name](one)) for one in (PLAIN, CHAT, RICH)]
    held = [(one, row) for one, row in written if row is not None]
    assert held, "one of the three fits"
    for one, row in held:
        (pair,) = examples_of(row)
        assert meaning(pair) == meaning(one.expected)


@settings(max_examples=150, deadline=None)
@given(one=examples() | examples(thoughts=("", ""), tools=False))
def test_every_encoding_gives_the_same_example_back(one):
    for name, write in encodings.items():
        if (row := write(one)) is not None:
            (pair,) = examples_of(row)
            assert meaning(pair) == meaning(one.expected), name


@settings(max_examples=150, deadline=None)
@given(one=examples())
def test_no_choice_is_made_in_silence(one):
    """What stood in a string and was parsed is noted, each column once."""
    row = encodings["conversational as Python"](one)
    _, seen = recognise(row)
    assert {note.split(" ")[0] for note in seen.notes} == {"prompt", "chosen", "rejected"}
    assert all("Python text: parsed" in note for note in seen.notes)


JSON_VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | SAID,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SAID, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(value=JSON_VALUE.filter(lambda value: isinstance(value, (list, dict))))
def test_both_notations_are_read_exactly(value):
    assert literal(str(value)).value == value
    assert literal(json.dumps(value)).value == value
    assert literal(json.dumps(json.dumps(value))).value == value


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.sampled_from("[]{}(),:'\"\\ntu0x1.-eNone "), max_size=30))
def test_the_parser_agrees_with_pythons_own_or_refuses(text):
    """Whatever is read as a Python literal is what Python reads, tuples as lists."""
    try:
        found = literal(text)
    except (Unreadable, RowError):
        return
    if found.notation == "Python":
        assert found.value == json.loads(json.dumps(ast.literal_eval(text.strip())))


def test_parentheses_without_a_comma_are_no_tuple():
    assert literal("({'a': (1)},)").value == [{"a": 1}]
    assert literal("({'a': 1})").value == {"a": 1} and literal("(1, 2)").value == [1, 2]


UNREADABLE = [
    "[{'role': 'user', 'content': 'hi'}\n {'role': 'assistant', 'content': 'b'}]",  # numpy
    "[{'role': 'user', 'content': 'hi'}, {'role': 'assistant', 'conte",  # cut
    '[{"role": "user", "content": "hi"',
    "array([{'role': 'user', 'content': 'hi'}], dtype=object)",
    "[{'role': 'user', 'content': __import__('os').getcwd()}]",
    "[{'role': 'user', 'content': 'a' 'b'}]",
    "[{'role': 'user', 'content': 'a\nb'}]",
    '[{"role": "user", "content": "hi", "role": "user"}]',
    '{"role": "user", "content": "hi"}\n{"role": "assistant", "content": "b"}',
    "[" * 100_000 + "{'role': 'user', 'content': 'hi'}",
]


@pytest.mark.parametrize("text", UNREADABLE, ids=range(len(UNREADABLE)))
def test_broken_messages_in_text_are_refused(text):
    with pytest.raises(RowError) as caught:
        examples_of({"prompt": text, "chosen": "a", "rejected": "b"})
    assert caught.value.reason in ("messages in broken text", "repeated key")


TALK = [
    '{"role": "user", "content": "hi"} is what I send. Is it valid?',
    '[{"role": 3}]',
    "[{'x': 1}, {'y': 2}]",
    '{"a": [1, 2]}',
    "[laughs] no",
    "(see below)",
    '"To be" or "not to be"?',
    "Human: is what some logs begin with. Why?",
    "User: root\nPassword: secret",
    "Q: 2 + 2?\nA:",
    "Fill <extra_id_0> and <extra_id_1> in",
    "What does <video> mean?",
    "<video> is a tag, how do I use it?",
    "<video>\n<source src='a'>\n</video>\nMend this",
    "What is `<image>`?",
    "Translate: Assistant: hello",
    "A: yes",
]


@pytest.mark.parametrize("text", TALK)
def test_text_about_such_things_stays_text(text):
    (found,) = examples_of({"prompt": text, "chosen": "[1]", "rejected": '{"a": 2}'})
    assert found == Pair((Turn("user", text),), "[1]", '{"a": 2}', HERE)


def test_tools_of_the_strategies_are_json():
    assert json.loads(examples_of(encodings["openai"](RICH))[0].inputs.tools) == [TOOL]
