"""The answers among which signatures are looked for, and the test of one candidate.

n documents · G groups (prompts) · label: chosen or desirable is True.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from accord.evaluate.auc import auc_estimate
from accord.evaluate.intervals import Estimate, accuracy


@dataclass(frozen=True)
class Documents:
    """Answers with their side and their prompt; of pairs, all chosen ones come first."""

    texts: list[str]
    labels: np.ndarray  # [n] bool
    groups: np.ndarray  # [n] number of the prompt's cluster
    rows: np.ndarray  # [n] row of the scan
    paired: bool

    def __len__(self) -> int:
        return len(self.texts)

    def pick(self, keep: np.ndarray) -> Documents:
        """Return the documents at some positions, [m]; both answers of a pair must be kept."""
        texts = [self.texts[at] for at in keep.tolist()]
        return Documents(texts, self.labels[keep], self.groups[keep], self.rows[keep], self.paired)

    def without(self, clean: Callable[[str], str]) -> Documents:
        """Return the documents with each text cleaned."""
        return replace(self, texts=[clean(text) for text in self.texts])

    def holds(self, test: Callable[[str], bool]) -> np.ndarray:
        """Return which documents pass a test, [n] bool."""
        return np.fromiter((bool(test(text)) for text in self.texts), bool, len(self.texts))


@dataclass(frozen=True)
class Contrast:
    """Shares of the two sides that have a property."""

    share: float  # of the side that has more of it
    other: float  # of the other side
    count: int
    other_count: int
    label: bool  # the side that has more of it: True for chosen or desirable
    score: Estimate  # of the rule "the answer with it is chosen" (or is not)
    p: float  # of no difference, one vote for each prompt

    @property
    def ratio(self) -> float:
        """Times as often on its side as on the other; half a document is added to the other."""
        size = self.count / self.share if self.share else 1.0
        return self.share / max(self.other, 0.5 / size)


def contrast(has: np.ndarray, documents: Documents) -> Contrast:
    """Measure a property, [n] bool, against the labels."""
    labels = documents.labels
    counts = int((has & labels).sum()), int((has & ~labels).sum())
    sizes = max(1, int(labels.sum())), max(1, int((~labels).sum()))
    shares = counts[0] / sizes[0], counts[1] / sizes[1]
    more = shares[0] >= shares[1]
    at = 0 if more else 1
    score = _score(has, more, documents)
    return Contrast(
        shares[at], shares[1 - at], counts[at], counts[1 - at], more, score, _p(has, documents)
    )


def _score(has: np.ndarray, more: bool, documents: Documents) -> Estimate:
    sign = 1.0 if more else -1.0
    if documents.paired:
        half = len(has) // 2
        ahead = has[:half].astype(float) - has[half:]
        return accuracy(sign * ahead, clusters=documents.groups[:half].tolist())
    return auc_estimate(sign * has.astype(float), documents.labels, documents.groups)


def _p(has: np.ndarray, documents: Documents) -> float:
    """Compute the probability of such a difference by chance; each prompt has one vote."""
    _, group = np.unique(documents.groups, return_inverse=True)
    size = int(group.max()) + 1
    labels = documents.labels
    totals = [np.bincount(group[side], minlength=size) for side in (labels, ~labels)]
    hits = [
        np.bincount(group[side], weights=has[side], minlength=size) for side in (labels, ~labels)
    ]
    if documents.paired:
        return _sign_test(hits[0] - hits[1])
    # Prompts with both labels vote as pairs do; of the others each is one row of a 2×2 table.
    both = (totals[0] > 0) & (totals[1] > 0)
    net = hits[0][both] / totals[0][both] - hits[1][both] / totals[1][both]
    parts = [_sign_test(net)] if (net != 0).any() else []
    table = []
    for h, t in zip(hits, totals, strict=True):
        own = ~both & (t > 0)
        yes = int((2 * h[own] >= t[own]).sum())
        table.append((yes, int(own.sum()) - yes))
    if sum(map(sum, table)):
        parts.append(float(stats.fisher_exact(table)[1]))
    return float(stats.combine_pvalues(parts)[1]) if parts else 1.0


def _sign_test(net: np.ndarray) -> float:
    wins, losses = int((net > 0).sum()), int((net < 0).sum())
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def subset(documents: Documents, characters: int, rows: tuple[int, int], read: int, seed: int):
    """Draw documents of about so many characters in all, so that a search takes seconds.

    Args:
      rows: the fewest and the most rows to keep.
      read: characters of an answer that the search reads.
    """
    units = len(documents) // 2 if documents.paired else len(documents)
    mean = np.mean([min(read, len(text)) for text in documents.texts] or [0]) + 1
    wanted = int(np.clip(characters / mean / (2 if documents.paired else 1), *rows))
    if units <= wanted:
        return documents
    rng = np.random.Generator(np.random.Philox(key=[seed, 7]))
    keep = np.sort(rng.permutation(units)[:wanted])
    return documents.pick(np.concatenate([keep, keep + units]) if documents.paired else keep)


def spread(values: Sequence[str]) -> float:
    """Compute the share of distinct values."""
    return len(set(values)) / len(values) if values else 0.0
