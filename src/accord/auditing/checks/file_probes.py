"""Small classifiers over two files: of held-out against training prompts, and of labels, fitted to
the training file and read on the held-out file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from accord.auditing.checks.probes import FOLDS, READ, fold_of
from accord.auditing.measure import language
from accord.auditing.prompts import content_words, near_prompts, prompt_arrays, prompt_text
from accord.auditing.scan import Sampled, Scan
from accord.evaluate.auc import auc_estimate
from accord.evaluate.intervals import Estimate, accuracy, bounded_mean

MOST = 3_000  # rows of each file that are compared: an AUC's standard error is then under .01
HASHED = 1 << 14
LANGUAGE_BINS = 32


@dataclass(frozen=True)
class FilePair:
    """A training and a held-out file, and the rows of them that are compared."""

    train: Scan
    held_out: Scan

    @property
    def scans(self) -> tuple[Scan, Scan]:
        return self.train, self.held_out

    @cached_property
    def samples(self) -> tuple[list[Sampled], list[Sampled]]:
        """The sampled rows of each file, at most MOST, evenly over the file."""
        first, second = (
            [each.sample[at] for at in _evenly(len(each.sample)).tolist()] for each in self.scans
        )
        return first, second

    @cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the rows that are compared."""
        return _evenly(len(self.train)), _evenly(len(self.held_out))

    @cached_property
    def is_held_out(self) -> np.ndarray:
        return np.repeat([False, True], [len(each) for each in self.rows])

    @cached_property
    def groups(self) -> np.ndarray:
        """The prompt cluster of each compared row; those of the files are different."""
        ours, theirs = (s.groups[rows] for s, rows in zip(self.scans, self.rows, strict=True))
        return np.concatenate([ours, theirs + int(ours.max()) + 1])

    @cached_property
    def prompts(self) -> int:
        """The number of different held-out prompts."""
        return len(np.unique(self.held_out.groups))


def _evenly(n: int) -> np.ndarray:
    return np.linspace(0, n - 1, min(n, MOST)).astype(np.int64) if n else np.zeros(0, np.int64)


def kind_auc(pair: FilePair) -> Estimate | None:
    """Estimate how well a classifier of prompts tells the files apart, cross-fitted by prompt."""
    samples = [*pair.samples[0], *pair.samples[1]]
    if min(map(len, pair.samples)) < 2 * FOLDS:
        return None
    held_out = np.repeat([False, True], [len(each) for each in pair.samples])
    groups = _clusters(samples)
    table = sparse.hstack(
        [sparse.csr_matrix(_prompt_features(samples)), _words([_asked(each) for each in samples])]
    ).tocsr()
    odds = _cross_fitted(table, held_out, fold_of(groups, 0), balanced=True)
    return auc_estimate(odds, held_out, groups.tolist())


def _clusters(samples: list[Sampled]) -> np.ndarray:
    """Cluster the prompts of both files together, [n].

    `accord split` holds out whole clusters of the file that it cuts. A small part alone does not
    show what most prompts share, so in its own clusters the prompts of one topic ("rate the soup",
    "sum up the soup") are apart, and each would tell a classifier of the others.
    """
    found = prompt_arrays([each.example.prompt for each in samples])
    return near_prompts(found["questions"], found["prompt_signs"], found["cores"])


def _asked(sample: Sampled) -> str:
    return prompt_text(sample.example.prompt)[:READ]


def _prompt_features(samples: list[Sampled]) -> np.ndarray:
    """Return roles, turns, language and shares of marks of each prompt, [n, f], none of them a
    length.
    """
    rows = []
    for each in samples:
        prompt = each.example.prompt
        text = prompt[-1].content[:READ]
        n = max(1, len(text))
        tongue = [0.0] * LANGUAGE_BINS
        tongue[sum(map(ord, language(text))) % LANGUAGE_BINS] = 1.0
        shares = [
            sum(map(str.isdigit, text)),
            sum(map(str.isupper, text)),
            text.count("\n"),
            sum(not c.isalnum() and not c.isspace() for c in text),
            sum(ord(c) > 127 for c in text),
        ]
        rows.append(
            [
                prompt[0].role == "system",
                min(len(prompt), 9) / 3,
                *(5 * count / n for count in shares),
                text.rstrip()[-1:] == "?",
                *tongue,
            ]
        )
    return np.array(rows, float)


def _words(texts: list[str]) -> sparse.csr_matrix:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        n_features=HASHED,
        ngram_range=(1, 2),
        token_pattern=r"\w+|[^\w\s]",
        lowercase=True,
        alternate_sign=False,
    ).transform(texts)


def _fit(table: sparse.csr_matrix, labels: np.ndarray, balanced: bool, intercept: bool = True):
    from sklearn.linear_model import LogisticRegression

    weight = "balanced" if balanced else None
    return LogisticRegression(
        C=1.0, class_weight=weight, fit_intercept=intercept, max_iter=300, tol=1e-3
    ).fit(table, labels)


def _cross_fitted(
    table: sparse.csr_matrix,
    labels: np.ndarray,
    folds: np.ndarray,
    *,
    balanced: bool = False,
    intercept: bool = True,
) -> np.ndarray:
    """Return log-odds of each row, [n], from fits on the other folds."""
    odds = np.zeros(len(labels))
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        if test.any() and len(np.unique(labels[train])) == 2:
            fit = _fit(table[train], labels[train], balanced, intercept)
            odds[test] = fit.decision_function(table[test])
    return odds


def label_probe(pair: FilePair) -> tuple[Estimate, Estimate] | None:
    """Estimate the accuracy of a probe of the answers' words and length: on unseen training
    prompts, and, fitted to all of training, on the held-out rows.

    For labelled rows it is the area under the curve. None if there are too few prompts, or one
    label.
    """
    groups = [
        each.groups[[one.row for one in sample]]
        for each, sample in zip(pair.scans, pair.samples, strict=True)
    ]
    labels = [_labels(sample, pair.train.paired) for sample in pair.samples]
    few = any(min(each.sum(), (~each).sum()) < 2 * FOLDS for each in labels)
    if few or len(np.unique(groups[0])) < 4 * FOLDS:
        return None
    tables = [_answer_table(sample, pair.train.paired) for sample in pair.samples]
    if pair.train.paired:
        tables = [
            (sparse.diags(np.where(label, 1.0, -1.0)) @ table).tocsr()
            for label, table in zip(labels, tables, strict=True)
        ]
    intercept = not pair.train.paired
    odds = [
        _cross_fitted(tables[0], labels[0], fold_of(groups[0], 0), intercept=intercept),
        _fit(tables[0], labels[0], False, intercept).decision_function(tables[1]),
    ]
    ours, theirs = (
        accuracy(np.where(label, odd, -odd), clusters=group.tolist())
        if pair.train.paired
        else auc_estimate(odd, label, group.tolist())
        for label, odd, group in zip(labels, odds, groups, strict=True)
    )
    return ours, theirs


def _answer_table(sample: list[Sampled], paired: bool) -> sparse.csr_matrix:
    sides = []
    for side in range(2 if paired else 1):
        texts = [each.example.completions[side] for each in sample]
        lengths = sparse.csr_matrix(np.log1p([[len(text)] for text in texts]) / 2)
        sides.append(sparse.hstack([_words([text[:READ] for text in texts]), lengths]).tocsr())
    return (sides[0] - sides[1]).tocsr() if paired else sides[0]


def _labels(sample: list[Sampled], paired: bool) -> np.ndarray:
    """Return the labels, [n] bool; of pairs, signs that are drawn by chance."""
    if paired:
        return np.random.Generator(np.random.Philox(key=[0, 12])).random(len(sample)) < 0.5
    return np.array([getattr(each.example, "desirable", True) for each in sample], bool)


def word_shares(pair: FilePair) -> tuple[Estimate, Estimate]:
    """Estimate in which share of pairs the chosen answer has more of the prompt's content words
    than the rejected one; half where they have as many.
    """
    found = []
    for scan, sample in zip(pair.scans, pair.samples, strict=True):
        wins = np.array([_more_of_prompt(each) for each in sample])
        groups = scan.groups[[each.row for each in sample]]
        found.append(bounded_mean(wins, clusters=groups.tolist()))
    return found[0], found[1]


def _more_of_prompt(sample: Sampled) -> float:
    asked = set(content_words(sample.example.prompt[-1].content[:READ].lower().encode()))
    chosen, rejected = (
        len(asked & set(content_words(text[:READ].lower().encode("utf-8", "replace"))))
        for text in sample.example.completions
    )
    return 0.5 + 0.5 * float(np.sign(chosen - rejected))
