"""Correctness of the labels: flips estimated from texts, scores that contradict the label, votes,
swapped columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from accord.auditing.causes import Cause
from accord.auditing.checks.integrity import places
from accord.auditing.checks.noise import accounted_for, flipped_share, follows_prompts
from accord.auditing.checks.parts import turned_part
from accord.auditing.checks.probes import Probes
from accord.auditing.checks.shortcuts import as_dict
from accord.auditing.columns import SCORES
from accord.auditing.findings import AuditFinding, grade, out_of, percent
from accord.auditing.scan import Scan
from accord.auditing.thresholds import limit
from accord.errors import plural, printable
from accord.evaluate.intervals import Estimate, clopper_pearson

# scales of judges; the smallest that holds all scores is used, else their range
RATINGS = 60  # different values of a judge's ratings, in steps of a quarter or a half
SCALES = ((0, 1), (1, 5), (1, 10), (0, 100))


def noise(scan: Scan, probes: Probes | None, causes: Sequence[Cause] = ()) -> AuditFinding | None:
    """Estimate the share of randomly flipped labels, from texts alone, among the rows that no other
    finding accounts for. It warns only if the lower end is above the limit and the interval narrow:
    200 sound rows of hh_harmless gave 13 to 44 %.
    """
    if probes is None:
        return None
    left_out = accounted_for(scan, causes, probes.words.rows)
    share = flipped_share(probes.words, probes.groups, left_out)
    identified = share.high - share.low <= limit("noise_wide")
    verdict = (
        "refused"
        if share.low > limit("noise_unfit")
        else "warning"
        if share.low > limit("noise") and identified
        else "ok"
        if identified and share.value <= limit("noise")
        else "note"
    )
    by_prompt = None
    if verdict in ("warning", "refused"):
        by_prompt = follows_prompts(scan, probes.words, left_out)
        if by_prompt.low > limit("noise_prompts_tell"):
            verdict = "note"
    doubtful = probes.words.rows[~left_out][
        np.argsort(probes.words.margins[~left_out], kind="stable")
    ]
    return AuditFinding(
        "labels.noise",
        verdict,
        _noise_says(scan, share, identified, int(left_out.sum()))
        + (
            "; but the prompts tell where the labels say the opposite, as where one prompt wants"
            f" what another does not (area under the curve {by_prompt}): no random flips"
            if by_prompt is not None and verdict == "note"
            else ""
        ),
        {"estimate": as_dict(share), "identified": identified, "left_out": int(left_out.sum())},
        (
            f"train with label_smoothing = {max(0.01, min(0.4, share.value)):.2f} (cdpo or robust),"
            " or with ipo; re-label the rows named"
            if verdict in ("warning", "refused")
            else ""
        ),
        title="Label noise",
        command=(
            f"--method cdpo --set objective.label_smoothing={min(0.4, share.value):.2f}"
            if verdict == "warning"
            else ""
        ),
        why=(
            "DPO pushes without bound towards a wrong label; at 20 % flips a fifth of the gradient"
            " points the wrong way."
        ),
        harm=2 * share.low,
        places=places(
            scan, doubtful, "a classifier that did not see this prompt is surest of the opposite"
        ),
    )


def noise_once(findings: Sequence[AuditFinding]) -> list[AuditFinding]:
    """Make the noise estimate a symptom where another finding says which labels or answers are
    wrong: an exchanged part is not noise, and label smoothing is no remedy for it.
    """
    cause = next((each for each in findings if _moves_labels(each)), None)
    return [
        replace(each, explained_by=cause.check, command="", remedy="")
        if cause is not None and each.check == "labels.noise" and each.verdict != "ok"
        else each
        for each in findings
    ]


def _moves_labels(finding: AuditFinding) -> bool:
    if finding.verdict not in ("warning", "refused"):
        return False
    if finding.check in ("labels.exchanged", "integrity.belonging"):
        return True
    numbers = finding.check == "labels.scores" or finding.check.startswith("labels.numbers_")
    return numbers and bool(finding.evidence.get("part") or finding.evidence.get("swapped"))


def _noise_says(scan: Scan, share: Estimate, identified: bool, left_out: int) -> str:
    """Write the estimate in words: an end that the texts do not show is not given."""
    judged = f"{share.n:,} {scan.noun}"
    if left_out:
        judged += f" ({left_out:,} that other findings account for are left out)"
    if share.low > 0:
        says = f"estimated flipped labels: between {percent(share.low)} and {percent(share.high)}"
    elif share.high < limit("noise_unfit"):
        says = f"estimated flipped labels: at most {percent(share.high)}"
    else:
        says = "the texts cannot tell how many labels are flipped"
    if identified and share.value > 0:
        says += f", most likely {percent(share.value)}"
    says += f"; judged from {judged}"
    if not identified:
        few = share.n < limit("noise_rows")
        says += (
            f"; under {int(limit('noise_rows')):,} rows or {int(limit('noise_prompts')):,} prompts"
            " a classifier of words proves nothing"
            if few
            else "; no classifier of words is sure of enough rows to say more: votes or scores can"
        )
    return says


def declared_labels(scan: Scan) -> AuditFinding | None:
    """Count rows whose own columns say that their label was flipped. This share is read, not
    estimated.
    """
    known = np.flatnonzero(scan.declared >= 0)
    rows = np.flatnonzero(scan.declared == 1)
    if not len(rows):
        return None
    share = Estimate(
        len(rows) / len(known), *clopper_pearson(len(rows) / len(known), len(known)), len(known)
    )
    return AuditFinding(
        "labels.declared",
        "warning" if share.value > limit("noise") else "note",
        f"the file's own columns mark {out_of(len(rows), len(known), scan.noun)} as flipped"
        f" ({percent(share.low)} to {percent(share.high)})",
        {"estimate": as_dict(share)},
        "turn them round again, or drop them",
        title="Labels marked as flipped",
        why="A file made for an experiment with noise trains as such; nothing reads the mark.",
        command="--fix OUT --drop declared-flips",
        harm=2 * share.value,
        places=places(scan, rows, "marked as flipped"),
    )


def score_findings(scan: Scan) -> list[AuditFinding]:
    """Compare scores with the order of the answers; report near ties and low quality. It needs
    scores of both sides.
    """
    rows = np.flatnonzero(~np.isnan(scan.scores).any(1))
    if not len(rows):
        return []
    gap = scan.scores[rows, 0] - scan.scores[rows, 1]
    return [
        _conflicts(scan, rows, gap),
        _near_ties(scan, rows, gap),
        _both_bad(scan, rows),
        _spikes(scan, rows),
    ]


def tie_width(scan: Scan) -> float:
    """Return the score gap under which a pair is a near tie. For scores between 0 and 1 it is a
    tenth of the threshold; for a reward model's, on a scale of its own, it goes by the gaps.
    """
    spread = _own_spread(scan.scores)
    if spread is not None:
        return min(limit("near_tie"), limit("near_tie_spread") * spread)
    within_one = (
        np.nanmin(scan.scores) >= 0 and np.nanmax(scan.scores) <= 1
        if not np.isnan(scan.scores).all()
        else False
    )
    return limit("near_tie") * (0.1 if within_one else 1.0)


def _own_spread(scores: np.ndarray) -> float | None:
    """Return the spread of the gaps where scores have a scale of their own, None for ratings.

    Such scores are below 0, or hardly two are equal; ratings repeat a few values.
    """
    known = scores[~np.isnan(scores).any(1)]
    if not len(known) or (known.min() >= 0 and known.max() <= 1):
        return None
    if known.min() >= 0 and len(np.unique(known)) <= max(RATINGS, 0.25 * known.size):
        return None
    spread = max(float(np.quantile(np.abs(known[:, 0] - known[:, 1]), 0.9)), float(known.std()))
    return float(f"{spread:.2g}")


def _conflicts(scan: Scan, rows: np.ndarray, gap: np.ndarray) -> AuditFinding:
    decided = gap != 0
    against = rows[gap < 0]
    n = int(decided.sum())
    share = (
        Estimate(len(against) / n, *clopper_pearson(len(against) / n, n), n)
        if n
        else Estimate(0.0, 0.0, 1.0, 0)
    )
    swapped = share.low > limit("swapped")
    part = turned_part(scan, rows[decided], gap[decided] < 0)
    verdict = (
        "refused"
        if swapped or share.low > limit("noise_unfit")
        else "warning"
        if share.low > limit("noise") or part is not None
        else "note"
        if len(against)
        else "ok"
    )
    name = _score_name(scan)
    says = (
        f"{f'column {name!r}: ' if name else ''}in"
        f" {out_of(len(against), n, 'pairs with different scores')}"
        f" ({percent(share.low)} to {percent(share.high)}) the rejected answer has the higher score"
    )
    if part is not None:
        says += (
            f": they are {percent(part.share_in)} of {part.says} and {percent(part.share_out)} of"
            " the others: chosen and rejected look exchanged there"
        )
    elif swapped:
        says += ": chosen and rejected look exchanged"
    return AuditFinding(
        "labels.scores",
        verdict,
        says,
        {"estimate": as_dict(share), "swapped": swapped, "part": part and part.as_dict()},
        (
            (
                "exchange the sides of that part, or drop the rows"
                if part is not None
                else "exchange the columns"
                if swapped
                else "drop them, or ask which of the two is right"
            )
            if len(against)
            else ""
        ),
        title="Scores against labels",
        why=(
            "Where scores come from the same judge, each such pair is a flipped label: this share"
            " is a noise estimate."
        ),
        command=(
            (_exchanged(scan) if swapped and part is None else "--fix OUT --drop score-conflicts")
            if len(against)
            else ""
        ),
        harm=2 * share.value,
        places=places(scan, against, lambda row: _scores(scan, row)),
    )


def _score_name(scan: Scan) -> str:
    """Return the name of the scores of both sides, without the side; "" if it is not known."""
    names = scan.tables.numbers.columns
    for name in names:
        has_word = any(word in name.lower() for word in SCORES)
        if has_word and "chosen" in name and name.replace("chosen", "rejected", 1) in names:
            return printable(name.replace("chosen", "", 1).strip("_-. ") or name)
    return ""


def _exchanged(scan: Scan) -> str:
    """Return the options that read each side under the other's name."""
    own = {side: scan.naming.file_name(side) for side in ("chosen", "rejected")}
    return scan.naming.options({"chosen": own["rejected"], "rejected": own["chosen"]})


def _near_ties(scan: Scan, rows: np.ndarray, gap: np.ndarray) -> AuditFinding:
    equal, near = rows[gap == 0], rows[(gap >= 0) & (gap < tie_width(scan))]
    share = len(near) / len(rows)
    return AuditFinding(
        "labels.near_ties",
        grade(share, limit("near_tie_share")),
        f"{out_of(len(near), len(rows), 'scored pairs')} have a score gap under"
        f" {tie_width(scan):g}, {len(equal):,} of them equal scores",
        {"count": len(near), "equal": len(equal), "share": share, "threshold": tie_width(scan)},
        "drop them" if len(near) else "",
        title="Near ties",
        why="The order of a near tie is chance: as a label it is half noise.",
        command="--fix OUT" if len(near) else "",
        harm=share,
        places=places(scan, near, lambda row: _scores(scan, row)),
    )


def _both_bad(scan: Scan, rows: np.ndarray) -> AuditFinding:
    found = float(np.nanmin(scan.scores)), float(np.nanmax(scan.scores))
    low, high = next(
        (scale for scale in SCALES if scale[0] <= found[0] and found[1] <= scale[1]), found
    )
    middle = (low + high) / 2
    bad = rows[(scan.scores[rows, 0] < middle) & (scan.scores[rows, 1] < middle)]
    share = len(bad) / len(rows)
    leaves = int((~(scan.scores[:, 0] < middle)).sum())
    # a rule that leaves less than half of a file out of a scale that was guessed is no advice
    offered = len(bad) > 0 and 2 * leaves >= len(scan)
    return AuditFinding(
        "labels.both_bad",
        # a note: of the scale's middle the file says nothing
        "note" if len(bad) else "ok",
        f"{out_of(len(bad), len(rows), 'scored pairs')} have both answers in the lower half of the"
        f" scale ({low:g} to {high:g})",
        {"count": len(bad), "share": share, "scale": [low, high]},
        (
            f"filter on the absolute score of the chosen answer: from {middle:g} on,"
            f" {leaves:,} of {len(scan):,} rows stay"
            if len(bad)
            else ""
        ),
        title="Both answers poor",
        why=(
            "A relative objective makes the less poor answer likelier: quality can fall while"
            " accuracy rises."
        ),
        command=f"--fix OUT --min-chosen-score {middle:g}" if offered else "",
        harm=share,
        places=places(scan, bad, lambda row: _scores(scan, row)),
    )


def _spikes(scan: Scan, rows: np.ndarray) -> AuditFinding:
    """Find scores at an end of the scale that are far more frequent than the next score. They may
    be a parser's default.
    """
    values, counts = np.unique(scan.scores[rows].ravel(), return_counts=True)
    found = []
    for end, beside in ((0, 1), (-1, -2)):
        if (
            len(values) >= 4
            and counts[end] > limit("spike") * max(1, counts[beside])
            and counts[end] >= 0.02 * counts.sum()
        ):
            found.append(
                (float(values[end]), int(counts[end]), float(values[beside]), int(counts[beside]))
            )
    says = (
        "; ".join(f"{n:,} scores of {v:g} beside {m:,} of {w:g}" for v, n, w, m in found)
        or "no spike at an end of the score's scale"
    )
    hit = np.flatnonzero(np.isin(scan.scores, [each[0] for each in found]).any(1))
    return AuditFinding(
        "labels.score_spike",
        "warning" if found else "ok",
        says,
        {
            "spikes": found,
            "histogram": {
                f"{v:g}": int(n) for v, n in zip(values[:200], counts[:200], strict=True)
            },
        },
        "read a few of these rows: does the text deserve the score?" if found else "",
        title="Score spikes",
        why=(
            "Parsers turn a missing or a two-digit score into the end of the scale (10 read as 1 in"
            " UltraFeedback)."
        ),
        harm=sum(each[1] for each in found) / (2 * len(rows)),
        places=places(scan, hit, lambda row: _scores(scan, row)),
    )


def votes(scan: Scan) -> AuditFinding | None:
    """Measure how far several annotators agree, if both sides have votes."""
    rows = np.flatnonzero(~np.isnan(scan.votes).any(1) & (scan.votes.sum(1) > 0))
    if not len(rows):
        return None
    shares = scan.votes[rows, 0] / scan.votes[rows].sum(1)
    against, even = rows[shares < 0.5], rows[shares == 0.5]
    dissent = float(1 - shares.mean())
    verdict = (
        "warning"
        if len(against) / len(rows) > limit("contradictions") or dissent > 3 * limit("noise")
        else "note"
        if len(even)
        else "ok"
    )
    return AuditFinding(
        "labels.votes",
        verdict,
        f"{percent(dissent)} of votes are against the label;"
        f" {plural(len(against), 'label goes', 'labels go')} against the"
        f" majority, {len(even):,} split evenly",
        {"dissent": dissent, "against": len(against), "even": len(even), "n": len(rows)},
        (
            "turn the labels round that go against their votes; drop even splits"
            if verdict != "ok"
            else ""
        ),
        title="Votes",
        why="Dissent is label noise that has been measured: it is the ε of cDPO and robust DPO.",
        harm=dissent,
        places=places(
            scan,
            [*against, *even],
            lambda row: f"votes {scan.votes[row, 0]:g} to {scan.votes[row, 1]:g}",
        ),
    )


def _scores(scan: Scan, row: int) -> str:
    return f"scores {scan.scores[row, 0]:g} (chosen) and {scan.scores[row, 1]:g} (rejected)"
