"""Bad data files, by hand: what people hand in by mistake, and what breaks on the way. One table;
see test_data_files.py.

name: (bytes, what `read` is told, words of the message or of the ledger, rows that are used)
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile

import pyarrow
from pyarrow import ipc, parquet

PAIR = {"prompt": "Capital?", "chosen": "Paris.", "rejected": "Lyon."}
USER = {"role": "user", "content": "Capital?"}
LINE = json.dumps(PAIR).encode() + b"\n"
HEADER = b"prompt,chosen,rejected\n"
LABELLED, SHOWN = {"rows": "labelled"}, {"rows": "demonstrations"}


def row(**changes) -> bytes:
    """A pair with some of its columns changed."""
    return json.dumps(PAIR | changes).encode() + b"\n"


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>" * 50)
    return out.getvalue()


def _parquet(columns: dict, **options) -> bytes:
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(columns), sink, **options)
    return sink.getvalue().to_pybytes()


def _stream(columns: dict) -> bytes:
    sink, table = pyarrow.BufferOutputStream(), pyarrow.table(columns)
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.compress(data)


GOOD_TABLE = {name: [value, value + " x"] for name, value in PAIR.items()}
WHOLE = _parquet(GOOD_TABLE)
PACKED = gzip.compress(LINE * 3)
ZSTD = _zstd(LINE * 3)

JSONL = {
    "nothing": (b"", {}, "the file is empty", None),
    "blank lines": (b"\n\r\n \n", {}, "the file is empty", None),
    "a byte order mark alone": (b"\xef\xbb\xbf", {}, "the file is empty", None),
    "the last line cut off": (LINE + LINE[:30], {}, "invalid JSON", 1),
    "Python's quotes": (LINE + str(PAIR).encode(), {}, "invalid JSON", 1),
    "a comma at the end": (LINE + LINE.replace(b"}", b",}"), {}, "invalid JSON", 1),
    "a comment": (LINE + b"// the second part\n", {}, "invalid JSON", 1),
    "two rows on a line": (LINE + LINE.strip() + LINE, {}, "invalid JSON", 1),
    "an array on each line": (b'["Capital?", "Paris.", "Lyon."]\n' * 2, {}, "not an object", None),
    "JSON in JSON": (
        LINE + json.dumps(LINE.decode()).encode(),
        {},
        "not an object: the row is text",
        1,
    ),
    "null": (LINE + b"null\n", {}, "the row is null", 1),
    # text in UTF-16 is read (tests/data/test_encodings.py), as are the line ends of old Macs
    "UTF-16 cut off": (LINE.decode().encode("utf-16")[:-3], {}, "invalid JSON|UTF-16", None),
    "Latin-1": (LINE + LINE.replace(b"Paris", "Orléans".encode("latin-1")), {}, "invalid UTF-8", 1),
    "surrogates as bytes": (
        LINE + LINE.replace(b"Paris", b"\xed\xa0\xbd\xed\xb8\x80"),
        {},
        "invalid UTF-8",
        1,
    ),
    "half a surrogate pair": (LINE + row(chosen="\ud83d"), {}, "lone surrogate", 1),
    "half a pair in a column's name": (LINE + b'{"\\ud83d": 1}\n', {}, "unknown format", 1),
    "NUL at the end": (LINE + bytes(512), {}, "invalid JSON", 1),
    "NUL in the text": (LINE + row(chosen="a\0b"), {}, "NUL character", 1),
    "nested for ever": (LINE + b'{"prompt": ' + b"[" * 9_000, {}, "nested too deeply", 1),
    "nested and closed": (
        LINE + row(prompt=0).replace(b"0", b"[" * 300 + b"]" * 300, 1),
        {},
        "nested too deeply",
        1,
    ),
    "a number of digits without end": (
        LINE + row(n=0).replace(b"0", b"9" * 9_000, 1),
        {},
        "invalid JSON",
        1,
    ),
    "a key twice": (LINE + LINE.replace(b"{", b'{"chosen": "Rome.", ', 1), {}, "repeated key", 1),
    "a row of five megabytes": (LINE + row(note="x" * 5_000_000), {}, "row too large", 1),
    "a web page": (
        b"<!DOCTYPE html>\n<html><body>Please sign in</body></html>\n",
        {},
        "a web page",
        None,
    ),
    "a pointer to a large file": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        {},
        "a pointer of git LFS",
        None,
    ),
    "a spreadsheet": (_zip(), {}, "an Excel workbook", None),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), {}, "an image", None),
    "a document": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", {}, "a PDF", None),
    "a pickle": (
        b"\x80\x04\x95\x1a\0\0\0\0\0\0\0c os\nsystem\n(S'echo'\ntR.",
        {},
        "a Python pickle",
        None,
    ),
    "a database": (b"SQLite format 3\0" + bytes(84), {}, "an SQLite database", None),
}

ROWS = {
    "columns of no format": (LINE + b'{"text": "Paris"}\n', {}, "unknown format", 1),
    "no columns": (LINE + b"{}\n", {}, "unknown format", 1),
    "an answer that is null": (LINE + row(rejected=None), {}, "null", 1),
    "NaN for an answer": (LINE + row(chosen=0).replace(b"0", b"NaN"), {}, "null", 1),
    "true for an answer": (LINE + row(chosen=True), {}, "wrong type", 1),
    "messages in a text": (LINE + row(chosen=[["assistant", "x"]]), {}, "wrong type", 1),
    "the same answers": (LINE + row(chosen="Lyon. "), {}, "same answers", 1),
    "a blank answer": (LINE + row(chosen="\u3000\n"), {}, "empty answer", 1),
    "a blank prompt": (LINE + row(prompt="  "), {}, "no prompt", 1),
    "an unknown role": (
        LINE + row(prompt=[{"role": "narrator", "content": "x"}]),
        {},
        "unknown role",
        1,
    ),
    "a list for a role": (
        LINE + row(prompt=[{"role": ["user"], "content": "x"}]),
        {},
        "unknown role",
        1,
    ),
    "a system turn alone": (
        LINE + row(prompt=[{"role": "system", "content": "x"}]),
        {},
        "no user turn",
        1,
    ),
    "a picture in the prompt": (
        LINE + row(prompt=[USER | {"content": [{"type": "image_url"}]}]),
        {},
        "not text",
        1,
    ),
    "pictures beside the prompt": (LINE + row(images=["a.png"]), {}, "not text", 1),
    "a call of a tool": (
        LINE + row(chosen=[{"role": "assistant", "content": "", "tool_calls": [1]}]),
        {},
        "tool calls",
        1,
    ),
    "an answer by the user": (LINE + row(chosen=[USER]), {}, "not an assistant turn", 1),
    "answers to different questions": (
        LINE
        + json.dumps(
            {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"}
        ).encode(),
        {},
        "diverges before the last turn",
        1,
    ),
    "whole texts without a prompt": (
        LINE + b'{"chosen": "Paris is", "rejected": "Paris was"}\n',
        {},
        "ambiguous prompt",
        1,
    ),
    "labels where pairs are wanted": (
        b'{"prompt": "a", "completion": "b", "label": true}\n',
        {},
        "kto",
        None,
    ),
    "a label that is a word": (
        b'{"prompt": "a", "completion": "b", "label": "perhaps"}\n',
        LABELLED,
        "wrong label",
        None,
    ),
    "a label that is 2": (
        b'{"prompt": "a", "completion": "b", "label": 2}\n',
        LABELLED,
        "wrong label",
        None,
    ),
    "no label": (b'{"prompt": "a", "completion": "b"}\n', LABELLED, "no label", None),
    "nothing to imitate": (
        b'{"prompt": "a", "completion": "b", "label": false}\n',
        SHOWN,
        "undesirable",
        None,
    ),
    "more answers than scores": (
        LINE + b'{"prompt": "a", "responses": ["b", "c"], "scores": [1]}\n',
        {},
        "2 answers but scores 1",
        1,
    ),
    "a score that is a word": (
        LINE + b'{"prompt": "a", "responses": ["b", "c"], "scores": [1, "high"]}\n',
        {},
        "a number is expected",
        1,
    ),
    "a score beyond all numbers": (
        LINE + b'{"prompt": "a", "responses": ["b", "c"], "scores": [1, 1e999]}\n',
        {},
        "a number is expected",
        1,
    ),
    "one answer in the list": (
        LINE + b'{"prompt": "a", "responses": ["b"], "scores": [1]}\n',
        {},
        "not a comparison",
        1,
    ),
    "an exchange of one": (
        LINE + b'{"instruction": "a", "history": [["x"]], "chosen": "b", "rejected": "c"}\n',
        {},
        "history is no list",
        1,
    ),
    "a column that nobody has": (
        LINE,
        {"columns": {"prompt": "question"}},
        "no row has a column 'question'",
        None,
    ),
    "another format than was named": (LINE, {"format": "hh"}, "unknown format", None),
}

JSON = {
    "an array cut off": (b"[" + LINE + b",", {}, "row 2 of the JSON array cannot be read", None),
    "an array not closed": (b"[" + LINE, {}, "a comma after row 1 is expected", None),
    "an array without commas": (b"[" + LINE + LINE + b"]", {}, "a comma after row 1", None),
    "a comma before the end": (b"[" + LINE + b",]", {}, "row 2 of the JSON array", None),
    "two arrays": (b"[\n" + LINE + b"]\n[" + LINE + b"]", {}, "something follows", None),
    "an empty array": (b"[]", {}, "no rows", None),
    "an array of arrays": (b'[["a"], ["b"]]', {}, "not an object", None),
    "an array of everything": (b"[1, null, " + LINE + b"]", {}, "not an object", 1),
    "an array nested for ever": (b"[" * 50_000, {}, "nested too deeply", None),
    "columns of unequal length": (
        b'{"prompt": ["a", "b"], "chosen": ["c"], "rejected": ["d"]}',
        {},
        "wrong type",
        None,
    ),
    "an object over lines, broken": (
        b'{\n"prompt": "a",\n',
        {},
        "neither one JSON object nor one a line",
        None,
    ),
    "a number": (b"3", {}, "not an object: the row is a number", None),
}

COMPRESSED = {
    "gzip cut off": (PACKED[:-10], {}, "gzip data is cut short", None),
    "gzip, its head alone": (PACKED[:10], {}, "gzip data is cut short", None),
    "gzip with a wrong sum": (
        PACKED[:-6] + bytes([PACKED[-6] ^ 1]) + PACKED[-5:],
        {},
        "gzip data is damaged",
        None,
    ),
    "gzip and then something else": (PACKED + b"the end", {}, "gzip data is damaged", None),
    "gzip of nothing": (gzip.compress(b""), {}, "the file is empty", None),
    "gzip three times over": (
        gzip.compress(gzip.compress(PACKED)),
        {},
        "packed more than 2 times",
        None,
    ),
    "gzip of broken rows": (gzip.compress(LINE + b"{\n"), {}, "invalid JSON", 1),
    "zstd cut off": (ZSTD[:-4], {}, "zstd data is cut short", None),
    "zstd, its head alone": (ZSTD[:4], {}, "zstd data is cut short", None),
    "zstd damaged": (
        ZSTD[:9] + b"\xff" * 30,
        {},
        "zstd data is damaged|zstd data is cut short",
        None,
    ),
    "zstd of an array cut off": (_zstd(b"[" + LINE), {}, "a comma after row 1", None),
}

CSV = {
    "a header alone": (HEADER, {}, "no rows", None),
    "no header": (b"Capital?,Paris.,Lyon.\n", {}, "invalid JSON", None),
    "a column named twice": (
        b"prompt,chosen,chosen\na,b,c\n",
        {},
        "names a column twice: chosen",
        None,
    ),
    "too few cells": (HEADER + b"a,b,c\na,b\n", {}, "2 cells in a table of 3 columns", 1),
    "too many cells": (HEADER + b"a,b,c\na,b,c,d\n", {}, "4 cells in a table of 3 columns", 1),
    "a quote not closed": (
        HEADER + b'a,"b,c\nd,e,f\n',
        {},
        "line 2: a quote is opened and not closed",
        None,
    ),
    "a quote inside": (HEADER + b'a,b,c\na,"b"x,c\n', {}, "invalid CSV", 1),
    "cells in Latin-1": (HEADER + b"a,b,c\na,Orl\xe9ans,c\n", {}, "invalid UTF-8", 1),
    "NUL in a cell": (HEADER + b"a,b,c\na,b\0,c\n", {}, "invalid CSV|NUL", 1),
    "messages as Python prints them, without their text": (
        HEADER + b"a,b,c\n\"[{'role': 'user'}]\",b,c\n",
        {},
        "wrong type: prompt is null where text is expected",
        1,
    ),
    "an empty cell": (HEADER + b"a,b,c\na,,c\n", {}, "empty answer", 1),
    "a header without end": (
        b"prompt," + b"x" * 9_000,
        {"max_row_bytes": 1_000},
        "line 1 is no CSV header",
        None,
    ),
}

TABLES = {
    "Parquet cut off": (WHOLE[:-30], {}, "Parquet file is damaged", None),
    "Parquet, its first bytes alone": (b"PAR1", {}, "Parquet file is damaged", None),
    "Parquet with a damaged footer": (
        WHOLE[:-300] + bytes(200) + WHOLE[-100:],
        {},
        "Parquet file is damaged",
        None,
    ),
    "Parquet with damaged pages": (
        WHOLE[:8] + b"\xff" * 200 + WHOLE[208:],
        {},
        "Parquet file is damaged|invalid value",
        None,
    ),
    "Parquet without rows": (
        _parquet({"prompt": pyarrow.array([], "string")}),
        {},
        "no rows",
        None,
    ),
    "Parquet with a column's name that is no UTF-8": (
        WHOLE.replace(b"chosen", b"cho\xa5en"),
        {},
        "damaged or cut short",
        None,
    ),
    "Parquet of numbers": (
        _parquet({"prompt": ["a"], "chosen": [1], "rejected": [2]}),
        {},
        "a number where text is expected",
        None,
    ),
    "Parquet of nulls": (
        _parquet({"prompt": ["a"], "chosen": pyarrow.nulls(1), "rejected": ["b"]}),
        {},
        "null",
        None,
    ),
    "Parquet of pictures": (
        _parquet({"prompt": ["a"], "chosen": [b"\xff\xd8"], "rejected": ["b"]}),
        {},
        "bytes where text",
        None,
    ),
    "Parquet, encrypted": (b"PARE" + WHOLE[4:-4] + b"PARE", {}, "an encrypted Parquet file", None),
    "Arrow cut off": (_stream(GOOD_TABLE)[:-300], {}, "Arrow file is damaged|no rows", None),
    "Arrow, its first bytes alone": (b"ARROW1\0\0", {}, "Arrow file is damaged", None),
    "Arrow with a huge length": (
        b"\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(60),
        {},
        "Arrow file is damaged",
        None,
    ),
    "Arrow of a date": (
        _stream(
            {
                "prompt": ["a"],
                "chosen": ["b"],
                "rejected": pyarrow.array([2**60], pyarrow.timestamp("s")),
            }
        ),
        {},
        "invalid value",
        None,
    ),
}

FILES = JSONL | ROWS | JSON | COMPRESSED | CSV | TABLES
