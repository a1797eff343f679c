"""Archives, tables and rows for the tests of containers, made in memory."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile

from accord.data.containers import locate
from accord.data.ledger import RowError

ROWS = [
    {"prompt": f"q{n} שלום 😀 é", "chosen": f'a{n} "b"\nc', "rejected": "\u2028 no"}
    for n in range(7)
]


def jsonl(rows=ROWS) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def zipped(files: dict[str, bytes], method=zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files: dict[str, bytes], mode="w", format=tarfile.PAX_FORMAT, change=None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=format) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            if change is not None:
                change(entry)
            archive.addfile(entry, io.BytesIO(data) if entry.size else None)
    return out.getvalue()


def parquet(rows=ROWS) -> bytes:
    from pyarrow import BufferOutputStream, Table, parquet

    sink = BufferOutputStream()
    parquet.write_table(Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


def rows_of(path, limit=4_000_000) -> list:
    """Rows, with the reason in the place of a row that could not be read."""
    with locate(path) as source:
        return [row.reason if isinstance(row, RowError) else row for _, row in source.rows(limit)]


def places_of(path) -> list[tuple[int, str]]:
    """Number and place of every row."""
    with locate(path) as source:
        return [(int(line), str(line)) for line, _ in source.rows()]


def notes_of(path) -> list[str]:
    with locate(path) as source:
        for _ in source.rows():
            pass
        return list(source.notes)
