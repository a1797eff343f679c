"""A file that grows line by line: gone on with where it was cut off, and never with lines that were
begun otherwise.
"""

import json
import os

import pytest

from accord.data.growing_file import GrowingFile
from accord.types import CheckpointError, UsageError

HOW = {"model": "m", "seed": 1}


def test_lines_are_there_at_once_and_the_name_at_the_end(tmp_path, monkeypatch):
    """Each `add` is on the disk before it returns, and the file has no other name than .part until
    it is complete.
    """
    synced, right = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(number), right(number)))
    file = GrowingFile(str(tmp_path / "a.jsonl"), HOW)
    file.add([{"x": "é"}, {"x": 2}])
    assert (file.done, len(synced)) == (2, 1) and not (tmp_path / "a.jsonl").exists()
    file.add([{"x": 3}])
    lines = (tmp_path / "a.jsonl.part").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"x": x, "provenance": HOW} for x in ("é", 2, 3)
    ]
    file.finish()
    assert (tmp_path / "a.jsonl").read_text("utf-8").splitlines() == lines and not (
        tmp_path / "a.jsonl.part"
    ).exists()


def test_nothing_to_write_is_an_empty_file(tmp_path):
    GrowingFile(str(tmp_path / "a.jsonl"), HOW).finish()
    assert (tmp_path / "a.jsonl").read_bytes() == b""


@pytest.mark.parametrize("torn", [b"", b'{"x": 3, "prov', b"{"])
def test_half_a_line_is_cut_off(torn, tmp_path):
    path = tmp_path / "a.jsonl"
    first = GrowingFile(str(path), HOW)
    first.add([{"x": 1}, {"x": 2}])
    whole = first.part.read_bytes()
    first.part.write_bytes(whole + torn)
    again = GrowingFile(str(path), HOW)
    assert again.done == 2 and again.part.read_bytes() == whole
    again.add([{"x": 3}])
    again.finish()
    assert [json.loads(line)["x"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_torn_before_the_first_line_ended(tmp_path):
    (tmp_path / "a.jsonl.part").write_bytes(b'{"x"')
    assert GrowingFile(str(tmp_path / "a.jsonl"), HOW).done == 0
    assert (tmp_path / "a.jsonl.part").read_bytes() == b""


@pytest.mark.parametrize(
    "line",
    ['{"x": 1, "provenance": {"model": "m", "seed": 2}}', '{"x": 1}', "no json", "[1]", "null"],
)
def test_lines_begun_otherwise_are_refused_with_their_place(line, tmp_path):
    path = tmp_path / "a.jsonl"
    GrowingFile(str(path), HOW).add([{"x": 1}])
    part = tmp_path / "a.jsonl.part"
    part.write_text(part.read_text() + line + "\n")
    with pytest.raises(
        UsageError, match=r"a\.jsonl\.part:2: begun with another model(.|\n)*rm .*a\.jsonl\.part"
    ):
        GrowingFile(str(path), HOW)


def test_settings_are_compared_as_they_are_written(tmp_path):
    """A tuple is a list in JSON: the same settings, given again, are the same."""
    path = str(tmp_path / "a.jsonl")
    GrowingFile(path, {"rewards": ("length", "format")}).add([{"x": 1}])
    assert GrowingFile(path, {"rewards": ("length", "format")}).done == 1


@pytest.mark.parametrize(
    "name, words", [("a.json", "expected a name that ends in"), ("a.jsonl.gz", "is not compressed")]
)
def test_names_that_cannot_grow(name, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        GrowingFile(str(tmp_path / name), HOW)


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "a.jsonl").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        GrowingFile(str(tmp_path / "a.jsonl"), HOW)


def test_a_full_disk_is_said(tmp_path):
    file = GrowingFile(str(tmp_path / "none" / "a.jsonl"), HOW)
    with pytest.raises(CheckpointError, match="cannot be written: No such file"):
        file.add([{"x": 1}])
