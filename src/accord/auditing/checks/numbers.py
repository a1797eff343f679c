"""Numbers beside labels: any numeric column that orders the pairs, against the label.

A number of both sides (`chosen_score`, `rejected_score`; `scores.chosen`, `scores.rejected`) and a
signed one (`margin`) say which answer is better; a number of a labelled answer says how good it is.
What the name claims decides what may be said: a score that contradicts the label is a fault, a
length is not. A number whose name claims nothing is a witness only where it agrees with nearly all
labels of one part of the file and contradicts nearly all of another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from accord.auditing.checks.integrity import places
from accord.auditing.checks.parts import INSIDE, OUTSIDE, Part, groupings, turned_part
from accord.auditing.findings import AuditFinding, percent
from accord.auditing.scan import Scan
from accord.auditing.thresholds import limit
from accord.errors import plural, printable, shorten
from accord.evaluate.auc import auc, auc_estimate
from accord.evaluate.intervals import Estimate, bounded_mean

FEWEST = 20  # rows with the number
SIDES = (
    ("chosen", "rejected"),
    ("preferred", "dispreferred"),
    ("winner", "loser"),
    ("win", "lose"),
    ("better", "worse"),
    ("best", "worst"),
    ("good", "bad"),
    ("positive", "negative"),
    ("pos", "neg"),
    ("accepted", "declined"),
    ("accepted", "rejected"),
    ("selected", "rejected"),
    ("w", "l"),
)
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
BETTER = frozenset(
    "score scores rating ratings reward rewards grade grades quality preference vote votes"
    " overall helpfulness stars".split()
)
WORSE = frozenset("rank ranks ranking".split())
SIGNED = frozenset("margin margins difference diff delta gap advantage lead preference".split())
# what describes the texts or the row and not how good an answer is
DESCRIBES = frozenset(
    "length len lengths tokens token chars characters words sentences lines count num number id ids"
    " idx index row year month day date time timestamp seed turn turns size temperature version"
    " latency cost price page position offset fold split epoch step".split()
)


@dataclass(frozen=True)
class Against:
    """A number of some rows, and whether it is against their labels."""

    name: str
    rows: np.ndarray  # [n] rows of the scan that it decides
    against: np.ndarray  # [n] bool
    equal: int  # rows with the number that it does not decide
    claims: bool  # the name says that more (or less) of it is better
    shown: str  # the signs, for a person
    detail: dict[int, str]
    signed: bool = False  # one number with a sign, not one of each side


def number_findings(scan: Scan) -> list[AuditFinding]:
    """Compare every numeric column with the label, over the file and in windows of it."""
    if scan.kind == "demonstrations" or not scan.tables.numbers.columns:
        return []
    if not scan.paired:
        return [f for name in scan.tables.numbers.columns if (f := _of_labelled(scan, name))]
    numbers = [each for each in _of_pairs(scan) if len(each.rows) >= FEWEST]
    judge = _judge(scan, numbers)
    return [f for each in numbers if (f := _pair_finding(scan, each, judge))]


def _judge(scan: Scan, numbers: list[Against]) -> str:
    """Return the name of the scores of both sides that go with nearly all labels: they made the
    labels, and another judge of the same answers may honestly differ.
    """
    scores = scan.scores[~np.isnan(scan.scores).any(1)]
    decided = scores[scores[:, 0] != scores[:, 1]]
    if len(decided) >= FEWEST and (decided[:, 0] < decided[:, 1]).mean() <= limit("judge"):
        return "the scores of both sides"
    for each in numbers:
        if each.claims and not each.signed and each.against.mean() <= limit("judge"):
            return _shown(each.name)
    return ""


def words_of(name: str) -> set[str]:
    """Split a column's name into lower-case words: `scoreChosen`, `score_chosen`."""
    return {word.lower() for word in WORDS.findall(name)}


def _of_pairs(scan: Scan) -> Iterator[Against]:
    table = scan.tables.numbers
    done = set()
    for name in table.columns:
        sides = _sides(name, table.columns)
        if sides is None or sides[1] in done:
            continue
        base, other = sides
        done |= {name, other}
        words = words_of(base) or words_of(name)
        one, two = table.column(name), table.column(other)
        if words & DESCRIBES or _read_elsewhere(scan, one, two):
            continue
        sign = -1.0 if words & WORSE else 1.0
        ordered = name.endswith("[0]")  # may be in the order of writing, not of preference
        claims = bool(words & (BETTER | WORSE)) and not ordered
        yield _decided(base, sign * (one - two), claims, (one, two))
    for name in table.columns:
        words = words_of(name)
        if name in done or words & DESCRIBES:
            continue
        values = table.column(name)
        below = (values < 0).any()
        # a margin that is negative everywhere has all sides exchanged; a log-probability has not
        if below and ((values > 0).any() or words & SIGNED):
            yield _decided(name, values, bool(words & SIGNED), None)


def _sides(name: str, columns) -> tuple[str, str] | None:
    """Return (name without the side, column of the other side) of a column of the chosen side."""
    if name.endswith("[0]"):
        return name[:-3], f"{name[:-3]}[1]"
    for good, bad in SIDES:
        if len(good) == 1:  # a whole word alone
            if name.lower().endswith((f"_{good}", f"-{good}", f".{good}")):
                other = name[:-1] + _cased(bad, name[-1:])
                if other in columns:
                    return name[:-2], other
            continue
        at = name.lower().find(good)
        while at >= 0:
            other = name[:at] + _cased(bad, name[at : at + len(good)]) + name[at + len(good) :]
            if other in columns and other != name:
                return (name[:at] + name[at + len(good) :]).strip("_-. ") or name, other
            at = name.lower().find(good, at + 1)
    return None


def _cased(word: str, like: str) -> str:
    return word.upper() if like.isupper() else word.capitalize() if like[0].isupper() else word


def _read_elsewhere(scan: Scan, one: np.ndarray, two: np.ndarray) -> bool:
    """Tell whether these are the numbers that `labels.scores` or `labels.votes` judges."""
    known = ~np.isnan(one) & ~np.isnan(two)
    if not known.any():
        return True
    both = np.abs(np.stack([one, two], 1)[known])
    return any(
        float((np.abs(read[known]) == both).all(1).mean()) > 0.5
        for read in (scan.scores, scan.votes)
    )


def _decided(name: str, gap: np.ndarray, claims: bool, sides) -> Against:
    known = ~np.isnan(gap)
    rows = np.flatnonzero(known & (gap != 0))
    against = gap[rows] < 0
    equal = int((known & (gap == 0)).sum())
    if sides is None:
        detail = {int(row): f"{gap[row]:g}" for row in rows[against][:5]}
        shown = (
            f"positive in {plural(int((~against).sum()), 'row')}, negative in"
            f" {int(against.sum()):,},"
            f" zero in {equal:,}"
        )
    else:
        one, two = sides
        detail = {
            int(row): f"{one[row]:g} (chosen) and {two[row]:g} (rejected)"
            for row in rows[against][:5]
        }
        shown = (
            f"for the chosen answer in {plural(int((~against).sum()), 'row')}, for the rejected"
            " one in"
            f" {int(against.sum()):,}, equal in {equal:,}"
        )
    return Against(name, rows, against, equal, claims, shown, detail, sides is None)


def _pair_finding(scan: Scan, each: Against, judge: str) -> AuditFinding | None:
    share = bounded_mean(each.against.astype(float), clusters=scan.groups[each.rows].tolist())
    part = turned_part(scan, each.rows, each.against)
    against = each.against
    if not each.claims:
        # without a claim the number may count either way, and must decide nearly every label
        part = part or turned_part(scan, each.rows, ~each.against)
        if part is None or each.signed or not part.decides:
            return _proxy(scan, each, share)
        against = each.against if each.against[part.inside].mean() > 0.5 else ~each.against
    verdict, says = _judged(each, share, part)
    if judge and verdict in ("warning", "refused") and not each.signed:
        verdict, says = "note", f"{says}; {judge} go with the labels, so this is another opinion"
    hit = each.rows[part.inside & against] if part else each.rows[against]
    what = "the sign of" if each.signed else "column"
    return _finding(
        each.name,
        verdict,
        f"{what} {_shown(each.name)} is {each.shown}{says}",
        {"estimate": share.as_dict(), "part": part and part.as_dict(), "claims": each.claims},
        share,
        places(scan, hit, lambda row: each.detail.get(row, "against its label")),
    )


def _judged(each: Against, share: Estimate, part: Part | None) -> tuple[str, str]:
    """Return the verdict on a column that claims to order the answers, and the reason."""
    interval = f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"
    if part is not None:
        opposite = "" if each.claims else ", or the column counts the other way there"
        return (
            "refused" if share.low > limit("noise_unfit") else "warning",
            f": against the label in {percent(part.share_in)} of {part.says}, and in"
            f" {percent(part.share_out)} of the others: chosen and rejected look exchanged there"
            f"{opposite}",
        )
    if share.low > limit("swapped"):
        return (
            "refused",
            f": against the label in {interval}: chosen and rejected look exchanged, or the column"
            " counts the other way",
        )
    verdict = (
        "refused"
        if share.low > limit("noise_unfit")
        else "warning"
        if share.low > limit("noise")
        else "note"
        if share.value > 0
        else "ok"
    )
    return verdict, f": against the label in {interval}" if share.value > 0 else ""


def _proxy(scan: Scan, each: Against, share: Estimate) -> AuditFinding | None:
    """Note a column that claims nothing and agrees with nearly every label: the rest may be flips.

    One pair in fifty is the limit: 50 rows with one exception are there by chance in e^-30.
    """
    fewer = min(share.value, 1 - share.value)
    if (each.signed and len(each.rows) < 50) or not 0 < fewer <= limit("proxy"):
        return None
    flip = share.value > 0.5
    rows = each.rows[each.against != flip]
    return _finding(
        each.name,
        "note",
        f"column {_shown(each.name)} is {each.shown}: it goes with the label in all but"
        f" {plural(len(rows), 'row')}, which may be flipped",
        {"estimate": share.as_dict(), "part": None, "claims": False},
        Estimate(fewer, 0.0, fewer, share.n),
        places(scan, rows, lambda row: each.detail.get(row, "unlike the rest")),
    )


def _of_labelled(scan: Scan, name: str) -> AuditFinding | None:
    """Compare a number of labelled answers with their labels."""
    words = words_of(name)
    values = scan.tables.numbers.column(name)
    rows = np.flatnonzero(~np.isnan(values))
    good = scan.desirable[rows]
    if words & DESCRIBES or len(rows) < FEWEST or min(good.sum(), (~good).sum()) < FEWEST // 4:
        return None
    values = values[rows].astype(np.float64) * (-1.0 if words & WORSE else 1.0)
    if np.ptp(values) == 0:
        return None
    claims = bool(words & (BETTER | WORSE | SIGNED))
    part = _part_of_labelled(scan, rows, values, good, claims)
    if part is None and not claims:
        return None
    estimate = auc_estimate(values, good, scan.groups[rows])
    favourable = max(estimate.value, _within(scan, rows, values, good))
    shift = favourable - estimate.value  # scales differ between sources: judged within them
    share = Estimate(
        1 - favourable,
        max(0.0, 1 - estimate.high - shift),
        min(1.0, 1 - estimate.low - shift),
        len(rows),
    )
    each = Against(name, rows, np.zeros(len(rows), bool), 0, claims, "", {})
    verdict, says = _judged(each, share, part)
    says = says.replace("chosen and rejected", "the labels") or ": against no label"
    middle = float(np.median(values))
    doubtful = (values > middle) != good
    hit = part.inside if part is not None else doubtful
    order = np.argsort(-np.abs(values - middle) * (hit & doubtful), kind="stable")
    order = order[(hit & doubtful)[order]]
    return _finding(
        name,
        verdict,
        f"column {_shown(name)}, compared for a desirable and an undesirable answer, is"
        f"{says[1:]} of comparisons"
        if part is None
        else f"column {_shown(name)}{says}",
        {"estimate": share.as_dict(), "part": part and part.as_dict(), "claims": claims},
        share,
        places(scan, rows[order], lambda row: f"{scan.tables.numbers.column(name)[row]:g}"),
    )


def _part_of_labelled(
    scan: Scan, rows: np.ndarray, values: np.ndarray, good: np.ndarray, claims: bool
) -> Part | None:
    """Find a part whose labels are the opposite of what the number says in the rest.

    No limit of the number is known: nine are tried, and the part that the rest contradicts most
    is taken.
    """
    found: list[tuple[float, Part]] = []
    for cut in np.unique(np.quantile(values, np.linspace(0.1, 0.9, 9))):
        for high in (values > cut, values >= cut):
            against = high != good
            for each in (against,) if claims else (against, ~against):
                part = turned_part(scan, rows, each)
                if part is not None and (claims or part.decides):
                    found.append((part.share_in - part.share_out, part))
    if not found:
        return None
    part = max(found, key=lambda each: each[0])[1]
    # Rows in order of their labels would make a part of any number: it must order the answers on
    # both sides of the border, one way here and the other way there.
    sides = [auc(values[here & good], values[here & ~good]) for here in (part.inside, ~part.inside)]
    turned = min(sides) <= OUTSIDE and max(sides) >= INSIDE
    return part if turned and not (claims and sides[0] > sides[1]) else None


def _within(scan: Scan, rows: np.ndarray, values: np.ndarray, good: np.ndarray) -> float:
    """Return the largest area under the curve within the values of one category: judges of several
    sources have several scales.
    """
    best = 0.0
    for _, codes, names in groupings(scan):
        total = weight = 0.0
        for code in range(len(names)):
            here = codes[rows] == code
            one, two = values[here & good], values[here & ~good]
            if len(one) and len(two):
                total += len(one) * len(two) * auc(one, two)
                weight += len(one) * len(two)
        if weight:
            best = max(best, total / weight)
    return best


def _shown(name: str) -> str:
    return repr(shorten(printable(name), 60))


def _finding(name, verdict, says, evidence, share: Estimate, shown) -> AuditFinding:
    raised = verdict != "ok"
    return AuditFinding(
        f"labels.numbers_{name}",
        verdict,
        says,
        evidence,
        (
            "ask what made the labels; exchange the sides of that part, or drop the rows that the"
            " number contradicts"
            if raised
            else ""
        ),
        title=f"Numbers against labels: {shorten(printable(name), 40)}",
        why=(
            "A number that says how good an answer is, and a label that says the opposite, are not"
            " both right: each such row may push the model the wrong way."
        ),
        harm=2 * min(share.value, 1.0) if raised else 0.0,
        places=shown if raised else (),
    )
