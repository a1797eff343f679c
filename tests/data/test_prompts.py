"""Prompts out of any file: each once, with the place where it first stood, and the account of the
rows.
"""

import json

import pytest

from accord.data.prompts import prompt_words, read_prompts
from accord.types import DataError, Turn

HI = (Turn("user", "Hi there"),)


def written(tmp_path, rows, name="p.jsonl") -> str:
    file = tmp_path / name
    file.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows),
        encoding="utf-8",
    )
    return str(file)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi there"},
        {"prompt": [{"role": "user", "content": "Hi there"}]},
        {"messages": [{"role": "user", "content": "Hi there"}]},
        {"question": "Hi there", "id": 3},
        {"instruction": "Hi there", "input": ""},
        {"prompt": "Hi there", "chosen": "Yes?", "rejected": "No."},
        {"prompt": "Hi there", "chosen": "Same.", "rejected": "Same."},  # no pair, and yet a prompt
        {"prompt": "Hi there", "completion": "Yes?", "label": False},
        {
            "messages": [
                {"role": "user", "content": "Hi there"},
                {"role": "assistant", "content": "Yes?"},
            ]
        },
        {
            "chosen": "\n\nHuman: Hi there\n\nAssistant: Yes?",
            "rejected": "\n\nHuman: Hi there\n\nAssistant: No.",
        },
        # what `accord generate` writes
        {"prompt": "Hi there", "completions": ["a", "b"], "ended": [True, True]},
    ],
    ids=lambda row: "-".join(row),
)
def test_a_prompt_is_found_in_every_shape(tmp_path, row):
    read = read_prompts(written(tmp_path, [row]))
    assert [q.turns for q in read.prompts] == [HI]


def test_system_turns_and_dialogues_are_kept(tmp_path):
    turns = [
        {"role": r, "content": c}
        for r, c in (
            ("system", "Be kind."),
            ("user", "Hi"),
            ("assistant", "Yes?"),
            ("user", "Why?"),
        )
    ]
    read = read_prompts(
        written(tmp_path, [{"prompt": turns}, {"system": "Be kind.", "prompt": "Hi"}])
    )
    assert read.prompts[0].turns == tuple(Turn(t["role"], t["content"]) for t in turns)
    assert read.prompts[1].turns == (Turn("system", "Be kind."), Turn("user", "Hi"))


def test_each_once_with_its_first_place_and_the_account(tmp_path):
    rows = [
        {"prompt": "b"},
        {"prompt": "a"},
        {"prompt": "b"},
        {"prompt": "  "},
        {"text": "x"},
        "not json",
        [1],
    ]
    read = read_prompts(written(tmp_path, rows))
    assert [(q.turns[0].content, q.origin.line) for q in read.prompts] == [("b", 1), ("a", 2)]
    assert (read.ledger.rows, read.ledger.used, len(read.ledger.rejected)) == (7, 3, 4)
    assert {r.origin.line for r in read.ledger.rejected} == {4, 5, 6, 7}
    assert "2 different prompts" in read.says()


def test_plain_text_has_one_a_line(tmp_path):
    read = read_prompts(written(tmp_path, ["Hi there", "", "prompt"], "p.txt"))
    assert [(q.turns[0].content, q.origin.line) for q in read.prompts] == [
        ("Hi there", 1),
        ("prompt", 3),
    ]


@pytest.mark.parametrize(
    "rows, says",
    [([{"text": "x"}], "1 × unknown format"), ([{"prompt": ""}], "empty prompt"), ([], "no|empty")],
)
def test_a_file_without_prompts_is_refused(tmp_path, rows, says):
    with pytest.raises(DataError, match=says):
        read_prompts(written(tmp_path, rows))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    for name in ("none.jsonl", "none.txt"):
        with pytest.raises(DataError, match="none"):
            read_prompts(str(tmp_path / name))
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match="UTF-8"):
        read_prompts(str(tmp_path / "bad.txt"))


def test_a_line_ends_at_its_newline_alone(tmp_path):
    """Unicode has other characters that separate lines; inside a prompt they are text."""
    (tmp_path / "p.txt").write_bytes("What does this\u2028line say?\r\nSecond\x0cpage?\n".encode())
    assert [q.turns[0].content for q in read_prompts(str(tmp_path / "p.txt")).prompts] == [
        "What does this\u2028line say?",
        "Second\x0cpage?",
    ]


def test_words_ignore_case_and_punctuation():
    same = [prompt_words([Turn("user", text)]) for text in ("Where IS it?!", "where is it")]
    assert same[0] == same[1] != prompt_words([Turn("user", "where was it")])
