"""Examples in tables: their texts as JSON in Arrow's memory, and examples made when asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from accord.data.lazy import Lazy, Places
from accord.types import (
    NO_INPUTS,
    ROW_KINDS,
    Example,
    FileLine,
    Labelled,
    Origin,
    TemplateInputs,
    Turn,
)

COLUMN = "example"
WITH_BYTES = "bytes "  # in front of a row that holds some, and of each of them; no JSON begins so


def written(example: Example) -> bytes:
    """Write an example as JSON, without the name of its file."""
    line = example.origin.line
    row: dict[str, object] = {
        "prompt": [
            [turn.role, turn.content, *([turn.keys] if turn.keys else [])]
            for turn in example.prompt
        ],
        "answers": example.completions,
        "line": int(line),
    }
    if isinstance(line, FileLine):
        row["part"] = [line.file, line.before]
    if isinstance(example, Labelled):
        row["desirable"] = example.desirable
    if example.extra:
        row["extra"] = example.extra
    if example.inputs != NO_INPUTS:
        beside = example.inputs
        row["inputs"] = [beside.tools, beside.documents, beside.options, beside.answers]
    try:
        text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
    except TypeError:  # a binary column of Parquet
        text = WITH_BYTES + json.dumps(_marked(row), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def _marked(value: object) -> object:
    """Return a value in which bytes are marked, the one type that readers give and JSON has not."""
    if isinstance(value, bytes):
        return [WITH_BYTES, value.hex()]
    if isinstance(value, dict):
        return {name: _marked(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return ["", *map(_marked, value)]
    return value


def _unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _unmarked(each) for name, each in value.items()}
    if not isinstance(value, list):
        return value
    mark, *rest = value
    return bytes.fromhex(rest[0]) if mark == WITH_BYTES else list(map(_unmarked, rest))


def read_back(raw: bytes, kind: str, file: str) -> Example:
    """Return the example that was written.

    Args:
      kind: a key of ROW_KINDS.
      file: what messages call the file.
    """
    text = raw.decode("utf-8", "surrogatepass")
    marked = text.startswith(WITH_BYTES)
    row = _unmarked(json.loads(text[len(WITH_BYTES) :])) if marked else json.loads(text)
    line = FileLine(row["line"], *row["part"]) if "part" in row else row["line"]
    label = (row["desirable"],) if "desirable" in row else ()
    prompt = tuple(
        Turn(role, content, tuple(map(tuple, keys[0])) if keys else ())
        for role, content, *keys in row["prompt"]
    )
    inputs = NO_INPUTS
    if "inputs" in row:
        tools, documents, options, answers = row["inputs"]
        own = tuple(tuple(map(tuple, keys)) for keys in answers)
        inputs = TemplateInputs(tools, documents, options, own)
    extra = row.get("extra", {})
    made = ROW_KINDS[kind]
    return made(prompt, *row["answers"], *label, Origin(file, line), extra, inputs)


def table(examples: Iterable[Example]) -> pa.RecordBatch:
    """Return examples as one table."""
    column = pa.array(map(written, examples), pa.large_binary())
    return pa.RecordBatch.from_arrays([column], [COLUMN])


class Examples(Lazy[Example]):
    """The examples of tables, one behind the other; made when they are asked for.

    Args:
      kind: a key of ROW_KINDS.
      file: what messages call the file that they came from.
    """

    def __init__(self, tables: Iterable[pa.RecordBatch], kind: str, file: str) -> None:
        self._columns = [table.column(COLUMN) for table in tables]
        self._places = Places(map(len, self._columns))
        self._kind, self._file = kind, file

    def __len__(self) -> int:
        return self._places.end

    def made(self, at: int) -> Example:
        number, place = self._places.part(at)
        return self._read(self._columns[number][place])

    def __iter__(self) -> Iterator[Example]:
        for column in self._columns:
            yield from map(self._read, column)

    def _read(self, value: pa.Scalar) -> Example:
        return read_back(value.as_py(), self._kind, self._file)


class Picked(Lazy[Example]):
    """Some of the examples, by their places; made when they are asked for."""

    def __init__(self, examples: Sequence[Example], places: np.ndarray) -> None:
        self._examples, self._places = examples, places

    def __len__(self) -> int:
        return len(self._places)

    def made(self, at: int) -> Example:
        return self._examples[int(self._places[at])]
