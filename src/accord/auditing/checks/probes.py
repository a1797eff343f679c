"""Small classifiers that measure how predictable "chosen" is from length alone, from words, and
from both.

They are cross-fitted by prompt: each row is judged by a classifier that never saw its prompt or a
near copy of it. So the accuracy holds for new rows, and its interval is clustered by prompt.

A pair is one row, x_chosen - x_rejected, with a sign drawn by the seed: swapping the sides swaps
the answer. For rows labelled one by one, the figure is the probability that a good row is ranked
above a bad one. A plain accuracy would reach .9 if 90 % are good, even for a classifier that has
learned nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from accord.auditing.causes import Cause
from accord.auditing.cleansed import Cleansed, cleanse
from accord.auditing.measure import COLUMN
from accord.auditing.scan import Scan
from accord.evaluate.auc import auc_estimate
from accord.evaluate.intervals import Estimate, accuracy

FOLDS = 5
HASHED = 1 << 18  # columns of the n-gram table
READ = 4_000  # characters of an answer: 20 million characters at most, a few seconds
# shares of the training rows for the learning curve, which ends at all of them
SHARES = (0.125, 0.25, 0.5)
# inverse L2 penalties of the words probe; the best cross-fitted log loss decides
STRENGTHS = (0.3, 1.0, 3.0)
C_LENGTH = 1.0


@dataclass(frozen=True)
class Probed:
    """One classifier's margins for the sampled rows. Each row is judged by a fit that did not see
    it.
    """

    rows: np.ndarray  # [n] row numbers
    margins: np.ndarray  # [n] log-odds in favour of the label: above 0 is right
    # ½ is chance: for pairs the share ranked rightly, for labelled rows the area under the curve
    accuracy: Estimate


@dataclass(frozen=True)
class Probes:
    """The probes of a file."""

    length: Probed
    words: Probed
    groups: np.ndarray  # [n] prompt cluster of each sampled row
    curve: tuple[tuple[int, Estimate], ...]  # training rows -> accuracy of the words probe
    paired: bool


def probe(scan: Scan, causes: Sequence[Cause] = (), seed: int = 0) -> Probes | None:
    """Fit the probes on the scan's sample, without the causes that have been named. Return None if
    there are too few prompts for folds, or only one label.
    """
    view = cleanse(scan, causes)
    rows, groups = view.rows, view.groups
    labels = (
        np.random.Generator(np.random.Philox(key=[seed, 2])).random(len(rows)) < 0.5
        if scan.paired
        else scan.desirable[rows]
    )
    if len(np.unique(groups)) < 4 * FOLDS or min(labels.sum(), (~labels).sum()) < 2 * FOLDS:
        return None
    folds = fold_of(groups, seed)
    length = sparse.csr_matrix(_oriented(_length(view.features), labels, scan.paired))
    words = word_table(view)
    words = (sparse.diags(np.where(labels, 1.0, -1.0)) @ words if scan.paired else words).tocsr()
    # columns without an entry have no weight, and cost time
    words = words[:, np.unique(words.indices)]
    fits = _Fits(labels, folds, intercept=not scan.paired)
    strength = min(STRENGTHS, key=lambda each: fits.log_loss(words, each))
    judge = _Judge(labels, groups, scan.paired)
    by_length, by_words = (
        Probed(rows, m, judge(m))
        for m in (fits.margins(length, C_LENGTH), fits.margins(words, strength))
    )
    return Probes(
        by_length,
        by_words,
        groups,
        tuple(_curve(fits, words, strength, by_words, judge, seed)),
        scan.paired,
    )


def fold_of(groups: np.ndarray, seed: int) -> np.ndarray:
    """Return the fold of each row, [n]; rows of one group share a fold."""
    _, group = np.unique(groups, return_inverse=True)
    order = np.random.Generator(np.random.Philox(key=[seed, 3])).permutation(group.max() + 1)
    return order[group] % FOLDS


@dataclass(frozen=True)
class _Fits:
    """Cross-fitting of one table of features: labels, folds, and whether there is an intercept."""

    labels: np.ndarray  # [n] bool
    folds: np.ndarray  # [n]
    intercept: bool

    def margins(
        self, table: sparse.csr_matrix, strength: float, keep: np.ndarray | None = None
    ) -> np.ndarray:
        """Return log-odds in favour of each row's label, [n], from fits on the other folds. `keep`
        selects the rows to fit on.
        """
        odds = np.zeros(len(self.labels))
        for fold in range(FOLDS):
            train, test = self.folds != fold, self.folds == fold
            train = train if keep is None else train & keep
            if test.any() and len(np.unique(self.labels[train])) == 2:
                fit = fit_linear(table[train], self.labels[train], strength, self.intercept)
                odds[test] = fit.decision_function(table[test])
        return np.where(self.labels, odds, -odds)

    def log_loss(self, table: sparse.csr_matrix, strength: float) -> float:
        return float(np.logaddexp(0, -self.margins(table, strength)).mean())


def fit_linear(table, labels, strength: float, intercept: bool):
    """Fit a logistic regression with an L2 penalty of 1/strength."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, fit_intercept=intercept, max_iter=300, tol=1e-3).fit(
        table, labels
    )


def word_table(view: Cleansed) -> sparse.csr_matrix:
    """Hash 1- and 2-grams of answers, [n, HASHED]; a pair is chosen minus rejected."""
    sides = [[text[:READ] for text in side] for side in zip(*view.texts, strict=True)]
    first = hashed_words(sides[0])
    return first - hashed_words(sides[1]) if len(sides) == 2 else first


def hashed_words(texts: list[str]) -> sparse.csr_matrix:
    """Hash 1- and 2-grams of texts, [n, HASHED]."""
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        n_features=HASHED,
        ngram_range=(1, 2),
        token_pattern=r"\w+|[^\w\s]",
        lowercase=True,
        norm="l2",
        alternate_sign=False,
    ).transform(texts)


def _length(features: np.ndarray) -> np.ndarray:
    """Return characters, words and their logarithms of each side, [n, S, 4], scaled to about 1."""
    counts = features[:, :, [COLUMN["characters"], COLUMN["words"]]].astype(np.float64)
    scale = max(1.0, float(np.median(counts[:, :, 0])))
    return np.concatenate([counts / scale, np.log1p(counts)], 2)


def _oriented(sides: np.ndarray, labels: np.ndarray, paired: bool) -> np.ndarray:
    """Return one row per example, [n, f]. A pair becomes its difference, with the sign reversed if
    its label is false.
    """
    if not paired:
        return sides[:, 0]
    return np.where(labels, 1.0, -1.0)[:, None] * (sides[:, 0] - sides[:, 1])


@dataclass(frozen=True)
class _Judge:
    """The accuracy of log-odds in favour of the labels; an area under the curve for rows labelled
    one by one.
    """

    labels: np.ndarray  # [n] bool
    groups: np.ndarray  # [n]
    paired: bool

    def __call__(self, margins: np.ndarray) -> Estimate:
        if self.paired:
            return accuracy(margins, clusters=self.groups.tolist())
        _, group = np.unique(self.groups, return_inverse=True)
        return auc_estimate(np.where(self.labels, margins, -margins), self.labels, group.tolist())


def _curve(
    fits: _Fits, table: sparse.csr_matrix, strength: float, whole: Probed, judge: _Judge, seed: int
):
    """Yield (rows fitted on, accuracy) for an eighth, a quarter, half and all of the training
    prompts.
    """
    _, group = np.unique(judge.groups, return_inverse=True)
    draw = np.random.Generator(np.random.Philox(key=[seed, 4])).random(group.max() + 1)[group]
    for share in SHARES:
        margins = fits.margins(table, strength, draw < share)
        yield int((draw < share).sum() * (FOLDS - 1) / FOLDS), judge(margins)
    yield int(len(draw) * (FOLDS - 1) / FOLDS), whole.accuracy


def length_share(probes: Probes, seed: int = 0, resamples: int = 1_000) -> Estimate | None:
    """Estimate the share of the words probe's skill that the length probe has too: (a_length - ½) /
    (a_words - ½).

    It is None if the words probe's interval reaches ½, since a share of nothing is no number, and
    for rows labelled one by one. The interval is a percentile bootstrap over rows of the paired
    accuracies.
    """
    if probes.words.accuracy.low <= 0.5 or not probes.paired:
        return None
    right = np.stack(
        [
            (probe.margins > 0) + 0.5 * (probe.margins == 0)
            for probe in (probes.length, probes.words)
        ]
    )
    drawn = np.random.Generator(np.random.Philox(key=[seed, 5])).integers(
        right.shape[1], size=(resamples, right.shape[1])
    )
    means = right[:, drawn].mean(2) - 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.clip(np.where(means[1] > 0, means[0] / means[1], 1.0), 0.0, 1.0)
    value = np.clip((right[0].mean() - 0.5) / (right[1].mean() - 0.5), 0.0, 1.0)
    low, high = map(float, np.quantile(ratios, (0.025, 0.975)))
    return Estimate(float(value), low, high, right.shape[1])
