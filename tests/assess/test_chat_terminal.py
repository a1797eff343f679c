"""`accord chat` on a terminal: what is written, Ctrl-C, Ctrl-D; by a pseudo-terminal where one is
needed.
"""

import fcntl
import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time

import pytest

from accord.assess.chat.conversation import Conversation
from accord.assess.chat.ctrl_c import CtrlC, Pressed
from accord.assess.chat.session import Session
from accord.assess.chat.sides import Side, open_chat
from accord.assess.chat.views import TerminalView
from accord.assess.chat.wrapped import width_of
from accord.assess.generation import Sampling

PATIENCE = 240  # seconds for a word of a process on a busy machine
GONE = "(the terminal is gone)"
STYLE = re.compile(r"\x1b\[[012]m")  # bold, dim, and their end


@pytest.fixture
def sessions(tiny_folder, monkeypatch):
    """Make a session on a terminal of so many columns, and a function that returns its output."""

    def begin(columns, *, compare=False, styled=False, tokens=30):
        monkeypatch.setenv("COLUMNS", str(columns))
        opened = open_chat(str(tiny_folder), dtype="float32", template=None, checkpoint=None)
        out, ctrl_c = io.StringIO(), CtrlC()
        view = TerminalView(out, styled, ctrl_c)
        session = Session(opened, view, Sampling(1, tokens), Conversation(), ctrl_c)
        if compare:
            session.reference = Side("base", "the same again", opened.model)
            session.comparing = True
        return session, out.getvalue

    return begin


def test_an_answer_is_the_text_in_lines_of_whole_words(sessions):
    session, shown = sessions(50)
    session.obey("Hello")
    answer = session.conversation.last.last.answer
    body, _, about = shown().rstrip("\n").rpartition("\n")
    assert about == "(cut at 30 tokens; --max-new-tokens has the limit)"
    assert all(width_of(line) < 50 for line in body.split("\n"))
    letters = re.sub(r"\\[xuU][0-9a-f]+|\s", "", body)
    assert letters and all(letter in answer.text for letter in letters)


def test_nothing_of_an_answer_drives_the_terminal(sessions):
    """A random model writes any bytes. Beside our own styles and line ends nothing is a control."""
    for styled in (False, True):
        session, shown = sessions(60, compare=True, styled=styled, tokens=100)
        session.obey("Hello")
        text = STYLE.sub("", shown()) if styled else shown()
        assert all(c.isprintable() or c in "\n\u200c\u200d" for c in text)


@pytest.mark.parametrize(("columns", "beside"), [(80, False), (100, True)])
def test_two_answers_stand_beside_each_other_where_there_is_room(columns, beside, sessions):
    session, shown = sessions(columns, compare=True)
    session.obey("Hello")
    lines = [line.rpartition("\r")[2] for line in shown().split("\n")]
    assert (lines[0].split() == ["base", "│", "model"]) == beside
    if beside:
        rows = [line for line in lines[2:] if "│" in line]
        cells = [[cell.strip() for cell in line.split("│")] for line in rows]
        assert cells and all(left == right for left, right in cells)  # one model, one seed
    else:
        assert lines[0] == "base" and "model" in lines
    assert all(width_of(line) < columns for line in lines)


# ---------------------------------------------------------------- Ctrl-C


class Pressing:
    """A view's `piece` that presses Ctrl-C after some tokens."""

    def __init__(self, view, after, times=1):
        self.piece, self.after, self.times, self.count = view.piece, after, times, 0

    def __call__(self, side, text):
        self.piece(side, text)
        self.count += 1
        if self.count == self.after:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_stops_an_answer_and_keeps_what_was_said(sessions):
    session, shown = sessions(80)
    session.view.piece = Pressing(session.view, 3)
    with session.ctrl_c.installed(), session.ctrl_c.held():
        assert session.obey("Hello")
        answer = session.conversation.last.last.answer
        assert answer.interrupted and not answer.ended and answer.tokens == 3
        assert shown().rstrip().endswith("(stopped)")
        assert session.obey("Go on")  # the next one is whole
    assert session.conversation.last.last.answer.tokens == 30
    assert session.conversation.last.asked[1].content == answer.text


def test_ctrl_c_stops_one_of_two_answers_below_each_other_and_both_beside(sessions):
    for columns, tokens in ((80, [3, 30]), (100, [3, 3])):
        session, _ = sessions(columns, compare=True)
        session.view.piece = Pressing(session.view, 3 if columns == 80 else 6)
        with session.ctrl_c.installed(), session.ctrl_c.held():
            session.obey("Hello")
        assert [answer.tokens for answer in session.conversation.last.last.answers] == tokens


def test_ctrl_c_twice_ends_the_session(sessions):
    session, _ = sessions(80)
    session.view.piece = Pressing(session.view, 3, times=2)
    with session.ctrl_c.installed(), session.ctrl_c.held(), pytest.raises(Pressed):
        session.obey("Hello")
    assert not session.conversation.exchanges  # as before the prompt
    with session.ctrl_c.installed(), pytest.raises(Pressed):
        os.kill(os.getpid(), signal.SIGINT)


def test_the_former_handler_comes_back():
    before = signal.getsignal(signal.SIGINT)
    with CtrlC().installed():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


# ---------------------------------------------------------------- a real terminal


class Typist:
    """A process on a pseudo-terminal, and what it has written."""

    def __init__(self, *words, folder):
        self.master, slave = pty.openpty()
        self.text = ""
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "accord", *map(str, words)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            cwd=folder,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
        )
        os.close(slave)

    def wait_for(self, words, again=""):
        """Read until these words come; forget what stood before them.

        Between the prompt and the first read of a line, readline notices no Ctrl-C and takes a
        Ctrl-D for an empty character: such a key is pressed `again` every few seconds.
        """
        until = time.monotonic() + PATIENCE
        pressed = time.monotonic()
        while words not in self.text:
            assert time.monotonic() < until, f"no {words!r} in {self.text!r}"
            if again and time.monotonic() > pressed + 3:
                pressed = time.monotonic()
                self.type(again)
            if select.select([self.master], [], [], 1)[0]:
                self.text += self._read()
        before, _, self.text = self.text.partition(words)
        return before

    def _read(self):
        try:
            return os.read(self.master, 4096).decode("utf-8", "replace")
        except OSError:  # the process has gone, and its terminal with it
            return GONE

    def type(self, keys):
        os.write(self.master, keys.encode())

    def end(self):
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            os.close(self.master)


def test_a_session_on_a_terminal(tiny_folder, tmp_path):
    (tmp_path / "old.jsonl").write_text('{"n": 0}\n')
    user = Typist("chat", tiny_folder, "--max-new-tokens", "8", folder=tmp_path)
    loading = user.wait_for("/help lists the commands")
    assert "Traceback" not in loading and loading.replace("\r", "\n").count("parameters") == 1
    user.wait_for("> ")
    user.type("half a li\x03")  # Ctrl-C drops the line
    user.wait_for("(Ctrl-D or /quit leaves)", again="\x03")
    user.wait_for("> ")  # the prompt of this line, not yet the one behind the answer
    user.type("Hello\r")
    user.wait_for("> ")
    user.type("/save old.jsonl\ry\r")  # what is typed before the question is no answer to it
    user.wait_for("[y/N] ")
    user.type("n\r")
    said = STYLE.sub("", user.wait_for("nothing was written"))
    assert "n\r\n! old.jsonl" in said  # on a line of its own
    user.type("/save new.jsonl\r")
    user.wait_for("0 rows written")
    user.wait_for("> ")
    user.type("\x04")  # Ctrl-D leaves, and the last prompt is saved
    user.wait_for(GONE, again="\x04")
    assert user.end() == 0
    assert (tmp_path / "old.jsonl").read_text() == '{"n": 0}\n'
    assert len((tmp_path / "new.jsonl").read_text().splitlines()) == 1
