"""The sampled rows as they read without the causes that have been named.

n rows of the sample · S sides · F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from accord.auditing.causes import Cause
from accord.auditing.measure import COLUMN, counts
from accord.auditing.scan import Scan

LANGUAGE = COLUMN["in the prompt's language"]


@dataclass(frozen=True)
class Cleansed:
    """Rows with their texts and features, without the causes."""

    rows: np.ndarray  # [n] rows of the scan
    texts: list[tuple[str, ...]]  # n × S
    features: np.ndarray  # [n, S, F]
    groups: np.ndarray  # [n] prompt cluster


def left_out(scan: Scan, causes: Sequence[Cause]) -> np.ndarray:
    """Return the rows that no change of their text would mend, [N] bool."""
    out = np.zeros(len(scan), bool)
    for cause in causes:
        if cause.without is None:
            out |= cause.rows
    return out


def without_all(causes: Sequence[Cause]) -> Callable[[str], str]:
    """Return a function that takes every cause out of a text."""
    steps = [cause.without for cause in causes if cause.without is not None]

    def clean(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    return clean


def cleanse(scan: Scan, causes: Sequence[Cause] = ()) -> Cleansed:
    """Take the causes out of the sampled texts, and measure the features again."""
    dropped = left_out(scan, causes)
    kept = [each for each in scan.sample if not dropped[each.row]]
    rows = np.array([each.row for each in kept], np.int64)
    if all(cause.without is None for cause in causes):
        texts = [each.example.completions for each in kept]
        return Cleansed(rows, texts, scan.features[rows], scan.groups[rows])
    clean = without_all(causes)
    features = scan.features[rows]
    texts = []
    for at, each in enumerate(kept):
        old = each.example.completions
        new = tuple(clean(text) for text in old)
        texts.append(new)
        for side, (one, two) in enumerate(zip(old, new, strict=True)):
            if one != two:
                features[at, side, :LANGUAGE] = counts(two)
    return Cleansed(rows, texts, features, scan.groups[rows])
