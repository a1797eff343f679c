"""Two growing answers beside each other on a terminal.

A row is written when both columns have finished their line. The row in progress is written over
itself, with spaces to its end, so that no control sequence but a carriage return is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accord.assess.chat.wrapped import Wrapped, width_of

BETWEEN = " │ "
NARROWEST = 40  # columns of one answer; with less, the answers stand below each other


def fits(width: int) -> bool:
    """Tell whether two answers fit beside each other."""
    return _column(width) >= NARROWEST


def _column(width: int) -> int:
    return (width - len(BETWEEN)) // 2


class Columns:
    """The answers of one draw."""

    def __init__(self, width: int, names: Sequence[str], write: Callable[[str], None]):
        self.width, self.write = _column(width), write
        self.texts = [Wrapped(self.width) for _ in names]
        self.over = [False for _ in names]
        self.rows = 0  # written, and complete
        self.write(self._row(names) + "\n")
        self.write("─" * self.width + "─┼─" + "─" * self.width + "\n")

    def add(self, side: int, text: str) -> None:
        """Show more of an answer."""
        self.texts[side].add(text)
        self._show()

    def finish(self, side: int) -> None:
        """Show that an answer is complete."""
        self.texts[side].finish()
        self.over[side] = True
        self._show()

    def _show(self) -> None:
        while self._complete(self.rows):
            self.write("\r" + self._row([self._line(i) for i in range(len(self.texts))]) + "\n")
            self.rows += 1
        if not all(self.over):
            self.write("\r" + self._row([self._line(i) for i in range(len(self.texts))]))

    def _complete(self, row: int) -> bool:
        """Tell whether no line of this row changes any more, and one of them has text."""
        has = [len(text.lines) > row for text in self.texts]
        return any(has) and all(there or over for there, over in zip(has, self.over, strict=True))

    def _line(self, side: int) -> str:
        text = self.texts[side]
        if self.rows < len(text.lines):
            return text.lines[self.rows]
        return text.line if self.rows == len(text.lines) else ""

    def _row(self, lines: Sequence[str]) -> str:
        return BETWEEN.join(line + " " * (self.width - width_of(line)) for line in lines)
