"""Labelled rows, for KTO and related methods: the balance of the labels, and the weights that
correct it.
"""

from __future__ import annotations

from accord.auditing.findings import AuditFinding, percent
from accord.auditing.scan import Scan
from accord.auditing.thresholds import limit


def balance(scan: Scan) -> AuditFinding | None:
    """Check the class balance, and compute λ by the paper's rule λ_D·n_D / (λ_U·n_U) in
    `objectives.labelled.BALANCE`.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306, §4.2.
    """
    if scan.kind != "labelled":
        return None
    good = int(scan.desirable.sum())
    bad = len(scan) - good
    says = f"{good:,} desirable ({percent(good / len(scan))}) and {bad:,} undesirable"
    if not good or not bad:
        return AuditFinding(
            "kto.balance",
            "refused",
            says,
            {"desirable": good, "undesirable": bad},
            "add rows of the other label, or train with sft",
            title="One label only",
            why="With one label there is nothing to compare: the loss is lowered by drift alone.",
            harm=1.0,
        )
    ratio = good / bad
    low, high = limit("kto_low"), limit("kto_high")
    fits = low <= ratio <= high
    side, scale = ("desirable", 1 / ratio) if ratio < low else ("undesirable", ratio)
    weights = (
        [round(scale * low, 3), round(scale * high, 3)]
        if side == "desirable"
        else [round(scale / high, 3), round(scale / low, 3)]
    )
    rare = min(good, bad) / len(scan)
    verdict = "ok" if fits else "note"  # people give more of one label; weights answer it
    if rare < limit("minority_label"):
        says += f"; of a batch of 32 rows, {(1 - rare) ** 32:.0%} hold one label alone"
    if not fits:
        says += (
            f"; with equal weights the ratio is {ratio:.2f}, the paper's rule wants {low:g} to"
            f" {high:g}: λ of the {side} from {weights[0]:g} to {weights[1]:g}"
        )
    middle = sum(weights) / 2
    effective = {
        "desirable": good * (middle if side == "desirable" and not fits else 1),
        "undesirable": bad * (middle if side == "undesirable" and not fits else 1),
    }
    return AuditFinding(
        "kto.balance",
        verdict,
        says,
        {
            "desirable": good,
            "undesirable": bad,
            "ratio": ratio,
            "weight_of": None if fits else side,
            "weights": None if fits else weights,
            "effective": effective,
        },
        f"weight the {side} answers" if not fits else "",
        title="Balance of labels",
        command="" if fits else f"--method kto --set objective.{side}_weight={weights[0]:g}",
        harm=0 if fits else abs(0.5 - rare),
        why=(
            "KTO's two halves pull against each other; the commoner label wins unless it is"
            " weighted down."
        ),
    )
