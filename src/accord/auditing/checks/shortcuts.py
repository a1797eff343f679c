"""Shortcuts: the accuracy of a rule that does not read the text, such as one feature, length alone,
words alone, or a model's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from accord.auditing.causes import Cause
from accord.auditing.checks.integrity import places
from accord.auditing.checks.rule_names import rule_name, rule_title
from accord.auditing.cleansed import Cleansed, cleanse
from accord.auditing.findings import RANK, AuditFinding, grade, percent
from accord.auditing.measure import FEATURES
from accord.auditing.scan import Scan
from accord.auditing.thresholds import limit
from accord.evaluate.auc import auc_estimate
from accord.evaluate.intervals import Estimate, accuracy, clopper_pearson

LENGTHS = frozenset(("shortcuts.characters", "shortcuts.words", "shortcuts.lines"))
ALL = 200_000  # rows that one-feature rules are scored on at most: the interval is ±.002 then


def is_strong(score: Estimate) -> bool:
    """Tell whether a rule is right more often than a shortcut may be, and than chance: some twenty
    rules are tried on one file, so one of them is above .65 in 32 rows without any reason. One and
    a half times the interval's half is three standard errors.
    """
    return score.value > limit("shortcut") and score.value - 1.5 * (score.value - score.low) > 0.5


def is_raised(rule: dict) -> bool:
    """Tell whether a rule is strong enough to be a warning."""
    return rule["score"].low > limit("shortcut_unfit") or is_strong(rule["score"])


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
    return _rules(scan.features[rows], scan.desirable[rows], groups, scan.paired)


def _rules(
    features: np.ndarray, desirable: np.ndarray, groups: list[int], paired: bool
) -> list[dict]:
    out = []
    for at, name in enumerate(FEATURES):
        values = features[:, :, at].astype(np.float64)
        found = (
            _pair_rule(values, groups) if paired else _label_rule(values[:, 0], desirable, groups)
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


def cleansed_rules(scan: Scan, view: Cleansed) -> list[dict]:
    """Score each feature's rule on the sampled rows without the causes."""
    return _rules(view.features, scan.desirable[view.rows], view.groups.tolist(), scan.paired)


def rule_findings(scan: Scan, causes: Sequence[Cause] = ()) -> list[AuditFinding]:
    """Build one finding per feature that predicts the label, and one for the other features.

    With causes, the rules are scored on the sampled texts without them as well: a rule is raised
    only if it is true both of the file as it stands, which is what the finding says, and without
    the causes. A rule that the strongest ones explain is named as their symptom.
    """
    if scan.kind == "demonstrations":
        return []
    whole = _Rows(scan.features, np.arange(len(scan)))
    data, raw = whole, rules(scan)
    table = raw
    if causes and scan.sample:
        view = cleanse(scan, causes)
        if not len(view.rows):
            return []
        data, table = _Rows(view.features, view.rows), cleansed_rules(scan, view)
    found = [
        finding
        for rule, left in zip(raw, table, strict=True)
        if (finding := _rule_finding(scan, rule, left, whole))
    ]
    found = _one_name_each(scan, found, data)
    best = max(table, key=lambda rule: rule["score"].value)
    says = (
        f"best of {len(table)} one-feature rules"
        + ("" if table is raw else " on the texts without the causes that are named")
        + f": {rule_name(best['feature'], best['direction'])}, {best['score']}"
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


@dataclass(frozen=True)
class _Rows:
    """The rows that the rules are scored on."""

    features: np.ndarray  # [n, S, F]
    rows: np.ndarray  # [n] rows of the scan


def _one_name_each(scan: Scan, found: list[AuditFinding], data: _Rows) -> list[AuditFinding]:
    """Mark the rules that add next to nothing to stronger ones: such a rule is their symptom."""
    order = sorted(found, key=lambda each: (RANK[each.verdict], -each.evidence["score"]["value"]))
    if len(order) < 2:
        return found
    desirable = scan.desirable[data.rows]
    column = {each.check: _signal(data, each.check, scan.paired) for each in order}
    named = [order[0].check]
    marked = {}
    for each in order[1:]:
        before = _loss([column[name] for name in named], desirable, scan.paired)
        alone = _loss([], desirable, scan.paired) - _loss(
            [column[each.check]], desirable, scan.paired
        )
        both = [column[name] for name in (*named, each.check)]
        beyond = before - _loss(both, desirable, scan.paired)
        lengths = each.check in LENGTHS and not LENGTHS.isdisjoint(named)
        if lengths or beyond < limit("beyond") * max(alone, 1e-9):
            by = next((n for n in named if n in LENGTHS), named[0]) if lengths else named[0]
            marked[each.check] = explained(each, by)
        else:
            named.append(each.check)
    return [marked.get(each.check, each) for each in found]


def explained(finding: AuditFinding, check: str) -> AuditFinding:
    """Mark a finding as the symptom of another; of an earlier one it is no longer."""
    says = finding.says.split("; explained by ")[0]
    return replace(
        finding,
        verdict="note" if RANK[finding.verdict] < RANK["note"] else finding.verdict,
        says=f"{says}; explained by {check}",
        explained_by=check,
        command="",
    )


def _signal(data: _Rows, check: str, paired: bool) -> np.ndarray:
    """Return a feature as a column for a regression, [n]; counts are on a logarithmic scale."""
    name = check.removeprefix("shortcuts.").replace("_", " ")
    at = next(i for i, feature in enumerate(FEATURES) if feature.replace("_", " ") == name)
    values = np.log1p(data.features[:, :, at].astype(np.float64))
    signal = values[:, 0] - values[:, 1] if paired else values[:, 0]
    return signal / max(1e-9, float(signal.std()))


def _loss(columns: list[np.ndarray], desirable: np.ndarray, paired: bool) -> float:
    """Compute the log loss per row of a logistic regression on these columns."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    if not columns:
        share = 0.5 if paired else float(np.clip(desirable.mean(), 1e-6, 1 - 1e-6))
        return float(-share * np.log(share) - (1 - share) * np.log(1 - share))
    table = np.stack(columns, 1)
    labels = desirable
    if paired:  # each pair both ways round, so that there are two classes
        table = np.concatenate([table, -table])
        labels = np.arange(len(table)) < len(table) // 2
    if labels.all() or not labels.any():
        return 0.0
    fit = LogisticRegression(C=100.0, fit_intercept=not paired, max_iter=200).fit(table, labels)
    return float(log_loss(labels, fit.predict_proba(table)[:, 1]))


def _rule_verdict(score: Estimate) -> str:
    """Grade a rule by its score; "ok" if it is no better than chance, or hardly."""
    if score.low > limit("shortcut_unfit"):
        return "refused"
    if is_strong(score):
        return "warning"
    return "note" if score.low > limit("shortcut_note") else "ok"


def _is_decisive(rule: dict, paired: bool) -> bool:
    """Tell whether a rule is right nearly always in the pairs that differ in its feature."""
    enough = paired and rule["differ"] >= limit("decisive_share")
    return enough and rule["among"].low > limit("decisive")


def _rule_finding(scan: Scan, rule: dict, left: dict, data: _Rows) -> AuditFinding | None:
    """Build the finding of a rule that holds on the file as it stands and in what is left of it
    without the causes; what it says is of the file as it stands.
    """
    score, among = rule["score"], rule["among"]
    verdict = max(_rule_verdict(score), _rule_verdict(left["score"]), key=lambda each: RANK[each])
    decisive = _is_decisive(rule, scan.paired) and _is_decisive(left, scan.paired)
    if rule["direction"] != left["direction"] or (verdict == "ok" and not decisive):
        return None
    what = "pairs" if scan.paired else "comparisons of a desirable with an undesirable answer"
    says = (
        f"“{rule_name(rule['feature'], rule['direction'])}” is right in {percent(score.value)}"
        f" ({percent(score.low)} to {percent(score.high)}) of {what}"
    )
    if decisive:
        says += f"; in {percent(among.value)} of the {among.n:,} pairs that differ in it"
    return AuditFinding(
        f"shortcuts.{rule['feature'].replace(' ', '_')}",
        verdict if verdict != "ok" else "note",
        says,
        {
            "score": as_dict(score),
            "differ": rule["differ"],
            "among": as_dict(among),
            "direction": rule["direction"],
            "without_causes": as_dict(left["score"]),
        },
        remedy(rule["feature"]),
        title=f"Shortcut: {rule_title(rule['feature'])}",
        command=_command(rule["feature"], scan, verdict),
        why=(
            "The model can lower its loss by learning this feature instead of what makes an answer"
            " better."
        ),
        harm=2 * (min(score.value, left["score"].value) - 0.5),
        places=places(scan, _examples(scan, rule, data), f"the {scan.noun[:-1]} follows the rule"),
    )


def _examples(scan: Scan, rule: dict, data: _Rows) -> np.ndarray:
    values = data.features[:, :, FEATURES.index(rule["feature"])]
    ahead = (
        values[:, 0] - values[:, 1]
        if scan.paired
        else values[:, 0] * np.where(scan.desirable[data.rows], 1, -1)
    )
    order = np.argsort(ahead if rule["direction"] == "less" else -ahead, kind="stable")
    return data.rows[order[:2]]


def remedy(feature: str) -> str:
    if feature in ("characters", "words", "lines"):
        return (
            "balance the lengths, or use an objective that normalises length (simpo, or ipo with"
            " token means)"
        )
    return "look at the rows named; balance the feature, or add pairs where it loses"


def _command(feature: str, scan: Scan, verdict: str) -> str:
    return (
        "--fix OUT --balance-length"
        if scan.paired and verdict != "ok" and feature in ("characters", "words", "lines")
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
            if is_strong(score)
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
            if is_strong(score)
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
    many = len(rows) > 1
    return AuditFinding(
        "integrity.language",
        verdict,
        f"{_in_other_language(len(rows), what, share)}"
        + (f", the rejected one{'s' * many} in its own" if scan.paired and len(rows) else ""),
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


def _in_other_language(count: int, what: str, share: float) -> str:
    if count == 0:
        return f"no {what} answer is in another language than its prompt"
    if count == 1:
        return f"1 {what} answer ({percent(share)}) is in another language than its prompt"
    return f"{count:,} {what} answers ({percent(share)}) are in another language than their prompt"


def as_dict(estimate: Estimate) -> dict:
    return estimate.as_dict()
