"""Examples written in other tools' formats read back as they were, or are refused."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.data.convert import WRITERS, to_format
from accord.data.formats import as_kind
from accord.data.read import read
from accord.types import DataError, Demonstration, Labelled, Origin, Pair, Turn, UsageError

HERE = Origin("here.jsonl", 3)
ASK = (Turn("user", "Capital of France?"),)
CHAT = (Turn("system", "Be brief."), Turn("user", "Hi"), Turn("assistant", "Hello."), *ASK)

# Emoji with joiners, right-to-left, line separators, control characters, and what looks like
# markup.
HARD = [
    "👩‍👩‍👧",
    "שלום עולם",
    "مرحبا",
    "a\u2028b",
    "\x1b[31mred",
    "\x07",
    "e\u0301",
    "```\ncode",
    "\ufeff",
    "{}",
    "[{",
]
TEXT = st.one_of(
    st.sampled_from(HARD), st.text(max_size=12), st.lists(st.sampled_from(HARD)).map("".join)
).filter(lambda text: text.strip() and "\0" not in text)
TURNS = st.builds(
    lambda system, said: (*[Turn("system", s) for s in system], *_alternating(said)),
    st.lists(TEXT, max_size=1),
    st.lists(TEXT, min_size=1, max_size=5).filter(lambda said: len(said) % 2 == 1),
)
EXTRA = st.dictionaries(
    st.sampled_from(["source", "licence", "id"]), st.integers() | TEXT, max_size=2
)


def _alternating(said):
    return [Turn(("user", "assistant")[at % 2], text) for at, text in enumerate(said)]


PAIRS = st.builds(Pair, TURNS, TEXT, TEXT, st.just(HERE), EXTRA).filter(
    lambda pair: pair.chosen.strip() != pair.rejected.strip()
)
# Formats that hold every pair; the others are tried too, and may refuse.
WHOLE = ["trl-conversational", "sharegpt", "openai"]
DATA_SETS = [
    "trl-implicit",
    "hh-prompt",
    "ultrafeedback",
    "argilla",
    "orca",
    "ranked",
    "shp",
    "pku-saferlhf",
    "webgpt",
    "helpsteer",
    "alpaca-outputs",
    "sharegpt-kto",
    "ms-swift-kto",
    "alpaca-kto",
    "alpaca-sft",
    "prompt-completion",
    "sharegpt-sft",
]


def read_back(tmp_path, rows, kind):
    path = tmp_path / "written.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read(path, kind).examples


def meaning(example):
    return example.prompt, example.completions, example.extra, getattr(example, "desirable", None)


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=60, deadline=None)
@given(pair=PAIRS)
def test_formats_that_hold_every_pair(tmp_path_factory, name, pair):
    back = read_back(tmp_path_factory.mktemp("w"), to_format([pair], name), "pairs")
    assert [meaning(one) for one in back] == [meaning(pair)]


@pytest.mark.parametrize("name", ["trl-explicit", "hh", "alpaca", "ms-swift"])
@settings(max_examples=60, deadline=None)
@given(pair=PAIRS)
def test_formats_that_may_refuse_never_change_a_pair(tmp_path_factory, name, pair):
    try:
        rows = list(to_format([pair], name))
    except DataError as error:
        assert "here.jsonl:3" in str(error) and "trl-conversational" in str(error)
        return
    assert [meaning(one) for one in read_back(tmp_path_factory.mktemp("w"), rows, "pairs")] == [
        meaning(pair)
    ]


@pytest.mark.parametrize("name", DATA_SETS)
@settings(max_examples=25, deadline=None)
@given(pair=PAIRS)
def test_formats_of_data_sets_never_change_an_example(tmp_path_factory, name, pair):
    """Those with columns of their own for scores: what is trained on stays, or the row is refused
    with its place.
    """
    pair = replace(pair, extra={"score_chosen": 2.0, "score_rejected": 1.0})
    kind = WRITERS[name].kind
    try:
        rows = list(to_format([pair], name))
    except DataError as error:
        assert "here.jsonl:3" in str(error)
        return
    back = read_back(tmp_path_factory.mktemp("w"), rows, kind)
    without = lambda one: (one.prompt, one.completions, getattr(one, "desirable", None))  # noqa: E731
    assert list(map(without, back)) == list(map(without, as_kind(pair, kind)))


@settings(max_examples=60, deadline=None)
@given(pair=PAIRS)
def test_a_pair_as_two_labels(tmp_path_factory, pair):
    back = read_back(tmp_path_factory.mktemp("w"), to_format([pair], "trl-unpaired"), "labelled")
    assert [(one.prompt, one.completion, one.desirable) for one in back] == [
        (pair.prompt, pair.chosen, True),
        (pair.prompt, pair.rejected, False),
    ]


PLAIN = Pair(ASK, "Paris.", "Lyon.", HERE, {"source": "x"})
CHATTED = Pair(CHAT, "Paris.", "Lyon.", HERE)
WRITTEN = {
    "trl-explicit": {
        "prompt": "Capital of France?",
        "chosen": "Paris.",
        "rejected": "Lyon.",
        "source": "x",
    },
    "hh": {
        "chosen": "\n\nHuman: Capital of France?\n\nAssistant: Paris.",
        "rejected": "\n\nHuman: Capital of France?\n\nAssistant: Lyon.",
        "source": "x",
    },
    "alpaca": {
        "instruction": "Capital of France?",
        "input": "",
        "chosen": "Paris.",
        "rejected": "Lyon.",
        "source": "x",
    },
}


@pytest.mark.parametrize("name", WRITTEN)
def test_rows_as_other_tools_expect_them(name):
    assert list(to_format([PLAIN], name)) == [WRITTEN[name]]


def test_a_chat_in_alpaca_and_ms_swift():
    (row,) = to_format([CHATTED], "alpaca")
    assert (row["system"], row["history"]) == ("Be brief.", [["Hi", "Hello."]])
    assert row["instruction"] == "Capital of France?"
    (row,) = to_format([CHATTED], "ms-swift")
    assert [message["role"] for message in row["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    assert row["messages"][-1]["content"] == "Paris." and row["rejected_response"] == "Lyon."


def test_what_a_format_cannot_hold_is_refused():
    with pytest.raises(DataError, match="here.jsonl:3: cannot be written as trl-explicit"):
        list(to_format([CHATTED], "trl-explicit"))
    marker = Pair(ASK, "a\n\nHuman: b", "c", HERE)
    with pytest.raises(DataError, match="cannot be written as hh"):
        list(to_format([marker], "hh"))
    labelled = Labelled(ASK, "Paris.", True, HERE)
    with pytest.raises(DataError, match="kto"):
        list(to_format([labelled], "hh"))
    with pytest.raises(UsageError, match="'trl'.*trl-explicit"):
        to_format([PLAIN], "trl")


def test_demonstrations():
    shown = Demonstration(CHAT, "Paris.", HERE, {"source": "x"})
    (row,) = to_format([shown], "messages")
    assert (
        row["messages"][-1] == {"role": "assistant", "content": "Paris."} and row["source"] == "x"
    )
    assert list(to_format([Pair(CHAT, "Paris.", "Lyon.", HERE, {"source": "x"})], "messages")) == [
        row
    ]


def test_every_writer_is_tried_here():
    tried = {
        *WHOLE,
        *DATA_SETS,
        "trl-explicit",
        "hh",
        "alpaca",
        "ms-swift",
        "trl-unpaired",
        "messages",
    }
    assert tried == set(WRITERS)
