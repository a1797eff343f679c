"""Examples in tables: their texts as JSON in Arrow's memory, and examples made when asked for."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import pyarrow as pa

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
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=str).encode(
        "utf-8", "surrogatepass"
    )


def read_back(raw: bytes, kind: str, file: str) -> Example:
    """Return the example that was written.

    Args:
      kind: a key of ROW_KINDS.
      file: what messages call the file.
    """
    row = json.loads(raw.decode("utf-8", "surrogatepass"))
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


class Examples(Sequence[Example]):
    """The examples of tables, one behind the other; made when they are asked for.

    Args:
      kind: a key of ROW_KINDS.
      file: what messages call the file that they came from.
    """

    def __init__(self, tables: Iterable[pa.RecordBatch], kind: str, file: str) -> None:
        self._columns = [table.column(COLUMN) for table in tables]
        self._starts = np.cumsum([0, *map(len, self._columns)]).tolist()
        self._kind, self._file = kind, file

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = int(index) + (len(self) if index < 0 else 0)
        if not 0 <= at < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        number = bisect_right(self._starts, at) - 1
        return self._made(self._columns[number][at - self._starts[number]])

    def __iter__(self) -> Iterator[Example]:
        for column in self._columns:
            yield from map(self._made, column)

    def _made(self, value: pa.Scalar) -> Example:
        return read_back(value.as_py(), self._kind, self._file)


class Picked(Sequence[Example]):
    """Some of the examples, by their places; made when they are asked for."""

    def __init__(self, examples: Sequence[Example], places: np.ndarray) -> None:
        self._examples, self._places = examples, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self._examples[at] for at in self._places[index].tolist()]
        return self._examples[int(self._places[index])]
