"""Answers that stand under several prompts: one answer in many rows, a stale answer of the row
before, and answers of one side that are another row's on the other side.

A short answer may be right under many prompts: a label, a number, "I have no comment.". A long one
answers one question, or it answers none.

N rows · S sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import log

import numpy as np

from accord.auditing.causes import Cause
from accord.auditing.checks.integrity import SHOWN, mixed, places
from accord.auditing.cleansed import left_out
from accord.auditing.findings import FEW_ROWS, AuditFinding, out_of
from accord.auditing.likeness import READ, terms
from accord.auditing.measure import COLUMN
from accord.auditing.prompts import prompt_text
from accord.auditing.scan import Scan
from accord.auditing.thresholds import limit
from accord.errors import plural, printable, shorten

CHECK, TITLE = "integrity.repeated_answers", "One answer under many prompts"
FEWEST = 30  # rows
LONG = 80  # characters from which on an answer is no label and no stock phrase
STALE = 40  # … and of a copy of the row before, which is a stronger sign
MOST = 2_000  # rows, and pairs of prompts, that are compared
PROMPTS = 3  # different prompts under which one answer is no slip


@dataclass(frozen=True)
class _Column:
    """The answers of one side."""

    name: str
    rows: np.ndarray  # [n] rows of the scan
    code: np.ndarray  # [n] number of the answer: equal but for case and blanks
    prompt: np.ndarray  # [n] prompt cluster
    characters: np.ndarray  # [n]
    under: np.ndarray  # [n] prompts that have this answer on this side
    across: np.ndarray  # [n] share of the other side that is this answer, to that of this side


@dataclass(frozen=True)
class Repeated:
    """Rows of one side whose answers stand under other prompts as well."""

    kind: str  # "one", "stale", "crossed", "several" or "short"
    column: _Column
    hit: np.ndarray  # [n] bool, of the column
    like: bool = False  # the prompts of one answer are like each other: it may be right for all

    @property
    def meant(self) -> bool:
        """Tell whether the answers may be right under all their prompts."""
        return self.like or self.kind == "short"

    @property
    def rows(self) -> np.ndarray:
        return self.column.rows[self.hit]

    @property
    def share(self) -> float:
        return float(self.hit.mean())


def repeated_findings(
    scan: Scan, causes: Sequence[Cause] = ()
) -> tuple[list[AuditFinding], list[Cause]]:
    """Find answers under several prompts, without the rows that are named already."""
    kept = np.flatnonzero(~left_out(scan, causes))
    if len(kept) < FEWEST or scan.kind == "demonstrations":
        return [], []
    prompts = prompt_clusters(scan, np.arange(len(scan)))[kept]
    columns = _columns(scan, kept, prompts)
    found: list[Repeated] = []
    for column in columns:
        found += _of_column(column, _crossed(columns, column) if scan.paired else None)
    found = [_of_like_prompts(scan, each) for each in _once(found)]
    if not found:
        return [_sound(scan)], []
    finding = _finding(scan, found)
    touched = np.zeros(len(scan), bool)
    for each in found:
        if not each.meant:
            touched[each.rows] = True
    causes = [Cause(CHECK, TITLE, touched)] if finding.verdict == "warning" else []
    return [finding], causes


def prompt_clusters(scan: Scan, rows: np.ndarray) -> np.ndarray:
    """Return the prompt cluster of each row, [n]. Where a long frame makes near copies of all
    prompts, only equal prompts belong together.
    """
    groups = scan.groups[rows]
    if 2 * np.unique(groups, return_counts=True)[1].max() > len(rows):
        return np.unique(scan.questions[rows], return_inverse=True)[1]
    return groups


def _columns(scan: Scan, kept: np.ndarray, prompts: np.ndarray) -> list[_Column]:
    """Return both sides of pairs; of labelled rows the good and the bad ones."""
    good = scan.desirable[kept]
    parts = [("chosen", 0, np.ones(len(kept), bool)), ("rejected", 1, np.ones(len(kept), bool))]
    if not scan.paired:
        parts = [("desirable", 0, good), ("undesirable", 0, ~good)]
    parts = [each for each in parts if each[2].any()]
    shown = [scan.folded[kept[mask], at] for _, at, mask in parts]
    _, codes = np.unique(np.concatenate(shown), return_inverse=True)
    ends = np.cumsum([0, *map(len, shown)])
    by_side = [codes[start:end] for start, end in pairwise(ends)]
    size = int(codes.max()) + 1
    shares = [np.bincount(code, minlength=size) / len(code) for code in by_side]
    out = []
    for number, ((name, at, mask), code) in enumerate(zip(parts, by_side, strict=True)):
        own = np.unique(np.stack([code, prompts[mask]]), axis=1)[0]
        under = np.bincount(own, minlength=size)
        others = sum((s for n, s in enumerate(shares) if n != number), np.zeros(size))
        characters = scan.features[kept[mask], at, COLUMN["characters"]]
        across = others[code] / shares[number][code]
        out.append(_Column(name, kept[mask], code, prompts[mask], characters, under[code], across))
    return out


def _of_column(column: _Column, crossed: np.ndarray | None) -> list[Repeated]:
    """Find what repeats in one column, the surest sign first."""
    found = []
    long = column.characters >= LONG
    if _enough(stale := _stale(column)):
        found.append(Repeated("stale", column, stale))
    count = np.bincount(column.code)[column.code]
    often = (count >= FEW_ROWS) & (column.under >= PROMPTS)
    often &= (count >= limit("repeated_answer") * len(count)) & (column.across < 0.5)
    often &= ~np.isin(column.code, column.code[stale])
    if (one := often & long).any():
        found.append(Repeated("one", column, one))
    crossed = np.zeros_like(long) if crossed is None else crossed & long & ~one
    if _enough(crossed) and crossed.mean() >= limit("repeated_several"):
        found.append(Repeated("crossed", column, crossed))
    rest = long & (column.under >= 2) & ~one & (column.across < 0.5)
    rest &= ~np.isin(column.code, column.code[stale])
    if _enough(rest) and rest.mean() >= limit("repeated_several"):
        found.append(Repeated("several", column, rest))
    if (short := often & ~long & (count >= limit("repeated_short") * len(count))).any():
        most = column.code == np.bincount(column.code[short]).argmax()
        found.append(Repeated("short", column, most))
    return found


def _enough(hit: np.ndarray) -> bool:
    return hit.sum() >= FEW_ROWS and hit.mean() >= limit("repeated_answer")


def _stale(column: _Column) -> np.ndarray:
    """Mark answers that equal the row's before under another prompt, [n] bool. An answer that
    stands elsewhere too is a common one, and a sorted file has those beside each other.
    """
    code, prompt = column.code, column.prompt
    again = np.zeros(len(code), bool)
    again[1:] = (code[1:] == code[:-1]) & (prompt[1:] != prompt[:-1])
    again[1:] &= np.diff(column.rows) == 1
    runs = np.bincount(code, again)[code]
    return again & (column.characters >= STALE) & (2 * runs >= np.bincount(code)[code] - 1)


def _crossed(columns: list[_Column], own: _Column) -> np.ndarray:
    """Mark answers that stand on the other side under other prompts alone, [n] bool. Of several
    pairs of a prompt, one's chosen answer is soundly another's rejected one.
    """
    other = next(each for each in columns if each is not own)
    one, two = (
        mixed(each.code.astype(np.uint64), each.prompt.astype(np.uint64)) for each in (own, other)
    )
    # what stands under many prompts is a stock answer, and may be the worse one under some
    return np.isin(own.code, other.code) & ~np.isin(one, two) & (own.under < PROMPTS)


def _once(found: list[Repeated]) -> list[Repeated]:
    """Name crossed answers once, from the chosen side."""
    crossed = [each for each in found if each.kind == "crossed"]
    return [each for each in found if each not in crossed[1:]]


def _of_like_prompts(scan: Scan, part: Repeated) -> Repeated:
    """Mark answers whose prompts are like each other: a stock answer to one question in many
    wordings is sound. Their likeness is compared with that of prompts of different answers.
    """
    if part.meant or part.kind == "crossed":
        return part
    column = part.column
    mine = np.flatnonzero(np.isin(column.code, column.code[part.hit]))
    mine = mine[np.isin(column.rows[mine], scan.sample_rows)][:MOST]
    order = mine[np.argsort(column.code[mine], kind="stable")]
    same = column.code[order[1:]] == column.code[order[:-1]]
    same &= column.prompt[order[1:]] != column.prompt[order[:-1]]
    if same.sum() < FEW_ROWS:
        return part
    known = np.flatnonzero(np.isin(column.rows, scan.sample_rows))
    prompts = _Prompts(scan, column.rows)
    within = prompts.likeness(order[1:][same], order[:-1][same])
    rng = np.random.Generator(np.random.Philox(key=[len(scan), 13]))
    one, two = rng.choice(known, (2, MOST))
    apart = column.code[one] != column.code[two]
    if not apart.any():
        return part
    between = np.sort(prompts.likeness(one[apart], two[apart]))
    rank = (
        np.searchsorted(between, within, "left") + np.searchsorted(between, within, "right")
    ).mean() / (2 * len(between))
    return replace(part, like=bool(rank >= limit("like_prompts")))


class _Prompts:
    """The terms of sampled prompts, weighted by rarity."""

    def __init__(self, scan: Scan, rows: np.ndarray) -> None:
        self.rows = rows
        self.terms = {
            each.row: terms(prompt_text(each.example.prompt)[-READ:]) for each in scan.sample
        }
        self.count = Counter(term for each in self.terms.values() for term in each)

    def likeness(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        """Return the weighted share of terms that the prompts of two rows have both, [m]."""
        pairs = zip(self.rows[one].tolist(), self.rows[two].tolist(), strict=True)
        return np.array([self._share(self.terms[i], self.terms[j]) for i, j in pairs])

    def _share(self, one: set[str], two: set[str]) -> float:
        either = self._weight(one | two)
        return self._weight(one & two) / either if either else 0.0

    def _weight(self, known: set[str]) -> float:
        return sum(log(1 + len(self.terms) / self.count[term]) for term in sorted(known))


# ---------------------------------------------------------------- what is said


def _finding(scan: Scan, found: list[Repeated]) -> AuditFinding:
    worst = max(found, key=lambda each: (not each.meant, each.share))
    raised = not worst.meant
    return AuditFinding(
        CHECK,
        "warning" if raised else "note",
        "; ".join(_says(scan, each) for each in found),
        {
            "share": worst.share,
            "parts": [
                {
                    "kind": each.kind,
                    "side": each.column.name,
                    "count": int(each.hit.sum()),
                    "share": each.share,
                    "like_prompts": each.like,
                    "answers": len(np.unique(each.column.code[each.hit])),
                }
                for each in found
            ],
        },
        "find out what wrote them, and join answers to their prompts again or drop the rows"
        if raised
        else "",
        title=TITLE,
        why=(
            "An answer that does not depend on the prompt teaches the model not to read it; on one"
            " side it gives the label away."
        ),
        harm=worst.share if raised else 0.0,
        places=places(scan, _spread(worst), _detail(worst)),
    )


def _spread(part: Repeated) -> np.ndarray:
    """Return rows to show: those of the commonest answer, one for each of its prompts."""
    column = part.column
    code, prompt = column.code[part.hit], column.prompt[part.hit]
    if part.kind in ("one", "short"):
        mine = np.flatnonzero(code == np.bincount(code).argmax())
        mine = mine[np.sort(np.unique(prompt[mine], return_index=True)[1])]
    else:
        mine = np.arange(len(code))
    return part.rows[mine[:SHOWN]]


def _detail(part: Repeated) -> str:
    side = f"its {part.column.name} answer" if part.column.name in _SIDES else "its answer"
    return {
        "stale": f"{side} is the one of the row before",
        "crossed": f"{side} is another row's rejected one",
        "several": f"{side} stands under other prompts as well",
    }.get(part.kind, f"{side} is the same under other prompts")


_SIDES = ("chosen", "rejected")


def _says(scan: Scan, part: Repeated) -> str:
    column, hit = part.column, part.hit
    counted = out_of(int(hit.sum()), len(hit), f"{column.name} answers")
    like = ", which are like each other" if part.like else ""
    if part.kind == "stale":
        says = f"{counted} are the answer of the row before, to another prompt{like}"
        answers = np.unique(column.code[hit])
        if len(answers) == 1:
            says += f": {_text(scan, column, int(answers[0]))}".rstrip(", ")
        return says
    if part.kind == "crossed":
        return f"{counted} are the rejected answer of a row with another prompt"
    answers = np.unique(column.code[hit])
    if part.kind == "several":
        return (
            f"{counted} stand under two or more different prompts{like}:"
            f" {plural(len(answers), 'answer')}"
        )
    counts = np.bincount(column.code[hit])
    common = int(counts.argmax())
    under = int(column.under[column.code == common][0])
    shown = _text(scan, column, common)
    if len(answers) == 1:
        return f"{counted} are one and the same, {shown}under {under:,} different prompts{like}"
    return (
        f"{counted} are one of {len(answers):,} repeated answers, the commonest, "
        f"{shown}under {under:,} different prompts{like}"
    )


def _text(scan: Scan, column: _Column, code: int) -> str:
    """Quote an answer, if one of its rows is in the sample."""
    at = int(scan.paired and column.name == "rejected")
    rows = set(column.rows[column.code == code].tolist())
    for each in scan.sample:
        if each.row in rows:
            return f"“{shorten(printable(each.example.completions[at]), 60)}”, "
    return ""


def _sound(scan: Scan) -> AuditFinding:
    return AuditFinding(
        CHECK,
        "ok",
        "no long answer stands under many different prompts",
        {"share": 0.0},
        title=TITLE,
    )
