"""A file that grows line by line: what a kill leaves is gone on with, what was begun otherwise is not."""

import json

import pytest

from accord.online.lines import GrowingFile
from accord.types import CheckpointError, UsageError

MADE_BY = {"seed": 1, "rewards": ("a", "b")}


def rows(file):
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def test_it_has_its_name_only_when_it_is_whole(tmp_path):
    file = GrowingFile(str(tmp_path / "out.jsonl"), MADE_BY)
    assert file.done == 0
    file.add([{"n": 0}, {"n": 1}])
    file.add(iter([{"n": 2}]))
    assert file.done == 3 and not (tmp_path / "out.jsonl").exists()
    file.finish()
    assert [row["n"] for row in rows(tmp_path / "out.jsonl")] == [0, 1, 2] and [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert all(row["provenance"] == {"seed": 1, "rewards": ["a", "b"]} for row in rows(tmp_path / "out.jsonl"))


def test_it_goes_on_behind_its_last_whole_line(tmp_path):
    GrowingFile(str(tmp_path / "out.jsonl"), MADE_BY).add([{"n": 0, "text": "a\u2028b\r\nc"}, {"n": 1}])
    part = tmp_path / "out.jsonl.part"
    whole = part.read_bytes()
    part.write_bytes(whole + b'{"n": 2, "prov')
    file = GrowingFile(str(tmp_path / "out.jsonl"), MADE_BY)
    assert file.done == 2 and part.read_bytes() == whole
    file.add([{"n": 2}])
    file.finish()
    assert [row["n"] for row in rows(tmp_path / "out.jsonl")] == [0, 1, 2]


@pytest.mark.parametrize("line", ['{"n": 1, "provenance": {"seed": 2, "rewards": ["a", "b"]}}', '{"n": 1}', "not json", "[1]", ""])
def test_a_line_that_was_begun_otherwise_is_named(line, tmp_path):
    GrowingFile(str(tmp_path / "out.jsonl"), MADE_BY).add([{"n": 0}])
    part = tmp_path / "out.jsonl.part"
    part.write_bytes(part.read_bytes() + line.encode() + b"\n")
    kept = part.read_bytes()
    with pytest.raises(UsageError, match=r"out.jsonl.part:2: begun with another") as caught:
        GrowingFile(str(tmp_path / "out.jsonl"), MADE_BY)
    assert f"rm {part}" in str(caught.value) and part.read_bytes() == kept


def test_names_that_it_cannot_have(tmp_path):
    (tmp_path / "taken.jsonl").touch()
    for name, words in (("taken.jsonl", "exists already"), ("out.jsonl.gz", "not compressed"), ("out.json", "JSONL")):
        with pytest.raises(UsageError, match=words):
            GrowingFile(str(tmp_path / name), MADE_BY)


def test_nothing_at_all_is_an_empty_file(tmp_path):
    GrowingFile(str(tmp_path / "out.jsonl"), MADE_BY).finish()
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_what_cannot_be_written_is_said(tmp_path):
    file = GrowingFile(str(tmp_path / "gone/out.jsonl"), MADE_BY)
    with pytest.raises(CheckpointError, match="out.jsonl.part: cannot be written: No such file.*goes on from there"):
        file.add([{"n": 0}])
