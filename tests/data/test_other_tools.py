"""Rows as other tools write them: what is trained on, or why nothing is.

Every case is made from words that say which text they are, so that a result can be compared
exactly. `ask`, `good` and `bad` are the texts that a right reading gives.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.data.containers import MAX_ROW_BYTES, locate
from accord.data.formats.messages import EXCHANGES
from accord.data.read import Reading, Stream, read
from accord.types import DataError, Pair

ROWS = 9


def words(name, i):
    return f"{name} text of several words for row {i}"


def user(text):
    return {"role": "user", "content": text}


def assistant(text, /, **keys):
    return {"role": "assistant", "content": text} | keys


def file_of(tmp_path, make, name="rows.jsonl"):
    """Write rows; `make` gets (ask, good, bad, further) of each row."""
    texts = [[words(one, i) for one in ("ask", "good", "bad", "more")] for i in range(ROWS)]
    path = tmp_path / name
    path.write_text("".join(json.dumps(make(*each)) + "\n" for each in texts))
    return path


def simple(example):
    """Return an example as (prompt's texts, answers), and the label if it has one."""
    found = [turn.content for turn in example.prompt], *example.completions
    return found if isinstance(example, Pair) else (*found, getattr(example, "desirable", None))


def stream_of(path):
    with locate(path) as source:
        found = Stream(source, source.rows(MAX_ROW_BYTES), Reading())
        return list(found), found


# ---------------------------------------------------------------- read as they are meant


PAIRS = [
    lambda q, a, b, c: {"query": q, "response": a, "rejected_response": b},
    lambda q, a, b, c: {"instruction": q, "input": "", "output": a, "rejected": b},
    lambda q, a, b, c: {"prompt": q, "completion": a, "rejected": b},
    lambda q, a, b, c: {  # NeMo RL
        "context": [user(q)],
        "completions": [
            {"rank": 1, "completion": [assistant(b)]},
            {"rank": 0, "completion": [assistant(a)]},
        ],
        "task_name": "x",
    },
    lambda q, a, b, c: {  # distilabel
        "instruction": q,
        "generations": [b, a],
        "ratings": [2, 5],
        "rationales": [c, c],
        "distilabel_metadata": {"raw_output_ultra_feedback_0": f"Rating: 2. {c}"},
    },
    lambda q, a, b, c: {  # a table's second key for the same words
        "prompt": q,
        "chosen": assistant(a, text=""),
        "rejected": assistant(b, value=b),
    },
]


@pytest.mark.parametrize("make", PAIRS)
def test_pairs_of_other_tools(tmp_path, make):
    got = read(file_of(tmp_path, make))
    expected = [([words("ask", i)], words("good", i), words("bad", i)) for i in range(ROWS)]
    assert [simple(one) for one in got.examples] == expected


ANSWERS = [
    lambda q, a, b, c: {"input": q, "output": a},
    lambda q, a, b, c: {"input": q, "response": a},
    lambda q, a, b, c: {"messages": [user([{"type": "text", "text": q}]), assistant(a)]},
    lambda q, a, b, c: {  # AI SDK: the words stand in the parts alone
        "messages": [
            {"role": "user", "content": "", "parts": [{"type": "text", "text": q}]},
            {"role": "assistant", "content": "", "parts": [{"type": "text", "text": a}]},
        ]
    },
    lambda q, a, b, c: {
        "title": c,
        "conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}],
    },
    lambda q, a, b, c: {  # WildChat
        "conversation": [user(q) | {"hashed_ip": "f0", "header": {"user-agent": c}}, assistant(a)],
        "hashed_ip": "f0",
        "header": {"user-agent": c},
    },
]


@pytest.mark.parametrize("make", ANSWERS)
def test_answers_of_other_tools(tmp_path, make):
    got = read(file_of(tmp_path, make), "demonstrations")
    expected = [([words("ask", i)], words("good", i), None) for i in range(ROWS)]
    assert [simple(one) for one in got.examples] == expected


@pytest.mark.parametrize("keys", EXCHANGES)
def test_every_exchange_is_read_and_nothing_of_it_counts_as_unread(tmp_path, keys):
    asked, said = keys
    path = file_of(
        tmp_path, lambda q, a, b, c: {"conversation": [{asked: q, said: b}, {asked: c, said: a}]}
    )
    got = read(path, "demonstrations")
    assert simple(got.examples[0]) == (
        [words(one, 0) for one in ("ask", "bad", "more")],
        words("good", 0),
        None,
    )
    third = next(each for each in ("response", "answer", "output") if each not in keys)
    path = file_of(tmp_path, lambda q, a, b, c: {"conversation": [{asked: q, said: a, third: b}]})
    with pytest.raises(DataError, match=f"key '({third}|{said})'"):
        read(path, "demonstrations")


@pytest.mark.parametrize(
    "system",
    [lambda c: [{"type": "text", "text": c}], lambda c: {"type": "text", "text": c}, lambda c: c],
)
def test_a_system_text_in_parts(tmp_path, system):
    path = file_of(
        tmp_path, lambda q, a, b, c: {"system": system(c), "messages": [user(q), assistant(a)]}
    )
    got = read(path, "demonstrations").examples[0]
    assert [(turn.role, turn.content) for turn in got.prompt] == [
        ("system", words("more", 0)),
        ("user", words("ask", 0)),
    ]


@pytest.mark.parametrize(
    "row",
    [
        lambda q, a: {"prompt": q, "completion": a},
        lambda q, a: {"instruction": q, "output": a},
        lambda q, a: {"messages": [user(q), assistant(a)]},
    ],
)
@pytest.mark.parametrize("name", ["desirable", "thumbs_up", "is_good"])
def test_a_label_under_another_name_is_a_label(tmp_path, row, name):
    path = file_of(tmp_path, lambda q, a, b, c: row(q, a) | {name: q.endswith(("0", "2"))})
    got = read(path, "labelled")
    assert [simple(one)[-1] for one in got.examples] == [i in (0, 2) for i in range(ROWS)]
    assert f"columns guessed by their names: read as label={name}" in got.ledger.notes


@pytest.mark.parametrize("name", ["undesirable", "thumbs_down", "is_bad"])
def test_a_label_that_counts_the_other_way_is_refused(tmp_path, name):
    path = file_of(tmp_path, lambda q, a, b, c: {"prompt": q, "completion": a, name: True})
    with pytest.raises(DataError, match="which answers are bad"):
        read(path, "demonstrations")


# ---------------------------------------------------------------- tables that pandas wrote


def tables(rows):
    names = list(rows[0])
    yield {name: {str(i): row[name] for i, row in enumerate(rows)} for name in names}
    yield {str(i): row for i, row in enumerate(rows)}
    values = [[row[name] for name in names] for row in rows]
    yield {"columns": names, "index": list(range(len(rows))), "data": values}
    yield {"schema": {"fields": []}, "data": [{"index": i} | row for i, row in enumerate(rows)]}
    hub = [{"row_idx": i, "row": row, "truncated_cells": []} for i, row in enumerate(rows)]
    yield {"features": [], "rows": hub, "partial": False}


@given(
    st.lists(st.tuples(st.text("ab [\"'{\n", max_size=8), st.booleans()), min_size=1, max_size=5)
)
@settings(max_examples=30, deadline=None)
def test_tables_of_pandas_give_their_rows(tmp_path_factory, drawn):
    rows = [
        {"prompt": f"q {i} {text}", "chosen": f"a {text}", "rejected": "b", "swap": swap}
        for i, (text, swap) in enumerate(drawn)
    ]
    folder = tmp_path_factory.mktemp("tables")
    for number, table in enumerate(tables(rows)):
        path = folder / f"{number}.json"
        path.write_text(json.dumps(table))
        got = read(path)
        expected = [([row["prompt"]], row["chosen"], row["rejected"]) for row in rows]
        assert [simple(one) for one in got.examples] == expected


def test_rows_that_the_hub_cut_are_refused(tmp_path):
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    cut = {"features": [], "rows": [{"row_idx": 0, "row": row, "truncated_cells": ["chosen"]}]}
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(cut))
    with pytest.raises(DataError, match="cut cells"):
        read(path)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    "make",
    [
        lambda q, a, b, c: {"messages": [user(q) | {"text": c}, assistant(a)]},
        lambda q, a, b, c: {
            "conversations": [
                {"from": "human", "value": q},
                {"from": "gpt", "value": a, "content": b},
            ]
        },
        lambda q, a, b, c: {"messages": [user([{"type": "text", "text": q}]) | {"text": c}]},
        lambda q, a, b, c: {
            "prompt": q,
            "responses": [{"text": a, "response": c, "score": 2}, {"text": b, "score": 1}],
        },
    ],
)
def test_two_texts_where_one_is_read(tmp_path, make):
    with pytest.raises(DataError, match="two texts"):
        read(file_of(tmp_path, make), "demonstrations")


def test_the_same_words_as_text_and_in_parts(tmp_path):
    path = file_of(
        tmp_path,
        lambda q, a, b, c: {
            "messages": [user(q) | {"parts": [{"type": "text", "text": q}]}, assistant(a)]
        },
    )
    assert simple(read(path, "demonstrations").examples[0])[0] == [words("ask", 0)]


@pytest.mark.parametrize("inside", [True, False])
def test_ranks_against_scores(tmp_path, inside):
    def make(scores, ranks):
        def row(q, a, b, c):
            if not inside:
                return {"prompt": q, "responses": [b, a, c], "scores": scores, "ranks": ranks}
            answers = zip((b, a, c), scores, ranks, strict=True)
            return {
                "prompt": q,
                "responses": [{"text": t, "score": s, "rank": r} for t, s, r in answers],
            }

        return file_of(tmp_path, row)

    with pytest.raises(DataError, match="scores against ranks"):
        read(make([1, 5, 3], [1, 3, 2]))
    for ranks in ([3, 1, 2], [3, 2, 1], [None, 1, 2], [-1, 1, 2]):
        got = read(make([1, 5, 3], ranks))
        assert simple(got.examples[0])[1:] == (words("good", 0), words("bad", 0))
    assert "ranks and scores disagree" not in " ".join(got.ledger.notes)


TWINS = [
    ("response_a", "response_b", {"winner": "b"}),
    ("answer_1", "answer_2", {"score_1": 1, "score_2": 5}),
    ("output_1", "output_2", {"preference": 2}),
    ("response-1", "response-2", {"preference.responses": ["response-2"]}),
    ("completion_0", "completion_1", {"choice": 1}),
]


@pytest.mark.parametrize(("one", "two", "verdict"), TWINS)
def test_no_command_calls_one_of_two_answers_chosen_where_a_verdict_stands_beside(
    tmp_path, one, two, verdict
):
    path = file_of(tmp_path, lambda q, a, b, c: {"prompt": q, one: b, two: a} | verdict)
    with pytest.raises(DataError) as caught:
        read(path)
    assert "chosen=" not in str(caught.value)
    assert f"{one} and {two} are answers" in str(caught.value)


def test_two_answers_without_a_verdict_get_a_command(tmp_path):
    path = file_of(tmp_path, lambda q, a, b, c: {"prompt": q, "response_a": a, "response_b": b})
    with pytest.raises(DataError, match="--columns chosen=response_a,rejected=response_b"):
        read(path)


@pytest.mark.parametrize(
    "beside",
    [
        {"A": "red", "B": "blue"},
        {"opa": "red", "opb": "blue"},
        {"option_1": "red", "option_2": "blue"},
        {"prefill": "Sure:"},
        {"format_instructions": "Answer in JSON."},
        {"suffix": "Be brief."},
    ],
)
def test_short_columns_that_belong_to_the_prompt(tmp_path, beside):
    path = file_of(tmp_path, lambda q, a, b, c: {"question": q, "answer": a} | beside)
    with pytest.raises(DataError) as caught:
        read(path, "demonstrations")
    for name in beside:
        assert f"column {name!r}" in str(caught.value)


def test_a_sentence_is_no_short_label(tmp_path):
    """An instruction in a column called task is named as unread; a label is known."""
    for value, state in (("Translate the sentence into plain French.", "unread"), ("qa", "")):
        path = file_of(
            tmp_path, lambda q, a, b, c, v=value: {"prompt": q, "completion": a, "task": v}
        )
        account = stream_of(path)[1].columns.as_dict()
        assert ("task" in account["unread"]) == bool(state)


def test_prompts_that_are_lists_in_a_table(tmp_path):
    path = tmp_path / "rows.csv"
    rows = [f"\"['turn {i}', 'and {i}']\",good {i},bad {i}" for i in range(ROWS)]
    path.write_text("prompt,chosen,rejected\n" + "\n".join(rows) + "\n")
    with pytest.raises(DataError, match="list of texts in brackets"):
        read(path)
    assert len(read(path, format="trl-explicit")) == ROWS
    path.write_text("\n".join(["prompt,chosen,rejected", *rows[:1], *["ask,a,b"] * ROWS]) + "\n")
    assert len(read(path)) == ROWS + 1


def test_a_whole_conversation_is_not_offered_as_history(tmp_path):
    """The question would stand twice in the prompt."""
    path = file_of(
        tmp_path,
        lambda q, a, b, c: {
            "instruction": q,
            "response": a,
            "conversations": [user(q), assistant(a), user(c), assistant(b)],
        },
    )
    with pytest.raises(DataError, match="conversations") as caught:
        read(path, "demonstrations")
    assert "history=" not in str(caught.value)


def test_a_command_for_a_file_whose_name_begins_with_a_dash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file_of(tmp_path, lambda q, a, b, c: {"frage": q, "gut": a, "schlecht": b}, "-rows.jsonl")
    with pytest.raises(DataError, match=r"accord audit \./-rows\.jsonl --columns"):
        read("-rows.jsonl")
