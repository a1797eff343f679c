"""The announcement of a run: what its checks found, and what it is about to do."""

from __future__ import annotations

from collections.abc import Sequence

from accord.auditing.run_rows import CONTENT, OTHER
from accord.errors import plural
from accord.runs.display import MARKS, Display
from accord.runs.folder import RunFolder
from accord.training.prepared import PreparedRun
from accord.types import Finding

LOOK_AT = ("warning", "refused")  # verdicts that are shown in full
# Notes that fold: what the audit says of the rows' content is in audit.json and on the page. All
# others are shown, for rows that are left out and what was permitted must not pass unsaid.
FOLDED = {*CONTENT, OTHER, "data.audit", "data.marks"}


def announce_run(
    ready: PreparedRun, folder: RunFolder, display: Display, *, every_check: bool = False
) -> None:
    """Announce what is about to happen, one line each.

    Args:
      every_check: give every check a line; by default those that passed are counted.
    """
    objective = ready.learner.objective
    for line in check_lines(ready.findings, every=every_check):
        display.line(line)
    display.line(f"  objective: {objective.name}; {objective.convention}")
    display.line(
        f"  {ready.source.describe(objective.rows)}, {plural(ready.steps, 'update')} of"
        f" {plural(ready.order.batch_size, 'row')}, peak learning rate {ready.peak:g}; run in"
        f" {folder.path}"
    )


def check_lines(findings: Sequence[Finding], *, every: bool = False) -> list[str]:
    """List what checks found: a count, notes on what was not used, and in full what to look at,
    with what to do about it.

    Args:
      every: list also the checks that passed, and the audit's notes.
    """
    notes = sum(finding.verdict == "note" for finding in findings)
    look_at = sum(finding.verdict in LOOK_AT for finding in findings)
    counts = [f"{plural(len(findings) - notes - look_at, 'check')} passed"]
    counts += [plural(notes, "note")] if notes else []
    counts += [f"{look_at:,} to look at"] if look_at else []
    hint = "" if every else " (--checks shows all)"
    lines = [f"  {MARKS['ok']} {', '.join(counts)}{hint}"]
    for each in findings:
        noted = each.verdict == "note" and each.check not in FOLDED
        if every or noted or each.verdict in LOOK_AT:
            lines.append(f"  {MARKS[each.verdict]} {each.check:<22} {each.says}")
            if each.verdict in LOOK_AT and each.remedy:
                lines.append(f"    what to do: {each.remedy}")
    return lines
