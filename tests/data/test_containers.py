"""Every container gives the same rows with the right places, and says what is wrong with a damaged
one.
"""

import csv
import gzip
import hashlib
import io
import json
import sys

import pytest

from accord.data.containers import Source, locate
from accord.data.ledger import RowError
from accord.types import DataError

ROWS = [
    {"prompt": "Capital?", "chosen": 'Paris, "France"\nof course', "rejected": "Lyon\u2028"},
    {"prompt": "שלום 😀", "chosen": "a", "rejected": "b"},
    {"prompt": "p" * 3_000, "chosen": "c", "rejected": "d"},
]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
MESSAGES = [{"role": "user", "content": "Hi"}]


def rows_of(path, limit=4_000_000):
    """[(line, row)], with the reason in the place of a row that could not be read."""
    with locate(path) as source:
        return [
            (line, row.reason if isinstance(row, RowError) else row)
            for line, row in source.rows(limit)
        ]


def written(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def as_csv(rows, delimiter=","):
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, rows[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def zstd(data):
    return pytest.importorskip("zstandard").compress(data)


def parquet(rows):
    from pyarrow import BufferOutputStream, Table, parquet

    sink = BufferOutputStream()
    parquet.write_table(Table.from_pylist(rows), sink, row_group_size=2)
    return sink.getvalue().to_pybytes()


def arrow(rows, new):
    from pyarrow import BufferOutputStream, Table, ipc

    sink, table = BufferOutputStream(), Table.from_pylist(rows)
    with getattr(ipc, new)(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue().to_pybytes()


COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
NUMBERED = {
    "lines": lambda: JSONL,
    "lines with BOM and CRLF": lambda: b"\xef\xbb\xbf" + JSONL.replace(b"\n", b"\r\n"),
    "lines without a last end": lambda: JSONL[:-1],
    "array": lambda: json.dumps(ROWS, ensure_ascii=False).encode(),
    "array, indented": lambda: b"\xef\xbb\xbf" + json.dumps(ROWS, indent=2).encode(),
    "object of columns": lambda: json.dumps(COLUMNS).encode(),
    "object of columns, indented": lambda: json.dumps(COLUMNS, indent=1).encode(),
    "object with rows": lambda: json.dumps({"data": ROWS}).encode(),
    "gzip": lambda: gzip.compress(JSONL),
    "gzip of an array": lambda: gzip.compress(json.dumps(ROWS).encode()),
    "two gzip members": lambda: gzip.compress(JSONL[:50]) + gzip.compress(JSONL[50:]),
    "zstd": lambda: zstd(JSONL),
    "two zstd frames": lambda: zstd(JSONL[:50]) + zstd(JSONL[50:]),
    "parquet": lambda: parquet(ROWS),
    "arrow file": lambda: arrow(ROWS, "new_file"),
    "arrow stream": lambda: arrow(ROWS, "new_stream"),
}


@pytest.mark.parametrize("container", NUMBERED)
def test_containers_are_known_by_their_content(tmp_path, container):
    """No suffix helps here."""
    assert rows_of(written(tmp_path, "data", NUMBERED[container]())) == list(enumerate(ROWS, 1))


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("name", ["data", "data.csv"])
def test_csv(tmp_path, delimiter, name):
    """The second row starts on line 4, since a cell of the first has a line end."""
    path = written(tmp_path, name, b"\xef\xbb\xbf" + as_csv(ROWS, delimiter))
    assert rows_of(path) == [(2, ROWS[0]), (4, ROWS[1]), (5, ROWS[2])]


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(JSONL))))
    assert rows_of("-") == list(enumerate(ROWS, 1))


def test_a_saved_dataset(tmp_path):
    datasets = pytest.importorskip("datasets")
    nested = [{"prompt": MESSAGES, "chosen": str(n), "rejected": "x"} for n in range(5)]
    datasets.Dataset.from_list(nested).save_to_disk(tmp_path / "set", num_shards=2)
    assert rows_of(tmp_path / "set") == list(enumerate(nested, 1))
    shuffled = datasets.Dataset.from_list(nested).select([4, 0])
    shuffled.save_to_disk(tmp_path / "some")
    assert [row["chosen"] for _, row in rows_of(tmp_path / "some")] == ["4", "0"]


def test_a_saved_dataset_of_splits(tmp_path):
    datasets = pytest.importorskip("datasets")
    part = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict(train=part).save_to_disk(tmp_path / "one")
    assert rows_of(tmp_path / "one") == list(enumerate(ROWS, 1))
    datasets.DatasetDict(train=part, test=part).save_to_disk(tmp_path / "two")
    with pytest.raises(DataError, match="2 splits; name one of them: .*two/test, .*two/train"):
        rows_of(tmp_path / "two")


def test_a_saved_dataset_that_is_not_whole(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "set")
    with locate(tmp_path / "set") as source:
        before = source.digest()
    (file,) = (tmp_path / "set").glob("*.arrow")
    kept = file.read_bytes()
    file.write_bytes(kept[: len(kept) // 2])
    with locate(tmp_path / "set") as source:
        assert source.digest() != before
    with pytest.raises(DataError, match="damaged or cut short"):
        rows_of(tmp_path / "set")
    file.unlink()
    with pytest.raises(DataError, match="is missing, which state.json names"):
        rows_of(tmp_path / "set")
    (tmp_path / "set" / "state.json").write_text("{}")
    with pytest.raises(DataError, match="not readable as the state"):
        rows_of(tmp_path / "set")


def test_bad_lines_stand_in_their_places(tmp_path):
    data = b"\n".join(
        [
            b'{"a": 1}',
            b"",
            b'{"a": ',
            b'{"a": "\xff"}',
            b"[1]",
            b'{"a": 1, "a": 2}',
            b'{"a": {"b": 1, "b": 1}}',
            b"[" * 100_000,
            b'{"a": ' + b"9" * 5_000 + b"}",
            b'{"a": NaN}',
            b"\x00",
            b'{"a": 2}',
        ]
    )
    assert rows_of(written(tmp_path, "data.jsonl", data)) == [
        (1, {"a": 1}),
        (3, "invalid JSON"),
        (4, "invalid UTF-8"),
        (5, [1]),
        (6, "repeated key"),
        (7, "repeated key"),
        (8, "invalid JSON"),
        (9, "invalid JSON"),
        (10, {"a": None}),
        (11, "invalid JSON"),
        (12, {"a": 2}),
    ]


def test_a_repeated_key_is_said_of_its_own_row_only(tmp_path):
    lines = b'{"a": 0}\n{"a": {"b": 1, "b": 1}, oops\n{"a": 1}'
    assert rows_of(written(tmp_path, "lines", lines)) == [
        (1, {"a": 0}),
        (2, "invalid JSON"),
        (3, {"a": 1}),
    ]
    array = b'[{"a": 1, "a": "%s"}, {"a": 1}]' % (b"x" * 100)
    assert rows_of(written(tmp_path, "array", array), 90) == [(1, "row too large"), (2, {"a": 1})]


def test_lines_may_begin_with_a_list(tmp_path):
    assert rows_of(written(tmp_path, "data", b'[1]\n{"a": 1}\n')) == [(1, [1]), (2, {"a": 1})]


def test_one_row_of_messages_is_no_table_of_columns(tmp_path):
    row = {"prompt": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES}
    assert rows_of(written(tmp_path, "data", json.dumps(row).encode())) == [(1, row)]
    assert rows_of(written(tmp_path, "more", json.dumps(row, indent=1).encode())) == [(1, row)]


def test_the_size_limit_counts_a_row_without_its_line_end(tmp_path):
    line = b'{"a": "%s"}'
    fits, over = line % (b"x" * 91), line % (b"x" * 92)
    assert len(fits) == 100
    data = b"\r\n".join([fits, over, over * 3_000, fits, over])
    assert [
        (n, row if isinstance(row, str) else "row")
        for n, row in rows_of(written(tmp_path, "d", data), 100)
    ] == [(1, "row"), (2, "row too large"), (3, "row too large"), (4, "row"), (5, "row too large")]


def test_a_row_of_five_megabytes_is_over_the_default(tmp_path):
    data = JSONL + json.dumps({"prompt": "x" * 5_000_000}).encode() + b"\n" + JSONL
    found = rows_of(written(tmp_path, "data.jsonl", data))
    assert [line for line, _ in found] == [1, 2, 3, 4, 5, 6, 7]
    assert found[3] == (4, "row too large") and found[4] == (5, ROWS[0])


@pytest.mark.parametrize("container", ["array", "parquet", "arrow stream", "object of columns"])
def test_the_size_limit_elsewhere(tmp_path, container):
    found = rows_of(written(tmp_path, "data", NUMBERED[container]()), 1_000)
    assert [row for _, row in found] == [*ROWS[:2], "row too large"]


def test_arrays_with_bad_rows(tmp_path):
    data = b'[{"a": 1}, 12, {"a": "\xff"}, {"a": 1, "a": 2}, {"a": 3}]'
    expected = [(1, {"a": 1}), (2, 12), (3, "invalid UTF-8"), (4, "repeated key"), (5, {"a": 3})]
    assert rows_of(written(tmp_path, "data", data)) == expected
    assert rows_of(written(tmp_path, "none", b" [ ] ")) == []


def test_an_array_larger_than_one_read(tmp_path):
    rows = [{"prompt": str(n) * 5_000} for n in range(60)] + [{"prompt": "x" * 300_000}]
    assert rows_of(written(tmp_path, "data", json.dumps(rows).encode())) == list(enumerate(rows, 1))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf \n", "the file is empty"),
        # no time in the bytes: they are part of the test's name, on which two workers must agree
        (gzip.compress(b"", mtime=0), "the file is empty"),
        ("[1]".encode("utf-16")[:-1], "UTF-16 text is damaged or cut short"),
        (gzip.compress(JSONL, mtime=0)[:-9], "gzip data is cut short"),
        (gzip.compress(JSONL, mtime=0)[:40] + b"\0" * 60, "gzip data is damaged"),
        (b'[{"a": 1}, {"a":', "row 2 of the JSON array cannot be read"),
        (
            b'[{"a": 1}',
            "row 1 of the JSON array cannot be read: the text ends in it or right after it",
        ),
        (b'[{"a": 1} ', "a comma after row 1 is expected, found 'the end of the file'"),
        (b'[{"a": 1} {"a": 2}]', "a comma after row 1"),
        (b'[{"a": 1}, ]', "row 2"),
        (b'[{"a": 1}] x', "something follows"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{\n"a": 1\n}\n{\n"a": 2\n}\n', "neither one JSON object nor one a line"),
        (b"PAR1 and nothing", "Parquet file is damaged"),
        (b"ARROW1 and nothing", "Arrow file is damaged"),
        (b"prompt,prompt\na,b\n", "names a column twice"),
        (b'prompt,chosen\n"a,b\nc,d\n', "line 2: a quote is opened and not closed"),
    ],
)
def test_damaged_files_are_named_in_words(tmp_path, data, says):
    path = written(tmp_path, "broken.bin", data)
    with pytest.raises(DataError, match=says) as caught:
        rows_of(path)
    assert str(path) in str(caught.value)


def test_parquet_and_zstd_that_are_cut_short(tmp_path):
    with pytest.raises(DataError, match="Parquet file is damaged or cut short"):
        rows_of(written(tmp_path, "a", parquet(ROWS)[:-20]))
    data = b"".join(
        b'{"prompt": "%s"}\n' % hashlib.sha256(b"%d" % n).hexdigest().encode() for n in range(9_000)
    )
    with pytest.raises(DataError, match="zstd data is cut short"):
        rows_of(written(tmp_path, "b", zstd(data)[:-3]))
    with pytest.raises(DataError, match="zstd data is damaged"):
        rows_of(written(tmp_path, "c", zstd(JSONL)[:8] + b"\xff" * 40))


def test_zstd_without_its_package(tmp_path, monkeypatch):
    path = written(tmp_path, "d.jsonl.zst", zstd(JSONL))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(DataError, match=r"d.jsonl.zst: zstd needs .* pip install 'accord\[zstd\]'"):
        rows_of(path)


def test_csv_cells(tmp_path):
    """Cells are text; which of them hold messages or lists is a matter of the row's format."""
    row = {"prompt": json.dumps(MESSAGES), "rejected": '["a"]', "scores": "[1, 2]"}
    path = written(tmp_path, "d.csv", as_csv([row]))
    assert rows_of(path)[0][1] == row


def test_csv_rows_that_do_not_fit(tmp_path):
    data = b'prompt,chosen\na\nb,c\n"x"y,d\n\xff,e\n%s,g\nf,g\n' % (b"l" * 90)
    assert rows_of(written(tmp_path, "d.csv", data), 90) == [
        (2, "invalid CSV"),
        (3, {"prompt": "b", "chosen": "c"}),
        (4, "invalid CSV"),
        (5, "invalid UTF-8"),
        (6, "row too large"),
        (7, {"prompt": "f", "chosen": "g"}),
    ]
    assert csv.field_size_limit() == 131_072  # the process's own limit is as it was
    large = written(tmp_path, "e.csv", as_csv([{"prompt": "x" * 200_000, "chosen": "y"}]))
    assert len(rows_of(large)[0][1]["prompt"]) == 200_000


def test_parquet_types_that_json_has_not(tmp_path):
    from datetime import date
    from decimal import Decimal

    path = written(
        tmp_path, "d", parquet([{"prompt": "p", "day": date(2024, 1, 2), "price": Decimal("1.50")}])
    )
    assert rows_of(path) == [(1, {"prompt": "p", "day": "2024-01-02", "price": "1.50"})]


def test_names_that_are_no_files(tmp_path):
    with pytest.raises(
        DataError,
        match="If it is a data set's name on a hub, say so: hub:trl-lib/ultrafeedback_binarized",
    ):
        rows_of("trl-lib/ultrafeedback_binarized")
    with pytest.raises(DataError, match=r"no such file or folder\.$"):
        rows_of(tmp_path / "missing.jsonl")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"this folder is no dataset: .*it holds notes.txt"):
        rows_of(tmp_path)


def test_rows_are_read_as_they_are_asked_for(tmp_path):
    """The damage at the end is not met before it is reached."""
    path = written(tmp_path, "d", b'[{"a": 1}, {"a": 2}, oops')
    rows = Source("d", path).rows()
    assert next(rows) == (1, {"a": 1})
    assert next(rows) == (2, {"a": 2})
    with pytest.raises(DataError):
        next(rows)


def test_digest_is_of_the_files_bytes(tmp_path):
    path = written(tmp_path, "d.gz", gzip.compress(JSONL))
    with locate(path) as source:
        assert source.digest() == hashlib.sha256(path.read_bytes()).hexdigest()
