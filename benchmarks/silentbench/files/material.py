"""The rows that a fault is planted in, and the record of what was planted.

A `Material` is a draw of a base set: training rows, perhaps held-out rows. A kind of fault changes
them in place through `text`, `put` and `change`, and returns what it planted.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

SHARES = (1.0, 0.3, 0.1, 0.03)
FEWEST = 4  # touched rows under which no auditor could see a thing
ENOUGH = 0.6  # of the asked rows must have been changed, or the instance says another share

Row = dict
Change = Callable[[str], str]


class Inert(Exception):
    """The drawn fault changes too little in these rows: a defect of the draw, counted apart."""


@dataclass
class Material:
    """One draw of a base set. `rng` is the fault's own source of chance."""

    base: str
    labelled: bool
    train: list[Row]
    held: list[Row] | None
    rng: random.Random
    share: float = 1.0
    others: dict[str, Callable[[], list[Row]]] = field(default_factory=dict)  # other sets' rows
    notes: dict = field(default_factory=dict)  # what `Kind.prepare` drew, for `Kind.plant`

    def copied(self, rng: random.Random, share: float) -> Material:
        """Copy the rows, so that the next fault finds them as they were."""
        train, held = copy.deepcopy(self.train), copy.deepcopy(self.held)
        return Material(
            self.base, self.labelled, train, held, rng, share, self.others, dict(self.notes)
        )

    @property
    def held_rows(self) -> list[Row]:
        assert self.held is not None, "a kind that needs a held-out file says held=True"
        return self.held


@dataclass
class Planted:
    """What was planted: the rows that it touched, its parameters, what a finding must show."""

    touched: list[int]  # rows of the training file that differ from the base
    drawn: str  # parameters, for the table
    shows: Sequence[str] = ()  # one of these must stand in the finding, where the rule asks for it
    added: list[int] = field(default_factory=list)  # rows that the base lacks, in the new file
    touched_held: list[int] = field(default_factory=list)
    # checks that name this draw beside those of its kind: an added "!" is "exclamations"
    extra: tuple[str, ...] = ()
    moved: bool = False  # the file as a whole was put together anew: rows are not compared


@dataclass(frozen=True)
class Kind:
    """One kind of fault."""

    name: str
    item: str  # of the list
    plant: Callable[[Material], Planted]
    labelled: bool = True  # can be planted in labelled rows as well as in pairs
    pairs: bool = True
    held: bool = False  # needs a held-out file
    shares: tuple[float, ...] = SHARES
    prepare: Callable[[Material], None] | None = None  # done to the untouched base as well


def text(row: Row, side: str) -> str:
    """Return the text of a side: an answer, or the last user turn of the prompt."""
    value = row[side]
    return value if isinstance(value, str) else value[-1]["content"]


def put(row: Row, side: str, new: str) -> None:
    """Replace the text of a side."""
    if isinstance(row[side], str):
        row[side] = new
    else:
        row[side] = [*row[side][:-1], {**row[side][-1], "content": new}]


def prompt_key(row: Row) -> str:
    """Return the whole prompt as one string: rows that share it are of one prompt."""
    value = row["prompt"]
    return value if isinstance(value, str) else "\n".join(turn["content"] for turn in value)


def answer_sides(material: Material) -> tuple[str, ...]:
    return ("completion",) if material.labelled else ("chosen", "rejected")


def fields(material: Material, side: str) -> tuple[str, ...]:
    """Return the columns that hold a side: "chosen", "rejected", "both" or "prompt"."""
    if side == "prompt":
        return ("prompt",)
    if material.labelled:
        return ("completion",)
    return ("chosen", "rejected") if side == "both" else (side,)


def of_side(material: Material, side: str) -> list[int]:
    """List the rows that have the side: a labelled row has one answer, desirable or not."""
    if not material.labelled or side in ("both", "prompt"):
        return list(range(len(material.train)))
    wanted = side == "chosen"
    return [i for i, row in enumerate(material.train) if bool(row["label"]) is wanted]


def wanted(material: Material, rows: int) -> int:
    return max(FEWEST, round(material.share * rows))


def change(
    material: Material, side: str, new: Change, where: Sequence[int] | None = None
) -> list[int]:
    """Change the texts of one side in a share of its rows, and return these rows.

    A row counts only if every column of the side changed: capitals do nothing to a text of digits.

    Raises:
      Inert: fewer than ENOUGH of the share could be changed.
    """
    rows = list(of_side(material, side) if where is None else where)
    count = min(len(rows), wanted(material, len(rows)))
    material.rng.shuffle(rows)
    touched: list[int] = []
    for i in rows:
        if len(touched) == count:
            break
        row = material.train[i]
        texts = {name: new(text(row, name)) for name in fields(material, side)}
        if all(each != text(row, name) for name, each in texts.items()):
            for name, each in texts.items():
                put(row, name, each)
            touched.append(i)
    if len(touched) < max(FEWEST, ENOUGH * count):
        raise Inert(f"{side}: {len(touched)} of {count} rows could be changed")
    return sorted(touched)


def stretch(material: Material, rows: int) -> list[int]:
    """Draw a contiguous part of a file, by the share: its head, its tail or a window."""
    length = min(rows, wanted(material, rows))
    start = material.rng.choice((0, rows - length, material.rng.randint(0, rows - length)))
    return list(range(start, start + length))


def a_side(material: Material, *sides: str) -> str:
    return material.rng.choice(sides or ("chosen", "rejected"))
