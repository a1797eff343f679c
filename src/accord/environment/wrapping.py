"""Lines for a terminal: no word and no command is broken at its edge.

A command that is longer than the terminal is wide stands on a line of its own, so that it can be
copied whole. Where nobody looks at a terminal (a file, a pipe) lines stay as long as they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TextIO

NARROWEST = 40
MARKS = ("✓ ", "· ", "! ", "✗ ")
HANG = 2  # further indentation of the lines that follow; under a mark, the text after it

_WORD = r"(?:'[^']*'|\"[^\"]*\"|[^\s;,()'\"]+)"
_OPTION = rf"(?<![\w-])--?[A-Za-z][\w-]*(?:[ =](?![-–(]){_WORD})?"
_PLACE = r"(?:'[^']*'|[A-Z][A-Z_|]+\b|[^\s;,()]*[/.=\d][^\s;,()]*)"
# a number and its unit
_MEASURE = r"\d[\d.,]* (?=(?:%|(?:[kMGT]i?B|ms|s|nats?|tok/s)\b))"
_GLUE = "\0"  # no text that is shown has it: `printable` escapes it
# a command with its options and places, one option with its value, or anything in backquotes
UNIT = rf"`[^`]+`|\baccord [a-z][a-z-]*(?: (?:{_OPTION}|{_PLACE}))*|{_OPTION}|{_MEASURE}"
CHUNK = re.compile(rf"(\s*)((?:{UNIT}|\S)+)")


def width_of(stream: TextIO | None) -> int | None:
    """Return how wide the terminal behind a stream is; None where there is no terminal."""
    try:
        if stream is None or not stream.isatty():
            return None
        return max(NARROWEST, os.get_terminal_size(stream.fileno()).columns)
    except (OSError, ValueError):  # a terminal that does not know its size, or a closed stream
        return None


def fit(text: str, stream: TextIO | None) -> str:
    """Wrap a text for the terminal behind a stream; leave it as it is where there is none."""
    width = width_of(stream)
    return text if width is None else wrap(text, width)


def wrap(text: str, width: int, hang: int | None = None) -> str:
    """Break the lines of a text at blanks, outside commands.

    Args:
      hang: further indentation of the lines that follow a broken one; HANG by default.
    """
    return "\n".join(part for line in text.split("\n") for part in _broken(line, width, hang))


def glue(text: str) -> str:
    """Join each number with its unit, for a filler that breaks at blanks; see `unglue`."""
    return re.sub(_MEASURE, lambda found: found[0].rstrip(" ") + _GLUE, text)


def unglue(text: str) -> str:
    """Part again what `glue` has joined."""
    return text.replace(_GLUE, " ")


def _broken(line: str, width: int, hang: int | None) -> Iterator[str]:
    if len(line) <= width:
        yield line
        return
    indent = len(line) - len(line.lstrip(" "))
    more = HANG if hang is None else hang
    if hang is None and line.lstrip(" ").startswith(MARKS):
        more = 4 if indent == 0 else 2  # under a flag, whose meaning stands four columns in
    behind = " " * (indent + more)
    current, empty = line[:indent], True
    for blank, chunk in CHUNK.findall(line[indent:]):
        if empty:
            current, empty = current + chunk, False
        elif len(current) + len(blank) + len(chunk) <= width:
            current += blank + chunk
        else:
            yield current
            current = behind + chunk
    yield current
