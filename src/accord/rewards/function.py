"""A reward that is a Python function. It runs in a process of its own, with a time limit.

    # mine.py, on the PYTHONPATH
    def helpful(prompts, answers, rows):    # N texts, N texts, N dicts; `rows` may be left out
        return [float(row["keyword"] in answer) for answer, row in zip(answers, rows, strict=True)]

The function may raise, hang, exit or return nonsense. An answer that gets no number is counted by
the reason. If a whole batch fails, it is asked again answer by answer, so that a bad answer costs
only itself.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

from accord.errors import plural
from accord.rewards.reward import Conversation, Rewards, prompt_text
from accord.types import UsageError

START = 60.0  # seconds that importing a module may take
BYTES = 1 << 26  # limit of one answer of the worker
PATIENCE = 3  # answers that may run out of time one by one before the rest of a batch is given up
# give up after so many calls in a row in which every answer ran out of time
GIVE_UP = 3
LATE = ("timed out", "not asked, after others ran out of time")


class _Failed(Exception):
    """A call gave no values, for a reason of a few words."""


@dataclass
class Function:
    """The reward "module:function".

    The start raises UsageError if the function cannot be imported or does not take the options.
    After that its failures are counted and raise no error, except when it runs out of time in
    several calls in a row.
    """

    name: str
    # its keyword arguments, JSON values
    options: Mapping[str, object] = field(default_factory=dict)
    timeout: float = 10.0  # seconds a call may take
    says: dict[str, str] = field(default_factory=dict)  # reason -> message of its first failure
    target: str = ""  # "module:function" where it has another name
    # calls in a row in which every answer ran out of time
    _late: int = field(default=0, repr=False)
    _worker: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _end: weakref.finalize | None = field(default=None, repr=False)
    _buffer: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        self._start()

    def __call__(
        self, prompts: Sequence[Conversation], answers: Sequence[str], rows: Sequence[Mapping]
    ) -> Rewards:
        """Ask the function for the rewards of N answers.

        Raises:
          UsageError: it ran out of time on every answer of several calls. A long file would need
            days to find this out.
        """
        if not answers:
            return Rewards.of([])
        found = self._rewards([prompt_text(prompt) for prompt in prompts], answers, rows)
        self._late = (
            self._late + 1 if all(found.failures.get(i) in LATE for i in range(len(answers))) else 0
        )
        if self._late == GIVE_UP:
            raise UsageError(
                f"reward {self.name!r} ran out of time on every answer of {GIVE_UP} calls in a row"
                f" ({self.timeout:g} s a call).\nGive it longer with the option"
                f" {self.name}.timeout=…, or make it quicker."
            )
        return found

    def account(self) -> dict:
        """Return the first message of each kind of failure."""
        return {"said": dict(self.says)} if self.says else {}

    def close(self) -> None:
        """End the process and those that it started. The next call starts a new one."""
        if self._worker is not None:
            assert self._end is not None, "a process is never started without its end"
            self._end()
            self._worker = None

    def _rewards(
        self, asked: Sequence[str], answers: Sequence[str], rows: Sequence[Mapping]
    ) -> Rewards:
        try:
            return Rewards.of(*self._ask(asked, answers, rows))
        except _Failed as failed:
            return (
                self._one_by_one(asked, answers, rows)
                if len(answers) > 1
                else Rewards.of([None], {0: str(failed)})
            )

    def _one_by_one(
        self, prompts: Sequence[str], answers: Sequence[str], rows: Sequence[Mapping]
    ) -> Rewards:
        values: list[object] = [None] * len(answers)
        failures: dict[int, str] = {}
        late = 0
        for i, (prompt, answer, row) in enumerate(zip(prompts, answers, rows, strict=True)):
            if late == PATIENCE:
                failures[i] = LATE[1]
                continue
            try:
                (values[i],), reasons = self._ask([prompt], [answer], [row])
                if reasons:
                    failures[i] = reasons[0]
            except _Failed as failed:
                failures[i] = str(failed)
                late += str(failed) == LATE[0]
        return Rewards.of(values, failures)

    def _ask(
        self, prompts: Sequence[str], answers: Sequence[str], rows: Sequence[Mapping]
    ) -> tuple[list[object], dict[int, str]]:
        """Call the function once. Return as many values as there are answers, and the reasons of
        those that it judged no number.

        Raises:
          _Failed: it raised, ran out of time, died, or gave another number of values.
        """
        if self._worker is None:
            self._start()
        asked = {
            "prompts": list(prompts),
            "answers": list(answers),
            "rows": [dict(row) for row in rows],
        }
        reply = self._exchange(asked, self.timeout)
        if "failed" in reply:
            self.says.setdefault(reply["failed"], reply["says"])
            raise _Failed(reply["failed"])
        values = reply["values"]
        if len(values) != len(answers):
            given = (
                f"{len(values):,}" if len(values) < len(answers) else f"more than {len(answers):,}"
            )
            self.says.setdefault(
                "wrong number of values", f"{given} values for {plural(len(answers), 'answer')}"
            )
            raise _Failed("wrong number of values")
        return values, {int(i): reason for i, reason in reply["reasons"].items()}

    def _start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "accord.rewards.worker",
            self.target or self.name,
            json.dumps(dict(self.options)),
        ]
        path = os.pathsep.join(place or os.getcwd() for place in sys.path)
        self._buffer = b""
        self._worker = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            process_group=0,
        )
        os.set_blocking(_pipes(self._worker)[0].fileno(), False)
        # at the latest when this process ends
        self._end = weakref.finalize(self, _end, self._worker)
        try:
            hello = self._exchange(None, START)
        except _Failed as failed:
            raise UsageError(f"reward {self.name!r}: importing it {failed}.") from None
        if "unusable" in hello:
            self.close()
            raise UsageError(hello["unusable"])

    def _exchange(self, asked: dict | None, seconds: float) -> dict:
        """Write a line and read a line. If that takes too long, end the process."""
        until = time.monotonic() + seconds
        try:
            if asked is not None:
                self._send(json.dumps(asked, default=str).encode() + b"\n", until)
            return json.loads(self._line(until))
        except (BrokenPipeError, ValueError):
            self.close()
            raise _Failed("died") from None
        except TimeoutError:
            self.close()
            raise _Failed(LATE[0]) from None

    def _send(self, data: bytes, until: float) -> None:
        """Write to the process, which may have stopped reading.

        Raises:
          TimeoutError, BrokenPipeError.
        """
        pipe, rest = _pipes(self._worker)[0].fileno(), memoryview(data)
        while rest:
            _wait(pipe, selectors.EVENT_WRITE, until)
            rest = rest[os.write(pipe, rest[: 1 << 16]) :]

    def _line(self, until: float) -> bytes:
        """Read the next line of the process; empty if the process ended.

        Raises:
          TimeoutError.
        """
        pipe = _pipes(self._worker)[1].fileno()
        while b"\n" not in self._buffer:
            _wait(pipe, selectors.EVENT_READ, until)
            piece = os.read(pipe, 1 << 16)
            if not piece or len(self._buffer) > BYTES:
                return b""
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def _wait(pipe: int, event: int, until: float) -> None:
    """Wait until the pipe is ready.

    Raises:
      TimeoutError.
    """
    with selectors.DefaultSelector() as waiting:
        waiting.register(pipe, event)
        if not waiting.select(max(0.0, until - time.monotonic())):
            raise TimeoutError


def _pipes(worker: subprocess.Popen[bytes] | None) -> tuple[IO[bytes], IO[bytes]]:
    """Return the pipe to write to the process, and the pipe to read from it."""
    assert worker is not None and worker.stdin is not None and worker.stdout is not None
    return worker.stdin, worker.stdout


def _end(worker: subprocess.Popen[bytes]) -> None:
    """Kill a process with the group that it leads, and close its pipes."""
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    for pipe in _pipes(worker):
        pipe.close()
