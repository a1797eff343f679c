"""Files that hold no rows, by their first bytes: named by kind, with what to do about them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from accord.types import DataError


@dataclass(frozen=True)
class Foreign:
    """A kind of file that is not read."""

    magic: bytes
    kind: str
    remedy: str  # {file} is the file's name, quoted for a shell


WEIGHTS = "It holds tensors and no rows. Name a file of preferences."
NO_ROWS = "Name a file of preferences."
AS_JSONL = "Write its rows as JSONL or Parquet with the tool that made it."
# Python's pickles are never loaded: loading one runs whatever it says.
PICKLE = "It is not loaded, since loading one runs code. " + AS_JSONL


def _python(code: str) -> str:
    """Write a command line whose code finds the file in sys.argv[1]."""
    return f"python3 -c 'import sys; {code}' {{file}}"


def _unpack(command: str) -> str:
    return f"Unpack it and name the file inside: {command} {{file}}"


SHEET = "Export the sheet as CSV, or: " + _python(
    "import pandas; pandas.read_excel(sys.argv[1]).to_json("
    '"rows.jsonl", orient="records", lines=True, force_ascii=False)'
)
DATABASE = (
    "Export its table as CSV: sqlite3 {file} .tables; then"
    " sqlite3 -header -csv {file} 'SELECT * FROM the_table' > rows.csv"
)


def _arrow(module: str, read: str) -> str:
    return "Convert it: " + _python(
        f"from pyarrow import {module}, parquet;"
        f' parquet.write_table({module}.{read}(sys.argv[1]), "rows.parquet")'
    )


FOREIGN = (
    Foreign(b"SQLite format 3\0", "an SQLite database", DATABASE),
    Foreign(b"7z\xbc\xaf\x27\x1c", "a 7z archive", _unpack("7z x")),
    Foreign(b"Rar!\x1a\x07", "a RAR archive", _unpack("unrar x")),
    Foreign(b"\x04\x22\x4d\x18", "an lz4 file", _unpack("lz4 -d")),
    Foreign(b"\xff\x06\x00\x00sNaPpY", "a snappy file", AS_JSONL),
    Foreign(b"\x1f\x9d", "a file packed by compress (.Z)", _unpack("uncompress")),
    Foreign(b"LZIP", "an lzip file", _unpack("lzip -d")),
    Foreign(b"\x5d\x00\x00", "an lzma file of the old kind", _unpack("xz --format=lzma -d")),
    Foreign(b"\x93NUMPY", "a NumPy array", AS_JSONL),
    Foreign(b"\x89HDF\r\n\x1a\n", "an HDF5 file", AS_JSONL),
    Foreign(b"ORC", "an ORC file", _arrow("orc", "read_table")),
    Foreign(b"FEA1", "a Feather file of version 1", _arrow("feather", "read_table")),
    Foreign(b"Obj\x01", "an Avro file", AS_JSONL),
    Foreign(b"PARE", "an encrypted Parquet file", "Decrypt it with the tool that wrote it."),
    Foreign(b"GGUF", "a GGUF model", WEIGHTS),
    Foreign(b"%PDF", "a PDF", NO_ROWS),
    Foreign(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document (as .xls is)", SHEET),
    Foreign(b"\x89PNG", "an image", NO_ROWS),
    Foreign(b"\xff\xd8\xff", "an image", NO_ROWS),
    Foreign(b"GIF8", "an image", NO_ROWS),
    Foreign(b"\x7fELF", "a program", NO_ROWS),
)
CONTROLS = re.compile(rb"[\x00-\x08]")
PICKLED = re.compile(rb"\x80[\x02-\x05]")
SAFETENSORS = re.compile(rb'.{5}\0\0\0\{"', re.DOTALL)
PAGE = re.compile(
    rb"\s*(<!--.*?-->\s*)?<(!doctype\s+html|html|head|body|\?xml|error)\b", re.I | re.S
)
LFS = re.compile(rb"version https://[\w.-]+/spec/v1\r?\n")
ANNEX = re.compile(rb"[./]*/?annex/objects/")

# A file inside a zip archive -> the kind of document that the archive is.
ZIPPED = {
    "xl/workbook.xml": ("an Excel workbook (.xlsx)", SHEET),
    "word/document.xml": ("a Word document", NO_ROWS),
    "ppt/presentation.xml": ("a PowerPoint file", NO_ROWS),
    "META-INF/MANIFEST.MF": ("a Java archive", NO_ROWS),
    "content.xml": ("an OpenDocument file", "Export the sheet as CSV."),
}


def refuse_foreign(head: bytes, file: str) -> None:
    """Refuse a file that begins as a kind which holds no rows.

    Args:
      head: its first bytes.
      file: its name.

    Raises:
      DataError: it is of such a kind; says which, and what to do.
    """
    found = _pointer(head, file) or _kind_of(head)
    if found is not None:
        kind, remedy = found
        raise DataError(f"it is {kind}. {remedy.format(file=shlex.quote(file))}")


def _pointer(head: bytes, file: str) -> tuple[str, str] | None:
    """Recognise what git leaves in the place of a large file."""
    folder, name = Path(file).parent, Path(file).name
    inside = f"cd {shlex.quote(str(folder))} && " if str(folder) != "." else ""
    if LFS.match(head) and b"oid sha256:" in head[:1024]:
        size = re.search(rb"\nsize (\d{1,20})", head[:1024])
        rows = f" of {int(size[1]):,} bytes" if size else ""
        return (
            f"a pointer of git LFS to a file{rows}, which was not fetched",
            f"Fetch it: {inside}git lfs pull --include={shlex.quote(name)}".replace(
                "{", "{{"
            ).replace("}", "}}"),
        )
    if ANNEX.match(head):
        command = f"{inside}git annex get {shlex.quote(name)}".replace("{", "{{")
        return "a pointer of git-annex", f"Fetch it: {command}".replace("}", "}}")
    return None


def _kind_of(head: bytes) -> tuple[str, str] | None:
    # a table whose first column is called PARENT is no Parquet file: no text has these controls
    if CONTROLS.search(head, 0, 1024) or head.startswith(b"%PDF-"):
        for each in FOREIGN:
            if head.startswith(each.magic):
                return each.kind, each.remedy
    if PICKLED.match(head):
        return "a Python pickle (.pkl, or .pt and .bin of old)", PICKLE
    if SAFETENSORS.match(head):
        return "a safetensors file", WEIGHTS
    if PAGE.match(head):
        return (
            "a web page (HTML or XML) saved in the data's place: an error or a login page",
            "Download the data itself (on a hub: the link of the button, or its command line).",
        )
    return None


def refuse_binary(head: bytes) -> None:
    """Refuse a file that is neither a known kind nor text.

    Raises:
      DataError: it has many control characters, and is no UTF-8.
    """
    if head.lstrip()[:1] in (b"{", b"["):  # damaged rows among sound ones are rejected one by one
        return
    if len(CONTROLS.findall(head, 0, 1024)) > len(head[:1024]) // 50 and not _is_utf8(head):
        raise DataError("it is a binary file of no known kind. Write its rows as JSONL.")


def _is_utf8(head: bytes) -> bool:
    try:
        head[:1024].decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > 1020  # cut within a character
    return True


def refuse_zipped(names: list[str], file: str) -> None:
    """Refuse a zip archive that is a document of another program.

    Raises:
      DataError: it is one.
    """
    known = set(names)
    for name, (kind, remedy) in ZIPPED.items():
        if name in known:
            raise DataError(f"it is {kind}. {remedy.format(file=shlex.quote(file))}")
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        raise DataError(f"it is a PyTorch file (.pt). {PICKLE}")
    if names and all(name.endswith(".npy") for name in names):
        raise DataError(f"it is a file of NumPy arrays (.npz). {AS_JSONL}")
