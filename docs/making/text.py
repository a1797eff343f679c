"""Pieces of markdown: tables, cells, code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A markdown table. Cells are taken as markdown:
    text of the code goes through `plain` first.
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(str(cell)) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def plain(text: str) -> str:
    """Text of the code as markdown that shows it as it is; what stands between backticks is code
    there too.
    """
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # a backtick of its own is no code
        return _escaped(text)
    return "".join(literal(piece) if i % 2 else _escaped(piece) for i, piece in enumerate(pieces))


def _escaped(text: str) -> str:
    return "".join(
        f"\\{c}" if c in "\\`*_[]" else {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(c, c)
        for c in text
    )


def literal(text: object) -> str:
    """Inline code; the fence is longer than any run of backticks inside."""
    text = str(text)
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def block(text: str, language: str = "text") -> str:
    """A block of code, its fence longer than any inside."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}"
