"""The audit's finding: what, how many, which rows, why it matters, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accord.types import Finding

RANK = {"refused": 0, "warning": 1, "note": 2, "ok": 3}


@dataclass(frozen=True)
class Place:
    """One row that shows a finding."""

    at: str  # file:line
    detail: str  # what was found there
    # its number in the scan, from which the excerpt is fetched; -1 where there is none
    row: int = -1
    excerpt: str = ""  # the beginning of its texts, printable

    def as_dict(self) -> dict:
        return {"at": self.at, "detail": self.detail, "excerpt": self.excerpt}


@dataclass(frozen=True)
class AuditFinding(Finding):
    """A finding of the audit. `says` is what and how many;
    `remedy` is what to do, `command` how.
    """

    title: str = ""  # a few words, for tables and headings
    why: str = ""  # what training on this does
    command: str = ""
    # share of the training signal that it spoils, roughly: orders findings of one verdict
    harm: float = 0.0
    places: tuple[Place, ...] = ()

    def as_dict(self) -> dict:
        """JSON-serialisable."""
        return {
            "check": self.check,
            "verdict": self.verdict,
            "title": self.title,
            "says": self.says,
            "why": self.why,
            "remedy": self.remedy,
            "command": self.command,
            "harm": round(self.harm, 6),
            "evidence": self.evidence,
            "rows": [place.as_dict() for place in self.places],
        }


def by_severity(findings: Sequence[AuditFinding]) -> list[AuditFinding]:
    """By verdict, then by harm, then by name: the worst first."""
    return sorted(findings, key=lambda f: (RANK[f.verdict], -f.harm, f.check))


def grade(share: float, care: float, unfit: float | None = None) -> str:
    """The verdict on a share: ok at 0, note below `care`, warning from there,
    refused from `unfit`.
    """
    if unfit is not None and share >= unfit:
        return "refused"
    return "warning" if share >= care else "note" if share > 0 else "ok"


def percent(share: float) -> str:
    """A share for a person, never rounded to 0 or 100 % where it is not."""
    for digits in (1, 2, 3, 4):
        text = f"{100 * share:.{digits}f} %"
        if share in (0.0, 1.0) or (float(text[:-2]) not in (0.0, 100.0)):
            return text.replace(".0 %", " %")
    return f"{100 * share:.2g} %"


def out_of(count: int, of: int, what: str) -> str:
    """`12 of 3,400 pairs (0.35 %)`."""
    return f"{count:,} of {of:,} {what} ({percent(count / max(1, of))})"
