"""Work in threads that the end of the process does not wait for.

The pools of `concurrent.futures` are joined when the interpreter ends: a run that stops while a
request is under way would stand there until that request times out.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any


class Background:
    """A pool of at most `workers` threads that do what they are given, in its order."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._threads: list[Thread] = []
        self._waiting: SimpleQueue[tuple[Future, Callable, tuple] | None] = SimpleQueue()

    def submit(self, work: Callable, *arguments: Any) -> Future:
        """Have a function called, and return the future of what it returns."""
        future: Future = Future()
        self._waiting.put((future, work, arguments))
        if len(self._threads) < self.workers:
            self._threads.append(Thread(target=self._serve, daemon=True))
            self._threads[-1].start()
        return future

    def close(self) -> None:
        """End each thread after what it does now; what was not begun is left."""
        while not self._waiting.empty():
            if (item := self._waiting.get()) is not None:
                item[0].cancel()
        for _ in self._threads:
            self._waiting.put(None)

    def _serve(self) -> None:
        while (item := self._waiting.get()) is not None:
            future, work, arguments = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work(*arguments))
            except BaseException as error:  # whoever asks for the result gets it
                future.set_exception(error)
            del item, future, work, arguments  # a thread that waits keeps no answer
