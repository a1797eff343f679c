"""Marks of other models, hand-overs and repeated texts: what is kept of every row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from accord.data.foreign_marks import KINDS, Hit, find_marks
from accord.errors import printable, shorten
from accord.types import Example, Labelled

SHOWN = 3  # places of each kind and side
BITS = {kind: 1 << bit for bit, kind in enumerate(KINDS)}
COLUMN = {"prompt": 0, "chosen": 1, "rejected": 2, "completion": 1}


@dataclass
class MarkTable:
    """The marks of the rows added so far."""

    flags: list[tuple[int, ...]] = field(default_factory=list)  # of each row: prompt, then answers
    known: dict[tuple[int, ...], tuple[int, ...]] = field(default_factory=dict)
    good: list[bool] = field(default_factory=list)  # labelled rows: is the answer desirable
    labelled: bool = False
    families: dict[str, Counter] = field(default_factory=dict)  # kind -> family -> rows
    # (kind, column) -> (row, text) of the first
    first: dict[tuple[str, int], list[tuple[int, str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, examples: Iterable[Example]) -> MarkTable:
        table = cls()
        for example in examples:
            table.add(example, find_marks(example))
        return table

    def add(self, example: Example, hits: Iterable[Hit]) -> None:
        """Count one row and what was found in it."""
        flags = [0] * (1 + len(example.completions))
        row = len(self.flags)
        for hit in hits:
            column = COLUMN[hit.side]
            flags[column] |= BITS[hit.kind]
            places = self.first.setdefault((hit.kind, column), [])
            if len(places) < SHOWN:
                places.append((row, shorten(printable(hit.shown.replace("\n", " ⏎ ")), 80)))
            if hit.family:
                self.families.setdefault(hit.kind, Counter())[hit.family] += 1
        same = tuple(flags)
        self.flags.append(self.known.setdefault(same, same))  # one tuple for nearly all rows
        if isinstance(example, Labelled):
            self.labelled = True
            self.good.append(example.desirable)

    def __len__(self) -> int:
        return len(self.flags)

    @property
    def array(self) -> np.ndarray:
        """Return the flags, [N, 1 + S] uint8; see BITS."""
        return np.array(self.flags, np.uint8)

    @property
    def marked(self) -> np.ndarray:
        """Mark rows with any of the faults, [N] bool."""
        return (self.array > 0).any(axis=1).reshape(-1)

    def sides(self, kind: str) -> dict[str, tuple[int, int]]:
        """Return (texts with this fault, texts) of each side."""
        hit = (self.array & BITS[kind]) > 0
        sides = {"prompts": hit[:, 0]}
        if hit.shape[1] == 3:
            sides |= {"chosen": hit[:, 1], "rejected": hit[:, 2]}
        elif self.labelled:
            good = np.array(self.good, bool)
            sides |= {"desirable": hit[good, 1], "undesirable": hit[~good, 1]}
        else:
            sides["answers"] = hit[:, 1]
        return {name: (int(rows.sum()), len(rows)) for name, rows in sides.items()}
