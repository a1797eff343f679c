"""Estimate the share of flipped labels from texts alone: how sure may a classifier be before the
labels contradict it?

    P(label | margin) = ε + (1 - 2ε) (κ + (1 - 2κ) σ(a·margin))
        ε flips, margins cross-fitted, κ in [0, noise_sure_error]

The disagreement between a cross-fitted classifier and the labels mixes two things: flips, and rows
that the classifier cannot judge. They differ in the tail. On rows where the classifier is sure,
even a weak classifier errs rarely, but labels flipped at random still contradict it at the rate ε.
So ε is read from the level at which the curve of right labels against margin flattens.

Two ends, two kinds of knowledge. The upper end needs no trust in the classifier: labels cannot be
flipped more often than they contradict its surest rows, so it is never under the bound that these
rows give without a model. The lower end needs a classifier whose sure rows are right, which no text
proves. So κ, the errors of sure rows that are no flips (people who disagree, a pattern with
exceptions), may be anything up to `noise_sure_error`; and the lower end is 0 unless there are rows
enough, prompts enough, skill enough and sure rows enough. The interval is the profile likelihood's,
widened for rows that share a prompt and for folds that share their training rows.
benchmarks/noise_coverage.py measures how often it holds the truth.

The estimate covers flips that do not depend on the text. Disagreement of people on hard pairs is no
flip in this sense. Identification by rows that are certain: Northcutt et al. 2021,
arXiv:1911.00068; Patrini et al. 2017, arXiv:1609.03683.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from accord.auditing import minhash
from accord.auditing.causes import Cause
from accord.auditing.checks.integrity import conflicting_labels, duplicate_rows, knots
from accord.auditing.checks.probes import FOLDS, READ, Probed, fit_linear, fold_of, hashed_words
from accord.auditing.scan import Scan
from accord.auditing.thresholds import limit
from accord.evaluate.auc import auc_estimate
from accord.evaluate.intervals import Estimate, clopper_pearson

GRID = np.linspace(0.0, 0.49, 99)
SLOPES = np.exp(np.linspace(-4.0, 4.0, 161))  # steps of 5 %, finer than 10,000 rows can tell
BINS = 64  # of equally many rows; the likelihood sees their mean margin
CHI2 = 3.841  # 95 % quantile of χ² with one degree of freedom
SURE = 0.95  # fitted probability from which a row counts as sure
TAILS = (1 / 2, 1 / 4, 1 / 8, 1 / 16)  # shares of the surest rows that bound the flips from above


def flipped_share(
    probed: Probed, groups: np.ndarray, left_out: np.ndarray | None = None
) -> Estimate:
    """Estimate ε with its 95 % profile-likelihood interval, in [0, .49].

    The interval is all of [0, .49] where too few rows or prompts are left to judge by.

    Args:
      probed: cross-fitted margins in favour of each row's own label.
      groups: prompt of each row [n].
      left_out: rows that another finding accounts for, [n] bool; see `accounted_for`.
    """
    kept = np.ones(len(groups), bool) if left_out is None else ~left_out
    margins, groups = probed.margins[kept], groups[kept]
    if len(margins) < limit("noise_rows") or len(np.unique(groups)) < limit("noise_prompts"):
        return Estimate(0.0, 0.0, float(GRID[-1]), len(margins))
    margins = margins / max(1e-12, float(np.abs(margins).mean()))
    losses = _losses(margins)  # [E, A]
    profile = losses.min(1)
    # A quasi-likelihood over clustered rows is too sharp by the design effect (Rao and Scott 1984).
    effect = _design_effect(margins, groups)
    allowed = profile.min() + 0.5 * CHI2 * limit("noise_spread") * effect
    inside = GRID[profile <= allowed]
    high = min(float(GRID[-1]), max(float(inside.max()), _contradicted(margins, effect)))
    best, slope = np.unravel_index(losses.argmin(), losses.shape)
    kappa = limit("noise_sure_error")
    low = max(0.0, (float(inside.min()) - kappa) / (1 - 2 * kappa))
    if not (_is_skilled(probed.accuracy) and _is_sure(margins, groups, float(SLOPES[slope]))):
        low = 0.0
    return Estimate(float(GRID[best]), low, high, len(margins))


def _contradicted(margins: np.ndarray, effect: float) -> float:
    """Return the least upper bound of how often labels contradict the surest rows: labels flipped
    at random contradict every row at least at their rate, whatever the shape of the curve.

    The bounds share an error of 5 % (Bonferroni); `effect` divides the number of rows.
    """
    surest = np.argsort(-np.abs(margins), kind="stable")
    wrong = ((margins < 0) + 0.5 * (margins == 0))[surest]
    bounds = [1.0]
    for share in TAILS:
        rows = int(share * len(wrong))
        against = float(wrong[:rows].mean())
        confidence = 1 - 0.05 / len(TAILS)
        bounds.append(clopper_pearson(against, rows / effect, confidence=confidence)[1])
    return min(bounds)


def _is_skilled(accuracy: Estimate) -> bool:
    """Tell whether the classifier is better than chance by a margin."""
    return accuracy.low > limit("noise_skill")


def _is_sure(margins: np.ndarray, groups: np.ndarray, slope: float) -> bool:
    """Tell whether enough rows of enough prompts are sure under the best fit."""
    sure = expit(slope * np.abs(margins)) >= SURE
    return bool(
        sure.sum() >= limit("noise_rows") / 2
        and len(np.unique(groups[sure])) >= limit("noise_prompts") / 2
    )


def _losses(margins: np.ndarray) -> np.ndarray:
    """Return the negative log-likelihood of each share of flips and slope, [E, A], without κ."""
    size = np.abs(margins)
    right = (margins > 0) + 0.5 * (margins == 0)
    order = np.argsort(size, kind="stable")
    parts = np.array_split(order, min(BINS, len(order)))
    middle = np.array([size[part].mean() for part in parts])  # [B]
    hits = np.array([right[part].sum() for part in parts])
    misses = np.array([len(part) for part in parts]) - hits
    sure = expit(SLOPES[:, None] * middle)  # [A, B]
    chance = np.clip(
        GRID[:, None, None] + (1 - 2 * GRID[:, None, None]) * sure, 1e-9, 1 - 1e-9
    )  # [E, A, B]
    return -(np.log(chance) @ hits + np.log1p(-chance) @ misses)


def _design_effect(margins: np.ndarray, groups: np.ndarray) -> float:
    """Compute the factor by which clustering increases the variance of a mean over these rows, or
    over the surer half of them; at least 1.
    """
    right = (margins > 0) + 0.5 * (margins == 0)
    rest = right - right.mean()
    _, group = np.unique(groups, return_inverse=True)
    surer = np.abs(margins) >= np.median(np.abs(margins))
    found = [1.0]
    for part in (rest, rest * surer):
        own = float(np.square(part).sum())
        if own:
            found.append(float(np.square(np.bincount(group, weights=part)).sum()) / own)
    return max(found)


def follows_prompts(scan: Scan, probed: Probed, left_out: np.ndarray, seed: int = 0) -> Estimate:
    """Measure how well words of the prompt tell which sure rows contradict the classifier: an area
    under the curve, cross-fitted by prompt.

    Flips at random are the same under all prompts. Where one kind of prompt wants what another does
    not want (the function that fits, a refusal), a classifier that reads answers alone is sure and
    wrong, and prompts tell where: that is no noise.
    """
    kept = np.flatnonzero(~left_out)
    size = np.abs(probed.margins[kept])
    kept = kept[size >= np.median(size)] if len(kept) else kept
    wrong = probed.margins[kept] < 0
    if min(wrong.sum(), (~wrong).sum()) < 2 * FOLDS:
        return Estimate(0.5, 0.0, 1.0, len(kept))
    rows, groups = probed.rows[kept], scan.groups[probed.rows[kept]]
    texts = {each.row: each.example.prompt[-1].content[-READ:] for each in scan.sample}
    table = hashed_words([texts[row] for row in rows.tolist()])
    table = table[:, np.unique(table.indices)]
    folds, odds = fold_of(groups, seed), np.zeros(len(rows))
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        if test.any() and len(np.unique(wrong[train])) == 2:
            fit = fit_linear(table[train], wrong[train], 1.0, True)
            odds[test] = fit.decision_function(table[test])
    _, group = np.unique(groups, return_inverse=True)
    return auc_estimate(odds, wrong, group.tolist())


def accounted_for(
    scan: Scan, causes: Sequence[Cause] = (), rows: np.ndarray | None = None
) -> np.ndarray:
    """Mark sampled rows, or those of `rows`, that another finding accounts for, [n] bool: copies
    but for the first of
    each comparison, contradictions and cycles, equal or nearly equal answers, ties by score or by
    vote, labels marked as flipped, and wrecks that nothing can be taken out of.

    Each would be counted as noise, or would hide it: the noise estimate is of the other rows.
    """
    rows = scan.sample_rows if rows is None else rows
    out = duplicate_rows(scan)[rows] | (scan.declared[rows] == 1) | _near_copies(scan, rows)
    for cause in causes:
        if cause.without is None:
            out |= cause.rows[rows]
    if not scan.paired:
        return out | conflicting_labels(scan)[rows]
    contradictory, cyclic = knots(scan)
    alike = minhash.similarity(scan.answer_signs[rows, 0], scan.answer_signs[rows, 1])
    return (
        out
        | contradictory[rows]
        | cyclic[rows]
        | (scan.folded[rows, 0] == scan.folded[rows, 1])
        | (alike >= limit("same_answers"))
        | (scan.scores[rows, 0] == scan.scores[rows, 1])  # NaN equals nothing
        | (scan.votes[rows, 0] == scan.votes[rows, 1])
    )


def _near_copies(scan: Scan, rows: np.ndarray) -> np.ndarray:
    """Mark sampled rows that nearly repeat an earlier one in prompt and answers, [n] bool."""
    signs = scan.answer_signs[rows]
    pairs = minhash.links(
        np.ascontiguousarray(signs[:, 0]), limit("near_jaccard"), scan.groups[rows]
    )
    if not len(pairs):
        return np.zeros(len(rows), bool)
    alike = (minhash.similarities(signs, pairs) >= limit("near_jaccard")).all(1)
    cluster = minhash.clusters(len(rows), pairs[alike])
    first = np.full(int(cluster.max()) + 1, len(rows))
    np.minimum.at(first, cluster, np.arange(len(rows)))
    return first[cluster] < np.arange(len(rows))
