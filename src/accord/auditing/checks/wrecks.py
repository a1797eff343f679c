"""Texts that are no text any more: sentinels, errors, escapes, cuts, invisible characters."""

from __future__ import annotations

from accord.auditing.causes import Cause
from accord.auditing.findings import AuditFinding
from accord.auditing.scan import Scan


def wreck_findings(scan: Scan) -> tuple[list[AuditFinding], list[Cause]]:
    """Find wrecks, and say what each explains."""
    return [], []
