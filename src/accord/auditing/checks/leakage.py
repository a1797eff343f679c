"""Overlap of training and held-out file: exact and near prompts, whole rows, and comparisons with
the opposite verdict.
"""

from __future__ import annotations

import numpy as np

from accord.auditing.checks.integrity import SHOWN, mixed
from accord.auditing.checks.shortcuts import as_dict
from accord.auditing.findings import AuditFinding, Place, grade, out_of, percent
from accord.auditing.prompts import near_prompts
from accord.auditing.scan import Scan
from accord.auditing.thresholds import limit
from accord.evaluate.intervals import Estimate, clopper_pearson


def leakage(scan: Scan, held_out: Scan) -> list[AuditFinding]:
    """Check the held-out file against the training file."""
    exact = np.isin(held_out.questions, scan.questions)
    near = near_leaks(scan, held_out) & ~exact
    found = [
        _finding("exact", held_out, exact, "have a prompt that is trained on"),
        _finding("near", held_out, near, "have a prompt that is nearly one that is trained on"),
    ]
    if scan.paired and held_out.paired and (reversed_ := _reversed(scan, held_out)):
        found.append(reversed_)
    return found


def near_leaks(scan: Scan, held_out: Scan) -> np.ndarray:
    """Mark held-out rows whose prompt falls into one cluster with a training prompt, [M] bool."""
    keys = np.concatenate([scan.questions, held_out.questions])
    signs = np.concatenate([scan.prompt_signs, held_out.prompt_signs])
    cores = np.concatenate([scan.cores, held_out.cores])
    cluster = near_prompts(keys, signs, cores)
    return np.isin(cluster[len(scan) :], cluster[: len(scan)])


def _finding(name: str, held_out: Scan, hit: np.ndarray, what: str) -> AuditFinding:
    rows = np.flatnonzero(hit)
    share = len(rows) / len(held_out)
    return AuditFinding(
        f"leakage.{name}",
        grade(share, limit("leak")),
        f"{out_of(len(rows), len(held_out), 'held-out rows')} {what}",
        {"count": len(rows), "share": share},
        "split again, near copies of a prompt together" if len(rows) else "",
        title=f"Held-out leakage, {name}",
        why="Such rows measure memory: held-out accuracy is too high and the stop too late.",
        command="accord split DATA --output split" if len(rows) else "",
        harm=share,
        places=tuple(Place(held_out.at(int(row)), what) for row in rows[:SHOWN]),
    )


def _reversed(scan: Scan, held_out: Scan) -> AuditFinding | None:
    """Measure on how many comparisons that both files hold the two disagree. The share is a
    measured noise rate.
    """
    keys = []
    for each in (scan, held_out):
        keys.append(
            (
                mixed(each.questions, each.folded[:, 0], each.folded[:, 1]),
                mixed(each.questions, each.folded[:, 1], each.folded[:, 0]),
            )
        )
    (ours, turned), (theirs, _) = keys
    same, other = np.isin(ours, theirs), np.isin(turned, theirs)
    both = np.flatnonzero(same | other)
    if not len(both):
        return None
    against = np.flatnonzero(other & ~same)
    n = len(both)
    share = Estimate(len(against) / n, *clopper_pearson(len(against) / n, n), n)
    verdict = "warning" if share.low > limit("noise") else "note" if len(against) else "ok"
    return AuditFinding(
        "labels.second_labelling",
        verdict,
        f"{n:,} comparisons stand in both files; the two disagree on {len(against):,}"
        f" ({percent(share.value)}, {percent(share.low)} to {percent(share.high)})",
        {"estimate": as_dict(share)},
        "settle them before training on either" if len(against) else "",
        title="Two labellings",
        why="Where one file is right, this is the other's share of flipped labels.",
        harm=2 * share.value,
        places=tuple(
            Place(
                scan.at(int(row)),
                "the other file ranks these two answers the other way round",
                int(row),
            )
            for row in against[:SHOWN]
        ),
    )
