"""Ids that stand twice in a file, or in two files."""

from __future__ import annotations

from accord.auditing.findings import AuditFinding
from accord.auditing.scan import Scan


def id_findings(scan: Scan) -> list[AuditFinding]:
    """Find ids that name more than one row."""
    return []


def shared_ids(scan: Scan, held_out: Scan) -> list[AuditFinding]:
    """Find ids that stand in both files."""
    return []
