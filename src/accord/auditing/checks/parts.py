"""Parts of a file whose labels say the opposite of the rest: a run of rows, some of many files, or
the rows of a source.

Each row says whether something beside its label (a score, a classifier) is against it. If that
holds for nearly all rows of a part and for few of the rest, the part has its sides exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from accord.auditing.scan import Scan
from accord.errors import printable, shorten

FEWEST = 10  # rows of a part
INSIDE, OUTSIDE = 0.7, 0.3  # shares against the label, in the part and in the rest
# What makes no claim to know better must decide nearly every label: a share of lists may be chosen
# more in one source and less in another, and be right in both.
NEARLY_ALL = 0.95
# Log-likelihood ratio beyond the logarithm of the number of parts tried: e^-7 is one in a thousand.
SURE = 7.0


@dataclass(frozen=True)
class Part:
    """A part of a file whose labels look exchanged."""

    says: str  # the place, for a person
    inside: np.ndarray  # [n] bool, of the rows that were looked at
    share_in: float  # share against the label, in the part
    share_out: float  # and outside of it

    @property
    def decides(self) -> bool:
        """Tell whether nearly every label on both sides of the border goes with it."""
        return self.share_in >= NEARLY_ALL and self.share_out <= 1 - NEARLY_ALL

    def as_dict(self) -> dict:
        return {
            "where": self.says,
            "rows": int(self.inside.sum()),
            "share_in": self.share_in,
            "share_out": self.share_out,
        }


def turned_part(scan: Scan, rows: np.ndarray, against: np.ndarray) -> Part | None:
    """Find the part of these rows [n] that is against its labels [n] bool, where the rest is not.

    Several parts may qualify: the most likely one is returned.
    """
    found = [(ratio, part) for ratio, part in _candidates(scan, rows, against) if ratio > SURE]
    return max(found, key=lambda each: each[0])[1] if found else None


def _candidates(scan: Scan, rows: np.ndarray, against: np.ndarray) -> Iterator[tuple[float, Part]]:
    """Yield parts with the log-likelihood ratio that is left after the number of parts tried."""
    tried = 2 * np.log(max(2, len(rows)))  # n² / 2 runs
    for inside in _runs(against):
        yield from _judged(against, inside, tried, run_places(scan, rows, inside))
    for name, codes, names in groupings(scan):
        codes = codes[rows]
        known = codes >= 0
        if (
            not known.any()
            or (of_value := np.bincount(codes[known], minlength=len(names))).sum() < 2 * FEWEST
        ):
            continue
        shares = np.bincount(codes[known], against[known], len(names)) / np.maximum(1, of_value)
        hit = np.flatnonzero((shares >= INSIDE) & (of_value >= FEWEST))
        if len(hit):
            shown = ", ".join(repr(shorten(printable(names[at]), 60)) for at in hit[:3])
            more = f" and {len(hit) - 3} more" if len(hit) > 3 else ""
            says = f"the rows whose {name} is {shown}{more}"
            # any of 2^values sets could have been the part
            yield from _judged(against, np.isin(codes, hit), np.log(2) * len(names) + 2, says)


def groupings(scan: Scan) -> Iterator[tuple[str, np.ndarray, list[str]]]:
    """Yield (name, code of each row [N], names of the codes) of files and of categories."""
    if len(scan.files) > 1:
        starts = sorted(scan.files)
        codes = np.searchsorted(starts, scan.lines, side="left") - 1
        yield "file", codes, [scan.files[start] for start in starts]
    for name, (codes, names) in scan.columns.items():
        if len(names) <= 50:
            yield f"{name!r}", codes, names


def _runs(against: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the run with the largest excess of rows against the label, and what is left of the
    largest run for it.
    """
    place = np.arange(len(against))
    start, end = heaviest(against - 0.5)
    yield (place >= start) & (place < end)
    start, end = heaviest(0.5 - against)
    yield (place < start) | (place >= end)


def heaviest(weights: np.ndarray) -> tuple[int, int]:
    """Return the run [start, end) with the largest sum."""
    total = np.concatenate([[0.0], np.cumsum(weights)])
    lowest = np.minimum.accumulate(total)
    end = int(np.argmax(total - lowest))
    return int(np.argmin(total[: end + 1])), end


def _judged(
    against: np.ndarray, inside: np.ndarray, tried: float, says: str
) -> Iterator[tuple[float, Part]]:
    n_in, n_out = int(inside.sum()), int((~inside).sum())
    if n_in < FEWEST or n_out < FEWEST:
        return
    share_in, share_out = float(against[inside].mean()), float(against[~inside].mean())
    if share_in < INSIDE or share_out > OUTSIDE:
        return
    whole = float(against.mean())
    ratio = n_in * divergence(share_in, whole) + n_out * divergence(share_out, whole)
    yield ratio - tried, Part(says, inside, share_in, share_out)


def divergence(p: float, q: float) -> float:
    """Compute the Kullback-Leibler divergence of two shares, in nats."""
    terms = ((p, q), (1 - p, 1 - q))
    return float(sum(a * np.log(a / max(b, 1e-12)) for a, b in terms if a > 0))


def run_places(scan: Scan, rows: np.ndarray, inside: np.ndarray) -> str:
    """Name the runs of a part by their first and last row's place."""
    edges = np.diff(np.concatenate([[0], inside.astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    runs = [
        f"{scan.at(int(rows[start]))} to {scan.at(int(rows[end - 1]))}"
        for start, end in zip(starts, ends, strict=True)
    ]
    return "the rows from " + " and from ".join(runs)
