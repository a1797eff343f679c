"""A second process that measures blocks of rows while the first one reads the next.

    reader ──block of texts──▶ second process ──Measured──▶ reader, in the order of the blocks
       └── measures a block itself while the second is WAITING blocks behind, or gone

A scan of a large file is two thirds measuring and one third reading; two processes share it. The
second one is a Python of its own behind two pipes: a fork of a process with threads can hang, and
`multiprocessing` would run the main module of the caller's program again. Blocks travel as JSON,
and arrays as their bytes. What is measured does not depend on who measured it
(tests/auditing/test_second.py).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from accord.auditing.blocks import Measured, measure_block
from accord.auditing.tables.wrecks import Look
from accord.data.foreign_marks import Hit
from accord.environment.threads import cores
from accord.types import ROW_KINDS, Example, Labelled, Origin, Turn

WAITING = 3  # blocks under way in the second process, beyond which the first measures one itself
LARGEST = 1 << 26  # characters of a block that is sent; a larger one is measured where it is
HEADER = 8  # bytes of a message's length


class Second:
    """The measuring of blocks, shared with a second process once that is worth its start."""

    def __init__(self, kind: str, after: int) -> None:
        """Share the work from the block after the first `after` ones; never, if one core is all
        that there is.
        """
        self.kind, self.after, self.blocks = kind, after, 0
        self.process: subprocess.Popen | None = None
        self.questions: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # in order: (rows, what they measure, or None while the second process has them)
        self.under_way: deque[tuple[Sequence[Example], Measured | None]] = deque()

    def measure(self, examples: Sequence[Example]) -> None:
        """Have a block measured, here or there."""
        self.blocks += 1
        if self.blocks == self.after + 1 and cores() > 1:
            self._start()
        alive = self.process is not None and self.process.poll() is None
        there = self._sent(examples) if alive else False
        self.under_way.append((examples, None if there else measure_block(examples)))

    def done(self, wait: bool = False) -> list[Measured]:
        """Return the blocks that are measured, in order; all of them if asked to wait."""
        found = []
        while self.under_way:
            examples, measured = self.under_way[0]
            if measured is None:
                if not wait and self.answers.empty():
                    break
                measured = self._answer(examples)
            self.under_way.popleft()
            found.append(measured)
        return found

    def close(self) -> None:
        """End the second process."""
        if self.process is not None:
            self.questions.put(None)
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
            self.process = None

    def _start(self) -> None:
        root = str(Path(__file__).parents[2])
        code = f"import sys; sys.path.insert(0, {root!r}); import {__name__} as s; s.serve()"
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with contextlib.suppress(OSError, ValueError):
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the reader, who ends it
            )
            for work, pipe in (
                (self._ask, self.process.stdin),
                (self._listen, self.process.stdout),
            ):
                threading.Thread(target=work, args=(pipe,), daemon=True).start()

    def _ask(self, pipe: BinaryIO) -> None:
        """Send blocks: a pipe holds a hundredth of one, and the reader is not to wait for it."""
        with contextlib.suppress(OSError, ValueError):
            while message := self.questions.get():
                _send(pipe, message)

    def _listen(self, pipe: BinaryIO) -> None:
        """Collect answers as they come, so that neither process waits for the other's pipe."""
        with contextlib.suppress(OSError, ValueError):
            while message := _receive(pipe):
                self.answers.put(message)
        self.answers.put(None)

    def _sent(self, examples: Sequence[Example]) -> bool:
        waiting = sum(measured is None for _, measured in self.under_way)
        size = sum(
            sum(len(turn.content) for turn in each.prompt) + sum(map(len, each.completions))
            for each in examples
        )
        if waiting >= WAITING or size > LARGEST:
            return False
        self.questions.put(_packed(self.kind, examples))
        return True

    def _answer(self, examples: Sequence[Example]) -> Measured:
        """Return the answer on the oldest block; measure it here if the process is gone."""
        message = self.answers.get()
        if message is None:
            self.answers.put(None)  # for the next block
            return measure_block(examples)
        return _unpacked_answer(message)


def serve() -> None:
    """Measure blocks from standard input until it ends; the second process runs this."""
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not print among the answers
    with contextlib.suppress(OSError):
        while message := _receive(source):
            _send(target, _packed_answer(measure_block(_unpacked(message))))


# ---------------------------------------------------------------- messages


def _send(pipe: BinaryIO, message: bytes) -> None:
    pipe.write(len(message).to_bytes(HEADER, "little") + message)
    pipe.flush()


def _receive(pipe: BinaryIO) -> bytes:
    """Read one message; empty if there is no whole one any more."""
    size = int.from_bytes(pipe.read(HEADER), "little")
    message = pipe.read(size)
    return message if len(message) == size else b""


def _packed(kind: str, examples: Sequence[Example]) -> bytes:
    rows = [
        ([(turn.role, turn.content) for turn in each.prompt], each.completions) for each in examples
    ]
    return json.dumps((kind, rows)).encode()


def _unpacked(message: bytes) -> list[Example]:
    kind, rows = json.loads(message)
    made, nowhere = ROW_KINDS[kind], Origin("", 0)
    label: tuple[Any, ...] = (True,) if made is Labelled else ()
    return [
        made(tuple(Turn(*turn) for turn in prompt), *completions, *label, nowhere)
        for prompt, completions in rows
    ]


def _packed_answer(measured: Measured) -> bytes:
    """Pack an answer as a line of JSON and the bytes of the arrays, one behind the other."""
    shapes, raw = {}, []
    for name, array in measured.arrays.items():
        texts = array.dtype == object  # bytes of different lengths
        shapes[name] = (
            ("", [len(each) for each in array]) if texts else (array.dtype.str, array.shape)
        )
        raw.append(b"".join(array) if texts else array.tobytes())
    marks = [[(m.kind, m.side, m.family, m.shown) for m in row] for row in measured.marks]
    head = json.dumps((shapes, measured.wrecks, marks)).encode()
    return b"\n".join((head, b"".join(raw)))


def _unpacked_answer(message: bytes) -> Measured:
    head, _, raw = message.partition(b"\n")
    shapes, wrecks, marks = json.loads(head)
    arrays, at = {}, 0
    for name, (dtype, shape) in shapes.items():
        arrays[name] = array = _array(raw, at, dtype, shape)
        at += array.nbytes if dtype else sum(shape)
    return Measured(
        arrays,
        [[Look(tuple(map(tuple, hits)), *numbers) for hits, *numbers in row] for row in wrecks],
        [[Hit(*mark) for mark in row] for row in marks],
    )


def _array(raw: bytes, at: int, dtype: str, shape: list[int]) -> np.ndarray:
    """Return the array that begins at a byte: of numbers, or of texts with these lengths."""
    if dtype:
        return np.frombuffer(raw, dtype, math.prod(shape), at).reshape(shape)
    out = np.empty(len(shape), object)
    for number, (length, end) in enumerate(zip(shape, accumulate(shape), strict=True)):
        out[number] = raw[at + end - length : at + end]
    return out
