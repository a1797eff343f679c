"""Numbers beside labels: any numeric column that orders the pairs, against the label."""

from __future__ import annotations

from accord.auditing.findings import AuditFinding
from accord.auditing.scan import Scan


def number_findings(scan: Scan) -> list[AuditFinding]:
    """Compare every numeric column with the label, over the file and in windows of it."""
    return []
