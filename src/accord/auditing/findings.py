"""The audit's finding: the defect, its count, its rows, its harm and its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accord.types import Finding

RANK = {"refused": 0, "warning": 1, "note": 2, "ok": 3}
NOUNS = {"pairs": "pairs", "labelled": "labelled answers"}  # for rows of a kind; else "rows"


@dataclass(frozen=True)
class Place:
    """One row that shows a finding."""

    at: str  # file:line
    detail: str  # the defect in this row
    # number of the row in the scan, to fetch the excerpt; -1 if there is none
    row: int = -1
    excerpt: str = ""  # the beginning of its texts, printable

    def as_dict(self) -> dict:
        return {"at": self.at, "detail": self.detail, "excerpt": self.excerpt}


@dataclass(frozen=True)
class AuditFinding(Finding):
    """A finding of the audit. `says` names the defect and its count, `remedy` the remedy, and
    `command` the command for it.
    """

    title: str = ""  # a few words, for tables and headings
    why: str = ""  # the harm to training
    command: str = ""
    # rough share of the training signal that it spoils; orders findings of one verdict
    harm: float = 0.0
    places: tuple[Place, ...] = ()
    # "quality" counts for the verdict; "size" is said apart: few rows are no fault of the rows
    aspect: str = "quality"
    explained_by: str = ""  # check of the finding whose symptom this is; "" for a cause

    def as_dict(self) -> dict:
        """Return a JSON-serialisable form."""
        return {
            "check": self.check,
            "verdict": self.verdict,
            "title": self.title,
            "says": self.says,
            "why": self.why,
            "remedy": self.remedy,
            "command": self.command,
            "harm": round(self.harm, 6),
            "aspect": self.aspect,
            "explained_by": self.explained_by,
            "evidence": self.evidence,
            "rows": [place.as_dict() for place in self.places],
        }


def by_severity(findings: Sequence[AuditFinding]) -> list[AuditFinding]:
    """Sort by verdict, then by harm, then by name, the worst first."""
    return sorted(findings, key=lambda f: (RANK[f.verdict], -f.harm, f.check))


# Rows under which no share is a warning: one row of 50 is 2 %, and a slip or a quotation.
FEW_ROWS = 3


def grade(share: float, care: float, unfit: float | None = None, *, rows: int | None = None) -> str:
    """Grade a share: ok at 0, note below `care`, warning from there, refused from `unfit`.

    Args:
      rows: how many rows the share is; under `FEW_ROWS` it is a note at most.
    """
    if rows is not None and 0 < rows < FEW_ROWS:
        return "note"
    if unfit is not None and share >= unfit:
        return "refused"
    return "warning" if share >= care else "note" if share > 0 else "ok"


def percent(share: float) -> str:
    """Format a share for a person. A share that is not exactly 0 or 100 % is never
    rounded to it.
    """
    for digits in (1, 2, 3, 4):
        text = f"{100 * share:.{digits}f} %"
        if share in (0.0, 1.0) or (float(text[:-2]) not in (0.0, 100.0)):
            return text.replace(".0 %", " %")
    return f"{100 * share:.2g} %"


def out_of(count: int, of: int, what: str) -> str:
    """Format a count as `12 of 3,400 pairs (0.35 %)`."""
    return f"{count:,} of {of:,} {what} ({percent(count / max(1, of))})"
