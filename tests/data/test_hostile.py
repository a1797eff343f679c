"""Files made to exhaust a reader, or broken in ways that only a fuzzer thinks of. Each was a
traceback, a crash or a hang.
"""

import csv
import gzip
import json
import os
import signal
import threading
import tracemalloc
import zlib

import pyarrow
import pytest
from pyarrow import ipc, parquet

from accord.data import compression
from accord.data.containers import locate
from accord.data.ledger import RowError
from accord.data.read import read
from accord.types import DataError

ROW = {"prompt": "q", "chosen": "a", "rejected": "b"}
LINE = json.dumps(ROW).encode() + b"\n"


@pytest.fixture(autouse=True)
def no_hang():
    """What takes a second is fine, and what would take hours fails; CPU time, so that a busy
    machine changes nothing.
    """

    def stop(*_):
        raise AssertionError("over 60 s of CPU time")

    former = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, 60)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, former)


@pytest.fixture
def written(tmp_path):
    def write(data, name="data"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def rows_of(path, limit=4_000_000):
    with locate(path) as source:
        return [
            (line, row.reason if isinstance(row, RowError) else row)
            for line, row in source.rows(limit)
        ]


# ---------------------------------------------------------------- time


def test_one_repeated_key_among_two_hundred_thousand(written):
    keys = ", ".join(f'"{n}": 0' for n in range(200_000))
    assert rows_of(written(b'{%s, "7": 1}\n{"a": 1}\n' % keys.encode())) == [
        (1, "repeated key"),
        (2, {"a": 1}),
    ]


def test_many_small_rows_of_an_array_after_a_large_one(written):
    """What is held of the text is large by then, and may not be copied for every row."""
    data = b'["%s", %s]' % (b"x" * 3_000_000, b", ".join([b"1"] * 200_000))
    assert len(rows_of(written(data))) == 200_001


@pytest.mark.parametrize("depth", [129, 500, 900, 100_000])
def test_values_nested_too_deeply_for_those_who_walk_them(written, depth):
    """129 levels could be parsed, and each reader of a value walks it by recursion."""
    value = b"[" * depth + b"1" + b"]" * depth
    lines = b'{"a": %s}\n{"a": 1}\n{"a": %s}\n' % (value, b"[" * 127 + b"]" * 127)
    found = rows_of(written(lines))
    assert found[:2] == [(1, "invalid JSON"), (2, {"a": 1})]
    assert found[2][0] == 3 and isinstance(found[2][1], dict)
    if depth < 1_000:
        array = b'[{"a": %s}, {"a": 1}]' % value
        assert rows_of(written(array)) == [(1, "invalid JSON"), (2, {"a": 1})]
    with pytest.raises(DataError, match="nested too deeply"):
        rows_of(written(b'{\n"a": %s\n}' % value))


def test_a_file_of_nothing_usable_is_given_up_on(written, monkeypatch):
    monkeypatch.setattr("accord.data.read.USELESS", 1_000)
    path = written(b"x\n" * 1_010)
    with pytest.raises(DataError, match="none of its first 1,000 rows"):
        read(path)
    assert read(written(LINE + b"x\n" * 1_010)).ledger.rows == 1_011


# ---------------------------------------------------------------- memory


def zstd(data):
    return pytest.importorskip("zstandard").compress(data)


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_bomb_is_refused_before_it_fills_the_memory(pack, written, monkeypatch):
    monkeypatch.setattr(compression, "BOMB_BYTES", 50_000_000)
    path = written(pack(bytes(400_000_000)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="unpack to over .* unpack it yourself"):
            rows_of(path)
        assert tracemalloc.get_traced_memory()[1] < 150_000_000
    finally:
        tracemalloc.stop()


def test_what_packs_well_is_no_bomb(written):
    """Repetition alone is fine: 60 MB of one row again and again."""
    rows = rows_of(written(gzip.compress(LINE * 1_000)))
    assert len(rows) == 1_000 and rows[-1] == (1_000, ROW)


def test_packed_in_packed_ends(written):
    twice = gzip.compress(gzip.compress(LINE))
    assert rows_of(written(twice)) == rows_of(written(zstd(gzip.compress(LINE)))) == [(1, ROW)]
    with pytest.raises(DataError, match="packed more than 2 times"):
        rows_of(written(gzip.compress(twice)))


def test_a_packed_file_is_looked_at_as_far_as_a_plain_one(written):
    """Which reader is right is told from the first 64 KiB, although they are unpacked in smaller
    pieces.
    """
    rows = [ROW | {"source": os.urandom(20_000).hex()} for _ in range(3)]
    text = json.dumps(rows, indent=1).encode()
    # as tapes pad
    for data in (gzip.compress(text), zstd(text), zlib.compress(text, wbits=31) + bytes(512)):
        assert [row for _, row in rows_of(written(data))] == rows


def test_csv_lines_are_bounded(written):
    data = (
        b"prompt,chosen\n" + b"a," + b"x" * 5_000_000 + b"\r\nb,c\n" + b"," * 5_000_000 + b"\nd,e\n"
    )
    assert rows_of(written(data), 1_000) == [
        (2, "row too large"),
        (3, {"prompt": "b", "chosen": "c"}),
        (4, "row too large"),
        (5, {"prompt": "d", "chosen": "e"}),
    ]


def test_a_csv_row_of_many_quoted_lines_is_bounded(written):
    with pytest.raises(DataError, match="line 2: a quote is opened"):
        rows_of(written(b"prompt,chosen\n" + b'"a\n",' * 3_000), 1_000)


@pytest.mark.parametrize("header", [b"prompt," + b"x" * 200_000, b'prompt,"chosen', b'prompt,"a"b'])
def test_a_csv_header_that_is_none(written, header):
    kept = csv.field_size_limit()
    with pytest.raises(DataError, match="line 1 is no CSV header|quote is opened|none of its"):
        read(written(header + b"\na,b\n"), max_row_bytes=100_000)
    assert csv.field_size_limit() == kept


# ---------------------------------------------------------- tables whose values cannot be taken out


def arrow(table):
    sink = pyarrow.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def text_column(values, offsets=None):
    """Text from bytes, whether they are text or not; offsets where they are to lie."""
    raw = pyarrow.array(values, pyarrow.binary())
    buffers = raw.buffers()
    if offsets:
        buffers[1] = pyarrow.py_buffer(b"".join(n.to_bytes(4, "little") for n in offsets))
    return pyarrow.Array.from_buffers(pyarrow.string(), len(values), buffers)


def test_text_that_is_none_spoils_its_row_alone(written):
    column = text_column([b"Paris.", b"\xff\xfe", b"Rome."])
    found = rows_of(written(arrow(pyarrow.table({"chosen": column}))))
    assert found == [(1, {"chosen": "Paris."}), (2, "invalid value"), (3, {"chosen": "Rome."})]


def test_offsets_that_point_outside_do_not_crash(written):
    column = text_column([b"Paris.", b"Lyon.", b"Rome."], [0, 6, 2_000_000_000, 16])
    found = rows_of(written(arrow(pyarrow.table({"chosen": column}))))
    assert found == [(1, {"chosen": "Paris."}), (2, "invalid value"), (3, "invalid value")]


@pytest.mark.parametrize("kind", [pyarrow.timestamp("s"), pyarrow.duration("s"), pyarrow.date32()])
def test_times_beyond_pythons(written, kind):
    values = pyarrow.array(
        [0, 2**31 - 1 if kind == pyarrow.date32() else 2**60],
        pyarrow.int32() if kind == pyarrow.date32() else pyarrow.int64(),
    )
    found = rows_of(written(arrow(pyarrow.table({"a": ["x", "y"], "t": values.view(kind)}))))
    assert found[0][1]["a"] == "x" and found[1] == (2, "invalid value")


def test_text_written_as_bytes_is_text(written):
    """Not "b'Paris.'", which would train without a word."""
    table = pyarrow.table(
        {name: pyarrow.array([value.encode()], pyarrow.binary()) for name, value in ROW.items()}
    )
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(table, sink)
    path = written(sink.getvalue().to_pybytes())
    assert read(path).examples[0].completions == ("a", "b")
    raw = table.set_column(1, "chosen", pyarrow.array([b"\xff\xd8"], pyarrow.binary()))
    with pytest.raises(DataError, match="chosen is bytes where text is expected"):
        read(written(arrow(raw)))


# ---------------------------------------------------------------- names


def test_a_pipe_is_read_once(tmp_path):
    """As the shell's <(zcat pairs.jsonl.gz) gives it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(LINE * 3))
    writer.start()
    dataset = read(pipe)
    writer.join()
    assert dataset.ledger.used == 3 and dataset.examples[0].origin.file == str(pipe)


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "a\0b", "", "x" * 5_000, "x/" * 3_000])
def test_names_that_are_no_files(name):
    with pytest.raises(DataError, match="device|no such file|cannot be read|no dataset"):
        read(name)


def test_a_file_below_a_file(written):
    with pytest.raises(DataError, match="no such file"):
        read(written(LINE) / "more.jsonl")


def test_words_of_a_file_cannot_move_the_cursor(written):
    """Column names stand in messages: escaped, and without half characters that no terminal and no
    file takes.
    """
    path = written(b'{"a\\u001b[2J": 1, "\\ud800": 2}\n')
    with pytest.raises(DataError) as error:
        read(path, columns={"prompt": "q"})
    assert (
        "a\\x1b[2J" in str(error.value)
        and "\\ud800" in str(error.value)
        and str(error.value).encode()
    )
