"""The budget of micro-batches, and what happens where memory runs out all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from accord.compat import is_out_of_memory
from accord.engine.release import release
from accord.types import AccordError, Tree

T = TypeVar("T")


class RowTooLarge(AccordError):
    """Memory runs out with one row at a time; `tokens` is the longest row."""

    def __init__(self, tokens: int):
        super().__init__(f"out of memory with one row ({tokens:,} tokens) at a time")
        self.tokens = tokens


@dataclass
class MicroBudget:
    """Unique tokens that are computed at once: the one place that holds them.

    All that computes rows in parts shares this object: the gradient, the measuring of answers, the
    pass of the reference. Once it is halved, it is halved for all of them.
    """

    tokens: int
    # called with the former budget, the new one, and what is done again, in words
    on_shrink: Callable[[int, int, str], None] = lambda before, now, again: None

    def shrink(self, trees: Iterable[Tree], again: str) -> None:
        """Halve it, for rows of these lengths.

        Args:
          again: what is done once more, in words.

        Raises:
          RowTooLarge: it is one row already.
        """
        release()
        lengths = [tree.tokens for tree in trees]
        before = min(self.tokens, sum(lengths))  # a budget over all of it limits nothing
        if before <= max(lengths):
            raise RowTooLarge(max(lengths))
        self.tokens = max(before // 2, max(lengths))
        self.on_shrink(before, self.tokens, again)


def within_memory(work: Callable[[], T], shrink: Callable[[], None], *, alone: bool = True) -> T:
    """Do some work; where memory runs out, make it smaller and do it again from its start.

    Args:
      shrink: makes smaller what is computed at once; raises where that is not possible.
      alone: this process trains alone. Other ranks would have gone on: then the error stands.
    """
    while True:
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not alone:
                raise
        shrink()  # not in the handler, where the traceback still holds every activation
