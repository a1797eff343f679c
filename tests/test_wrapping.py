"""Lines for a terminal: broken at blanks, and never inside a command."""

import os
import pty
import re

import pytest

from accord.environment.wrapping import fit, glue, unglue, width_of, wrap
from accord.errors import plural

FLAG = (
    "    what to do: accord export RUN --checkpoint best (step 12); fewer epochs, or more rows, or"
    " --set train.learning_rate=0.0001 and a look at `accord audit DATA --fix OUT`"
)
COMMANDS = (
    "accord export RUN --checkpoint best",
    "--set train.learning_rate=0.0001",
    "`accord audit DATA --fix OUT`",
)


@pytest.mark.parametrize("width", [44, 60, 80, 100])
def test_words_and_commands_stay_whole(width):
    lines = wrap(FLAG, width).split("\n")
    assert " ".join(line.strip() for line in lines) == FLAG.strip()
    assert all(any(command in line for line in lines) for command in COMMANDS)
    assert max(map(len, lines)) <= width


def test_a_command_that_is_too_long_has_a_line_of_its_own():
    command = "accord train --data " + "a/long/place/" * 8 + "pairs.jsonl --output runs/first"
    lines = wrap(f"Give it again: {command}; that is all.", 60).split("\n")
    assert f"  {command};" in lines and lines[0] == "Give it again:"


def test_what_follows_stands_further_in():
    text = "! step 4  flag.runaway: " + "word " * 20
    assert wrap(text, 60).split("\n")[1].startswith("    word")
    assert wrap("one two three", 8, hang=0) == "one two\nthree"


@pytest.mark.parametrize("text", ["short", "", "  two  columns   apart"])
def test_what_fits_is_left_as_it_is(text):
    assert wrap(text, 40) == text


def test_prose_about_accord_is_no_command():
    text = "the updates are those of the accord that began the run and of no other accord at all"
    assert max(map(len, wrap(text, 40).split("\n"))) <= 40


def test_files_and_pipes_are_not_wrapped(tmp_path):
    with (tmp_path / "log").open("w") as file:
        assert fit(FLAG, file) == FLAG and width_of(file) is None
    assert width_of(None) is None


def test_a_terminal_is_wrapped():
    """A terminal that does not know its size has 0 columns, and is taken for a narrow one."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        assert len(fit(FLAG, terminal).split("\n")) > 1
    os.close(ours)


@pytest.mark.parametrize(
    "count, words, expected",
    [
        (1, ("row",), "1 row"),
        (0, ("row",), "0 rows"),
        (2000, ("row",), "2,000 rows"),
        (1, ("copy", "copies"), "1 copy"),
        (3, ("copy", "copies"), "3 copies"),
        (1, ("row is", "rows are"), "1 row is"),
    ],
)
def test_plural(count, words, expected):
    assert plural(count, *words) == expected


def test_a_number_and_its_unit_stay_together():
    text = "of them (60 % are a near copy, 55.1 % to 87 %) in 3 GB and 12 rows"
    for width in range(40, 70):
        assert not re.search(r"\d\n *(%|GB)", wrap(text, width)), width
    assert glue(text).count("\0") == 4 and unglue(glue(text)) == text
