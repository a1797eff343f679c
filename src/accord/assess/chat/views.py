"""The ways in which a session is shown: on a terminal, as plain text in a pipe, as JSON."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

from accord.assess.chat.columns import Columns, fits
from accord.assess.chat.conversation import Draw, Exchange
from accord.assess.chat.ctrl_c import CtrlC, Pressed
from accord.assess.chat.echo import echo, forget_typed
from accord.assess.chat.sides import Side
from accord.assess.chat.wrapped import Wrapped, harmless
from accord.errors import plural, printable

WIDEST = 100  # columns of one answer: longer lines are hard to read


class TerminalView:
    """A session on a terminal: answers appear as they are drawn, in lines of whole words."""

    def __init__(self, out: TextIO, styled: bool, ctrl_c: CtrlC):
        self.out, self.styled, self.ctrl_c = out, styled, ctrl_c
        self.columns: Columns | None = None
        self.lines: list[Wrapped] = []
        self.names: list[str] = []
        self._shown = (0, 0)  # finished lines of the answer in progress, characters behind them

    def width(self) -> int:
        # a character in the last column makes some terminals break the line
        return max(20, shutil.get_terminal_size().columns - 1)

    def shows_together(self) -> bool:
        return fits(self.width())

    def begin(self, exchange: Exchange, sides: Sequence[Side]) -> None:
        width = self.width()
        self.names = [side.name for side in sides] if len(sides) > 1 else []
        self.columns = None
        if self.names and fits(width):
            self.columns = Columns(width, self.names, self._write)
            return
        self.lines = [Wrapped(min(width, WIDEST)) for _ in sides]
        self._head(0)

    def piece(self, side: int, text: str) -> None:
        if self.columns is not None:
            return self.columns.add(side, text)
        self.lines[side].add(text)
        self._show(self.lines[side])

    def finish(self, side: int) -> None:
        if self.columns is not None:
            return self.columns.finish(side)
        self.lines[side].finish()
        self._show(self.lines[side])
        if side + 1 < len(self.lines):
            self._write("\n")
            self._head(side + 1)

    def _head(self, side: int) -> None:
        self._shown = (0, 0)
        if self.names:
            self._write(self._style(self.names[side], "1") + "\n")

    def _show(self, text: Wrapped) -> None:
        """Write what is new of an answer."""
        done, characters = self._shown
        for line in text.lines[done:]:
            self._write(line[characters:] + "\n")
            characters = 0
        self._write(text.line[characters:])
        self._shown = len(text.lines), len(text.line)

    def end(self, draw: Draw) -> None:
        for name, answer in zip(draw.sides, draw.answers, strict=True):
            if about := _about(answer):
                named = f"{name}: {about}" if len(draw.answers) > 1 else about
                self._write(self._style(f"({named})", "2") + "\n")
        self._write("\n")

    def say(self, text: str) -> None:
        for line in text.split("\n"):
            wrapped = Wrapped(min(self.width(), WIDEST))
            wrapped.add(line)
            wrapped.finish()
            self._write(self._style("\n".join(wrapped.lines), "2") + "\n")
        self._write("\n")

    def problem(self, text: str) -> None:
        self.say(f"! {text}")

    def agrees(self, question: str) -> bool:
        text = Wrapped(min(self.width(), WIDEST))
        text.add(f"{question} [y/N]")
        text.finish()
        try:
            with self.ctrl_c.raised(), echo(True):
                forget_typed()  # a line that was typed before the question is no answer to it
                self._write("\n".join(text.lines) + " ")
                typed = sys.stdin.readline()
        except Pressed:
            typed = ""
        if not typed.endswith("\n"):  # the terminal shows a typed line with its end
            self._write("\n")
        return typed.strip().lower() in ("y", "yes")

    def _style(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.styled else text

    def _write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()


class PlainView:
    """A session in a pipe: answers on standard output, everything else on standard error."""

    def __init__(self, out: TextIO, err: TextIO):
        self.out, self.err = out, err
        self.names: list[str] = []

    def shows_together(self) -> bool:
        return False

    def begin(self, exchange: Exchange, sides: Sequence[Side]) -> None:
        self.names = [side.name for side in sides] if len(sides) > 1 else []
        self._head(0)

    def piece(self, side: int, text: str) -> None:
        self._write(printable(text, keep="\n\t"))

    def finish(self, side: int) -> None:
        self._write("\n")
        self._head(side + 1)

    def _head(self, side: int) -> None:
        if side < len(self.names):
            self._write(f"{self.names[side]}:\n")

    def end(self, draw: Draw) -> None:
        for name, answer in zip(draw.sides, draw.answers, strict=True):
            if about := _about(answer):
                self.say(f"{name}: {about}")

    def say(self, text: str) -> None:
        print(harmless(text), file=self.err, flush=True)

    def problem(self, text: str) -> None:
        self.say(f"! {text}")

    def agrees(self, question: str) -> bool:
        """Ask nobody: a pipe has no one who could agree."""
        return False

    def _write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()


class JsonView(PlainView):
    """A session as one JSON object for each prompt that is answered, and for each problem."""

    def begin(self, exchange: Exchange, sides: Sequence[Side]) -> None:
        self.exchange = exchange

    def piece(self, side: int, text: str) -> None:
        """Wait for the whole answer."""

    def finish(self, side: int) -> None:
        """Wait for the whole draw."""

    def end(self, draw: Draw) -> None:
        answers = [
            {
                "by": name,
                "text": answer.text,
                "tokens": answer.tokens,
                "logprob": answer.logprob,
                "ended": answer.ended,
            }
            for name, answer in zip(draw.sides, draw.answers, strict=True)
        ]
        turn = {"ok": True, "turn": self.exchange.number, "prompt": self.exchange.text}
        self._object({**turn, "seed": draw.seed, "row": draw.row, "answers": answers})

    def problem(self, text: str) -> None:
        self._object({"ok": False, "says": text})

    def _object(self, value: dict) -> None:
        # ASCII alone: a control character of an answer is written out here as well
        self._write(json.dumps(value) + "\n")


def _about(answer) -> str:
    """Say how an answer ended, where the model did not end it itself."""
    if answer.interrupted:
        return "stopped"
    if not answer.ended:
        return f"cut at {plural(answer.tokens, 'token')}; --max-new-tokens has the limit"
    return "" if answer.text.strip() else "an empty answer"
