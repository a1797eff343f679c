"""The file judging.json: the cost of judging a run's answers, over all its sessions, and the errors
of rewards that failed.

It is no part of metrics: a judge is not asked again for an answer in its cache, so that a resumed
run does not repeat these numbers. They are not rewound with the updates of a killed session
either: they were paid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial, reduce
from pathlib import Path

from accord.distributed.world import World
from accord.rewards.reward import Weighted
from accord.runs.files import read_json, write_json

NAME = "judging.json"


@dataclass
class JudgingCosts:
    """The account of one session on top of those before."""

    folder: Path | None  # the run's; None writes nothing
    rewards: Mapping[str, Weighted]  # role -> its rewards
    before: dict = field(init=False)
    _written: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.before = read_json(self.folder / NAME, {}) if self.folder is not None else {}

    def write(self, world: World) -> None:
        """Bring the file up to date, where there is anything to record: the first rank writes what
        all of them paid.

        Raises:
          CheckpointError: it cannot be written.
        """
        own = {role: told for role, reward in self.rewards.items() if (told := reward.account())}
        now = reduce(add_sessions, world.gather(own))
        if self.folder is not None and now != self._written:
            world.on_first(partial(write_json, self.folder / NAME, add_sessions(self.before, now)))
            self._written = now


def add_sessions(one: Mapping, other: Mapping) -> dict:
    """Add two accounts: counts are added; of words the first ones are kept."""
    out = dict(one)
    for name, value in other.items():
        if isinstance(value, Mapping):
            out[name] = add_sessions(out.get(name, {}), value)
        elif isinstance(value, int):
            out[name] = out.get(name, 0) + value
        else:
            out.setdefault(name, value)
    return out


def lines(account: Mapping) -> Iterable[str]:
    """Describe judging.json, one reward per line."""
    for role, rewards in account.items():
        for name, told in rewards.items():
            counts = [
                f"{value:,} {what.replace('_', ' ')}"
                for what, value in told.items()
                if isinstance(value, int)
            ]
            words = [f"{how}: {said}" for how, said in told.get("said", {}).items()]
            yield f"{role} {name}: {', '.join(counts)}{'; '.join(words)}"
