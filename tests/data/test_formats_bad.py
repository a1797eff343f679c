"""Rows that cannot be used: each is refused with its reason, and nothing at all makes a reader
raise.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.data.formats import FORMATS, NAMES, as_kind, recognise
from accord.data.ledger import RowError
from accord.types import ROW_KINDS, Origin

HERE = Origin("here.jsonl", 1)


def reason(row):
    """Why a row is rejected."""
    with pytest.raises(RowError) as caught:
        found, seen = recognise(row)
        found.examples(seen, HERE, row)
    assert caught.value.says.endswith(".")
    return caught.value.reason


BAD = [
    ("wrong type", {"prompt": "p", "chosen": True, "rejected": "b"}),
    ("wrong type", {"prompt": "p", "chosen": "a", "rejected": 3}),
    ("wrong type", {"prompt": "p", "chosen": None, "rejected": "b"}),
    ("wrong type", {"prompt": 7, "chosen": "a", "rejected": "b"}),
    ("wrong type", {"prompt": [None], "chosen": "a", "rejected": "b"}),
    ("wrong type", {"prompt": ["p", "q"], "chosen": "a", "rejected": "b"}),
    ("wrong type", {"prompt": [{"role": "user", "content": None}], "chosen": "a", "rejected": "b"}),
    (
        "wrong type",
        {"prompt": [{"role": "user", "content": ["p"]}], "chosen": "a", "rejected": "b"},
    ),
    ("wrong type", {"prompt": "p", "chosen": [{"role": "assistant"}], "rejected": "b"}),
    ("wrong type", {"instruction": "p", "output": ["a", "b", "c"]}),
    ("wrong type", {"instruction": "p", "input": 3, "chosen": "a", "rejected": "b"}),
    ("wrong type", {"instruction": "p", "history": ["x"], "chosen": "a", "rejected": "b"}),
    ("wrong type", {"messages": "p", "rejected_response": "b"}),
    ("wrong type", {"system": 3, "prompt": "p", "chosen": "a", "rejected": "b"}),
    (
        "wrong type",
        {"question": "q", "answer_0": "a", "answer_1": "b", "score_0": "high", "score_1": 0},
    ),
    ("wrong label", {"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 2}),
    ("empty answer", {"prompt": "p", "chosen": "", "rejected": "b"}),
    ("empty answer", {"prompt": "p", "chosen": "a", "rejected": " \n\t\u3000"}),
    ("empty answer", {"prompt": "p", "chosen": [], "rejected": "b"}),
    ("empty answer", {"prompt": "p", "completion": " ", "label": True}),
    ("same answers", {"prompt": "p", "chosen": "a", "rejected": "a"}),
    ("same answers", {"prompt": "p", "chosen": "a", "rejected": " a\n"}),
    ("same answers", {"prompt": "p", "chosen": "", "rejected": " "}),
    ("no prompt", {"prompt": "", "chosen": "a", "rejected": "b"}),
    ("no prompt", {"prompt": " \n", "chosen": "a", "rejected": "b"}),
    ("no prompt", {"prompt": [], "chosen": "a", "rejected": "b"}),
    ("no prompt", {"messages": []}),
    ("no prompt", {"messages": [{"role": "assistant", "content": "a"}]}),
    (
        "no user turn",
        {"prompt": [{"role": "system", "content": "s"}], "chosen": "a", "rejected": "b"},
    ),
    (
        "no user turn",
        {"prompt": [{"role": "assistant", "content": "s"}], "chosen": "a", "rejected": "b"},
    ),
    (
        "unknown role",
        {"prompt": [{"role": "narrator", "content": "s"}], "chosen": "a", "rejected": "b"},
    ),
    ("unknown role", {"prompt": [{"content": "s"}], "chosen": "a", "rejected": "b"}),
    (
        "unknown role",
        {"prompt": [{"role": ["user"], "content": "s"}], "chosen": "a", "rejected": "b"},
    ),
    (
        "not an assistant turn",
        {"prompt": "p", "chosen": [{"role": "user", "content": "a"}], "rejected": "b"},
    ),
    ("not an assistant turn", {"messages": [{"role": "user", "content": "a"}]}),
    ("NUL character", {"prompt": "p", "chosen": "a\0", "rejected": "b"}),
    ("NUL character", {"prompt": "p\0", "chosen": "a", "rejected": "b"}),
    ("lone surrogate", {"prompt": "p", "chosen": "a\ud83d", "rejected": "b"}),
    (
        "lone surrogate",
        {"prompt": [{"role": "user", "content": "\udc00"}], "chosen": "a", "rejected": "b"},
    ),
    ("ambiguous prompt", {"chosen": "a", "rejected": "b"}),
    ("unknown format", {"text": "a"}),
]


@pytest.mark.parametrize(("expected", "row"), BAD, ids=[f"{r}-{i}" for i, (r, _) in enumerate(BAD)])
def test_bad_row(expected, row):
    assert reason(row) == expected


COLUMNS = sorted(
    {
        name
        for each in FORMATS
        for choice in (*each.needs, *each.reads)
        for name in choice.split("|")
    }
)
NAME = st.sampled_from([*COLUMNS, "role", "content", "from", "value", "text", "type"])
ASKED = "\n\nHuman: a\n\nAssistant:"
WORDS = st.sampled_from(["user", "assistant", ASKED, f"{ASKED} b", "a", "", "text"])
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8)
MESSAGE = st.fixed_dictionaries({"role": WORDS, "content": LEAF})
VALUE = st.recursive(
    LEAF | MESSAGE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAME, inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(row=st.dictionaries(NAME, VALUE, max_size=8), kind=st.sampled_from(sorted(ROW_KINDS)))
def test_garbage_is_refused_and_never_raises_anything_else(row, kind):
    """Whatever a row holds, it gives examples that are fit to train on, or a RowError."""
    try:
        found, seen = recognise(row)
        examples = [one for each in found.examples(seen, HERE, row) for one in as_kind(each, kind)]
    except RowError as error:
        assert error.reason and error.says
        return
    assert found.name in NAMES
    for example in examples:
        assert isinstance(example, ROW_KINDS[kind])
        assert any(turn.role == "user" for turn in example.prompt)
        assert all(
            isinstance(said, str) and said.strip() and "\0" not in said
            for said in example.completions
        )
        assert len({said.strip() for said in example.completions}) == len(example.completions)
