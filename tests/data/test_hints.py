"""What a row that no format reads is answered with: a command that reads this very file."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
from conftest import pair_rows, write_rows

from accord.data.read import read
from accord.errors import DataError

PAIRS = pair_rows(4)
OWN = [{"question": r["prompt"], "good": r["chosen"], "bad": r["rejected"]} for r in PAIRS]
NESTED = [
    {"input": {"text": r["prompt"]}, "outputs": {"win": r["chosen"], "lose": r["rejected"]}}
    for r in PAIRS
]


def hint(file, lines, **options) -> str:
    """Return what is said of a file that cannot be read."""
    path = file if lines is None else write_rows(file, lines)
    with pytest.raises(DataError) as error:
        read(path, **options)
    return str(error.value)


def read_by(command: str) -> list[tuple[str, str]]:
    """Read as a suggested command would; return the answers."""
    words = shlex.split(command)
    options = dict(zip(words[3::2], words[4::2], strict=True))
    names = {"columns": options.get("--columns"), "ignore_columns": options.get("--ignore-columns")}
    return [(one.chosen, one.rejected) for one in read(words[2], **names).examples]


ANSWERS = [(row["chosen"], row["rejected"]) for row in PAIRS]


@pytest.mark.parametrize(
    "rows, options, words",
    [
        (PAIRS, {"ignore_columns": "prompt"}, "without --ignore-columns prompt"),
        (OWN, {"ignore_columns": "question"}, "without --ignore-columns question"),
        (PAIRS, {"ignore_columns": "rejected"}, "without --ignore-columns rejected"),
        (PAIRS, {"format": "sharegpt"}, "without --format sharegpt"),
        (OWN, {"format": "sharegpt"}, "without --format sharegpt"),
        (PAIRS, {"columns": "foo=prompt"}, "without --columns foo=prompt"),
    ],
)
def test_an_option_in_the_way_is_named(tmp_path, rows, options, words):
    said = hint(tmp_path / "a.jsonl", rows, **options)
    assert f"{words} it is read as trl-explicit" in said, said
    assert read_by(said.rpartition(": ")[2]) == ANSWERS


def test_the_other_options_stay(tmp_path):
    rows = [row | {"notes": "n"} for row in PAIRS]
    said = hint(tmp_path / "a.jsonl", rows, ignore_columns="prompt,notes")
    assert said.endswith("--ignore-columns notes"), said


def test_a_label_that_is_ignored(tmp_path):
    rows = [{"prompt": "a", "completion": "b c", "label": True}]
    said = hint(tmp_path / "a.jsonl", rows, rows="labelled", ignore_columns="label")
    assert "without --ignore-columns label it is read as trl-unpaired" in said


@pytest.mark.parametrize(
    "rows",
    [
        [{"chosen": "I say yes", "rejected": "I say no"}],
        [{"good": "I say yes", "bad": "I say no"}],
        [{"winner": "I say yes", "loser": "I say no"}],
    ],
)
def test_no_suggestion_exchanges_meanings(tmp_path, rows):
    """The one column says that it is the better answer, so that it is no prompt."""
    said = hint(tmp_path / "a.jsonl", rows)
    assert "prompt=chosen" not in said and "completion=" not in said and "prompt=good" not in said
    assert "prompt=winner" not in said


@pytest.mark.parametrize(
    "typed",
    ["question=prompt,good=chosen,bad=rejected", "question=prompt,chosen=good,rejected=bad"],
)
def test_columns_the_wrong_way_round(tmp_path, typed):
    said = hint(tmp_path / "a.jsonl", OWN, columns=typed)
    assert "Did you mean --columns " in said
    command = said.partition("Did you mean ")[2].partition("?")[0]
    assert read_by(f"accord audit {tmp_path / 'a.jsonl'} {command}") == ANSWERS


def test_nested_objects_are_named_with_dots(tmp_path):
    said = hint(tmp_path / "a.jsonl", NESTED)
    assert "--columns prompt=input.text,chosen=outputs.win,rejected=outputs.lose" in said
    assert read_by(said.rpartition(": ")[2]) == ANSWERS


def test_nested_deeper(tmp_path):
    rows = [{"data": {"ask": {"prompt": "Why?"}, "said": {"best": "a b", "worst": "c d"}}}]
    said = hint(tmp_path / "a.jsonl", rows)
    command = said.rpartition(": ")[2]
    assert "prompt=data.ask.prompt" in command and read_by(command) == [("a b", "c d")]


def test_what_stands_beside_a_dotted_name_is_accounted_for(tmp_path):
    rows = [row | {"outputs": {**row["outputs"], "system": "Speak as a pirate."}} for row in NESTED]
    names = "prompt=input.text,chosen=outputs.win,rejected=outputs.lose"
    said = hint(tmp_path / "a.jsonl", rows, columns=names)
    assert "content that nothing reads" in said and "'outputs.system'" in said
    found = read(tmp_path / "a.jsonl", columns=names, ignore_columns="outputs.system")
    assert [(one.chosen, one.rejected) for one in found.examples] == ANSWERS
    columns = found.ledger.columns.as_dict()
    assert set(columns["used"]) == {"input.text", "outputs.win", "outputs.lose"}


def test_a_column_that_has_the_dotted_name_goes_first(tmp_path):
    rows = [row | {"input.text": "Another?"} for row in NESTED]
    names = "prompt=input.text,chosen=outputs.win,rejected=outputs.lose"
    path = write_rows(tmp_path / "a.jsonl", rows)
    found = read(path, columns=names, ignore_columns="input").examples
    assert {one.prompt[0].content for one in found} == {"Another?"}


def test_a_dotted_name_that_is_not_there(tmp_path):
    names = "prompt=input.txt,chosen=outputs.win,rejected=outputs.lose"
    assert "Did you mean prompt=input.text?" in hint(tmp_path / "a.jsonl", NESTED, columns=names)


def test_parts_without_a_suggestion_are_listed(tmp_path):
    said = hint(tmp_path / "a.jsonl", [{"a": {"b": "one two"}, "c": {"d": 3}}])
    assert "prompt=COLUMN" in said and "with a.b" in said


@pytest.mark.parametrize(
    "name, text, path",
    [
        ("a.json", json.dumps({"version": 1, "data": {"examples": PAIRS}}), "data.examples"),
        ("a.jsonl", json.dumps({"id": "x y", "pairs": PAIRS}) + "\n", "pairs"),
    ],
)
def test_rows_inside_a_row(tmp_path, monkeypatch, name, text, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text)
    said = hint(name, None)
    assert f"the rows lie inside {path}. Write them out: python -c " in said
    command = said.partition("Write them out: ")[2].replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert [(one.chosen, one.rejected) for one in read("rows.jsonl").examples] == ANSWERS
