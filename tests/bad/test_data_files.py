"""Every file of `data_files.py`: refused with exit code 3 and the cause, its account balanced, no
traceback.
"""

import io
import json
import sys

import pytest
from bad.data_files import FILES, PAIR, _stream

from accord.config.schema import DataConfig
from accord.data.read import read
from accord.errors import DataError

# a larger share refuses with exit code 3, see test_bad_input.py
ACCEPTED = DataConfig(train="x").max_rejected


def check(path, options, words, used):
    """The words in the error or the ledger; exit code 3 in either case, since over 0.1 % of the
    rows are unusable.
    """
    if used is None:
        with pytest.raises(DataError) as error:
            read(path, **options)
        assert error.value.code == 3
        message = str(error.value)
    else:
        ledger = read(path, **options).ledger
        assert ledger.rows == ledger.used + len(ledger.rejected) and ledger.used == used
        assert ledger.rejected_share > ACCEPTED
        message = "\n".join(ledger.lines())
    assert any(word in message for word in words.split("|")), message
    assert "Traceback" not in message and len(message) < 2_000 and message.encode()
    return message


@pytest.mark.parametrize("name", FILES)
def test_bad_file(name, tmp_path):
    data, options, words, used = FILES[name]
    path = tmp_path / "data"
    path.write_bytes(data)
    assert str(path) in check(path, options, words, used)


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "the last line cut off",
        "gzip cut off",
        "an array not closed",
        "a picture",
        "Parquet cut off",
    ],
)
def test_bad_standard_input(name, monkeypatch):
    data, options, words, used = FILES[name]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert "standard input" in check("-", options, words, used)


def saved(folder, **state):
    """A folder as save_to_disk leaves it."""
    folder.mkdir(parents=True)
    (folder / "data.arrow").write_bytes(_stream({name: [value] for name, value in PAIR.items()}))
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data.arrow"}]} | state)
    )
    return folder


def empty(folder):
    folder.mkdir()
    return folder


def with_notes(folder):
    empty(folder).joinpath("notes.md").write_text("Where is the data?")
    return folder


def two_splits(folder):
    saved(folder / "train"), saved(folder / "test")
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    return folder


def no_split(folder):
    (empty(folder) / "dataset_dict.json").write_text("{}")
    return folder


def broken_state(folder):
    (saved(folder) / "state.json").write_text('{"_data_files": [')
    return folder


def deep_state(folder):
    (saved(folder) / "state.json").write_text("[" * 100_000)
    return folder


def damaged_shard(folder):
    (saved(folder) / "data.arrow").write_bytes(b"\xff\xff\xff\xff" + bytes(4) + b"rest")
    return folder


FOLDERS = {
    "empty": (empty, "this folder is no dataset"),
    "of notes": (with_notes, "it holds notes.md"),
    "of two splits": (two_splits, "2 splits; name one of them"),
    "of no split": (no_split, "0 splits"),
    "with a broken state": (broken_state, "not readable as the state"),
    "with a state nested without end": (deep_state, "not readable as the state"),
    "with another state": (lambda f: saved(f, _data_files={"a": 1}), "not readable as the state"),
    "without a part": (
        lambda f: saved(f, _data_files=[{"filename": "data-2.arrow"}]),
        "data-2.arrow is missing",
    ),
    "that reaches outside": (
        lambda f: saved(f, _data_files=[{"filename": "../../../etc/passwd"}]),
        "passwd is missing",
    ),
    "of no parts": (lambda f: saved(f, _data_files=[]), "no rows"),
    "with a damaged part": (damaged_shard, "no rows|damaged"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_bad_folder(name, tmp_path):
    make, words = FOLDERS[name]
    assert str(tmp_path) in check(make(tmp_path / "set"), {}, words, None)


def test_there_are_many():
    assert len(FILES) >= 80
