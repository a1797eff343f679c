"""The probes' results as findings: length alone and words alone on unseen prompts, with the words
that tell the sides apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from accord.auditing.causes import Cause
from accord.auditing.checks.integrity import places
from accord.auditing.checks.probes import READ, Probes, fit_linear, length_share
from accord.auditing.checks.shortcuts import LENGTHS, as_dict, explained, is_strong, remedy
from accord.auditing.cleansed import Cleansed, cleanse
from accord.auditing.findings import RANK, AuditFinding, percent
from accord.auditing.scan import Scan
from accord.auditing.thresholds import limit
from accord.errors import printable, shorten

FITTED = 2_000  # rows on which the words are weighed: two seconds for long answers
NAMED = 6  # words of a finding
RAREST = 5  # answers that have a word, at least


def probe_findings(
    scan: Scan, probes: Probes | None, causes: Sequence[Cause] = ()
) -> list[AuditFinding]:
    """Report the accuracy of length alone and of words alone on unseen prompts."""
    if probes is None:
        return []
    return [_length_finding(scan, probes), _words_finding(scan, probes, causes)]


def _figure(scan: Scan) -> tuple[str, str]:
    """Return the name of the figure and of the sample, for a finding."""
    # labelled rows: a plain accuracy would be the class balance
    figure = "" if scan.paired else ", area under the curve"
    return figure, "" if scan.whole else f" (a sample of {len(scan.sample):,})"


def _length_finding(scan: Scan, probes: Probes) -> AuditFinding:
    length = probes.length.accuracy
    share = length_share(probes)
    verdict = (
        "refused"
        if length.low > limit("shortcut_unfit")
        else "warning"
        if is_strong(length)
        else "note"
        if length.low > limit("shortcut_note")
        else "ok"
    )
    figure, sampled = _figure(scan)
    part = (
        f"; {percent(share.value)} ({percent(share.low)} to {percent(share.high)}) of what words"
        " predict is length"
        if share
        else ""
    )
    mend = remedy("characters") if scan.paired else "label rows of every length, or cut long ones"
    return AuditFinding(
        "shortcuts.length",
        verdict,
        f"a classifier on length alone, cross-fitted by prompt{figure}: {length}{sampled}{part}",
        {"accuracy": as_dict(length), "share_of_signal": share and as_dict(share)},
        mend if verdict != "ok" else "",
        title="Length decides",
        why=(
            "Length is the shortcut that preference training takes first; answers grow without"
            " getting better."
        ),
        command=(
            "--fix OUT --balance-length"
            if verdict in ("warning", "refused") and scan.paired
            else ""
        ),
        harm=max(0.0, 2 * (length.value - 0.5)),
    )


def _words_finding(scan: Scan, probes: Probes, causes: Sequence[Cause]) -> AuditFinding:
    words = probes.words.accuracy
    perfect = words.value > limit("words_perfect") and words.low > limit("words_perfect_low")
    telling = words.value >= limit("shortcut") and words.low > limit("shortcut_note")
    verdict = "warning" if perfect else "note" if telling or words.low <= 0.5 else "ok"
    figure, sampled = _figure(scan)
    says = (
        f"a linear probe on word 1- and 2-grams, cross-fitted by prompt{figure}: {words}{sampled}"
    )
    named: list[Word] = []
    shown = np.empty(0, np.int64)
    if telling:
        named = telling_words(cleanse(scan, causes), scan.desirable, scan.paired)
        sides = ("chosen", "rejected") if scan.paired else ("desirable", "undesirable")
        says += "; it reads " + ", ".join(word.says(sides) for word in named)
        shown = probes.words.rows[np.argsort(-probes.words.margins, kind="stable")[:2]]
    nothing = "more pairs, or cleaner ones: no pattern of words carries over to other prompts"
    return AuditFinding(
        "shortcuts.ngrams",
        verdict,
        says,
        {"accuracy": as_dict(words), "words": [word.as_dict() for word in named]},
        (
            "look at the words and rows named: content may decide, a writer's habit may not"
            if telling
            else nothing
            if words.low <= 0.5
            else ""
        ),
        title="What words predict",
        why=(
            "Words alone decide nearly every row. The model need not read the prompt to lower its"
            " loss."
            if perfect
            else "The signal that the simplest of models finds; a language model should find more."
        ),
        harm=max(0.0, words.value - 0.5) if perfect else 0.0,
        places=places(scan, shown, "the words alone decide this row"),
    )


@dataclass(frozen=True)
class Word:
    """A word or two that the probe reads, with the answers of each side that have it."""

    text: str
    weight: float  # in favour of chosen or desirable
    counts: tuple[int, int]

    def says(self, sides: tuple[str, str]) -> str:
        return (
            f"“{printable(shorten(self.text, 40))}” ({self.counts[0]:,} {sides[0]},"
            f" {self.counts[1]:,} {sides[1]})"
        )

    def as_dict(self) -> dict:
        text = printable(shorten(self.text, 80))
        return {"word": text, "weight": self.weight, "counts": list(self.counts)}


def telling_words(view: Cleansed, desirable: np.ndarray, paired: bool) -> list[Word]:
    """Fit the words probe on up to 2,000 rows and return the words of the largest weights.

    Weights are times the root of the word's frequency: a rare word with a large weight decides few
    rows.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    rng = np.random.Generator(np.random.Philox(key=[0, 8]))
    kept = np.sort(rng.permutation(len(view.rows))[:FITTED])
    texts = [[view.texts[at][side][:READ] for at in kept] for side in range(2 if paired else 1)]
    flat = [text for side in texts for text in side]
    try:
        counter = CountVectorizer(
            ngram_range=(1, 2),
            token_pattern=r"\w+|[^\w\s]",
            min_df=min(RAREST, len(kept)),
            max_features=50_000,
            binary=True,
        )
        table = counter.fit_transform(flat)
    except ValueError:  # no word is in so many answers
        return []
    if paired:
        half = len(kept)
        labels = np.arange(2 * half) < half
        difference = table[:half].astype(np.int8) - table[half:].astype(np.int8)
        fit = fit_linear(sparse.vstack([difference, -difference]).tocsr(), labels, 1.0, False)
    else:
        labels = desirable[view.rows[kept]]
        if labels.all() or not labels.any():
            return []
        fit = fit_linear(table, labels, 1.0, True)
    weights = fit.coef_[0]
    good = np.asarray(table[labels].sum(0)).ravel()
    bad = np.asarray(table[~labels].sum(0)).ravel()
    order = np.argsort(-np.abs(weights) * np.sqrt(good + bad), kind="stable")[:NAMED]
    names = counter.get_feature_names_out()
    return [Word(str(names[at]), float(weights[at]), (int(good[at]), int(bad[at]))) for at in order]


def name_once(findings: list[AuditFinding]) -> list[AuditFinding]:
    """Name length once: where the length probe speaks, rules on characters, words and lines are its
    symptoms. A perfect probe of words is the symptom of a rule that is as good.
    """
    by_check = {each.check: each for each in findings}
    length = by_check.get("shortcuts.length")
    strong = ("warning", "refused")
    out = []
    for each in findings:
        new = each
        if each.check in LENGTHS and length and length.verdict in strong:
            if RANK[each.verdict] < RANK[length.verdict]:
                by_check["shortcuts.length"] = length = replace(length, verdict=each.verdict)
            new = explained(replace(each, explained_by=""), "shortcuts.length")
        out.append(new)
    if length is not None:
        out = [length if each.check == "shortcuts.length" else each for each in out]
    words = by_check.get("shortcuts.ngrams")
    if words is None or words.verdict not in strong:
        return out
    best = max(
        (each for each in out if each.verdict in strong and _score(each) is not None),
        key=lambda each: _score(each) or 0.0,
        default=None,
    )
    if best is not None and (_score(best) or 0.0) >= words.evidence["accuracy"]["value"] - 0.02:
        out = [explained(e, best.check) if e.check == "shortcuts.ngrams" else e for e in out]
    return out


def _score(finding: AuditFinding) -> float | None:
    if finding.check in ("shortcuts.ngrams",) or finding.explained_by:
        return None
    found = finding.evidence.get("score") or finding.evidence.get("accuracy")
    return found["value"] if found else None
