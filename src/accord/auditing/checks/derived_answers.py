"""Pairs in which one answer is made of the other: cut short, or without its punctuation.

cut      one answer is the beginning of the other
marks    both have the same letters and digits in the same order, and one has no punctuation
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from accord.auditing.causes import Cause
from accord.auditing.checks.integrity import places
from accord.auditing.findings import AuditFinding, grade, out_of
from accord.auditing.scan import Scan
from accord.auditing.thresholds import limit

READ = 1 << 16  # characters of an answer
FEWEST_CUT = 40  # characters of a beginning: "Yes" and "Yes, it is." are two answers
FEWEST_BARE = 2  # characters that one answer has more, where the other has no marks
MARKS = frozenset(".,;:!?。，；：！？、")

SIDES = ("chosen", "rejected")


def derived_findings(scan: Scan) -> tuple[list[AuditFinding], list[Cause]]:
    """Find pairs whose one answer is the other one cut short or stripped, in the sample."""
    if not scan.paired or not scan.sample:
        return [], []
    texts = [
        tuple(text[:READ].strip() for text in each.example.completions) for each in scan.sample
    ]
    findings, causes = [], []
    for name, title, says, derived in (
        ("cut", "One answer is the other cut short", "the beginning of the other one", _is_cut),
        ("marks", "One answer is the other stripped", "the other one without marks", _is_bare),
    ):
        found = _finding(scan, f"integrity.same_answers_{name}", title, says, derived, texts)
        if found is not None:
            finding, cause = found
            findings.append(finding)
            causes += [cause] if finding.verdict == "warning" else []
    return findings, causes


def _is_cut(short: str, long: str) -> bool:
    short = short.rstrip(" .…")  # what a program puts behind what it cut
    return FEWEST_CUT <= len(short) < len(long.rstrip(" .…")) and long.startswith(short)


def _is_bare(bare: str, whole: str) -> bool:
    """Tell whether one text is the other without punctuation. Code and sums, where a bracket
    decides, keep marks on both sides.
    """
    if len(whole) - len(bare) < FEWEST_BARE or not MARKS.isdisjoint(bare):
        return False
    return _letters(bare) == _letters(whole)


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def _finding(
    scan: Scan,
    check: str,
    title: str,
    says: str,
    derived: Callable[[str, str], bool],
    texts: list[tuple[str, ...]],
) -> tuple[AuditFinding, Cause] | None:
    """Count the pairs of one kind, by the side that is made of the other."""
    hits = [
        np.array([derived(pair[at], pair[1 - at]) for pair in texts], bool)
        for at in range(len(SIDES))
    ]
    at = int(hits[1].sum() >= hits[0].sum())
    count, n = int(hits[at].sum()), len(texts)
    if not count:
        return None
    rows = scan.sample_rows[hits[at]]
    other = int(hits[1 - at].sum())
    # one as often as the other is how the texts came about, and tells no side
    one_side = count >= 4 * other
    verdict = grade(count / n, limit("derived_answers"), rows=count) if one_side else "note"
    counted = out_of(count, n, f"{SIDES[at]} answers{'' if scan.whole else ' of a sample'}")
    raised = verdict == "warning"
    touched = np.zeros(len(scan), bool)
    touched[rows] = True
    finding = AuditFinding(
        check,
        verdict,
        f"{counted} are {says}" + (f"; {other:,} {SIDES[1 - at]} ones are" if other else ""),
        {"count": count, "share": count / n, "side": SIDES[at], "other_side": other},
        f"generate the {SIDES[at]} answers anew, or drop these pairs" if raised else "",
        title=title,
        why=(
            "The pair teaches how long an answer is, or its marks, and no content; the shared"
            " tokens are pushed down with the rejected answer."
        ),
        harm=count / n if raised else 0.0,
        places=places(scan, rows, f"the {SIDES[at]} answer is {says}"),
    )
    return finding, Cause(check, title, touched)
