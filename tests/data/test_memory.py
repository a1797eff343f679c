"""Rows in memory come to what a file of the same rows comes to."""

from __future__ import annotations

import datetime
import json
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import pair_rows, write_rows

from accord.data.containers import is_there, locate
from accord.data.memory import as_name
from accord.data.memory import write_rows as write_memory
from accord.data.read import read
from accord.types import DataError, UsageError


def same(dataset, other) -> bool:
    texts = [[(each.prompt, each.completions) for each in d.examples] for d in (dataset, other)]
    return texts[0] == texts[1] and dataset.digest == other.digest


def test_a_list_of_dicts_is_read_as_its_file(tmp_path):
    rows = pair_rows(5)
    file = tmp_path / "rows.jsonl"
    write_memory(rows, file, "data")
    with as_name(rows, "data") as name:
        found = read(name, "pairs")
    assert same(found, read(file, "pairs")) and len(found.examples) == 5
    assert str(found.examples[2].origin) == "rows of data:3"


def test_the_digest_is_that_of_the_same_jsonl(tmp_path):
    rows = pair_rows(3)
    file = write_rows(tmp_path / "by_hand.jsonl", rows)
    with as_name(rows, "data") as name:
        assert read(name, "pairs").digest == read(file, "pairs").digest


def test_a_dataframe_of_pandas():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([{**row, "score": n} for n, row in enumerate(pair_rows(4))])
    frame.loc[2, "score"] = float("nan")
    frame["day"] = pandas.Timestamp("2026-01-02")
    with as_name(frame, "data") as name, locate(name) as source:
        rows = [row for _, row in source.rows()]
    assert [row["score"] for row in rows] == [0.0, 1.0, None, 3.0]
    assert rows[0]["day"] == "2026-01-02T00:00:00"
    assert rows[0]["prompt"] == pair_rows(1)[0]["prompt"]


def test_a_dataset_of_datasets_names_its_classes():
    datasets = pytest.importorskip("datasets")
    rows = [{**row, "label": n % 2} for n, row in enumerate(pair_rows(4))]
    made = datasets.Dataset.from_list(rows).cast_column(
        "label", datasets.ClassLabel(names=["bad", "good"])
    )
    with as_name(made.with_format("numpy"), "data") as name, locate(name) as source:
        found = [row for _, row in source.rows()]
    assert [row["label"] for row in found] == ["bad", "good", "bad", "good"]
    with (
        pytest.raises(UsageError, match=r"2 splits \(train, test\).*data=dataset\['train'\]"),
        as_name(datasets.DatasetDict(train=made, test=made), "data"),
    ):
        pass


def test_values_of_numpy_and_dates_have_a_form(tmp_path):
    row = {"a": np.float32(0.5), "b": np.array([1, 2]), "c": {"d": np.int64(3)}, 4: (True, None)}
    row["day"] = datetime.date(2026, 1, 2)
    write_memory([row], tmp_path / "x.jsonl", "data")
    assert json.loads((tmp_path / "x.jsonl").read_text()) == {
        "a": 0.5,
        "b": [1, 2],
        "c": {"d": 3},
        "4": [True, None],
        "day": "2026-01-02",
    }


def test_texts_are_prompts(tmp_path):
    write_memory(["Why?", {"prompt": "How?"}], tmp_path / "x.jsonl", "prompts")
    lines = (tmp_path / "x.jsonl").read_text().splitlines()
    assert list(map(json.loads, lines)) == [{"prompt": "Why?"}, {"prompt": "How?"}]


@pytest.mark.parametrize(
    "data, error, says",
    [
        ({"prompt": "x"}, UsageError, r"data: one dict.*data=\[row, …\]"),
        (["text"], UsageError, "row 1 is of the type str; each row is a dict"),
        (7, UsageError, "of the type int; expected a path, a list of dicts"),
        ((row for row in ()), UsageError, "of the type generator"),
        ([{}, {"x": b"1"}], DataError, "row 2, column 'x': a value of the type bytes"),
        ([{"x": SimpleNamespace()}], DataError, "SimpleNamespace has no form in JSON"),
    ],
)
def test_what_is_no_row_is_refused(data, error, says, tmp_path):
    with pytest.raises(error, match=says):
        write_memory(data, tmp_path / "x.jsonl", "data")


def test_a_name_lasts_as_long_as_its_context(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows of data").touch()  # a file of that very name is never shadowed
    with as_name(pair_rows(1), "data") as one, as_name(pair_rows(2), "data") as two:
        assert (one, two) == ("rows of data (2)", "rows of data (3)")
        assert is_there(one) and len(read(two, "pairs").examples) == 2
    assert not is_there(one)
    with pytest.raises(DataError, match="no such file"), locate(one):
        pass
    with as_name(tmp_path / "x.jsonl", "data") as name:
        assert name == str(tmp_path / "x.jsonl")
