"""Which tests execute which lines of some files, and how long each takes: so that a mutant meets
the tests that can see it.

A tracer set around each test follows frames of those files alone. What is computed once for many
tests (an import, a session's fixture) is put down to the first of them, and what an import executes
to no test.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

IMPORT = ""  # in place of a test's name


class Lines:
    """A pytest plugin."""

    def __init__(self, source: Path):
        self.source = str(source)
        self.test = IMPORT
        # file -> line -> tests
        self.executed: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.seconds: dict[str, float] = {}

    def pytest_sessionstart(self) -> None:
        sys.settrace(self._enter)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.test, began = item.nodeid, time.process_time()
        sys.settrace(self._enter)  # a test may have unset it
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.process_time() - began
            self.test = IMPORT

    def _enter(self, frame: FrameType, event: str, argument: object):
        file = frame.f_code.co_filename
        if not file.startswith(self.source):
            return None
        lines = self.executed[file[len(self.source) + 1 :]]

        def line(frame: FrameType, event: str, argument: object):
            lines[frame.f_lineno].add(self.test)
            return line

        return line(frame, event, argument)

    def as_dict(self) -> dict:
        executed = {
            file: {str(line): sorted(tests) for line, tests in lines.items()}
            for file, lines in self.executed.items()
        }
        return {"executed": executed, "seconds": self.seconds}


def who_sees(known: dict, file: str, first: int, last: int) -> list[str]:
    """The tests that execute one of these lines, the quickest first. All of them where an import
    does, since a default may be read anywhere, and where nothing here executes the file, since a
    test may start a process that does.
    """
    lines = known["executed"].get(file, {})
    chosen = {test for line in range(first, last + 1) for test in lines.get(str(line), ())}
    if IMPORT in chosen or not lines:
        chosen = set(known["seconds"])
    return sorted(chosen, key=lambda test: known["seconds"][test])
