"""A reward that is a Python function: run in a process of its own, with a time limit.

    # mine.py, on the PYTHONPATH
    def helpful(prompts, answers, rows):                       # N texts, N texts, N dicts; `rows` may be left out
        return [float(row["keyword"] in answer) for answer, row in zip(answers, rows)]

It may raise, hang, exit or give nonsense: every answer that it gives no number for is counted by the reason. A batch that
fails as a whole is asked again answer by answer, so that one bad answer costs itself alone.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from accord.evaluate.scorers import prompt_text
from accord.online.rewards.reward import Conversation, Rewards
from accord.types import UsageError

START = 60.0  # seconds that importing a module may take
BYTES = 1 << 26  # of one answer of the worker
PATIENCE = 3  # answers that may run out of time one by one before the rest of a batch is given up


class _Failed(Exception):
    """A call gave no values, for a reason of a few words."""


@dataclass
class Function:
    """The reward "module:function".

    Raises UsageError where it cannot be imported; afterwards nothing that it does is an error, all is counted.
    """

    name: str
    options: Mapping[str, object] = field(default_factory=dict)  # its keyword arguments, JSON values
    timeout: float = 10.0  # seconds a call may take
    says: dict[str, str] = field(default_factory=dict)  # reason -> what was said the first time
    target: str = ""  # "module:function" where it has another name
    _worker: subprocess.Popen | None = field(default=None, repr=False)
    _buffer: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        self._start()

    def __call__(self, prompts: Sequence[Conversation], answers: Sequence[str], rows: Sequence[Mapping]) -> Rewards:
        asked = [prompt_text(prompt) for prompt in prompts]
        if not answers:
            return Rewards.of([])
        try:
            return Rewards.of(self._ask(asked, answers, rows))
        except _Failed as failed:
            return self._one_by_one(asked, answers, rows) if len(answers) > 1 else Rewards.of([None], {0: str(failed)})

    def close(self) -> None:
        """End the process. Another call would start a new one."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.wait()
            for pipe in (self._worker.stdin, self._worker.stdout):
                pipe.close()
            self._worker = None

    def __del__(self) -> None:
        self.close()

    def _one_by_one(self, prompts: Sequence[str], answers: Sequence[str], rows: Sequence[Mapping]) -> Rewards:
        values: list[object] = [None] * len(answers)
        failures: dict[int, str] = {}
        late = 0
        for i, one in enumerate(zip(prompts, answers, rows, strict=True)):
            if late == PATIENCE:
                failures[i] = "not asked, after others ran out of time"
                continue
            try:
                (values[i],) = self._ask(*([each] for each in one))
            except _Failed as failed:
                failures[i] = str(failed)
                late += str(failed) == "timed out"
        return Rewards.of(values, failures)

    def _ask(self, prompts: Sequence[str], answers: Sequence[str], rows: Sequence[Mapping]) -> list[object]:
        """One call of the function: as many values as answers.

        Raises:
          _Failed: it raised, ran out of time, died, or gave another number of values.
        """
        if self._worker is None:
            self._start()
        asked = {"prompts": list(prompts), "answers": list(answers), "rows": [dict(row) for row in rows]}
        reply = self._exchange(asked, self.timeout)
        if "failed" in reply:
            self.says.setdefault(reply["failed"], reply["says"])
            raise _Failed(reply["failed"])
        values = reply["values"]
        if len(values) != len(answers):
            self.says.setdefault("wrong number of values", f"{len(values):,} values for {len(answers):,} answers")
            raise _Failed("wrong number of values")
        return values

    def _start(self) -> None:
        command = [sys.executable, "-m", "accord.online.rewards.worker", self.target or self.name, json.dumps(dict(self.options))]
        path = os.pathsep.join(place or os.getcwd() for place in sys.path)
        self._buffer = b""
        self._worker = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
        )
        try:
            hello = self._exchange(None, START)
        except _Failed as failed:
            raise UsageError(f"reward {self.name!r}: importing it {failed}.") from None
        if "unusable" in hello:
            self.close()
            raise UsageError(hello["unusable"])

    def _exchange(self, asked: dict | None, seconds: float) -> dict:
        """Write a line, read a line; the process is ended where that does not come about in time."""
        try:
            if asked is not None:
                self._worker.stdin.write(json.dumps(asked, default=str).encode() + b"\n")
                self._worker.stdin.flush()
            return json.loads(self._line(time.monotonic() + seconds))
        except (BrokenPipeError, ValueError):
            self.close()
            raise _Failed("died") from None
        except TimeoutError:
            self.close()
            raise _Failed("timed out") from None

    def _line(self, until: float) -> bytes:
        """The next line of the process; nothing where it ended. Raises TimeoutError."""
        pipe = self._worker.stdout
        with selectors.DefaultSelector() as waiting:
            waiting.register(pipe, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not waiting.select(max(0.0, until - time.monotonic())):
                    raise TimeoutError
                piece = os.read(pipe.fileno(), 1 << 16)
                if not piece or len(self._buffer) > BYTES:
                    return b""
                self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line
