"""Ids that stand twice in a file, or in two files.

An id may name a row or a prompt. Either way, two rows with one id have one prompt. Where they do
not, rows were mixed up or overwritten; where an id stands in both files, its row was split from
itself. A numbering that begins anew in each file says nothing.
"""

from __future__ import annotations

import numpy as np

from accord.auditing.checks.integrity import SHOWN, mixed, places
from accord.auditing.findings import AuditFinding, Place, grade, out_of
from accord.auditing.scan import Scan
from accord.auditing.tables.ids import NONE
from accord.auditing.thresholds import limit

OTHERS = ("user", "worker", "annotator", "rater", "author", "model", "session", "label", "source")
FEWEST = 20  # rows with an id, under which nothing is said of the column
DENSE = 0.9  # share of the numbers from the least to the greatest that a running number takes


def id_findings(scan: Scan) -> list[AuditFinding]:
    """Find ids that name rows with different prompts."""
    found = [_within(scan, name) for name in scan.tables.ids.columns]
    return [finding for finding in found if finding is not None]


def _within(scan: Scan, name: str) -> AuditFinding | None:
    values, numbers = scan.tables.ids.arrays(name)
    if not _names_rows(scan, name, values):
        return None
    rows = _conflicts(values, _content(scan))
    share = len(rows) / len(scan)
    verdict = grade(share, limit("ids"))
    if len(rows) and _begins_anew(values, numbers):
        verdict = "note"  # two files, each with its own numbering, were put together
    return AuditFinding(
        "integrity.ids",
        verdict,
        f"{out_of(len(rows), len(scan), scan.noun)} share their {name} with a row of other content",
        {"column": name, "count": len(rows), "share": share},
        "find out which row the id belongs to: a join by it takes the wrong one"
        if len(rows)
        else "",
        title="Ids that stand twice",
        why="Scores, votes or splits that were joined by such an id belong to another row.",
        harm=0.5 * share if verdict == "warning" else 0.0,
        places=places(
            scan, rows[np.argsort(values[rows], kind="stable")], f"its {name} names another row too"
        ),
    )


def _content(scan: Scan) -> np.ndarray:
    """Return what an id names, [N] uint64: the prompt."""
    return scan.questions


def _names_rows(scan: Scan, name: str, values: np.ndarray) -> bool:
    """Tell whether a column names rows or prompts: nearly each has its own value, or rows of one
    value mostly have one prompt.
    """
    given = values > 0
    if given.sum() < max(FEWEST, 0.5 * len(scan)) or any(word in name.lower() for word in OTHERS):
        return False
    content = _content(scan)[given]
    contents = len(np.unique(content))
    distinct = len(np.unique(values[given]))
    # A category has few values; a running number of a conversation or a passage has fewer than
    # there are prompts. An id of rows or prompts has as many, but for the faults.
    return distinct >= limit("ids_distinct") * contents


def _conflicts(values: np.ndarray, content: np.ndarray) -> np.ndarray:
    """List the rows whose id names rows with different content."""
    given = np.flatnonzero(values > 0)
    both = np.unique(np.stack([values[given], content[given]], 1), axis=0)
    ids, counts = np.unique(both[:, 0], return_counts=True)
    return given[np.isin(values[given], ids[counts > 1])]


def _begins_anew(values: np.ndarray, numbers: np.ndarray) -> bool:
    """Tell whether a running number begins again within the file, in the order of its rows."""
    known = numbers[(values > 0) & (numbers != NONE)]
    if len(known) < 0.95 * (values > 0).sum():
        return False
    steps = np.diff(known)
    return bool((steps == 1).mean() > DENSE) if len(steps) else False


def shared_ids(scan: Scan, held_out: Scan) -> list[AuditFinding]:
    """Find ids that stand in both files."""
    found = []
    for name in scan.tables.ids.columns:
        if name not in held_out.tables.ids.columns:
            continue
        ours, our_numbers = scan.tables.ids.arrays(name)
        theirs, their_numbers = held_out.tables.ids.arrays(name)
        if not (_names_rows(scan, name, ours) and _names_rows(held_out, name, theirs)):
            continue
        hit = np.isin(theirs, ours[ours > 0])
        anew = _same_start(our_numbers[ours > 0], their_numbers[theirs > 0])
        if anew and not _same_content(scan, held_out, ours, theirs):
            continue
        found.append(_shared(held_out, name, np.flatnonzero(hit)))
    return found


def _same_start(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Tell whether both files count their rows from the same number on."""
    ends = []
    for numbers in (ours, theirs):
        if (numbers == NONE).any():
            return False
        low, high = int(numbers.min()), int(numbers.max())
        if len(np.unique(numbers)) < DENSE * (high - low + 1):
            return False
        ends.append(low)
    return abs(ends[0] - ends[1]) <= 1


def _same_content(scan: Scan, held_out: Scan, ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Tell whether rows with one number mostly have one prompt."""
    prompts = [mixed(v, _content(each)) for v, each in ((ours, scan), (theirs, held_out))]
    both = np.isin(theirs, ours[ours > 0])
    return bool(both.any() and np.isin(prompts[1], prompts[0])[both].mean() > 0.5)


def _shared(held_out: Scan, name: str, rows: np.ndarray) -> AuditFinding:
    share = len(rows) / len(held_out)
    return AuditFinding(
        "leakage.ids",
        grade(share, limit("leak")),
        f"{out_of(len(rows), len(held_out), 'held-out rows')} have a {name} that is trained on",
        {"column": name, "count": len(rows), "share": share},
        "take these rows out of one of the files" if len(rows) else "",
        title="Held-out leakage, ids",
        why="Such rows are in both files, even where their texts were changed.",
        harm=share,
        places=tuple(
            Place(held_out.at(int(row)), f"its {name} is trained on") for row in rows[:SHOWN]
        ),
    )
