"""Text in other encodings and with other line ends, and files that hold no rows at all."""

import gzip
import io
import json
import pickle
import struct
import subprocess

import pytest
from data.packed import ROWS, jsonl, notes_of, rows_of, zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accord.data import encodings
from accord.data.containers import locate
from accord.data.read import read
from accord.types import DataError

CODECS = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


@pytest.fixture
def written(tmp_path):
    def write(data, name="data"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("codec", CODECS)
def test_unicode_of_two_and_four_bytes(written, codec, mark):
    """Lines, arrays, columns and tables; with a mark and without; 200 KB, in many pieces."""
    many = ROWS * 300
    for text in (jsonl(many).decode(), json.dumps(many, ensure_ascii=False, indent=1)):
        data = (mark + text).encode(codec)
        assert rows_of(written(data)) == many
        assert rows_of(written(gzip.compress(data))) == many
    name = "UTF-16" if "16" in codec else "UTF-32"
    assert notes_of(written(data)) == [f"the text is {name}"]
    table = "prompt\tchosen\trejected\r\nq é\ta 😀\tb\r\n"
    expected = [{"prompt": "q é", "chosen": "a 😀", "rejected": "b"}]
    assert rows_of(written((mark + table).encode(codec), "excel.txt")) == expected


@pytest.mark.parametrize("codec", CODECS)
def test_unicode_that_is_cut_within_a_character(written, codec):
    with pytest.raises(DataError, match=r"the UTF-(16|32) text is damaged or cut short"):
        rows_of(written(jsonl().decode().encode(codec)[:-1]))


def test_half_a_surrogate_pair_spoils_its_row_alone(written):
    text = '{"a": "x"}\n{"a": "?"}\n{"a": "y"}\n'.encode("utf-16-le")
    text = text.replace(b"?\0", b"\x00\xd8")
    assert rows_of(written(text)) == [{"a": "x"}, "invalid UTF-8", {"a": "y"}]


@pytest.mark.parametrize("name", ["data.jsonl", "data.csv"])
def test_a_code_page_is_named_with_a_command_that_works(written, tmp_path, name):
    row = {"prompt": "café", "chosen": "“ja”", "rejected": "nein"}
    text = ",".join(row) + "\n" + ",".join(row.values()) + "\n"
    if name.endswith("jsonl"):
        text = json.dumps(row, ensure_ascii=False) + "\n"
    path = written(text.encode("cp1252"), name)
    with pytest.raises(DataError, match="invalid UTF-8") as error:
        read(path)
    command = str(error.value).split("convert it: ")[1].split(" (line")[0]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert rows_of(tmp_path / f"converted{path.suffix}") == [row]


def test_code_pages_in_a_packed_file(written):
    with pytest.raises(DataError, match=r"zcat \S+/d.gz \| iconv -f ISO-8859-1 -t UTF-8"):
        read(written(gzip.compress(b'{"prompt": "\x81\xe9"}\n'), "d.gz"))
    with pytest.raises(DataError, match=r"unzip -p \S+/d.zip p.jsonl \| iconv -f CP1252"):
        read(written(zipped({"p.jsonl": b'{"prompt": "\xe9"}\n'}), "d.zip"))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.text(max_size=8), min_size=2, max_size=6), st.sampled_from(["\r", "\r\n"]))
def test_line_ends_of_other_systems(tmp_path, texts, end):
    """JSON escapes line ends within its strings, so that every bare one ends a line."""
    rows = [{"prompt": text} for text in texts]
    path = tmp_path / "data"
    path.write_bytes(end.join(map(json.dumps, rows)).encode() + end.encode())
    with locate(path) as source:
        assert list(source.rows()) == list(enumerate(rows, 1))
    path.write_bytes(json.dumps(rows, indent=1).replace("\n", end).encode())
    assert rows_of(path) == rows


def test_line_ends_of_old_macs_over_many_pieces(written):
    many = ROWS * 2_000
    assert rows_of(written(jsonl(many).replace(b"\n", b"\r"))) == many
    assert rows_of(written(b"prompt,chosen\rq,a\rr,b\r", "d.csv")) == [
        {"prompt": "q", "chosen": "a"},
        {"prompt": "r", "chosen": "b"},
    ]


@pytest.mark.parametrize("piece", [1, 2, 3, 100])
def test_line_ends_that_two_pieces_share(monkeypatch, piece):
    monkeypatch.setattr(encodings, "PIECE", piece)
    converted = io.BufferedReader(encodings.unix_ends(io.BytesIO(b"a\r\nb\rc\r\r\n\nd\r")))
    assert converted.read() == b"a\nb\nc\n\n\nd\n"


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 12345\n" % (b"a" * 64)
FOREIGN = {
    "lfs": (POINTER, r"git LFS to a file of 12,345 bytes.* && git lfs pull --include='my data.x'"),
    "annex": (b"/annex/objects/MD5E-s1--x\n", r"git annex get 'my data.x'"),
    "page": (b"\n<!DOCTYPE html>\n<html><body>Sign in", "a web page"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web page"),
    "pickle": (pickle.dumps(ROWS), "a Python pickle .* loading one runs code"),
    "torch": (zipped({"archive/data.pkl": b"x"}), "a PyTorch file"),
    "npz": (zipped({"a.npy": b"x"}), "NumPy arrays"),
    "npy": (b"\x93NUMPY\1\0", "a NumPy array"),
    "safetensors": (struct.pack("<Q", 64) + b'{"a":{"dtype":"F32"', "a safetensors file"),
    "xlsx": (zipped({"xl/workbook.xml": b"x"}), r"an Excel workbook.*read_excel.*my data.x'"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "an old Office document"),
    "sqlite": (b"SQLite format 3\0\x10\0", r"an SQLite database.*sqlite3 -header -csv"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4", r"a 7z archive.*7z x '"),
    "rar": (b"Rar!\x1a\x07\1\0", "a RAR archive"),
    "orc": (b"ORC\1\0\0", "an ORC file"),
    "gguf": (b"GGUF\3\0\0\0", "a GGUF model"),
    "pdf": (b"%PDF-1.4\n", "a PDF"),
    "png": (b"\x89PNG\r\n\x1a\n\0\0", "an image"),
    "noise": (bytes(range(256)) * 8, "a binary file of no known kind"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_files_that_hold_no_rows_are_named_by_kind(written, kind):
    data, says = FOREIGN[kind]
    path = written(data, "my data.x")
    for packed in (path, written(gzip.compress(data), "my data.x")):
        with pytest.raises(DataError, match=says) as error:
            rows_of(packed)
        assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["ORCID", "PARENT", "GGUF", "LZIP", "FEA1", "Obj", "BZh9"])
def test_a_table_may_begin_with_the_letters_of_another_kind(written, name):
    found = rows_of(written(f"{name},prompt,chosen\na,b,c\n".encode(), "data.csv"))
    assert found == [{name: "a", "prompt": "b", "chosen": "c"}]
