"""What a fault is, and what a run said of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.silentbench.world import World

Spoil = Callable[[World], None]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong without an error."""

    number: str  # in the project's list of silent failures, or "new"
    name: str
    cause: str  # a pattern of the cause: a message that does not match it names something else
    accord: Spoil
    trl: Spoil | None = None  # the same in TRL; None where TRL has no such path

    def named_in(self, messages: list[str]) -> str | None:
        """The first message that names the cause."""
        return next((said for said in messages if re.search(self.cause, said, re.IGNORECASE)), None)


def both(number: str, name: str, cause: str, spoil: Spoil, trl: Spoil | None = None) -> Fault:
    """A fault that lies in files: the same for both; `trl` where TRL must be asked for it in
    another way.
    """
    return Fault(number, name, cause, spoil, trl or spoil)


@dataclass(frozen=True)
class Outcome:
    """What a run said: its error and its warnings, and where."""

    messages: list[str]
    where: list[str]  # beside each message: config, load, data, step 0, running, save
    steps: int  # updates made
    trace: str = ""  # a crash that is no error in words: a bug of ours, or of TRL
