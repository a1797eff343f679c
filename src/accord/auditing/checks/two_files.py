"""Held-out rows that are of another kind than the rows trained on: their accuracy is no estimate of
anything that the training is for.

Causes first: rows of other sources or the tail of a sorted file also have other lengths and are of
another kind; the symptoms are notes that name the cause.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from accord.auditing.checks.file_probes import FilePair, kind_auc, label_probe, word_shares
from accord.auditing.findings import AuditFinding, percent
from accord.auditing.measure import COLUMN
from accord.auditing.scan import Scan
from accord.auditing.split import source_column
from accord.auditing.thresholds import limit
from accord.errors import printable, shorten
from accord.evaluate.auc import auc_estimate
from accord.evaluate.intervals import Estimate, bounded_mean

FEWEST = 30  # held-out rows and half as many prompts, under which nothing is compared
UNIQUE = 0.5  # values a different prompt, from which on a column is an id: 1.0 of a row's own
DRAWS = 200  # of training prompts, for what chance does to the shares of sources


def two_file_findings(scan: Scan, held_out: Scan) -> list[AuditFinding]:
    """Compare what the rows of two files are: kinds, lengths, sources, order, label conventions."""
    pair = FilePair(scan, held_out)
    if min(len(scan), len(held_out)) < FEWEST or pair.prompts < FEWEST / 2:
        return []
    found = [
        *_orders(pair),
        *_sources(pair),
        *_kinds(pair),
        *_lengths(pair),
        *(_labels_of_pairs(pair) if scan.paired else _labels(pair)),
    ]
    return _causes_first(found)


# the later ones are symptoms of the earlier ones
CAUSES = (
    "held_out.order",
    "held_out.sources",
    "held_out.kind",
    "held_out.lengths",
    "held_out.trivial",
)


def _causes_first(found: list[AuditFinding]) -> list[AuditFinding]:
    """Turn a warning that an earlier cause explains into a note that names it."""
    out, cause = [], ""
    for each in found:
        if each.verdict == "warning" and each.check in CAUSES:
            if cause and cause != each.check:
                each = replace(each, verdict="note", explained_by=cause, remedy="", harm=0.0)
            cause = cause or each.check
        out.append(each)
    return out


def _quantities(scan: Scan) -> dict[str, np.ndarray]:
    """Return the numbers of each row by which a file may be sorted."""
    characters = scan.features[:, :, COLUMN["characters"]]
    names = ("chosen", "rejected") if scan.paired else ("answer",)
    out = {
        "length of the prompt": scan.prompt_characters.astype(float),
        "length of all answers": characters.sum(1),
        "length of the row": scan.prompt_characters + characters.sum(1),
    }
    out |= {f"length of the {n} answer": characters[:, i] for i, n in enumerate(names)}
    if not np.isnan(scan.scores).any():
        out["score of the chosen answer"] = scan.scores[:, 0]
        out["difference of scores"] = scan.scores[:, 0] - scan.scores[:, 1]
    return out


def _aucs(pair: FilePair) -> dict[str, Estimate]:
    """Estimate how often a held-out row has more of each quantity than a training row."""
    theirs = _quantities(pair.held_out)
    out = {}
    for name, ours in _quantities(pair.train).items():
        if name in theirs:
            values = np.concatenate([ours[pair.rows[0]], theirs[name][pair.rows[1]]])
            out[name] = auc_estimate(values, pair.is_held_out, pair.groups.tolist())
    return out


def _orders(pair: FilePair) -> list[AuditFinding]:
    """Find a held-out file that is the tail of a sorted file."""
    ours, theirs = map(_quantities, pair.scans)
    for name in [each for each in ours if each in theirs]:
        for sign, where in ((1, "above"), (-1, "below")):
            if _is_tail(sign * ours[name], sign * theirs[name]):
                says = f"the {name} is {where} that of nearly every training row"
                return [_order(says, {"quantity": name}, 1.0)]
    source = source_column(pair.train)
    if source and source in pair.held_out.columns and _sorted_by(pair, source):
        return [
            _order(
                f"the training file is sorted by {source}, and the held-out rows are of its end",
                {"column": source},
                1.0,
            )
        ]
    return []


def _is_tail(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Tell whether held-out values begin where those of training end: no overlap, and no gap that
    would make them values of another kind.
    """
    if ours.min() == ours.max() or theirs.min() == theirs.max() == ours.max():
        return False
    end, start = np.quantile(ours, 1 - limit("tail")), np.quantile(theirs, limit("tail"))
    if end > start:
        return False
    values = np.unique(np.concatenate([ours, theirs]))
    step = max(float(np.diff(values).min()), 0.05 * float(values[-1] - values[0]))
    return float(theirs.min() - ours.max()) <= step


def _order(says: str, evidence: dict, harm: float) -> AuditFinding:
    return AuditFinding(
        "held_out.order",
        "warning",
        f"the held-out rows are one end of a sorted file: {says}",
        evidence,
        "put the files together, and split by chance",
        title="Held-out rows are a sorted tail",
        why="They are the easiest, hardest, longest or last of all rows, not a sample of them.",
        command="accord split DATA --output split",
        harm=harm,
    )


def _sorted_by(pair: FilePair, name: str) -> bool:
    """Tell whether the training rows of each source lie together, and the held-out rows are of the
    last source or of new ones.
    """
    codes, names = pair.train.columns[name]
    runs = np.flatnonzero(np.r_[True, np.diff(codes) != 0])
    if len(runs) != len(np.unique(codes)):
        return False
    known = {names[codes[run]] for run in runs[:-1].tolist() if codes[run] >= 0}
    theirs, held_names = pair.held_out.columns[name]
    return not known & {held_names[code] for code in np.unique(theirs[theirs >= 0]).tolist()}


def _lengths(pair: FilePair) -> list[AuditFinding]:
    aucs = {k: v for k, v in _aucs(pair).items() if k.startswith("length")}
    name, auc = max(aucs.items(), key=lambda item: abs(item[1].value - 0.5))
    apart = max(auc.value, 1 - auc.value)
    sure = max(auc.low, 1 - auc.high)
    other = apart >= limit("held_out_auc") and sure >= limit("held_out_auc") - 0.05
    ours, theirs = (float(np.median(_quantities(each)[name])) for each in pair.scans)
    more = "more" if auc.value > 0.5 else "fewer"
    return [
        AuditFinding(
            "held_out.lengths",
            "warning" if other else "ok",
            f"{name}: median {theirs:,.0f} characters held out, {ours:,.0f} trained on;"
            f" a held-out row has {more} in {percent(apart)} of comparisons",
            {"auc": {each: found.as_dict() for each, found in aucs.items()}},
            "hold out rows of the same lengths" if other else "",
            title="Held-out rows of other lengths",
            why="Accuracy, margins and loss depend on length: other lengths give other figures.",
            command="accord split DATA --output split" if other else "",
            harm=2 * apart - 1 if other else 0.0,
        )
    ]


def _sources(pair: FilePair) -> list[AuditFinding]:
    """Compare the shares of each category; what chance does is drawn from the training prompts."""
    worst: tuple[float, str, str] | None = None
    for name in sorted(pair.train.columns.keys() & pair.held_out.columns.keys()):
        shares = [_shares(each, name) for each in pair.scans]
        values = sorted(shares[0].keys() | shares[1].keys())
        if any(
            _names_rows(each, len(share)) for each, share in zip(pair.scans, shares, strict=True)
        ):
            continue
        ours, theirs = (np.array([each.get(v, 0.0) for v in values]) for each in shares)
        distance = 0.5 * float(np.abs(ours - theirs).sum())
        excess = distance - _by_chance(pair, name)
        if excess > limit("held_out_sources") and (worst is None or excess > worst[0]):
            at = int(np.abs(ours - theirs).argmax())
            says = (
                f"{name} = {shorten(printable(values[at]), 40)}: {percent(float(theirs[at]))} of"
                f" held-out rows, {percent(float(ours[at]))} of those trained on"
            )
            worst = (excess, name, says)
    if worst is None:
        return []
    return [
        AuditFinding(
            "held_out.sources",
            "warning",
            f"the held-out rows are of other sources: {worst[2]}",
            {"column": worst[1], "beyond_chance": worst[0]},
            "hold out the same share of each source",
            title="Held-out rows of other sources",
            why="A gain on another source is not the gain on what is trained on, nor the reverse.",
            command="accord split DATA --output split",
            harm=min(1.0, worst[0]),
        )
    ]


def _names_rows(scan: Scan, values: int) -> bool:
    """Tell whether a column names rows or prompts and not sources: nearly each has its own."""
    return values > UNIQUE * len(np.unique(scan.questions))


def _shares(scan: Scan, name: str) -> dict[str, float]:
    codes, names = scan.columns[name]
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    return {names[at]: count / max(1, counts.sum()) for at, count in enumerate(counts) if count}


def _by_chance(pair: FilePair, name: str) -> float:
    """Return the distance that 99 % of held-out files of as many prompts stay under by chance."""
    codes, names = pair.train.columns[name]
    rows = pair.rows[0]
    _, group = np.unique(pair.train.groups[rows], return_inverse=True)
    table = np.zeros((group.max() + 1, len(names)))
    known = codes[rows] >= 0
    np.add.at(table, (group[known], codes[rows][known]), 1)
    whole = table.sum(0) / max(1.0, table.sum())
    rng = np.random.Generator(np.random.Philox(key=[0, 11]))
    drawn = rng.integers(len(table), size=(DRAWS, min(pair.prompts, 2_000)))
    sums = np.stack([table[each].sum(0) for each in drawn])
    shares = sums / np.maximum(1.0, sums.sum(1, keepdims=True))
    return float(np.quantile(0.5 * np.abs(shares - whole).sum(1), 0.99))


def _kinds(pair: FilePair) -> list[AuditFinding]:
    auc = kind_auc(pair)
    if auc is None:
        return []
    other = auc.value >= limit("held_out_auc") and auc.low >= limit("held_out_auc") - 0.05
    return [
        AuditFinding(
            "held_out.kind",
            "warning" if other else "ok",
            "a classifier of prompts (turns, system text, language, marks, words; not length) tells"
            f" a held-out row from a training row, cross-fitted, area under the curve: {auc}",
            {"auc": auc.as_dict()},
            "hold out rows of the file that is trained on" if other else "",
            title="Held-out rows of another kind",
            why="Rows of another format, language or domain measure something else.",
            command="accord split DATA --output split" if other else "",
            harm=max(0.0, 2 * auc.value - 1) if other else 0.0,
        )
    ]


# ---------------------------------------------------------------- labels


def _labels_of_pairs(pair: FilePair) -> list[AuditFinding]:
    """Find held-out pairs whose sides are exchanged, or whose rejected answers give themselves
    away.
    """
    probe = label_probe(pair)
    turned = probe is not None and probe[0].low > 0.5 and probe[1].high < 0.5
    for name, train, held_out in _giveaways(pair, probe):
        if held_out.low > train.high + limit("held_out_easier"):
            return [_trivial(name, train, held_out)]
    if turned and probe is not None:
        return [_exchanged("a probe of words and length ranks", *probe)]
    ours, theirs = (_agreement(each) for each in pair.scans)
    if ours is not None and theirs is not None and ours.low > 0.5 > theirs.high:
        return [_exchanged("the scores beside the answers rank", ours, theirs)]
    return []


def _agreement(scan: Scan) -> Estimate | None:
    """Estimate the share of scored pairs whose chosen answer has the higher score."""
    gap = scan.scores[:, 0] - scan.scores[:, 1]
    known = np.isfinite(gap) & (gap != 0)
    if known.sum() < FEWEST:
        return None
    return bounded_mean((gap[known] > 0).astype(float), clusters=scan.groups[known].tolist())


def _exchanged(what: str, ours: Estimate, theirs: Estimate) -> AuditFinding:
    return AuditFinding(
        "held_out.exchanged",
        "warning",
        f"{what} {theirs} of the held-out pairs rightly, and {ours} of the training pairs: the"
        " held-out sides are exchanged",
        {"train": ours.as_dict(), "held_out": theirs.as_dict()},
        "exchange the held-out sides, or find out which file is right",
        title="Held-out sides are exchanged",
        why="A run that learns scores under one half, and the worst checkpoint is kept.",
        harm=1.0,
    )


def _giveaways(pair: FilePair, probe: tuple[Estimate, Estimate] | None):
    """Yield (what, share in training, share held out) of what makes a rejected answer trivial."""
    groups = [each.groups.tolist() for each in pair.scans]
    for name, make in (
        ("rejected answers of two words at most, chosen ones of more", _empty_like),
        ("rejected answers that are another row's", _of_another_row),
    ):
        hits = [make(each) for each in pair.scans]
        yield name, *(bounded_mean(h, clusters=g) for h, g in zip(hits, groups, strict=True))
    if all(pair.samples):  # a run may want no rows read
        yield "chosen answers that share more words with the prompt", *word_shares(pair)
    if probe is not None:
        yield "pairs that a probe of words ranks rightly", *probe


def _empty_like(scan: Scan) -> np.ndarray:
    words = scan.features[:, :, COLUMN["words"]]
    return ((words[:, 1] <= 2) & (words[:, 0] > 2)).astype(float)


def _of_another_row(scan: Scan) -> np.ndarray:
    """Mark rows whose rejected answer is an answer to another prompt of the file; short answers
    stand under many.
    """
    both = np.stack([scan.folded.ravel(), np.repeat(scan.questions, 2)], 1)
    answers, counts = np.unique(np.unique(both, axis=0)[:, 0], return_counts=True)
    long = scan.features[:, 1, COLUMN["characters"]] >= 20
    return (np.isin(scan.folded[:, 1], answers[counts > 1]) & long).astype(float)


def _trivial(name: str, ours: Estimate, theirs: Estimate) -> AuditFinding:
    return AuditFinding(
        "held_out.trivial",
        "warning",
        f"the held-out pairs are easier: {name}: {theirs} held out, {ours} in training",
        {"train": ours.as_dict(), "held_out": theirs.as_dict()},
        "hold out pairs that were made in the same way",
        title="Trivial held-out pairs",
        why="Accuracy on pairs that any model ranks is high from the start, and says nothing.",
        command="accord split DATA --output split",
        harm=min(1.0, theirs.value - ours.value),
    )


def _labels(pair: FilePair) -> list[AuditFinding]:
    """Compare the labels of rows that are labelled one by one: their convention and their share."""
    if pair.train.kind != "labelled":
        return []
    probe = label_probe(pair)
    ours, theirs = (
        bounded_mean(each.desirable.astype(float), clusters=each.groups.tolist())
        for each in pair.scans
    )
    turned = probe is not None and probe[0].low > 0.5 and probe[1].high < 0.5
    gap = max(theirs.low - ours.high, ours.low - theirs.high)
    apart = gap > 0 and abs(theirs.value - ours.value) >= limit("held_out_labels")
    says = (
        f"{percent(theirs.value)} of held-out rows are desirable, {percent(ours.value)} in training"
    )
    if turned and probe is not None:
        says = (
            "a probe of words and length ranks unseen training rows with an area under the curve of"
            f" {probe[0]}, and held-out rows with {probe[1]}: true means undesirable there; {says}"
        )
    return [
        AuditFinding(
            "held_out.labels",
            "warning" if turned or apart else "ok",
            says,
            {"train": ours.as_dict(), "held_out": theirs.as_dict()},
            "bring both files to one convention of labels" if turned or apart else "",
            title="Held-out labels of another convention",
            why="KTO's figures weigh good and bad rows by their number; an inverted label inverts"
            " them.",
            harm=1.0 if turned else abs(theirs.value - ours.value) if apart else 0.0,
        )
    ]
