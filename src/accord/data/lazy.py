"""Sequences whose items are made when they are asked for, so that a million rows are no million
objects.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TypeVar, overload

Item = TypeVar("Item")


class Lazy(Sequence[Item]):
    """A sequence of which each item is made by its place; a slice is a list."""

    @abstractmethod
    def made(self, at: int) -> Item:
        """Make the item at a place, from 0 to one under the length."""

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self.made(at) for at in range(*index.indices(len(self)))]
        at = int(index) + (len(self) if index < 0 else 0)
        if not 0 <= at < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return self.made(at)


class Places:
    """The places of parts that lie one behind the other."""

    def __init__(self, lengths: Iterable[int]) -> None:
        self.starts = list(accumulate(lengths, initial=0))

    @property
    def end(self) -> int:
        return self.starts[-1]

    def part(self, at: int) -> tuple[int, int]:
        """Return the number of the part that a place lies in, and the place within it."""
        number = bisect_right(self.starts, at) - 1
        return number, at - self.starts[number]
