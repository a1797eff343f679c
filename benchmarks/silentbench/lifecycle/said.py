"""What a command said, and whether that names a cause.

A message is an alarm if the command failed, or if it stands behind accord's mark of a warning (!)
or of a refusal (✗). A plain line counts as naming a cause too, but only one that the same step does
not say of a sound case: numbers and paths apart, it must be new.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

# Messages that name nothing. A pattern of a cause must match none of them.
GENERIC = (
    "",
    "error: this run was refused.",
    "error: something is wrong with the model.",
    "error: the loss is not what it should be.",
    "error: preflight refused the run; see preflight.json.",
    "! step 4  training is unstable: lower the learning rate.",
    "error: the checkpoint cannot be used.",
    "error: data unfit.",
    "Traceback (most recent call last): RuntimeError",
    "bug: accord met an error that it does not know. Please report it.",
    "! step 6  the accuracy is no better than chance: labels may be noisy.",
    "done: run/model",
)
FLAGS = re.IGNORECASE | re.DOTALL  # a message has several lines
LOUD = re.compile(r"^\s*(!|✗|error:|stopped:)")
CRASH = re.compile(r"Traceback \(most recent call last\)|bug of accord|this is a bug", re.I)
NUMBERS = re.compile(r"[-+−]?\d[\d.,]*(e[-+]?\d+)?%?")
PATHS = re.compile(r"\S*/\S+")


@dataclass(frozen=True)
class Step:
    """One command and what came of it."""

    words: list[str]
    code: int
    output: str
    crash: str = ""

    @property
    def alarms(self) -> list[str]:
        """The messages that a person cannot overlook; all of the output of a failure."""
        found: list[list[str]] = []
        for line in self.output.splitlines():
            if LOUD.match(line):
                found.append([line])
            elif found and (line.startswith("    ") or found[-1][0].startswith("error:")):
                found[-1].append(line)
        return ["\n".join(lines) for lines in found]

    @property
    def lines(self) -> list[str]:
        """What is said in all. A library's warning that is passed on is not accord's word."""
        lines = self.output.splitlines()
        return [line for line in lines if line.strip() and "a library's warning" not in line]


def accord(words: list[str], folder: Path) -> Step:
    """Give a command in this process, as the console script would."""
    from typer.testing import CliRunner

    from accord.cli.app import app
    from accord.environment import settings
    from accord.forward import reference

    settings._warned.clear()  # each case is a process of its own to a user
    with (
        mock.patch.object(reference, "cache_root", lambda: folder / "cache"),
        mock.patch.dict(os.environ, {"COLUMNS": "400"}),
    ):
        done = CliRunner().invoke(app, words)
    crash = ""
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        crash = f"{type(done.exception).__name__}: {done.exception}"
    elif done.exit_code == 1 or CRASH.search(done.output):
        crash = done.output[-600:]
    return Step(words, done.exit_code, done.output, crash)


@dataclass(frozen=True)
class Verdict:
    """What is written in the table of one case."""

    word: str  # named, wrong cause, missed, crashed, handled
    says: str = ""  # the message that names the cause, or the first that does not
    loud: bool = False  # named by an alarm, and not only by a line
    alarms: list[str] = field(default_factory=list)


def normal(text: str) -> str:
    """A line without its numbers and paths."""
    return NUMBERS.sub("#", PATHS.sub("PATH", text)).strip()


def judge(cause: str, said: list[Step], usual: set[str], handled: bool = False) -> Verdict:
    """Look for the cause among the alarms, then among the lines that a sound case does not say.

    Args:
      cause: pattern of the true cause, written before any run.
      usual: normal lines of the sound twin of the same place.
      handled: nothing is wrong with what came out, shown by measuring it.
    """
    alarms = [a for step in said for a in step.alarms if normal(a.splitlines()[0]) not in usual]
    lines = [line for step in said for line in step.lines if normal(line) not in usual]
    crashes = [step.crash for step in said if step.crash]
    for texts, loud in ((alarms, True), (lines, False)):
        for text in texts:
            if not CRASH.search(text) and re.search(cause, text, FLAGS):
                return Verdict("named", text, loud, alarms)
    if crashes:
        return Verdict("crashed", crashes[0], False, alarms)
    if handled:
        return Verdict("handled", "", False, alarms)
    if alarms:
        return Verdict("wrong cause", alarms[0], False, alarms)
    return Verdict("missed")


def require_pattern(name: str, cause: str) -> None:
    """A pattern that matches a message without content would make every alarm a success.

    Raises:
      ValueError: it matches such a message.
    """
    for text in GENERIC:
        if re.search(cause, text, FLAGS):
            raise ValueError(f"{name}: the pattern {cause!r} matches {text!r}, which names nothing")
