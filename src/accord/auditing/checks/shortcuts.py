"""Shortcuts: the accuracy of a rule that does not read the text, such as one feature, length alone,
words alone, or a model's name.
"""

from __future__ import annotations

import numpy as np

from accord.auditing.checks.integrity import places
from accord.auditing.checks.probes import Probes, length_share
from accord.auditing.findings import AuditFinding, grade, percent
from accord.auditing.measure import FEATURES
from accord.auditing.scan import Scan
from accord.auditing.thresholds import limit
from accord.evaluate.auc import auc_estimate
from accord.evaluate.intervals import Estimate, accuracy, clopper_pearson

ALL = 200_000  # rows that one-feature rules are scored on at most: the interval is ±.002 then


def _is_strong(score: Estimate) -> bool:
    """Tell whether a rule is right more often than a shortcut may be, and than chance: some twenty
    rules are tried on one file, so one of them is above .65 in 32 rows without any reason. One and
    a half times the interval's half is three standard errors.
    """
    return score.value > limit("shortcut") and score.value - 1.5 * (score.value - score.low) > 0.5


def rules(scan: Scan) -> list[dict]:
    """Score each feature's rule: "the answer with more of it is chosen" (or with less, if that is
    right more often).

    For labelled rows, the rule's score is the probability that a desirable answer has more than an
    undesirable one.
    """
    rows = (
        np.arange(len(scan))
        if len(scan) <= ALL
        else np.sort(np.random.Generator(np.random.Philox(key=[0, 6])).permutation(len(scan))[:ALL])
    )
    groups = scan.groups[rows].tolist()
    out = []
    for at, name in enumerate(FEATURES):
        values = scan.features[rows, :, at].astype(np.float64)
        found = (
            _pair_rule(values, groups)
            if scan.paired
            else _label_rule(values[:, 0], scan.desirable[rows], groups)
        )
        out.append({"feature": name, **found})
    return out


def _pair_rule(values: np.ndarray, groups: list[int]) -> dict:
    ahead = values[:, 0] - values[:, 1]
    sign = 1.0 if (ahead > 0).sum() >= (ahead < 0).sum() else -1.0
    differ = ahead != 0
    among = Estimate(0.5, 0.0, 1.0, 0)
    if differ.any():
        right = float((sign * ahead[differ] > 0).mean())
        among = Estimate(right, *clopper_pearson(right, int(differ.sum())), int(differ.sum()))
    score = accuracy(sign * ahead, clusters=groups)
    return {
        "direction": "more" if sign > 0 else "less",
        "score": score,
        "differ": float(differ.mean()),
        "among": among,
    }


def _label_rule(values: np.ndarray, desirable: np.ndarray, groups: list[int]) -> dict:
    score = auc_estimate(values, desirable, groups)
    sign = 1.0 if score.value >= 0.5 else -1.0
    if sign < 0:
        score = Estimate(1 - score.value, 1 - score.high, 1 - score.low, score.n)
    common = float((values == np.median(values)).mean())
    return {
        "direction": "more" if sign > 0 else "less",
        "score": score,
        "differ": 1 - common,
        "among": score,
    }


def rule_findings(scan: Scan) -> list[AuditFinding]:
    """Build one finding per feature that predicts the label, and one for the other features."""
    if scan.kind == "demonstrations":
        return []
    table = rules(scan)
    found = [finding for rule in table if (finding := _rule_finding(scan, rule))]
    best = max(table, key=lambda rule: rule["score"].value)
    says = (
        f"best of {len(table)} one-feature rules: {best['direction']} {best['feature']},"
        f" {best['score']}"
    )
    evidence = {
        "rules": [
            {**rule, "score": as_dict(rule["score"]), "among": as_dict(rule["among"])}
            for rule in table
        ]
    }
    return [
        *found,
        AuditFinding("shortcuts.rules", "ok", says, evidence, title="One-feature rules"),
    ]


def _rule_finding(scan: Scan, rule: dict) -> AuditFinding | None:
    score, among = rule["score"], rule["among"]
    verdict = (
        "refused"
        if score.low > limit("shortcut_unfit")
        else "warning"
        if _is_strong(score)
        else None
    )
    if verdict is None and score.low > limit("shortcut_note"):
        verdict = "note"
    decisive = (
        scan.paired and rule["differ"] >= limit("decisive_share") and among.low > limit("decisive")
    )
    if verdict is None and not decisive:
        return None
    what = "pairs" if scan.paired else "comparisons of a desirable with an undesirable answer"
    says = (
        f"“{rule['direction']} {rule['feature']}” is right in {percent(score.value)}"
        f" ({percent(score.low)} to {percent(score.high)}) of {what}"
    )
    if decisive:
        says += f"; in {percent(among.value)} of the {among.n:,} pairs that differ in it"
    return AuditFinding(
        f"shortcuts.{rule['feature'].replace(' ', '_')}",
        verdict or "note",
        says,
        {
            "score": as_dict(score),
            "differ": rule["differ"],
            "among": as_dict(among),
            "direction": rule["direction"],
        },
        _remedy(rule["feature"]),
        title=f"Shortcut: {rule['feature']}",
        command=_command(rule["feature"], scan, verdict),
        why=(
            "The model can lower its loss by learning this feature instead of what makes an answer"
            " better."
        ),
        harm=2 * (score.value - 0.5),
        places=places(scan, _examples(scan, rule), f"the {scan.noun[:-1]} follows the rule"),
    )


def _examples(scan: Scan, rule: dict) -> np.ndarray:
    values = scan.features[:, :, FEATURES.index(rule["feature"])]
    ahead = (
        values[:, 0] - values[:, 1]
        if scan.paired
        else values[:, 0] * np.where(scan.desirable, 1, -1)
    )
    return np.argsort(ahead if rule["direction"] == "less" else -ahead, kind="stable")[:2]


def _remedy(feature: str) -> str:
    if feature in ("characters", "words", "lines"):
        return (
            "balance the lengths, or use an objective that normalises length (simpo, or ipo with"
            " token means)"
        )
    return "look at the rows named; balance the feature, or add pairs where it loses"


def _command(feature: str, scan: Scan, verdict: str | None) -> str:
    return (
        "--fix OUT --balance-length"
        if scan.paired and verdict and feature in ("characters", "words", "lines")
        else ""
    )


def side_findings(scan: Scan) -> list[AuditFinding]:
    """Check columns that name something of both sides, such as the model that wrote them: does the
    name decide?
    """
    out = []
    for name, (codes, names) in scan.sides.items():
        known = (codes >= 0).all(1) & (codes[:, 0] != codes[:, 1])
        rows = np.flatnonzero(known)
        if len(rows) < 20:
            continue
        strength = _strengths(codes[rows], len(names))
        # names are scored on the other half of the rows, so that rare names decide nothing
        even = rows % 2 == 0
        halves = [_strengths(codes[rows[half]], len(names)) for half in (even, ~even)]
        ahead = np.where(
            even, *(table[codes[rows, 0]] - table[codes[rows, 1]] for table in halves[::-1])
        )
        score = accuracy(ahead, clusters=scan.groups[rows].tolist())
        best = int(
            np.argmax(strength * (np.bincount(codes[rows].ravel(), minlength=len(names)) > 5))
        )
        verdict = (
            "warning"
            if _is_strong(score)
            else "note"
            if score.low > limit("shortcut_note")
            else "ok"
        )
        says = (
            f"the names in column {name!r} alone rank {score} of the pairs that differ in it;"
            f" {names[best]!r} wins most often"
        )
        wins = {names[i]: float(strength[i]) for i in range(len(names))}
        out.append(
            AuditFinding(
                f"shortcuts.column_{name}",
                verdict,
                says,
                {"score": as_dict(score), "names": wins},
                "add pairs of two answers of one model" if verdict != "ok" else "",
                title=f"Shortcut: {name}",
                why=(
                    "What is learnt is the style of one writer; any feature of that writer becomes"
                    " a shortcut."
                ),
                harm=max(0.0, 2 * (score.value - 0.5)) * len(rows) / len(scan),
                places=places(scan, rows, "the sides differ in it"),
            )
        )
    return out


def _strengths(codes: np.ndarray, size: int) -> np.ndarray:
    """Compute how often each name wins, [size], shrunk towards ½ by two imagined games."""
    wins = np.bincount(codes[:, 0], minlength=size)
    games = wins + np.bincount(codes[:, 1], minlength=size)
    return (wins + 1) / (games + 2)


def column_findings(scan: Scan) -> list[AuditFinding]:
    """Check columns of labelled rows, such as the source: does the value decide the label?"""
    if scan.kind != "labelled":
        return []
    out = []
    for name, (codes, names) in scan.columns.items():
        rows = np.flatnonzero(codes >= 0)
        if len(rows) < 20:
            continue
        good = scan.desirable[rows]
        even = rows % 2 == 0
        shares = [_shares(codes[rows[half]], good[half], len(names)) for half in (even, ~even)]
        score = auc_estimate(
            np.where(even, shares[1][codes[rows]], shares[0][codes[rows]]),
            good,
            scan.groups[rows].tolist(),
        )
        verdict = (
            "warning"
            if _is_strong(score)
            else "note"
            if score.low > limit("shortcut_note")
            else "ok"
        )
        says = f"column {name!r} alone ranks a desirable answer above an undesirable one in {score}"
        out.append(
            AuditFinding(
                f"shortcuts.column_{name}",
                verdict,
                says,
                {
                    "score": as_dict(score),
                    "shares": {
                        n: float(s)
                        for n, s in zip(names, _shares(codes[rows], good, len(names)), strict=True)
                    },
                },
                "balance the labels within each value" if verdict != "ok" else "",
                title=f"Shortcut: {name}",
                why=(
                    "Where one source is mostly good and another mostly bad, the model learns to"
                    " tell the sources apart."
                ),
                harm=max(0.0, 2 * (score.value - 0.5)),
                places=places(scan, rows, "has this column"),
            )
        )
    return out


def _shares(codes: np.ndarray, good: np.ndarray, size: int) -> np.ndarray:
    """Compute the share of desirable rows of each value, [size], shrunk towards ½ by two imagined
    rows.
    """
    return (np.bincount(codes[good], minlength=size) + 1) / (np.bincount(codes, minlength=size) + 2)


def probe_findings(scan: Scan, probes: Probes | None) -> list[AuditFinding]:
    """Report the accuracy of length alone and of words alone on unseen prompts."""
    if probes is None:
        return []
    length, words = probes.length.accuracy, probes.words.accuracy
    share = length_share(probes)
    verdict = (
        "warning" if _is_strong(length) else "note" if length.low > limit("shortcut_note") else "ok"
    )
    sampled = "" if scan.whole else f" (a sample of {len(scan.sample):,})"
    # labelled rows: a plain accuracy would be the class balance
    figure = "" if scan.paired else ", area under the curve"
    part = (
        f"; {percent(share.value)} ({percent(share.low)} to {percent(share.high)}) of what words"
        " predict is length"
        if share
        else ""
    )
    return [
        AuditFinding(
            "shortcuts.length",
            verdict,
            f"a classifier on length alone, cross-fitted by prompt{figure}:"
            f" {length}{sampled}{part}",
            {"accuracy": as_dict(length), "share_of_signal": share and as_dict(share)},
            (
                (
                    _remedy("characters")
                    if scan.paired
                    else "label rows of every length, or cut long ones"
                )
                if verdict != "ok"
                else ""
            ),
            title="Length decides",
            why=(
                "Length is the shortcut that preference training takes first; answers grow without"
                " getting better."
            ),
            command="--fix OUT --balance-length" if verdict == "warning" and scan.paired else "",
            harm=max(0.0, 2 * (length.value - 0.5)),
        ),
        AuditFinding(
            "shortcuts.ngrams",
            "ok" if words.low > 0.5 else "note",
            f"a linear probe on word 1- and 2-grams, cross-fitted by prompt{figure}:"
            f" {words}{sampled}",
            {"accuracy": as_dict(words)},
            (
                ""
                if words.low > 0.5
                else (
                    "more pairs, or cleaner ones: no pattern of words carries over to other prompts"
                )
            ),
            title="What words predict",
            why="The signal that the simplest of models finds; a language model should find more.",
        ),
    ]


def language_finding(scan: Scan) -> AuditFinding:
    """Count answers in another language or script than their prompt."""
    other = scan.features[:, :, FEATURES.index("in the prompt's language")] == 0
    # if both answers are in another language, the prompt asked for it, as in a translation
    rows = np.flatnonzero(
        other[:, 0] & ~other[:, 1] if scan.paired else other[:, 0] & scan.desirable
    )
    share = len(rows) / len(scan)
    verdict = grade(share, limit("language"), rows=len(rows))
    what = "chosen" if scan.paired else "desirable"
    return AuditFinding(
        "integrity.language",
        verdict,
        f"{len(rows):,} {what} answers ({percent(share)}) are in another language than their prompt"
        + (", the rejected ones in its own" if scan.paired else ""),
        {"count": len(rows), "share": share},
        "look at them; a translation task is fine" if len(rows) else "",
        title="Language",
        why="The model learns to answer in a language that was not asked for.",
        harm=0.5 * share,
        places=places(
            scan,
            rows,
            "prompt and answer differ in language (a guess from common words and script)",
        ),
    )


def as_dict(estimate: Estimate) -> dict:
    return estimate.as_dict()
