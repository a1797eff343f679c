"""Values that stand in a string, as JSON or in Python's notation.

Nothing is evaluated: Python's notation is read by a parser of literals alone, of bounded depth.
What numpy and pandas print (no commas between the elements) is no literal, and is not guessed at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from accord.data.json_rows import Parser
from accord.data.ledger import RowError

DEPTH = 32  # levels of lists and objects in Python's notation; messages with tool calls take 8
ENCODINGS = 3  # times that JSON text may stand inside JSON text

_TOKEN = re.compile(
    r"""\s*+(?:
        (?P<string>'[^'\\]*+(?:\\.[^'\\]*+)*+' | "[^"\\]*+(?:\\.[^"\\]*+)*+")
      | (?P<number>[+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?(?![\w.]))
      | (?P<word>(?:None|True|False|nan)(?!\w))
      | (?P<mark>[][{}(),:])
    )""",
    re.VERBOSE | re.DOTALL,
)
_WORDS = {"None": None, "True": True, "False": False, "nan": None}
_CLOSES = {"[": "]", "(": ")", "{": "}"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_ESCAPED = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "0": "\0",
    "\\": "\\",
    "'": "'",
    '"': '"',
}


class Unreadable(Exception):
    """The error of a text that is no literal.

    Args:
      says: what is wrong with it.
      rest: the text behind a whole value, if one came first.
    """

    def __init__(self, says: str, rest: str = "") -> None:
        super().__init__(says)
        self.says, self.rest = says, rest


@dataclass(frozen=True)
class Literal:
    """The value that a text holds.

    Args:
      notation: "JSON" or "Python".
      fault: why the value cannot be trusted: a key stands in one object twice.
    """

    value: object
    notation: str
    fault: RowError | None = None


def literal(text: str) -> Literal:
    """Read a text that is one JSON value, also in several encodings, or one Python literal.

    Raises:
      Unreadable: it is neither.
    """
    try:
        return _json(text)
    except Unreadable as error:
        if error.rest:
            raise
        return Literal(_Python(text).whole(), "Python")


def _json(text: str) -> Literal:
    parser = Parser()
    value: object = text
    for _ in range(ENCODINGS):
        if not isinstance(value, str):
            break
        if value.lstrip()[:1] not in ("[", "{", '"'):
            if value is text:
                raise Unreadable("it does not begin like JSON")
            break
        try:
            start = len(value) - len(value.lstrip())
            decoded, end = parser.decoder.raw_decode(value, start)
        except RecursionError:
            raise Unreadable("it is nested too deeply to be read") from None
        except ValueError as error:
            if value is not text:  # a JSON string whose text only begins like JSON
                break
            raise Unreadable(str(error)) from None
        if rest := value[end:].strip():
            if value is not text:
                break
            raise Unreadable("text follows the value", rest)
        value = decoded
    return Literal(value, "JSON", parser.refusal(value, text.count("[") + text.count("{")))


class _Python:
    """A parser of Python literals: lists, tuples, objects, text, numbers, None, True, False."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def whole(self) -> object:
        """Return the value of the whole text."""
        value = self._value(*self._next(), depth=0)
        if rest := self.text[self.at :].strip():
            raise Unreadable("text follows the value", rest)
        return value

    def _next(self) -> tuple[str, str]:
        """Return the next token: its kind and its text."""
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            where = "its end" if not self.text[self.at :].strip() else f"character {self.at + 1:,}"
            raise Unreadable(f"it breaks off or is damaged at {where}")
        self.at = found.end()
        assert found.lastgroup is not None, "every alternative has a name"
        return found.lastgroup, found[found.lastgroup]

    def _value(self, kind: str, token: str, depth: int) -> object:
        if kind == "string":
            return _unescaped(token[1:-1])
        if kind == "word":
            return _WORDS[token]
        if kind == "number":
            return _number(token)
        if token not in _CLOSES:
            raise Unreadable(f"{token!r} stands where a value is expected, at {self.at:,}")
        if depth == DEPTH:
            raise Unreadable("it is nested too deeply to be read")
        return self._object(depth) if token == "{" else self._list(_CLOSES[token], depth)

    def _list(self, close: str, depth: int) -> object:
        """Return a list, also of a tuple; one value in parentheses, without a comma, is itself."""
        values: list = []
        while (found := self._next()) != ("mark", close):
            values.append(self._value(*found, depth=depth + 1))
            if self._next_or(",", close):
                return values[0] if close == ")" and len(values) == 1 else values
        return values

    def _object(self, depth: int) -> dict:
        pairs: dict = {}
        while (found := self._next()) != ("mark", "}"):
            key = self._value(*found, depth=depth + 1)
            if not isinstance(key, str) or key in pairs or self._next() != ("mark", ":"):
                raise Unreadable(f"the object's key {key!r:.40} is no text, or stands in it twice")
            pairs[key] = self._value(*self._next(), depth=depth + 1)
            if self._next_or(",", "}"):
                break
        return pairs

    def _next_or(self, comma: str, close: str) -> bool:
        """Consume a comma or the end; return whether it is the end."""
        kind, token = self._next()
        if kind != "mark" or token not in (comma, close):
            raise Unreadable(f"a comma is missing at character {self.at:,}")
        return token == close


def _unescaped(inner: str) -> str:
    if "\n" in inner:
        raise Unreadable("a line ends inside a quoted text")
    return _ESCAPE.sub(_escaped, inner) if "\\" in inner else inner


def _escaped(found: re.Match) -> str:
    if code := found[1] or found[2] or found[3]:
        if int(code, 16) > 0x10FFFF:
            raise Unreadable(f"{found[0]} is no character")
        return chr(int(code, 16))
    if found[4] not in _ESCAPED:
        raise Unreadable(f"{found[0]!r} is no escape of Python's")
    return _ESCAPED[found[4]]


def _number(token: str) -> int | float:
    if re.match(r"[-+]?0\d", token):
        raise Unreadable(f"{token} is no number of Python's")
    try:
        return int(token)
    except ValueError:  # a fraction, or thousands of digits
        return float(token)
