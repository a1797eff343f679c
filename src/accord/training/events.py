"""Reports of events noticed while training: on the display and in events.jsonl."""

from __future__ import annotations

from collections.abc import Sequence

from accord.runs.folder import vars_of
from accord.training.state import Run
from accord.types import Finding, Refused


def record_finding(run: Run, finding: Finding) -> None:
    """Report an event noticed while training: one line on the display, one in events.jsonl."""
    run.folder.append("events.jsonl", {"step": run.progress.step, **vars_of(finding)})
    run.display.flagged(run.progress.step, finding)


def raise_if_refused(run: Run, findings: Sequence[Finding]) -> None:
    """Report what an invariant found; stop if one is broken.

    Raises:
      Refused: the run does not compute what it was asked to. Former checkpoints stay.
    """
    for finding in findings:
        record_finding(run, finding)
    if broken := [finding for finding in findings if finding.refused]:
        said = "\n".join(
            f"{finding.check}: {finding.says}\n  what to do: {finding.remedy}" for finding in broken
        )
        raise Refused(
            f"Stopped after {run.progress.step} updates, since the result would be silently"
            f" wrong.\n{said}"
        )
