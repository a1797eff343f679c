"""The budget of micro-batches, and the reaction to memory that runs out nevertheless."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from accord.compat import is_out_of_memory
from accord.engine.release import release
from accord.types import Refused, Tree

T = TypeVar("T")


class RowTooLarge(Refused):
    """Memory runs out even with one row at a time; `tokens` is the longest row."""

    def __init__(self, says: str, tokens: int = 0):
        super().__init__(says)
        self.tokens = tokens


@dataclass
class MicroBudget:
    """The number of unique tokens computed at once. No other object holds it.

    Everything that computes rows in parts shares this object: the gradient, the measurement of
    answers, the reference pass. Once it is halved, it is halved for all of them.
    """

    tokens: int
    # called with the old budget, the new one, and the work that is repeated, in words
    on_shrink: Callable[[int, int, str], None] = lambda before, now, again: None

    def shrink(self, trees: Iterable[Tree], again: str) -> None:
        """Halve the budget, for rows of these lengths.

        Args:
          again: the work that is repeated, in words.

        Raises:
          RowTooLarge: the budget is one row already.
        """
        release()
        lengths = [tree.tokens for tree in trees]
        before = min(self.tokens, sum(lengths))  # a budget above the sum limits nothing
        if before <= max(lengths):
            raise RowTooLarge(
                f"Out of memory with one row ({max(lengths):,} tokens) at a time.\nFree memory, or"
                " compute layers again: --set train.recompute=always",
                max(lengths),
            )
        self.tokens = max(before // 2, max(lengths))
        self.on_shrink(before, self.tokens, again)


def within_memory(work: Callable[[], T], shrink: Callable[[], None], *, alone: bool = True) -> T:
    """Do some work; if memory runs out, make it smaller and start it again.

    Args:
      shrink: makes the part computed at once smaller; raises if that is impossible.
      alone: this process trains alone. Other ranks would have gone on, so then the error is raised.
    """
    while True:
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not alone:
                raise
        shrink()  # not in the handler, where the traceback still holds every activation
