"""The gallery: runs made to fail, each in its own way, and healthy ones. What each must raise, and
what it may.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from accord.forward.reference import Still
from accord.training import run as running
from accord.training import state
from accord.types import Logps
from accord.verify.invariants import RecordChecks

RATE = 2e-3  # a learning rate that is right for the tiny model
Rows = list[dict]


@dataclass(frozen=True)
class Case:
    """One way to fail."""

    name: str
    expected: frozenset[str]  # one of these must be raised; none for a healthy run
    rows: Callable[[Rows, random.Random], Rows] = lambda rows, rng: rows
    settings: dict = field(default_factory=dict)  # of accord.train, over the defaults
    also: frozenset[str] = frozenset()  # true of such a run as well
    count: int = 768  # training rows
    held_out_too: bool = False  # whether held-out rows are made in the same way
    wrong_reference: bool = False
    unwatched: bool = False  # without the invariants that would refuse it, as sharded runs are
    seeds: int = 4


def shuffled(rows: Rows, rng: random.Random) -> Rows:
    """Each label drawn by a coin."""
    return [
        row if rng.random() < 0.5 else {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
        for row in rows
    ]


def longer_wins(rows: Rows, rng: random.Random) -> Rows:
    """The longer answer is always the chosen one."""
    pairs = [(row, sorted((row["chosen"], row["rejected"]), key=len)) for row in rows]
    return [
        {**row, "chosen": long, "rejected": short}
        for row, (short, long) in pairs
        if len(long) > len(short)
    ]


def nearly_the_same(rows: Rows, rng: random.Random) -> Rows:
    """The rejected answer is the chosen one with its words in the middle swapped."""
    out = []
    for row in rows:
        words = row["chosen"].split()
        if len(words) >= 4:
            i = len(words) // 2
            out.append(
                {
                    **row,
                    "rejected": " ".join(
                        [*words[: i - 1], words[i], words[i - 1], *words[i + 1 :]]
                    ),
                }
            )
    return [row for row in out if row["chosen"] != row["rejected"]]


def mostly_equal(rows: Rows, rng: random.Random) -> Rows:
    """Chosen = rejected on seven rows in ten."""
    return [{**row, "rejected": row["chosen"]} if rng.random() < 0.7 else row for row in rows]


def one_in_fifty(rows: Rows, rng: random.Random) -> Rows:
    """Labels, one good for fifty bad."""
    good = [
        {"prompt": row["prompt"], "completion": row["chosen"], "label": True}
        for row in rows[: len(rows) // 50]
    ]
    return good + [
        {"prompt": row["prompt"], "completion": row["rejected"], "label": False} for row in rows
    ]


LEARNED_BY_HEART = frozenset({"held-out-turned", "memorised", "nothing-generalises"})

CASES = (
    Case(
        "learning rate 100 × too high",
        frozenset({"rate-too-high"}),
        settings={"learning_rate": 100 * RATE},
        also=frozenset({"gradient-spike"}),
    ),
    Case(
        "beta .001", frozenset({"beta-too-low"}), settings={"beta": 0.001, "allow": ("tiny_beta",)}
    ),
    Case(
        "100 pairs, 20 epochs",
        LEARNED_BY_HEART,
        settings={"epochs": 20},
        count=100,
        also=frozenset({"chosen-falling"}),
    ),
    Case("shuffled labels", frozenset({"accuracy-stuck", "nothing-generalises"}), shuffled),
    Case("chosen = rejected for most", frozenset({"refused: data.ledger"}), mostly_equal),
    Case(
        "length alone decides",
        frozenset({"length-only", "length-drift"}),
        longer_wins,
        held_out_too=True,
    ),
    Case(
        "nearly identical pairs",
        frozenset({"chosen-falling"}),
        nearly_the_same,
        settings={"learning_rate": 2 * RATE, "epochs": 2},
        also=LEARNED_BY_HEART,
        held_out_too=True,
    ),
    Case(
        "kto, 1 good label for 50 bad",
        frozenset({"z0-clamped"}),
        one_in_fifty,
        settings={"method": "kto"},
    ),
    Case("wrong reference", frozenset({"refused: running.first"}), wrong_reference=True, seeds=2),
    Case(
        "wrong reference, unwatched",
        frozenset({"wrong-reference"}),
        wrong_reference=True,
        unwatched=True,
        seeds=2,
    ),
    Case("healthy", frozenset(), seeds=8),
)


class Misaligned(Still):
    """A reference whose log-probs belong to the row before: what a stale cache is."""

    name = "misaligned"

    def __init__(self, right):
        self.right = right

    def logps(self, trees) -> Logps:
        known = self.right.logps(trees)
        return Logps(known.sum.roll(2), known.count)


@contextmanager
def no_invariants():
    """Inside, what must hold while training is not looked at: red flags alone are left."""
    watch, state.choose_checks = state.choose_checks, lambda ready, step: RecordChecks()
    try:
        yield
    finally:
        state.choose_checks = watch


class misaligned_reference:
    """Inside, runs train against a misaligned reference: put in behind the proofs of step 0, which
    would refuse it.
    """

    def __enter__(self):
        self.prepare = running.prepare

        def prepare(*args, **keywords):
            ready = self.prepare(*args, **keywords)
            wrong = replace(ready.learner, reference=Misaligned(ready.learner.reference))
            return replace(ready, learner=wrong)

        running.prepare = prepare

    def __exit__(self, *_):
        running.prepare = self.prepare
