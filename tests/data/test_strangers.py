"""What strangers' files hold beside text: media, tools, reasoning, ranks, transcripts, weights.

Each test pins what a row gives, or that it is refused and for which reason.
"""

import json
import time
from dataclasses import replace

import pytest

from accord.data.formats import as_kind, named, recognise
from accord.data.ledger import RowError
from accord.data.prompts import read_prompts
from accord.data.read import read
from accord.types import DataError, Demonstration, Labelled, Origin, Pair, TemplateInputs, Turn

HERE = Origin("here.jsonl", 1)
ASK = (Turn("user", "q"),)
SIDES = {"chosen": "yes", "rejected": "no"}
TOOL = {"type": "function", "function": {"name": "f"}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **keys):
    return {"role": "assistant", "content": text} | keys


def examples(row, format="auto"):
    found, seen = recognise(row, named(format))
    return found.examples(seen, HERE, row)


def notes(row):
    found, seen = recognise(row)
    found.examples(seen, HERE, row)
    return seen.notes


def reason(row):
    with pytest.raises(RowError) as caught:
        examples(row)
    return caught.value.reason


def pair(prompt=ASK, chosen="yes", rejected="no", inputs=TemplateInputs(), **extra):  # noqa: B008
    return [Pair(prompt, chosen, rejected, HERE, extra, inputs)]


# ---------------------------------------------------------------- media


@pytest.mark.parametrize(
    "beside",
    [
        {"images": ["a.png"]},
        {"image": {"bytes": "iVBOR", "path": None}},
        {"videos": "v.mp4"},
        {"audio": {"array": [0.1], "sampling_rate": 16000}},
        {"image_path": "a.png"},
        {"input_audio": "a.wav"},
        {"pixel_values": [[0.1]]},
        {"question_image": "a.png"},
    ],
    ids=lambda beside: next(iter(beside)),
)
def test_media_in_any_column_are_refused(beside):
    assert reason({"prompt": "q", **SIDES, **beside}) == "not text"
    assert (
        reason({"messages": [user("q"), assistant("yes")], "label": True, **beside}) == "not text"
    )


@pytest.mark.parametrize("nothing", [None, [], "", "[]", [None], {"bytes": None, "path": ""}, [{}]])
@pytest.mark.parametrize("name", ["images", "video", "audio_path"])
def test_empty_media_make_a_text_row(name, nothing):
    found = examples({"prompt": "q", **SIDES, name: nothing})
    assert [replace(each, extra={}) for each in found] == pair()


@pytest.mark.parametrize("kind", ["image_url", "image", "input_audio", "video", "file"])
def test_parts_that_are_media_are_refused(kind):
    content = [{"type": "text", "text": "see"}, {"type": kind, kind: "a"}]
    assert reason({"prompt": [user(content)], **SIDES}) == "not text"
    assert reason({"prompt": "q", "chosen": [assistant(content)], "rejected": "no"}) == "not text"


@pytest.mark.parametrize(
    "asked",
    [
        "<image>\nWhat is this?",
        "What is this?\n<image>",
        "<video>What is this?",
        "<image><image>\nWhich?",
        "<audio> What is said?",
        "<|vision_start|><|image_pad|><|vision_end|>What?",
        "What? <|image|>",
    ],
)
def test_marks_of_media_are_refused(asked):
    assert reason({"prompt": asked, **SIDES}) == "not text"
    assert reason({"prompt": [user(asked)], **SIDES}) == "not text"


# ---------------------------------------------------------------- what goes to the template


def test_template_inputs_are_canonical_in_every_spelling():
    tools = json.dumps([TOOL])
    for column in (
        {"tools": [TOOL]},
        {"tools": tools},
        {"tools": str([TOOL])},
        {"tools": TOOL},
        {"tools": [json.dumps(TOOL)]},
        {"functions": [{"name": "f"}]},
    ):
        assert examples({"prompt": "q", **SIDES, **column}) == pair(
            inputs=TemplateInputs(tools=tools)
        )
    for empty in ([], None, "", "[]", "null", [{"type": None, "function": None}]):
        assert examples({"prompt": "q", **SIDES, "tools": empty})[0].inputs == TemplateInputs()
    row = {"prompt": "q", **SIDES, "documents": [{"title": "é"}]}
    assert examples(row)[0].inputs == TemplateInputs(documents='[{"title": "é"}]')
    options = {"enable_thinking": False, "other": None}
    row = {"prompt": "q", **SIDES, "chat_template_kwargs": options}
    assert examples(row)[0].inputs == TemplateInputs(options='{"enable_thinking": false}')
    row = {"messages": [user("q"), assistant("yes")], "chat_template_kwargs": json.dumps(options)}
    assert examples(row)[0].inputs == TemplateInputs(options='{"enable_thinking": false}')


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        ({"tools": "search"}, "wrong type"),
        ({"tools": ["search"]}, "wrong type"),
        ({"tools": [TOOL], "functions": [{"name": "g"}]}, "two values"),
        ({"documents": ["text"]}, "wrong type"),
        ({"chat_template_kwargs": [1]}, "wrong type"),
        ({"tools": [{"a": 1, "b": float("nan")}]}, "wrong type"),
    ],
)
def test_template_inputs_that_cannot_be_meant(beside, expected):
    assert reason({"prompt": "q", **SIDES, **beside}) == expected


def test_inputs_inside_openais_object():
    row = {
        "input": {"messages": [user("q")], "system": "S", "functions": [{"name": "f"}]},
        "preferred_output": [assistant("yes")],
        "non_preferred_output": [assistant("no")],
    }
    inputs = TemplateInputs(tools=json.dumps([TOOL]))
    assert examples(row) == pair((Turn("system", "S"), *ASK), inputs=inputs)
    assert reason(row | {"tools": [{"name": "other"}]}) == "two values"
    row["input"]["passage"] = "read me"
    assert reason(row) == "key that is not read"


def test_keys_of_messages_go_along_and_conversion_keeps_them():
    call = [{"type": "function", "function": {"name": "f", "arguments": {"b": 1, "a": 2}}}]
    row = {
        "prompt": [
            user("q"),
            {"role": "assistant", "content": None, "tool_calls": call, "reasoning": "hm"},
            {"role": "tool", "content": "42", "name": "f", "tool_call_id": "c1"},
        ],
        "chosen": [assistant("same", thinking="good")],
        "rejected": [assistant("same", thinking="bad")],
    }
    (found,) = examples(row)
    assert found.prompt == (
        *ASK,
        Turn("assistant", "", (("reasoning", '"hm"'), ("tool_calls", json.dumps(call)))),
        Turn("tool", "42", (("name", '"f"'), ("tool_call_id", '"c1"'))),
    )
    answers = ((("thinking", '"good"'),), (("thinking", '"bad"'),))
    assert found.inputs.answers == answers
    assert [one.inputs.answers for one in as_kind(found, "labelled")] == [
        (answers[0],),
        (answers[1],),
    ]
    assert as_kind(found, "demonstrations")[0].inputs.answers == (answers[0],)
    old = {"role": "assistant", "content": "", "function_call": call[0]["function"]}
    said = [{"from": "function_call", "value": json.dumps(call[0]["function"])}]
    for turn in ([old], said):
        (found,) = examples({"messages": [user("q"), *turn, user("r"), assistant("yes")]})
        assert found.prompt[1] == Turn("assistant", "", (("tool_calls", json.dumps(call)),))


def test_answers_that_cannot_be_trained_on():
    call = assistant("", tool_calls=[{"function": {"name": "f"}}])
    assert reason({"messages": [user("q"), call]}) == "tool calls"
    assert reason({"prompt": "q", "chosen": [call], "rejected": "no"}) == "tool calls"
    assert reason({"messages": [user("q"), assistant(None)]}) == "wrong type"
    assert reason({"messages": [user("q"), assistant("", reasoning="hm")]}) == "empty answer"
    both = assistant("yes", reasoning="a", thinking="b")
    assert reason({"messages": [user("q"), both]}) == "two reasonings"
    for key in ({"weight": 0}, {"train": False}, {"loss": False}, {"mask": 1}):
        answer = assistant("yes", **key)
        assert reason({"messages": [user("q"), answer]}) == "not to be trained on"
        assert reason({"prompt": "q", "chosen": answer, "rejected": "no"}) == "not to be trained on"
        earlier = {"messages": [user("q"), answer, user("r"), assistant("no", weight=1)]}
        assert examples(earlier)[0].completion == "no"


def test_prompts_carry_the_same(tmp_path):
    rows = [
        {"prompt": "q", "tools": [TOOL]},
        {"prompt": "q"},
        {"prompt": "q", **SIDES, "tools": [TOOL]},
        {"prompt": '[{"role": "user", "content": "r"}]'},
        {"prompt": "Be brief.\n\nHuman: s\n\nAssistant:"},
        {"prompt": "q", "image": "a.png"},
    ]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_prompts(str(path))
    tools = TemplateInputs(tools=json.dumps([TOOL]))
    assert [(one.turns, one.inputs) for one in found.prompts] == [
        (ASK, tools),
        (ASK, TemplateInputs()),
        ((Turn("user", "r"),), TemplateInputs()),
        ((Turn("system", "Be brief."), Turn("user", "s")), TemplateInputs()),
    ]
    assert found.ledger.reasons == {"not text": 1}
    assert found.ledger.notes == {
        "prompt holds messages as JSON text: parsed": 1,
        "prompt is a transcript (Human:/Assistant:): split at its turns": 1,
    }


# ---------------------------------------------------------------- conversations


def test_a_conversation_that_already_ends_in_an_answer():
    row = {"messages": [user("q"), assistant("yes")], "chosen": assistant("yes")}
    assert examples(row | {"rejected": assistant("no")}) == pair()
    assert notes(row | {"rejected": assistant("no")}) == [
        "conversation already ends in the chosen answer: cut"
    ]
    other = row | {"chosen": assistant("no"), "rejected": assistant("yes")}
    assert reason(other) == "prompt ends in the rejected answer"
    third = row | {"chosen": assistant("a"), "rejected": assistant("b")}
    assert reason(third) == "conversation ends in an answer"
    assert reason({"prompt": "other", **SIDES, "messages": row["messages"]}) == "two prompts"


def test_lists_of_answers():
    row = {"prompt": "q", "label": "undesirable"}
    assert examples(row | {"completion": ["no"]}) == [Labelled(ASK, "no", False, HERE)]
    assert examples(row | {"completion": [assistant("no")]}) == [Labelled(ASK, "no", False, HERE)]
    assert reason(row | {"completion": ["no", "yes"]}) == "several answers"
    listed = {"instruction": "q", "output": ["yes", "no"]}
    assert examples(listed) == pair()
    assert reason(listed | {"kto_tag": True}) == "several answers"
    row = {"instruction": "q", "output": ["yes"]}
    assert examples(row) == [Demonstration(ASK, "yes", HERE)]
    text = {"instruction": "q", "output": '["the", "cat"]'}
    assert examples(text | {"kto_tag": "false"}) == [Labelled(ASK, text["output"], False, HERE)]
    assert reason(text) == "one answer or two"
    assert examples(text, "alpaca-sft") == [Demonstration(ASK, text["output"], HERE)]
    assert examples(text, "alpaca-outputs") == pair(chosen="the", rejected="cat")


def test_one_side_structured():
    row = {"prompt": "q", "chosen": json.dumps([assistant("yes")]), "rejected": "no"}
    assert examples(row) == pair()
    assert notes(row) == ["chosen holds messages as JSON text: parsed"]
    assert reason(row | {"chosen": json.dumps([user("yes")])}) == "not an assistant turn"
    assert reason(row | {"chosen": json.dumps('a "b"')}) == "one answer is a JSON string"


# ---------------------------------------------------------------- transcripts


@pytest.mark.parametrize(
    "asked",
    [
        "Human: a\nAssistant: b\nHuman: c",
        "User: a\nUser: b\nAssistant:",
        "USER: a\nASSISTANT: b",
        "User:\nAssistant: b\nUser: c\nAssistant:",
        "Some text.\nUser: a\nUser: b\n\nAssistant:",
        "<extra_id_1>User\na\n<extra_id_1>User\nb\n<extra_id_1>Assistant\n",
    ],
)
def test_transcripts_that_cannot_be_split_are_refused(asked):
    assert reason({"prompt": asked, **SIDES}) == "transcript cannot be split"


def test_the_marker_that_hands_over_may_begin_the_answers():
    row = {"prompt": "User: q", "chosen": "Assistant: yes", "rejected": "Assistant: no"}
    assert examples(row) == pair()
    assert examples(row | {"prompt": "\n\nHuman: q", **SIDES}) == pair()


def test_a_marker_inside_a_turn_is_text_where_turns_stand_apart():
    asked = "User: a\nUser: quoted\n\nAssistant: b\n\nUser: q\n\nAssistant:"
    said = (Turn("user", "a\nUser: quoted"), Turn("assistant", "b"), *ASK)
    assert examples({"prompt": asked, **SIDES}) == pair(said)


def test_text_before_nemos_first_tag_is_the_systems_or_the_users():
    asked = "Be brief.\n<extra_id_1>User\nq\n<extra_id_1>Assistant\n"
    assert examples({"prompt": asked, **SIDES}) == pair((Turn("system", "Be brief."), *ASK))
    asked = "a\n<extra_id_1>Assistant\nb\n<extra_id_1>User\nq"
    said = (Turn("user", "a"), Turn("assistant", "b"), *ASK)
    assert examples({"prompt": asked, **SIDES}) == pair(said)


def test_attribute_lines_are_left_out_with_a_note():
    row = {
        "prompt": "<extra_id_1>User\nq\n<extra_id_1>Assistant\n<extra_id_2>quality:4\n",
        "chosen": "yes\n<extra_id_1>",
        "rejected": "no\n<extra_id_1>\n",
    }
    assert examples(row) == pair()
    assert "attribute lines (<extra_id_2>) are left out" in notes(row)[0]


def test_blanks_around_an_answer_are_the_transcripts():
    asked = "Human: q\n\nAssistant:"
    row = {"prompt": asked, "completion": " yes\n", "label": 1}
    assert examples(row) == [Labelled(ASK, "yes", True, HERE)]


def test_a_transcript_of_too_many_turns():
    assert reason({"prompt": "Human: a\nAssistant: b\n" * 20_001, **SIDES}) == "too many turns"


# ---------------------------------------------------------------- ranks and scores

LIST = {"prompt": "q", "responses": ["a", "b", "c"]}


@pytest.mark.parametrize(
    ("beside", "best", "worst"),
    [
        ({"ranks": [2, 1, 3]}, "b", "c"),
        ({"ranks": ["2", "3", "1"]}, "c", "b"),
        ({"ranks": "[2, 3, 1]"}, "c", "b"),
        ({"ranks": [1, 2, 0]}, "c", "b"),
        ({"rank": [2, 3, 1]}, "c", "b"),
        ({"rank": [0, 2, 1]}, "a", "b"),  # its own inverse: both readings are one
        ({"ranking": [2, 1, 3]}, "b", "c"),
        ({"rank": [0, 1, 1]}, "a", "c"),
        ({"order": [1, 2, 0]}, "b", "a"),
        ({"order": [3, 1, 2]}, "c", "b"),
        ({"order": [2, 0]}, "c", "a"),
        ({"ranks": [-1, 2, 1]}, "c", "b"),
        ({"ranks": [None, 2, 1]}, "c", "b"),
        ({"ranks": [float("nan"), 2, 1]}, "c", "b"),
        ({"scores": [None, 1, "2"]}, "c", "b"),
        ({"scores": [-1, 0, -2]}, "b", "c"),
        ({"scores": [{"score": 1}, {"score": 3}, {"score": 2}]}, "b", "a"),
    ],
    ids=str,
)
def test_ranks_and_scores(beside, best, worst):
    (found,) = examples(LIST | beside)
    assert found.completions == (best, worst)


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        ({"rank": [1, 2, 0]}, "ranks or an order"),
        ({"ranking": [2, 3, 1]}, "ranks or an order"),
        ({"ranking": [2, 0, 1]}, "ranks or an order"),
        ({"order": [1, 2]}, "ranks or an order"),
        ({"order": [0, 0, 1]}, "wrong type"),
        ({"order": [0, 1, 4]}, "wrong type"),
        ({"ranks": [1, -2, 3]}, "wrong type"),
        ({"ranks": [-1, None, -1]}, "not ranked"),
        ({"ranks": [-1, None, 1]}, "not a comparison"),
        ({"ranks": [1, 1, 1]}, "tie"),
        ({"scores": [{"helpful": 1}, {"helpful": 2}, {"helpful": 3}]}, "several scores"),
    ],
    ids=str,
)
def test_ranks_that_can_be_read_in_two_ways(beside, expected):
    assert reason(LIST | beside) == expected


def test_the_convention_is_noted():
    assert notes(LIST | {"ranks": [2, 1, 3]}) == ["rank 1 is the best"]
    assert notes(LIST | {"order": [2, 1, 0]}) == [
        "order names the best answer first, counting from 0"
    ]
    inside = [{"text": "a", "rank": 1}, {"text": "b", "rank": -1}, {"text": "c", "rank": 2}]
    assert examples({"prompt": "q", "responses": inside})[0].completions == ("a", "c")


# ---------------------------------------------------------------- a whole file


def written(tmp_path, rows):
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_answers_in_quotation_marks_in_all_rows_are_refused(tmp_path):
    rows = [{"prompt": "q", "chosen": f'"a{n}"', "rejected": f'"b{n}"'} for n in range(10)]
    path = written(tmp_path, rows)
    with pytest.raises(DataError, match=r"10 of 10 rows .*--set data.format=trl-explicit"):
        read(path)
    assert read(path, format="trl-explicit").examples[0].chosen == '"a0"'
    some = rows[:8] + [{"prompt": "q", **SIDES}] * 4
    assert read(written(tmp_path, some)).examples[0].chosen == '"a0"'


def test_labels_of_two_conventions_are_refused(tmp_path):
    rows = [{"prompt": "q", "completion": "a", "label": label} for label in (1, -1, 1)]
    path = written(tmp_path, rows)
    assert [one.desirable for one in read(path, "labelled").examples] == [True, False, True]
    with pytest.raises(DataError, match="-1 in some rows and 0 in others"):
        read(written(tmp_path, [*rows, rows[0] | {"label": 0}]), "labelled")


def test_csv_and_jsonl_are_read_alike(tmp_path):
    """A KTO file whose answers are JSON lists, and messages as Python prints them."""
    (tmp_path / "d.csv").write_text(
        'instruction,input,output,kto_tag\nName two,,"[""the"", ""cat""]",false\n'
    )
    (found,) = read(tmp_path / "d.csv", "labelled").examples
    assert (found.completion, found.desirable) == ('["the", "cat"]', False)
    (tmp_path / "e.csv").write_text(
        "conversations,chosen,rejected\n"
        "\"[{'from': 'human', 'value': 'q'}]\",\"{'from': 'gpt', 'value': 'yes'}\","
        "\"{'from': 'gpt', 'value': 'no'}\"\n"
    )
    (found,) = read(tmp_path / "e.csv").examples
    assert (found.prompt, found.completions) == (ASK, ("yes", "no"))


# ---------------------------------------------------------------- texts made to exhaust a reader

SIZE = 400_000
HOSTILE = {
    "blanks": " " * SIZE,
    "lines": "\n" * SIZE,
    "markers": "Human:\n" * (SIZE // 7),
    "turns": "Human: a\nAssistant: b\n" * (SIZE // 22) + "Human: c\nAssistant:",
    "quotes": '"' + "\\" * SIZE,
    "escapes": "['" + "\\'" * (SIZE // 2),
    "brackets": "[" * SIZE,
    "objects": "{'a':" * (SIZE // 5),
    "messages": str([user("x")] * (SIZE // 40)),
    "cut": "[{'role': 'user', 'content': '" + "x" * SIZE,
    "tags": "<extra_id_1>User\n" * (SIZE // 17),
    "marks": "<image>" * (SIZE // 7),
    "digits": "[" + "1" * SIZE + "]",
    "encodings": json.dumps(json.dumps(json.dumps('"' * (SIZE // 10)))),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_ends_in_time_and_in_words(text):
    """A quadratic step over these texts would take minutes; recursion would raise."""
    began = time.process_time()
    for row in (
        {"prompt": text, **SIDES},
        {"prompt": "q", "chosen": text, "rejected": "no"},
        {"chosen": text, "rejected": text + "."},
        {"messages": text},
        LIST | {"ranks": text},
    ):
        try:
            assert examples(row)
        except RowError as error:
            assert error.says
    assert time.process_time() - began < 20


def test_nested_values_are_refused_in_words():
    deep: object = "q"
    for _ in range(900):
        deep = [deep]
    for row in ({"prompt": deep, **SIDES}, {"prompt": "q", **SIDES, "tools": deep}):
        assert reason(row) == "wrong type"
    assert reason({"prompt": "q", **SIDES, "images": deep}) == "not text"
