"""Line breaks for a terminal: between words alone, and never inside a command that can be typed."""

from __future__ import annotations

import re
import textwrap

# What stays on one line: text in backticks, a command to the end of its line, an option and its
# value. Everything else is a word.
PIECES = re.compile(
    r"`[^`\n]+`\S*"
    r"|(?<=: )(?:accord|python|pip|torchrun) .+$"
    r"|--[a-z][\w-]*(?:[ =](?:'[^']*'|[^\s-]\S*))?\S*"
    r"|\S+"
)
IS_COMMAND = re.compile(r"\s*(?:\$ )?(?:accord|python|pip|torchrun|make|cd) ")


def wrap(text: str, width: int) -> str:
    """Break the lines of a text that are longer than a terminal is wide.

    A further line of the same paragraph is indented as its first. A piece that is wider than the
    terminal gets a line of its own and stays whole, so that it can still be copied.
    """
    return "\n".join(broken for line in text.split("\n") for broken in _wrap_line(line, width))


def _wrap_line(line: str, width: int) -> list[str]:
    if len(line) <= width or IS_COMMAND.match(line):
        return [line]
    margin = line[: len(line) - len(line.lstrip())]
    lines: list[str] = []
    current = ""
    for piece in PIECES.findall(line.strip()):
        if current and len(margin) + len(current) + 1 + len(piece) > width:
            lines.append(margin + current)
            current = piece
        else:
            current = f"{current} {piece}".strip()
    return [*lines, margin + current]


def columns(rows: list[tuple[str, str]], width: int, *, widest: int = 28, indent: int = 2) -> str:
    """Lay out names and their meanings in two columns.

    A name that is wider than the first column stands on a line of its own.
    """
    first = min(widest, max(len(name) for name, _ in rows))
    gap = " " * (indent + first + 2)
    lines = []
    for name, meaning in rows:
        told = wrap(meaning, width - len(gap))
        body = textwrap.indent(told, gap)
        if len(name) > first:
            lines += [" " * indent + name, body]
        else:
            lines.append(" " * indent + name.ljust(first) + "  " + body[len(gap) :])
    return "\n".join(line.rstrip() for line in lines)
