"""Signatures of a side: what its answers have and the other side's have not, at their beginning, at
their end or inside: marks, phrases, stamps, capitals, punctuation, quotation marks, blanks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from accord.auditing.causes import Cause
from accord.auditing.checks.integrity import places
from accord.auditing.checks.marks import WORDS, Words
from accord.auditing.cleansed import left_out, without_all
from accord.auditing.findings import RANK, AuditFinding, percent
from accord.auditing.scan import Scan
from accord.auditing.signs.asked import asked_for, prompt_words
from accord.auditing.signs.documents import Documents
from accord.auditing.signs.search import Signature, search
from accord.auditing.tables.marks import BITS
from accord.data.chat_marks import as_ascii, marks_in
from accord.data.foreign_marks import ENDED, FRAME, NEXT_TURN
from accord.errors import printable, shorten

FEWEST = 20  # rows under which no signature is distinguishable from chance
SHOWN = 80  # characters of a signature in a finding
TOKENS = (FRAME, ENDED, NEXT_TURN)  # marks.* that are a signature's text
NAMED = 0.9  # share of a signature's answers from which marks.* names it

TITLES = {
    "beginning": "beginnings of answers",
    "ending": "ends of answers",
    "phrase": "a phrase",
    "dates": "a date or a stamp",
    "capitals": "capitals",
    "punctuation": "punctuation",
    "quotes": "quotation marks",
    "think": "a block in tags",
    "blanks": "blanks",
}


def signature_findings(
    scan: Scan, causes: Sequence[Cause], seed: int
) -> tuple[list[AuditFinding], list[Cause]]:
    """Find signatures of a side that `causes` do not explain, and return what each explains."""
    documents = _documents(scan, causes)
    if documents is None:
        return [], []
    raw = _documents(scan, ()) if causes else documents
    found = _without_asked(scan, search(documents, seed, raw))
    by_check: dict[str, list[Signature]] = {}
    causes_found = []
    for each in found:
        words = _marked_by(scan, each)
        if words is None:
            by_check.setdefault(each.check, []).append(each)
        elif each.verdict != "note":  # marks.* names it: a cause, and no finding of its own
            causes_found.append(_cause(scan, words.check, words.title, [each]))
    findings = [_finding(scan, check, group) for check, group in by_check.items()]
    by_name = {finding.check: finding for finding in findings}
    for check, group in by_check.items():
        taken = [each for each in group if each.verdict != "note"]  # a note is content, and stays
        if taken:
            causes_found.append(_cause(scan, check, by_name[check].title, taken))
    return findings, causes_found


def _marked_by(scan: Scan, each: Signature) -> Words | None:
    """Return the kind of marks.* that names a signature already, such as an end token; or None."""
    table = scan.tables.marks
    if each.name or not len(table) or not marks_in(as_ascii(each.shown)):
        return None
    column = 1 if each.label or not scan.paired else 2
    flags = table.array[each.rows, column]
    kind = max(TOKENS, key=lambda kind: int(((flags & BITS[kind]) > 0).sum()))
    named = float(((flags & BITS[kind]) > 0).mean())
    return WORDS[kind] if named >= NAMED else None


def _without_asked(scan: Scan, found: Sequence[Signature]) -> list[Signature]:
    """Make a note of each signature that the prompts ask for."""
    if all(each.verdict == "note" for each in found):
        return list(found)
    prompts = [prompt_words(each.example.prompt[-1].content) for each in scan.sample]
    out = []
    for each in found:
        marked = np.isin(scan.sample_rows, each.rows)
        word = "" if each.verdict == "note" else asked_for(prompts, marked)
        out.append(replace(each, verdict="note", asked=word) if word else each)
    return out


def _documents(scan: Scan, causes: Sequence[Cause]) -> Documents | None:
    """Build the documents from the sample, without the causes that are known."""
    if scan.kind == "demonstrations":
        return None
    dropped = left_out(scan, causes)
    kept = [each for each in scan.sample if not dropped[each.row]]
    if len(kept) < FEWEST:
        return None
    clean = without_all(causes)
    rows = np.array([each.row for each in kept], np.int64)
    if scan.paired:
        texts = [clean(each.example.completions[side]) for side in (0, 1) for each in kept]
        labels = np.arange(len(texts)) < len(rows)
        rows = np.concatenate([rows, rows])
    else:
        texts = [clean(each.example.completions[0]) for each in kept]
        labels = scan.desirable[rows]
        if min(labels.sum(), (~labels).sum()) < FEWEST // 2:
            return None
    return Documents(texts, labels, scan.groups[rows], rows, scan.paired)


def _finding(scan: Scan, check: str, group: list[Signature]) -> AuditFinding:
    worst = min(group, key=lambda each: RANK[each.verdict])
    strongest = max(group, key=lambda each: each.contrast.score.value)
    kind = check.split(".")[1]
    told = list(dict.fromkeys(_says(scan, each) for each in group))
    sampled = "" if scan.whole else f" (a sample of {len(scan.sample):,})"
    return AuditFinding(
        check,
        worst.verdict,
        "; ".join(told[:4]) + (f"; and {len(told) - 4} more" if len(told) > 4 else "") + sampled,
        {
            "signatures": [
                {
                    "shown": printable(shorten(each.shown, 400)),
                    "habit": each.name,
                    "kind": each.kind,
                    "side": _side(scan, each.label),
                    "share": each.contrast.share,
                    "other_share": each.contrast.other,
                    "count": each.contrast.count,
                    "other_count": each.contrast.other_count,
                    "score": each.contrast.score.as_dict(),
                    "p": each.contrast.p,
                }
                for each in group
            ]
        },
        "take it out of the texts, or give both sides the same; then audit again",
        title=f"Shortcut: {TITLES[kind]}",
        why=(
            "The model can lower its loss by learning this mark of a side instead of what makes an"
            " answer better."
        ),
        harm=max(0.0, 2 * (strongest.contrast.score.value - 0.5)),
        places=places(scan, strongest.rows, f"the {_side(scan, strongest.label)} answer has it"),
    )


def _says(scan: Scan, each: Signature) -> str:
    found = each.contrast
    where = {"shortcuts.beginning": "begin with ", "shortcuts.ending": "end with "}.get(
        each.check, "have "
    )
    quoted = f"“{printable(shorten(each.shown, SHOWN))}”"
    what = each.name or where + (f"{each.kind}, such as {quoted}" if each.kind else quoted)
    side, count = _side(scan, not each.label), found.other_count
    others = f"{count:,} {side} one{'s' * (count > 1)} ({percent(found.other)})"
    return (
        f"{found.count:,} {_side(scan, each.label)} answers ({percent(found.share)}) {what},"
        f" and {others if count else f'none of the {side} ones'}"
        + (f"; their prompts ask for it (“{printable(each.asked)}”)" if each.asked else "")
    )


def _side(scan: Scan, label: bool) -> str:
    if scan.paired:
        return "chosen" if label else "rejected"
    return "desirable" if label else "undesirable"


def _cause(scan: Scan, check: str, title: str, group: list[Signature]) -> Cause:
    rows = np.zeros(len(scan), bool)
    for each in group:
        rows[each.rows] = True
    return Cause(check, title, rows, _chain([each.without for each in group]))


def _chain(steps: list[Callable[[str], str]]) -> Callable[[str], str]:
    def clean(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    return clean
