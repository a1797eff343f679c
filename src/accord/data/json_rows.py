"""Rows from JSON text: one per line, an array, or one object that holds columns.

Memory stays bounded by one row. Every generator yields (line, value or RowError), lines from 1;
arrays have no lines and give the row's number.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, TypeGuard

from accord.data.ledger import RowError
from accord.types import DataError

Numbered = tuple[int, object]  # (line, the row's value or the RowError that stands in its place)

BLOCK = 1 << 16  # characters read at a time
BLANKS = re.compile(r"[ \t\r\n]*")
# An array has no line ends to go on from after a broken element, so one that does not end is given
# up on here.
GIVE_UP = 4  # times the size limit of a row
# One object that holds all rows must be read whole; this bounds the memory it takes.
WHOLE = 64  # times the size limit of a row
# Lists and objects in each other. Readers walk a value by recursion; no preference comes near.
DEPTH = 128


class Parser:
    """A parser of standard JSON: a repeated key in one object is an error, and NaN is null, not a
    number.
    """

    def __init__(self) -> None:
        self.repeated: list[str] = []
        self.decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=lambda name: None
        )

    def _object(self, pairs: list[tuple[str, object]]) -> dict:
        found = dict(pairs)
        if len(found) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            self.repeated += [key for key in found if counts[key] > 1]
        return found

    def refusal(self, value: object, brackets: int) -> RowError | None:
        """Say why the value parsed last cannot be trusted, or return None; forget what was seen.

        Args:
          brackets: how many brackets its text opens, which is as deep as it can be.
        """
        repeated, self.repeated = self.repeated, []
        if brackets > DEPTH and is_deeper(value, DEPTH):
            return RowError("invalid JSON", TOO_DEEP)
        if repeated:
            return RowError(
                "repeated key",
                f"the key {repeated[0]!r:.40} is in one object twice: which one is meant?",
            )
        return None

    def line(self, raw: bytes) -> object:
        """Parse one line; return its value, or the RowError that stands in its place."""
        self.repeated.clear()  # from a line that broke off after a repeated key
        try:
            value = self.decoder.decode(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            return RowError(
                "invalid UTF-8", f"byte {error.start + 1:,} of the line is not UTF-8.", raw
            )
        except RecursionError:
            return RowError("invalid JSON", TOO_DEEP, raw)
        except ValueError as error:  # JSONDecodeError, and numbers of thousands of digits
            return RowError("invalid JSON", f"{error}.", raw)
        return self.refusal(value, raw.count(b"[") + raw.count(b"{")) or value


TOO_DEEP = "it is nested too deeply to be read."


def is_deeper(value: object, depth: int) -> bool:
    """Tell whether lists and objects stand in each other more than `depth` deep."""
    level = [value]
    for _ in range(depth + 1):
        level = [
            each
            for outer in level
            if isinstance(outer, (list, dict))
            for each in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(each, (list, dict))
        ]
        if not level:
            return False
    return True


def too_large(limit: int, source: object = None) -> RowError:
    """Make the error of a row over the size limit."""
    return RowError(
        "row too large", f"it is over the limit of {limit:,} bytes (max_row_bytes).", source
    )


def line_rows(stream: BinaryIO, limit: int) -> Iterator[Numbered]:
    """Yield the rows of JSONL.

    Lines end at \\n alone: U+2028 and its like are text. Blank lines are no rows.
    """
    parser, line = Parser(), 0
    while raw := stream.readline(limit + 2):  # + 2: the line's end does not count
        line += 1
        if len(raw.rstrip(b"\r\n")) > limit:
            _skip_rest(stream, raw)
            yield line, too_large(limit, raw)
        elif raw.strip():
            value = parser.line(raw.rstrip(b"\r\n"))
            if line == 1 and (rows := _of_pandas(value)) is not None:
                yield from enumerate(rows, 1)  # all rows of a table on one long line
            else:
                yield line, value


def _skip_rest(stream: BinaryIO, raw: bytes) -> None:
    while raw and not raw.endswith(b"\n"):
        raw = stream.readline(BLOCK)


def array_rows(stream: BinaryIO, limit: int) -> Iterator[Numbered]:
    """Yield the rows of a JSON array, reading one element at a time.

    Raises:
      DataError: the array itself is broken or cut short; what follows the break cannot be found
        again.
    """
    parser, text, number = Parser(), _Window(stream), 0
    text.expect("[", "an array")
    if text.peek() == "]":
        text.expect("]", "its end")
        return
    closed = False
    while not closed:
        number += 1
        value, raw = _element(parser, text, number, limit)
        # asked for every row, or the next one would be blamed
        repeated = parser.refusal(value, raw.count("[") + raw.count("{"))
        yield number, _fault(raw, limit) or repeated or value
        closed = text.expect(",]", f"a comma after row {number:,}") == "]"
    if text.peek():
        raise DataError(f"something follows the end of the JSON array, after row {number:,}.")


def _fault(raw: str, limit: int) -> RowError | None:
    if len(raw) > limit:
        return too_large(limit, raw)
    try:
        raw.encode("utf-8")
    except UnicodeEncodeError as error:  # `_Window` made it of bytes that are not UTF-8
        return RowError(
            "invalid UTF-8", f"character {error.start + 1:,} of the row is not UTF-8.", raw
        )
    return None


def _element(parser: Parser, text: _Window, number: int, limit: int) -> tuple[object, str]:
    """Return the next element and its text.

    While the element does not end in the text held, read on, twice as much each time.
    """
    text.peek()
    while True:
        try:
            value, end = parser.decoder.raw_decode(text.held, text.at)
            if end < len(text.held):  # else it may go on, as 12 does in 123
                return value, text.take(end - text.at)
            problem = "the text ends in it or right after it"
        except RecursionError:
            raise DataError(
                f"row {number:,} of the JSON array is nested too deeply to be read."
            ) from None
        except ValueError as error:
            # its line and column count from the window's start
            problem = getattr(error, "msg", str(error))
        if text.left > GIVE_UP * limit or not text.more():
            raise DataError(
                f"row {number:,} of the JSON array cannot be read: {problem}. The file is damaged"
                " or cut short; with one row a line (JSONL) the other rows could be saved."
            )


class _Window:
    """The part of a text that is held, and how far it is consumed.

    Cutting it at every row would copy it every time.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.reader = io.TextIOWrapper(stream, "utf-8", errors="surrogateescape", newline="")
        self.held, self.at = "", 0

    @property
    def left(self) -> int:
        """Return the number of characters held that are not consumed."""
        return len(self.held) - self.at

    def more(self) -> bool:
        """Read on and drop what is consumed; return False at the end of the text."""
        added = self.reader.read(max(BLOCK, self.left))
        self.held, self.at = self.held[self.at :] + added, 0
        return bool(added)

    def take(self, count: int) -> str:
        """Consume so many characters."""
        self.at += count
        return self.held[self.at - count : self.at]

    def peek(self) -> str:
        """Consume blanks; return the next character, or "" at the end."""
        while True:
            blanks = BLANKS.match(self.held, self.at)
            assert blanks is not None, "no blank at all is a match too"
            self.at = blanks.end()
            if self.left or not self.more():
                return self.held[self.at : self.at + 1]

    def expect(self, characters: str, what: str) -> str:
        """Consume one of the characters, or report what is missing."""
        found = self.peek()
        if not found or found not in characters:
            raise DataError(
                f"the JSON array is broken: {what} is expected, found"
                f" {found or 'the end of the file'!r}."
            )
        return self.take(1)


def object_rows(stream: BinaryIO, limit: int) -> Iterator[Numbered]:
    """Yield the rows of one JSON object: columns of equal length, or {"data": [rows]}, or the
    object as the only row.

    Raises:
      DataError: it is not one object, or larger than `WHOLE` rows of the size limit, since it is
        read whole.
    """
    raw = stream.read(WHOLE * limit + 1)
    if len(raw) > WHOLE * limit:
        raise DataError(
            f"one JSON object of over {WHOLE * limit:,} bytes; write one row a line (JSONL)."
        )
    value = Parser().line(raw)
    if isinstance(value, RowError):
        raise DataError(
            f"neither one JSON object nor one a line (JSONL): {value.says} Objects of several lines"
            " each become one a line by: jq -c . FILE > rows.jsonl"
        )
    for number, row in enumerate(_unpacked(value), 1):
        yield number, too_large(limit) if text_size(row) > limit else row


def text_size(value: object) -> int:
    """Estimate the characters of text in a value."""
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, dict):
        return sum(map(text_size, value.values()))
    return sum(map(text_size, value)) if isinstance(value, list) else 0


def holds_rows(value: object) -> TypeGuard[dict]:
    """Tell whether a JSON object holds many rows: as columns of lists, as one list of objects, or
    as pandas and the hub write a table.
    """
    if _of_pandas(value) is not None:
        return True
    if (
        not isinstance(value, dict)
        or not value
        or not all(isinstance(each, list) and each for each in value.values())
    ):
        return False
    messages = any(
        isinstance(item, dict) and {"role", "from"} & set(item)
        for each in value.values()
        for item in each
    )
    return not messages and (_is_wrapped(value) or len({len(each) for each in value.values()}) == 1)


def _is_wrapped(value: dict) -> bool:
    return len(value) == 1 and all(isinstance(row, dict) for row in next(iter(value.values())))


def _of_pandas(value: object) -> list | None:
    """Return the rows of pandas' to_json in any of its orients, and of the hub's rows API; None for
    other objects.
    """
    if not isinstance(value, dict) or not value:
        return None
    data = value.get("data")
    if value.keys() in ({"columns", "data"}, {"columns", "index", "data"}):
        names = value["columns"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return None
        if not isinstance(data, list) or not all(
            isinstance(row, list) and len(row) == len(names) for row in data
        ):
            return None
        return [dict(zip(names, row, strict=True)) for row in data]
    if value.keys() == {"schema", "data"} and isinstance(data, list):
        return data
    if value.keys() >= {"features", "rows"} and isinstance(value["rows"], list):
        return [_of_hub(row) for row in value["rows"]]
    first = next(iter(value.values()))
    if not first or not all(isinstance(each, dict) for each in value.values()):
        return None
    if all(name.isdecimal() for name in value):
        return list(value.values())
    if all(each.keys() == first.keys() for each in value.values()) and all(
        name.isdecimal() for name in first
    ):
        return [{name: each[at] for name, each in value.items()} for at in first]
    return None


def _of_hub(row: object) -> object:
    if not isinstance(row, dict) or "row" not in row:
        return row
    if row.get("truncated_cells"):
        return RowError(
            "cut cells",
            f"the hub's viewer cut the cells {row['truncated_cells']!r:.80}; fetch the data set's"
            " own files.",
            row,
        )
    return row["row"]


def _unpacked(value: object) -> list:
    if (rows := _of_pandas(value)) is not None:
        return rows
    if not holds_rows(value):
        return [value]
    if _is_wrapped(value):
        return next(iter(value.values()))
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]


def kind_of(value: object) -> str:
    """Return the JSON name of a value's type, for messages."""
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)
