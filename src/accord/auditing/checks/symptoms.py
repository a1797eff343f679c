"""Symptoms: the one-feature rules that go away when a cause is taken out of the texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accord.auditing.causes import Cause
from accord.auditing.checks.shortcuts import cleansed_rules, is_raised, rules
from accord.auditing.cleansed import cleanse
from accord.auditing.findings import AuditFinding
from accord.auditing.scan import Scan


def with_symptoms(
    findings: list[AuditFinding], scan: Scan, causes: Sequence[Cause]
) -> list[AuditFinding]:
    """Add to each cause's finding the rules that it explains, as in "explains: digits, length"."""
    if not causes or not scan.sample or scan.kind == "demonstrations":
        return findings
    raw = {rule["feature"]: rule for rule in rules(scan)}
    raised = {name for name, rule in raw.items() if is_raised(rule)}
    if not raised:
        return findings
    by_cause = {cause.check: raised - _left(scan, [cause]) for cause in causes}
    together = raised - _left(scan, causes) - set().union(*by_cause.values())
    out = []
    for each in findings:
        names = by_cause.get(each.check)
        symptoms = sorted(names | together) if names is not None else []
        if symptoms:
            each = replace(
                each,
                says=f"{each.says}; explains: {', '.join(symptoms)}",
                evidence=each.evidence | {"explains": symptoms},
            )
        out.append(each)
    return out


def _left(scan: Scan, causes: Sequence[Cause]) -> set[str]:
    """Return the features whose rules are still raised without these causes."""
    view = cleanse(scan, causes)
    if not len(view.rows):
        return set()
    return {rule["feature"] for rule in cleansed_rules(scan, view) if is_raised(rule)}
