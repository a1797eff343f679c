"""Text that is broken into lines of a terminal while it grows; a word is not broken unless it is
wider than a line.

The text of a model is hostile: what could move the cursor or change the terminal's state is written
out, and never sent.
"""

from __future__ import annotations

import unicodedata

from accord.errors import printable

TAB = " " * 4
JOINERS = "\u200c\u200d"  # they join letters and emoji, and do nothing to a terminal


def harmless(text: str) -> str:
    """Return a text without anything that drives a terminal: blanks of all kinds are blanks, and
    controls are written out.
    """
    plain = text.replace("\r\n", "\n").replace("\t", TAB)
    blanks = "".join(" " if unicodedata.category(c) == "Zs" else c for c in plain)
    return printable(blanks, keep="\n" + JOINERS)


def width_of(text: str) -> int:
    """Count the columns that a text takes."""
    return sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class Wrapped:
    """The lines of a growing text. A finished line does not change, and the last one only grows."""

    def __init__(self, width: int):
        self.width = width
        self.lines: list[str] = []  # finished
        self.line = ""
        self._blanks = self._word = ""  # behind `line`, and not yet placed

    def add(self, text: str) -> None:
        """Add text. The last word waits until it is known to be whole."""
        for character in harmless(text):
            if character == "\n":
                self._place()
                self._break()
            elif character == " ":
                self._place()
                self._blanks += " "
            else:
                self._grow(character)

    def finish(self) -> None:
        """Finish the last line: no further text comes."""
        self._place()
        self._break()

    def _grow(self, character: str) -> None:
        self._word += character
        if width_of(self.line + self._blanks + self._word) <= self.width:
            return
        if self.line:
            self._break()  # the blanks at a break are not shown
        while width_of(self._blanks + self._word) > self.width:
            if self._blanks:  # an indentation wider than the line
                self._blanks = ""
            else:
                self.lines.append(self._word[:-1])
                self._word = self._word[-1:]

    def _place(self) -> None:
        """Put the waiting word on the line."""
        if self._word:
            self.line += self._blanks + self._word
            self._blanks = self._word = ""

    def _break(self) -> None:
        self.lines.append(self.line)
        self.line = self._blanks = ""
