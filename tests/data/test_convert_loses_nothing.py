"""`accord convert` writes all that an example holds, refuses it, or names what is left behind."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from accord.data.convert import WRITERS, to_format
from accord.data.convert_file import convert_file
from accord.types import DataError, Origin, Pair, TemplateInputs, Turn

ORIGIN = Origin("here.jsonl", 3)
PLAIN = Pair((Turn("user", "why?"),), "since so", "no idea", ORIGIN)
SCORED = replace(PLAIN, extra={"score_chosen": 2.0, "score_rejected": 1.0})
TOOLS = json.dumps([{"type": "function", "function": {"name": "f"}}])
HOLDS = ("trl-conversational", "trl-implicit", "openai", "ms-swift")


def convert(tmp_path, rows, to, **options):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = convert_file(path, tmp_path / "out.jsonl", to, **options)
    written = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    return done, [json.loads(line) for line in written]


def rich(**inputs) -> Pair:
    return replace(SCORED, inputs=TemplateInputs(**inputs))


RICH = {
    "tools": rich(tools=TOOLS),
    "documents": rich(documents='[{"text": "the cat sat"}]'),
    "options": rich(options='{"enable_thinking": false}'),
    "reasoning": rich(answers=((("reasoning_content", '"look"'),), ())),
    "keys": replace(SCORED, prompt=(Turn("user", "why?", (("name", '"ann"'),)),)),
}


@pytest.mark.parametrize("what", RICH)
@pytest.mark.parametrize("name", WRITERS)
def test_no_format_drops_what_a_template_reads(name, what):
    """Each row that is written says all of it; a format without a place for it refuses."""
    example = RICH[what]
    try:
        rows = list(to_format([example], name))
    except DataError as error:
        assert "here.jsonl:3" in str(error)
        return
    told = json.dumps(rows)
    marks = {
        "tools": '"name": "f"',
        "documents": "the cat sat",
        "options": "enable_thinking",
        "reasoning": "look",
        "keys": "ann",
    }
    assert marks[what] in told


@pytest.mark.parametrize("name", HOLDS)
@pytest.mark.parametrize("what", RICH)
def test_formats_of_messages_write_it(name, what):
    """Before it is read back, the row holds the inputs where TRL and OpenAI have them."""
    example = RICH[what]
    row = WRITERS[name].columns(example)
    if what == "tools":
        assert json.loads(TOOLS) in (row.get("tools"), row.get("input", {}).get("tools"))
    if what == "documents":
        assert row["documents"] == [{"text": "the cat sat"}]
    if what == "options":
        assert row["chat_template_kwargs"] == {"enable_thinking": False}
    if what == "keys":
        assert {"role": "user", "content": "why?", "name": "ann"} in json.loads(
            json.dumps([*_messages(row)])
        )
    if what == "reasoning":
        said = {"role": "assistant", "content": "since so", "reasoning_content": "look"}
        assert said in [*_messages(row)]


def _messages(node):
    """Yield every object inside a row."""
    if isinstance(node, dict):
        yield node
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _messages(each)


@pytest.mark.parametrize(
    "to, says",
    [("messages", "rejected answers"), ("trl-unpaired", "which was compared with which")],
)
def test_what_a_kind_of_rows_has_no_place_for_is_counted(tmp_path, to, says):
    rows = [{"prompt": f"why {n}?", "chosen": "a b", "rejected": "c d"} for n in range(5)]
    done, _ = convert(tmp_path, rows, to)
    assert {what: n for what, n in done.lost.items() if says in what} == {next(iter(done.lost)): 5}
    assert any("not held: 5 ×" in line and says in line for line in done.lines())
    assert done.as_dict()["lost"] == dict(done.lost)


def test_labels_and_undesirable_answers_are_counted(tmp_path):
    rows = [{"prompt": "why?", "completion": f"so {n}", "label": n < 3} for n in range(5)]
    done, written = convert(tmp_path, rows, "messages")
    assert len(written) == 3 and done.refused == Counter({"undesirable": 2})
    assert done.lost == Counter({"labels: the format holds answers to imitate": 3})


def test_a_column_whose_name_the_format_needs_is_counted():
    example = replace(PLAIN, extra={"messages": "mine", "source": "x"})
    lost: Counter = Counter()
    (row,) = to_format([example], "messages", lost)
    assert row["source"] == "x" and row["messages"][0]["content"] == "why?"
    assert lost["column 'messages' of the file: the format has a column of this name"] == 1


def test_further_columns_go_along(tmp_path):
    rows = [
        {"prompt": "why?", "chosen": "a b", "rejected": "c d", "context": f"the cat sat {n}"}
        for n in range(4)
    ]
    done, written = convert(tmp_path, rows, "trl-conversational")
    assert [row["context"] for row in written] == [row["context"] for row in rows]
    assert any("CONTENT NOT READ: context" in line for line in done.lines())


def test_keys_of_messages_are_named_or_refused(tmp_path):
    said = {"role": "user", "content": "why?", "id": "m1", "mood": "calm"}
    rows = [{"messages": [said, {"role": "assistant", "content": f"so {n}"}]} for n in range(3)]
    done, _ = convert(tmp_path, rows, "prompt-completion")
    assert {name for name in done.lost if "message key" in name} == {
        "message key 'id': messages are written anew",
        "message key 'mood': messages are written anew",
    }
    said["context"] = "the cat sat on the mat"
    (tmp_path / "out.jsonl").unlink()
    with pytest.raises(DataError, match="message key 'context'"):
        convert(tmp_path, rows, "prompt-completion")
    assert not (tmp_path / "out.jsonl").exists()


def test_answers_of_a_list_that_no_pair_has_are_named(tmp_path):
    rows = [{"prompt": "why?", "responses": ["a b", "c d", "e f"], "scores": [3, 2, 1]}]
    done, _ = convert(tmp_path, rows, "trl-explicit")
    assert [note for note in done.ledger.notes if "ranked list: best-worst" in note]
    (tmp_path / "out.jsonl").unlink()
    two = [{"prompt": "why?", "responses": ["a b", "c d"], "scores": [3, 2]}]
    done, _ = convert(tmp_path, two, "trl-explicit")
    assert not done.ledger.notes


def test_columns_are_renamed_on_the_way(tmp_path):
    rows = [{"frage": "why?", "gut": "a b", "schlecht": "c d", "id": 3}]
    names = {"prompt": "frage", "chosen": "gut", "rejected": "schlecht"}
    _, written = convert(tmp_path, rows, "trl-explicit", columns=names)
    assert written == [{"id": 3, "prompt": "why?", "chosen": "a b", "rejected": "c d"}]
