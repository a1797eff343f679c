"""Find answers that belong to other rows' prompts: a shifted column, a reversed or shuffled one, a
wrong join; over the file, in a run of its rows, or in rows strewn over it.

A row whose answer shares no words with its prompt is no sign: labels, letters, code and
translations share none. The sign is that the prompt fits the answer of *another* row, by terms that
did not choose that row. Silence is right where nothing can be known.

    shift     the answer k rows on fits better than the own one, in a run of rows
    shuffle   over the file or a run, the own answer is like a random one, and a partner chosen by
              one half of the prompt's terms fits by the other half
    strewn    of rows whose own answer does not fit, the partner is such a row too, more often than
              the next best ones are: misplaced rows have each other's answers
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from accord.auditing.checks.integrity import places
from accord.auditing.checks.parts import heaviest
from accord.auditing.findings import AuditFinding, out_of
from accord.auditing.likeness import READ, Likeness, terms
from accord.auditing.prompts import prompt_text
from accord.auditing.scan import Scan
from accord.auditing.thresholds import limit

FEWEST = 30  # rows, and two thirds as many prompts
VOTERS = 3_000  # rows whose partners vote for a shift
LOW = 0.6  # rank of an own answer that does not fit: a random one is below it in 3 of 5 rows
NEAR = (
    12  # partners of a row that are looked at; the second is left out, it may be the first's twin
)
SURE = 0.98  # rank by each half of the terms of a partner that counts
LEAST_SPREAD = 0.2  # of gains in rank: a few alike rows are no proof

Z_SHIFT = 6.0  # a run is one of about n · log n, a shift one of ten: 1e6 tests at 1e-9 each
Z_SHUFFLE = 5.0
# (mean excess, z) of misplaced partners; one answer of a pair is a weaker witness than both.
# Measured on first halves of seven real sets: at most (.09, 1.4) for both, (.22, 3.8) for one.
STREWN_BOTH, STREWN_ONE = (0.15, 3.7), (0.15, 5.0)


@dataclass(frozen=True)
class Misplaced:
    """Answers that do not belong to their rows."""

    kind: str  # "shift", "reversal", "shuffle" or "strewn"
    rows: np.ndarray  # positions in the sample
    by: int = 0  # rows from a prompt to its answer, for a shift
    rank: float = 0.5  # mean rank of the own answers
    other: float = 0.5  # and of the partners


@dataclass(frozen=True)
class _Side:
    """One column of answers, or both columns together."""

    names: tuple[str, ...]
    like: Likeness
    own: np.ndarray  # [n] rank of each row's own answer


def belonging_findings(scan: Scan, seed: int) -> list[AuditFinding]:
    """Find rows whose answers fit other rows' prompts better."""
    rows = scan.sample_rows
    groups = _prompts(scan, rows)
    if len(rows) < FEWEST or len(np.unique(groups)) < FEWEST * 2 // 3:
        return []
    sides = list(_sides(scan, groups, seed))
    found: dict[tuple[str, ...], Misplaced] = {}
    for side in sides:
        if len(side.names) == 1 and (misplaced := _of_side(side, rows)) is not None:
            found[side.names] = misplaced
    if not found:
        for side in sides[::-1]:  # both answers of a pair together know most
            if (misplaced := _strewn(side)) is not None:
                found[side.names] = misplaced
                break
    found = _joined(found, sides)
    if not found:
        return [_sound(sides)] if sides else []
    return [_finding(scan, names, each) for names, each in found.items()]


def _prompts(scan: Scan, rows: np.ndarray) -> np.ndarray:
    """Return the prompt cluster of each row, [n]. Where a long frame makes near copies of all
    prompts, only equal prompts belong together.
    """
    groups = scan.groups[rows]
    if len(rows) and 2 * np.unique(groups, return_counts=True)[1].max() > len(rows):
        return np.unique(scan.questions[rows], return_inverse=True)[1]
    return groups


def _sides(scan: Scan, groups: np.ndarray, seed: int) -> Iterator[_Side]:
    examples = [each.example for each in scan.sample]
    prompts = [terms(prompt_text(each.prompt)[-READ:]) for each in examples]
    names: tuple[str, ...] = ("chosen", "rejected") if scan.paired else ("answers",)
    columns = [
        [terms(each.completions[at][:READ]) for each in examples] for at in range(len(names))
    ]
    views: list[tuple[tuple[str, ...], list[set[str]]]]
    views = [((name,), column) for name, column in zip(names, columns, strict=True)]
    if scan.paired:
        views.append((names, [one | two for one, two in zip(*columns, strict=True)]))
    every = np.arange(len(examples))
    for view, column in views:
        like = Likeness.of(prompts, column, groups, seed)
        if like is not None:
            yield _Side(view, like, like.rank(every, every))


def _of_side(side: _Side, rows: np.ndarray) -> Misplaced | None:
    """Find a shift, a reversal or a shuffle of one column of answers."""
    return _shifted(side, rows) or _shuffled(side)


# ---------------------------------------------------------------- shifts


def _shifted(side: _Side, rows: np.ndarray) -> Misplaced | None:
    """Find the shift or reversal of the largest run of rows whose partner it names."""
    best: tuple[float, Misplaced] | None = None
    for kind, by in _votes(side, rows):
        found = _shift(side, rows, kind, by)
        # the same run may be found as a shift and as a shift with its ends joined
        if found is not None and (best is None or found[0] > 1.05 * best[0]):
            best = found
    return best[1] if best else None


def _votes(side: _Side, rows: np.ndarray) -> list[tuple[str, int]]:
    """Return the shifts for which most partners vote, and those by a few rows, which are the
    commonest slips.
    """
    low = np.flatnonzero(side.own < LOW)
    low = low[np.linspace(0, len(low) - 1, min(len(low), VOTERS)).astype(np.int64)]
    tried = [("shift", by) for each in (1, 2, 3) for by in (each, -each)]
    if not len(low):
        return tried
    one, two = side.like.halves()
    partner = one.nearest(low, 1, two)[:, 0]
    voters, partner = low[partner >= 0], partner[partner >= 0]
    between = Counter((rows[partner] - rows[voters]).tolist())
    # all of a column moved on by k, and its end to its start: two shifts with the same remainder
    size = int(rows[-1]) + 1
    around = Counter(((rows[partner] - rows[voters]) % size).tolist())
    sums = Counter((rows[partner] + rows[voters]).tolist())
    tried += [("shift", by) for by, votes in between.most_common(4) if votes > 2]
    tried += [("around", by) for by, votes in around.most_common(2) if votes > 2]
    tried += [("reversal", by) for by, votes in sums.most_common(2) if votes > 2]
    return list(dict.fromkeys(tried))


def _shift(side: _Side, rows: np.ndarray, kind: str, by: int) -> tuple[float, Misplaced] | None:
    """Measure by how much the answers of one shift fit better, in the run of rows where they do."""
    wanted = {
        "shift": rows + by,
        "around": (rows + by) % (int(rows[-1]) + 1),
        "reversal": by - rows,
    }[kind]
    at = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
    groups = side.like.groups
    here = np.flatnonzero((rows[at] == wanted) & (at != np.arange(len(rows))))
    if len(here) < FEWEST // 3:
        return None
    other = side.like.rank(here, at[here])
    gain = other - side.own[here]
    start, end = heaviest(gain - limit("belonging_shift") / 2)
    inside = slice(start, end)
    if _apart(groups[here][start:end]) < FEWEST // 2:
        return None
    mean, spread = float(gain[inside].mean()), max(LEAST_SPREAD, float(gain.std()))
    z = mean * np.sqrt(_apart(groups[here][inside])) / spread
    if mean < limit("belonging_shift") or z < Z_SHIFT:
        return None
    # rows of one prompt beside each other have no gain, and are in the run all the same
    run = np.arange(here[start], here[end - 1] + 1)
    return z, Misplaced(
        kind, run, by, float(side.own[here][inside].mean()), float(other[inside].mean())
    )


def _apart(groups: np.ndarray) -> int:
    """Count the prompts of a run of rows: rows of one prompt are one witness."""
    return len(np.unique(groups))


# ---------------------------------------------------------------- shuffles


def _shuffled(side: _Side) -> Misplaced | None:
    """Find that the answers of the file, or of a run of its rows, are in another order."""
    every = np.arange(len(side.own))
    own = side.own
    if own.mean() + 3 * own.std() / np.sqrt(_apart(side.like.groups)) < limit("belonging_rank"):
        return _has_partners(side, every, limit("belonging_gain") / 3)
    start, end = heaviest(limit("belonging_low") - own)
    run = np.arange(start, end)
    out = np.setdiff1d(every, run)
    if min(_apart(side.like.groups[run]), len(out)) < FEWEST // 3:
        return None
    clusters = _apart(side.like.groups[run])
    drop = float(own[out].mean() - own[run].mean())
    if own[run].mean() > limit("belonging_rank") or drop * np.sqrt(clusters) < Z_SHUFFLE * max(
        LEAST_SPREAD, float(own.std())
    ):
        return None
    return _has_partners(side, run, limit("belonging_gain"))


def _has_partners(side: _Side, run: np.ndarray, least: float) -> Misplaced | None:
    """Tell whether the answers of a run fit other prompts of the run: a partner that one half of a
    prompt's terms finds must fit by the other half.
    """
    whole = len(run) == len(side.own)
    like = side.like if whole else side.like.of_rows(run)
    here = np.arange(len(run))
    gains, others = [], []
    halves = like.halves()
    for finds, judges in (halves, halves[::-1]):
        partner = finds.best(here)
        known = partner >= 0
        own = judges.rank(here, here)
        other = np.where(known, judges.rank(here, np.maximum(partner, 0)), own)
        gains.append(other - own)
        others.append(other)
    gain = np.mean(gains, axis=0)
    spread = max(LEAST_SPREAD, float(gain.std()))
    mean, clusters = float(gain.mean()), _apart(like.groups)
    if mean < least or mean * np.sqrt(clusters) / spread < Z_SHUFFLE:
        return None
    return Misplaced("shuffle", run, rank=float(side.own[run].mean()), other=float(np.mean(others)))


# ---------------------------------------------------------------- strewn rows


def _strewn(side: _Side) -> Misplaced | None:
    """Find rows strewn over the file that have each other's answers."""
    low = side.own < LOW
    rows = np.flatnonzero(low)
    # where own answers do not fit in general, one that fits elsewhere is chance
    if len(rows) < FEWEST // 3 or side.own.mean() < limit("belonging_low"):
        return None
    one, two = side.like.halves()
    near = one.nearest(rows, NEAR, two)
    first = np.maximum(near[:, 0], 0)
    known = (near[:, 0] >= 0) & ((near[:, 2:] >= 0).any(1))
    known &= (one.rank(rows, first) >= SURE) & (two.rank(rows, first) >= SURE)
    rows, near, first = rows[known], near[known], first[known]
    if len(rows) < FEWEST // 3:
        return None
    is_low = np.where(near >= 0, low[np.maximum(near, 0)], False)
    rest = is_low[:, 2:].sum(1) / np.maximum(1, (near[:, 2:] >= 0).sum(1))
    _, group = np.unique(side.like.groups[rows], return_inverse=True)
    excess = is_low[:, 0] - rest
    sums = np.bincount(group, weights=excess)
    z = float(sums.sum() / max(1e-9, np.sqrt(np.square(sums).sum())))
    least, z_least = STREWN_BOTH if len(side.names) == 2 else STREWN_ONE
    if excess.mean() < least or z < z_least:
        return None
    hit = rows[is_low[:, 0]]
    other = side.like.rank(hit, first[is_low[:, 0]])
    return Misplaced("strewn", hit, rank=float(side.own[hit].mean()), other=float(other.mean()))


# ---------------------------------------------------------------- sentences


def _joined(
    found: dict[tuple[str, ...], Misplaced], sides: list[_Side]
) -> dict[tuple[str, ...], Misplaced]:
    """Join what is the same of both columns: one slip moved them together, and the weaker witness
    may have seen less of it.
    """
    columns = [side for side in sides if len(side.names) == 1]
    if len(columns) < 2 or len(next(iter(found), ("", ""))) == 2 or not found:
        return found
    both = columns[0].names + columns[1].names
    # what says more first: a shift is named, a shuffle is not
    best = min(found.values(), key=lambda each: (each.kind == "shuffle", -len(each.rows)))
    if len(found) == 2:
        smaller = min(len(each.rows) for each in found.values())
        one, two = (each.rows for each in found.values())
        return {both: best} if len(np.intersect1d(one, two)) > 0.5 * smaller else found
    other = next(side for side in columns if side.names not in found)
    rest = np.setdiff1d(np.arange(len(other.own)), best.rows)
    inside = float(other.own[best.rows].mean())
    # the whole file: a mean at chance; a run: lower than the rest by five standard errors
    fallen = inside <= limit("belonging_rank") and (
        not len(rest)
        or (other.own[rest].mean() - inside) * np.sqrt(len(best.rows))
        > Z_SHUFFLE * max(LEAST_SPREAD, float(other.own.std()))
    )
    return {both: best} if fallen and best.rank <= limit("belonging_rank") else found


def _finding(scan: Scan, names: tuple[str, ...], found: Misplaced) -> AuditFinding:
    rows = scan.sample_rows[found.rows]
    share = len(rows) / len(scan.sample)
    sampled = "" if scan.whole else f" of a sample of {len(scan.sample):,}"
    what = f"{names[0]} answers" if names in (("chosen",), ("rejected",)) else "answers"
    of = f"{what}{' of both sides' if len(names) == 2 else ''}"
    counted = out_of(len(rows), len(scan.sample), f"{of}{sampled}")
    where = (
        ""
        if found.kind == "strewn" or len(rows) == len(scan.sample)
        else f", from {scan.at(int(rows[0]))} to {scan.at(int(rows[-1]))},"
    )
    says = (
        f"{'at least ' if found.kind == 'strewn' else ''}{counted}{where} fit the prompts of other"
        f" rows: {_order(found)} (rank among other prompts {found.rank:.2f} in their own row,"
        f" {found.other:.2f} there; ½ is chance)"
    )
    # negatives from other rows can be meant, and teach little; a chosen answer that is not to the
    # prompt teaches the model not to answer
    meant = names == ("rejected",)
    return AuditFinding(
        "integrity.belonging",
        "refused" if share >= limit("belonging_unfit") and not meant else "warning",
        says,
        {
            "kind": found.kind,
            "by": found.by,
            "side": list(names),
            "count": len(rows),
            "share": share,
            "rank": found.rank,
            "partner_rank": found.other,
        },
        (
            "take rejected answers to the same prompt: answers of other rows are told from the"
            " chosen ones at a glance"
            if meant
            else "join prompts and answers again by their ids, or drop the rows"
        ),
        title="Answers of other rows",
        why=(
            "The model learns to answer what was not asked; a rejected answer off the topic is an"
            " easy negative."
        ),
        harm=share,
        places=places(scan, rows, "its answer fits another row's prompt"),
    )


def _order(found: Misplaced) -> str:
    if found.kind in ("shift", "around"):
        rows = f"{abs(found.by):,} row{'s' if abs(found.by) > 1 else ''}"
        end = ", the ends joined" if found.kind == "around" else ""
        side = "further down" if found.by > 0 else "further up"
        return f"the answer to a prompt stands {rows} {side}{end}"
    if found.kind == "reversal":
        return "they stand in the reverse order"
    if found.kind == "shuffle":
        return "they stand in another order"
    return "they are exchanged among each other"


def _sound(sides: list[_Side]) -> AuditFinding:
    ranks = {" and ".join(side.names): float(side.own.mean()) for side in sides}
    value = max(ranks.values())
    return AuditFinding(
        "integrity.belonging",
        "ok",
        f"own answers rank {value:.2f} among other prompts by shared words (½ is chance): no sign"
        " of answers in other rows",
        {"ranks": ranks},
        title="Answers of other rows",
    )
