"""The time at which each batch of answers is drawn: pure functions of the number of an update.

    updates   0 … n-1    n … 2n-1   2n … 3n-1       n = rollouts.num_iterations
    trains on batch 0    batch 1    batch 2
    ahead 0   draws 0    draws 1    draws 2         before its first update
    ahead 1   draws 0 1  draws 2    draws 3

With `ahead` a batch is drawn by the weights that the batch `ahead` before it begins with, and the
first ones by those that the run begins with. So the weights that learn from an answer have had at
most (ahead + 1) n - 1 updates more than those that drew it.
"""

from __future__ import annotations

from dataclasses import dataclass

from accord.errors import plural
from accord.types import Refused


@dataclass(frozen=True)
class Schedule:
    """The batch that an update trains on, and those that are drawn before it."""

    ahead: int
    num_iterations: int

    @property
    def max_staleness(self) -> int:
        """Return the most updates between the weights that drew an answer and those that learn."""
        return (self.ahead + 1) * self.num_iterations - 1

    def batch_of(self, update: int) -> int:
        return update // self.num_iterations

    def due(self, update: int, batches: int | None) -> range:
        """Return the batches that are drawn before an update, by the weights as they stand.

        Args:
          batches: how many the run has; None if nobody knows.
        """
        number, late = divmod(update, self.num_iterations)
        if late:
            return range(0)
        first = 0 if number == 0 else number + self.ahead
        last = number + self.ahead + 1
        return range(first, last if batches is None else min(last, batches))

    def require_young(self, number: int, update: int, drawn: int) -> None:
        """Check that a batch was drawn neither too long before an update nor after it.

        Args:
          drawn: updates that the weights had had which drew it.

        Raises:
          Refused: it was; its file is another run's.
        """
        if 0 <= update - drawn <= self.max_staleness:
            return
        raise Refused(
            f"Batch {number} of answers was drawn after {plural(drawn, 'update')}, and update"
            f" {update} is to learn from it: with rollouts.ahead = {self.ahead} and"
            f" rollouts.num_iterations = {self.num_iterations} there are at most"
            f" {self.max_staleness} in between. Its file in rollouts/ is another run's: delete it,"
            " and resume."
        )
