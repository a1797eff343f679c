"""Types of Arrow and Parquet columns: the values that JSON would hold, and the same from both."""

import contextlib
import datetime
import decimal
import json
import random
import tracemalloc

import pyarrow as pa
import pytest
from data.packed import rows_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import ipc, parquet

from accord.data import table_rows
from accord.data.arrow_types import converter
from accord.types import DataError


def as_parquet(table, **options):
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


def as_arrow(table):
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


@pytest.fixture
def read_as(tmp_path):
    """A column -> its values, from Parquet (where it holds the type) and from Arrow alike."""

    def read(column, features=None, only_arrow=False):
        table = pa.table({"a": column})
        if features is not None:
            text = json.dumps({"info": {"features": {"a": features}}})
            table = table.replace_schema_metadata({"huggingface": text})
        found = []
        for write in (as_arrow,) if only_arrow else (as_arrow, as_parquet):
            (tmp_path / "data").write_bytes(write(table))
            rows = rows_of(tmp_path / "data")
            found.append([row["a"] if isinstance(row, dict) else row for row in rows])
        assert str(found[0]) == str(found[-1])
        return found[0]

    return read


def json_column(texts):
    json_type = getattr(pa, "json_", None)
    if json_type is None:
        pytest.skip("this pyarrow has no json type")
    return pa.ExtensionArray.from_storage(json_type(), pa.array(texts, pa.string()))


MESSAGE = [{"role": "user", "content": "Hi\n😀"}]


def test_json_columns_hold_values(read_as):
    values = [MESSAGE, "plain text", {"a": None}, 12, 1.5, True, "12", None, [], ""]
    texts = [None if value is None else json.dumps(value) for value in values]
    assert read_as(json_column(texts)) == values
    lists = pa.ListArray.from_arrays([0, 4, len(values)], json_column(texts))
    assert read_as(lists, only_arrow=True) == [values[:4], values[4:]]
    # written by a pyarrow that has no such type, or read by one: the features say it
    for feature in ({"_type": "Json"}, {"_type": "Value", "dtype": "json"}):
        assert read_as(pa.array(texts), feature) == values
        nested = {"_type": "List", "feature": feature}
        assert read_as(pa.array([texts]), nested) == [values]
        assert read_as(pa.array([[{"x": t} for t in texts]]), [{"x": feature}])[0][0] == {
            "x": MESSAGE
        }
    assert read_as(pa.array(['"text"'])) == ['"text"']  # text that is JSON is text


def test_json_columns_that_cannot_be_parsed(read_as):
    deep = "[" * 1_000 + "]" * 1_000
    texts = ["{oops", '{"a": 1, "a": 2}', "[" * 100_000, deep, "NaN", '"ok"']
    reasons = ["invalid JSON", "repeated key", "invalid JSON", "invalid JSON", None, "ok"]
    assert read_as(json_column(texts)) == reasons


def test_class_labels_are_names(read_as):
    numbers = pa.array([0, 1, -1, None, 7])

    def labels(names):
        return read_as(numbers, {"_type": "ClassLabel", "names": names})

    assert labels(["desirable", "undesirable"]) == [
        "desirable",
        "undesirable",
        None,
        None,
        "unknown class",
    ]
    assert labels(["1", "0"])[:2] == [1, 0]  # the class 0 is called 1
    assert labels(["-1", "1"])[:2] == [-1, 1]
    assert labels(["True", "False"])[:2] == [True, False]
    assert labels(["0", "good"])[:2] == ["0", "good"]
    assert labels(None) == labels([]) == [0, 1, -1, None, 7]
    several = {"_type": "List", "feature": {"_type": "ClassLabel", "names": ["x", "y"]}}
    assert read_as(pa.array([[0, 1], None, []]), several) == [["x", "y"], None, []]


@pytest.mark.parametrize("metadata", ["{", "[]", "3", '{"info": 1}', '{"info": {"features": 3}}'])
def test_metadata_that_says_nothing(tmp_path, metadata):
    table = pa.table({"a": [1]}).replace_schema_metadata({"huggingface": metadata})
    (tmp_path / "data").write_bytes(as_parquet(table))
    assert rows_of(tmp_path / "data") == [{"a": 1}]


def test_structs_of_nulls_are_null(read_as):
    call = pa.struct([("name", pa.null()), ("arguments", pa.null())])
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("call", call)]))
    column = pa.array([[{"role": "user", "content": "x", "call": {}}], [None], None], kind)
    assert read_as(column) == [[{"role": "user", "content": "x", "call": None}], [None], None]
    inner = pa.array([{"a": {"b": None}}, {"a": {"b": "x"}}, None])
    assert read_as(inner) == [None, {"a": {"b": "x"}}, None]


TIMES = [datetime.datetime(2024, 1, 2, 3, 4), datetime.date(2024, 1, 2), datetime.time(1, 2)]
KINDS = {
    "map": (pa.map_(pa.string(), pa.int64()), [("k", 1), ("l", None)], {"k": 1, "l": None}),
    "map, key twice": (pa.map_(pa.string(), pa.int64()), [("k", 1), ("k", 2)], "repeated key"),
    "large text": (pa.large_string(), "x", "x"),
    "large list": (pa.large_list(pa.string()), ["x"], ["x"]),
    "fixed list": (pa.list_(pa.string(), 2), ["x", "y"], ["x", "y"]),
    "lists in lists": (pa.list_(pa.list_(pa.string())), [["x"], []], [["x"], []]),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), "x", "x"),
    "decimal": (pa.decimal128(5, 2), decimal.Decimal("1.50"), "1.50"),
    "time": (pa.timestamp("us"), TIMES[0], "2024-01-02 03:04:00"),
    "date in a list": (pa.list_(pa.date32()), [TIMES[1]], ["2024-01-02"]),
    "hour": (pa.time64("us"), TIMES[2], "01:02:00"),
    "text in bytes": (pa.binary(), "né".encode(), "né"),
    "text in bytes, in a struct": (pa.struct([("t", pa.binary())]), {"t": b"x"}, {"t": "x"}),
    "bytes": (pa.binary(), b"\xff\xd8", b"\xff\xd8"),
    "NaN": (pa.float64(), float("nan"), None),
    "NaN in a list": (pa.list_(pa.float32()), [float("nan"), 1.5], [None, 1.5]),
    "null": (pa.null(), None, None),
    "truth": (pa.bool_(), True, True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_gives_what_json_would_hold(read_as, kind):
    arrow, value, expected = KINDS[kind]
    assert read_as(pa.array([value, None], arrow)) == [expected, None]


def test_types_that_parquet_has_not(read_as):
    mixed = pa.UnionArray.from_sparse(
        pa.array([0, 1], pa.int8()), [pa.array(["x", "y"]), pa.array([1.5, float("nan")])]
    )
    assert read_as(mixed, only_arrow=True) == ["x", None]
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", "b"]))
    assert read_as(runs, only_arrow=True) == ["a", "a", "b"]
    for name in ("string_view", "list_view", "large_list_view"):
        if not hasattr(pa, name):
            continue
        kind = pa.string_view() if name == "string_view" else getattr(pa, name)(pa.string())
        value = "x" if name == "string_view" else ["x"]
        try:
            column = pa.array([value, None], kind)
        except pa.ArrowNotImplementedError:
            continue
        assert read_as(column, only_arrow=True) == [value, None]


def test_media_stay_as_they_are(read_as):
    """Formats refuse them by name; bytes of an image that are text are no text."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    values = [{"bytes": b"<svg/>", "path": None}, {"bytes": None, "path": None}, None]
    assert read_as(pa.array(values, kind), {"_type": "Image"}) == [values[0], None, None]


LEAF = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5)


def columns():
    """Values of one Arrow type without nulls at the ends of structs, with their nulls elsewhere."""
    texts = st.text(max_size=5)
    structs = st.fixed_dictionaries({"role": texts, "n": st.none() | st.integers(0, 9)})
    each = [texts, st.booleans(), st.lists(texts, max_size=3), structs, st.lists(structs)]
    return st.one_of([st.lists(st.none() | kind, min_size=1, max_size=6) for kind in each])


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(columns())
def test_plain_values_come_back_unchanged(tmp_path, values):
    for write in (as_parquet, as_arrow):
        (tmp_path / "data").write_bytes(write(pa.table({"a": pa.array(values)})))
        assert rows_of(tmp_path / "data") == [{"a": value} for value in values]


def test_what_datasets_writes_is_what_it_reads(tmp_path):
    datasets = pytest.importorskip("datasets", minversion="4.7")
    if not hasattr(datasets, "Json"):
        pytest.skip("this release of datasets has no Json")
    values = [MESSAGE, "plain", {"a": [1]}]
    features = datasets.Features(
        {
            "j": datasets.Json(),
            "l": datasets.List(datasets.Json()),
            "s": datasets.Sequence({"x": datasets.Value("string")}),
        }
    )
    columns = {"j": values, "l": [[value, value] for value in values], "s": [{"x": ["1"]}] * 3}
    made = datasets.Dataset.from_dict(columns, features=features)
    made.to_parquet(tmp_path / "a.parquet")
    made.save_to_disk(tmp_path / "saved")
    assert rows_of(tmp_path / "a.parquet") == rows_of(tmp_path / "saved") == list(made)


def test_features_of_a_saved_folder(tmp_path):
    """The Arrow file alone does not say it; dataset_info.json beside it does."""
    (tmp_path / "data-00000-of-00001.arrow").write_bytes(as_arrow(pa.table({"a": ['{"b": 1}']})))
    files = [{"filename": "data-00000-of-00001.arrow"}]
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": files}))
    assert rows_of(tmp_path) == [{"a": '{"b": 1}'}]
    (tmp_path / "dataset_info.json").write_text(json.dumps({"features": {"a": {"_type": "Json"}}}))
    assert rows_of(tmp_path) == [{"a": {"b": 1}}]
    state = {"_data_files": files, "_indices_data_files": [{"filename": "indices.arrow"}]}
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(DataError, match="flatten_indices"):
        rows_of(tmp_path)


# ---------------------------------------------------------------- bad input


def test_tables_of_too_many_columns(tmp_path):
    wide = pa.table({f"c{n}": ["x"] for n in range(12_000)})
    for write in (as_parquet, as_arrow):
        (tmp_path / "data").write_bytes(write(wide))
        with pytest.raises(DataError, match=r"it has 12,000 columns \(c0, c1, c2, …\)"):
            rows_of(tmp_path / "data")
    twice = pa.table([["a"], ["b"]], names=["prompt", "prompt"])
    (tmp_path / "data").write_bytes(as_arrow(twice))
    with pytest.raises(DataError, match="it names a column twice: prompt"):
        rows_of(tmp_path / "data")


def test_types_nested_without_end(tmp_path):
    kind = pa.string()
    for _ in range(80):
        kind = pa.struct([("a", kind)])
    with pytest.raises(DataError, match="nests lists and structs over 64 deep"):
        converter(kind)
    (tmp_path / "data").write_bytes(as_parquet(pa.table({"a": pa.array([None], kind)})))
    with pytest.raises(DataError, match="over 64 deep|damaged"):
        rows_of(tmp_path / "data")


@pytest.mark.parametrize("write", ["parquet", "parquet, plain text", "arrow"])
def test_one_large_text_named_by_many_rows_is_not_written_out(tmp_path, monkeypatch, write):
    """2 MB of text stand for 500 MB; the rows are over the limit, and found one by one."""
    monkeypatch.setattr(table_rows, "REPEATED", 1 << 20)
    monkeypatch.setattr(table_rows, "EXPANDED", 4 << 20)
    numbers = pa.array([0] * 250 + [1], pa.int32())
    texts = pa.array(["x" * 2_000_000, "short"])
    table = pa.table({"prompt": pa.DictionaryArray.from_arrays(numbers, texts)})
    data = as_arrow(table) if write == "arrow" else as_parquet(table, store_schema="," not in write)
    (tmp_path / "data").write_bytes(data)
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    try:
        rows = rows_of(tmp_path / "data", 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()
    assert pa.total_allocated_bytes() - before < 40_000_000
    assert rows == ["row too large"] * 250 + [{"prompt": "short"}]


def test_a_parquet_bomb_is_refused_by_what_it_says_of_itself(tmp_path, monkeypatch):
    monkeypatch.setattr("accord.data.compression.BOMB_BYTES", 1_000_000)
    values = ["x" * 100_000 + str(n) for n in range(200)]
    data = as_parquet(pa.table({"a": values}), compression="gzip", use_dictionary=False)
    (tmp_path / "data").write_bytes(data)
    with pytest.raises(DataError, match="bytes of Parquet data unpack to over"):
        rows_of(tmp_path / "data")


@pytest.mark.parametrize("write", [as_parquet, as_arrow])
def test_damage_anywhere_is_words(tmp_path, write):
    table = pa.table({"a": [MESSAGE] * 50, "b": [f"text {n}" for n in range(50)]})
    whole, rng = write(table), random.Random(0)
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(8, len(data))] = rng.randrange(256)
        (tmp_path / "data").write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        with contextlib.suppress(DataError):
            rows_of(tmp_path / "data")
