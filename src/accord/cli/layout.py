"""The two columns of a help page."""

from __future__ import annotations

import textwrap

from accord.environment.wrapping import wrap


def columns(rows: list[tuple[str, str]], width: int, *, widest: int = 28, indent: int = 2) -> str:
    """Lay out names and their meanings in two columns.

    A name that is wider than the first column stands on a line of its own.
    """
    first = min(widest, max(len(name) for name, _ in rows))
    gap = " " * (indent + first + 2)
    lines = []
    for name, meaning in rows:
        body = textwrap.indent(wrap(meaning, width - len(gap), hang=0), gap)
        if len(name) > first:
            lines += [" " * indent + name, body]
        else:
            lines.append(" " * indent + name.ljust(first) + "  " + body[len(gap) :])
    return "\n".join(line.rstrip() for line in lines)
