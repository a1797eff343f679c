"""The figures of an audit that choose a method and its settings."""

from __future__ import annotations

from collections.abc import Iterator

from accord.auditing.run import Audit


def _value(audit: Audit, check: str, *path: str, default: float = 0.0) -> float:
    """Read a number from a finding's evidence."""
    finding = audit.find(check)
    node: object = finding.evidence if finding else {}
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    return float(node) if isinstance(node, (int, float)) else default


NOISE = (
    "labels.noise",
    "labels.declared",
    "labels.scores",
    "labels.second_labelling",
    "labels.numbers_",  # of any numeric column
)


def _flips(audit: Audit) -> Iterator[tuple[float, float]]:
    """Yield each estimate of flipped labels, (lower end, value).

    A symptom of another fault is no estimate. Nor is one over a half: the sides are exchanged then,
    which no smoothing answers.
    """
    for finding in audit.findings:
        estimate = finding.evidence.get("estimate")
        if not finding.check.startswith(NOISE) or not isinstance(estimate, dict):
            continue
        low, value = estimate.get("low"), estimate.get("value")
        if low is not None and value is not None and value <= 0.5 and not finding.explained_by:
            yield float(low), float(value)


def noise_low(audit: Audit) -> float:
    """Return the largest lower end of the estimates of flipped labels: a share of noise that is
    almost certain.
    """
    return max(_flips(audit), default=(0.0, 0.0))[0]


def noise_value(audit: Audit) -> float:
    """Return the estimate that belongs to `noise_low`."""
    return max(_flips(audit), default=(0.0, 0.0))[1]


def length_rule(audit: Audit) -> float:
    """Return how often length decides by itself; ½ if that is a symptom of another fault, which
    would be mended instead.
    """
    finding = audit.find("shortcuts.length")
    if finding is not None and finding.explained_by:
        return 0.5
    return _value(audit, "shortcuts.length", "accuracy", "value", default=0.5)


def near_identical(audit: Audit) -> float:
    """Return the share of pairs whose answers hardly differ."""
    return _value(audit, "hardness.near_identical", "share")
