"""The power of a number of rows: the smallest difference between two models that a comparison would
find.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from accord.evaluate.intervals import effective_rows

POWER, SIGNIFICANCE = 0.8, 0.05
ALIKE = 0.5  # correlation of two models' wins on the same rows that is assumed beside none at all


def smallest_difference(
    scores: ArrayLike, *, clusters: Sequence[Hashable] | None = None, correlation: float = 0.0
) -> float:
    """Compute the smallest difference of two mean scores that a paired comparison on these rows
    finds in 8 cases of 10.

        (z_.975 + z_.8) √(2 s² (1 − ρ) / n)

    The other model is taken to spread as much as this one. How alike the two are (ρ) is not known
    before they are compared: 0 is two models that err independently, and an upper bound for models
    of one family.

    Args:
      scores: wins of this model [N], 1, ½ or 0.
      clusters: what each row belongs to; n is then the number of independent rows that they amount
        to.
      correlation: ρ between the two models' scores of a row, in [0, 1).
    """
    scores = np.asarray(scores, dtype=np.float64)
    assert 0 <= correlation < 1, correlation
    n = float(len(scores)) if clusters is None else effective_rows(scores, clusters)
    # all rows right is no proof that none can be wrong
    share = (scores.sum() + 0.5) / (len(scores) + 1)
    spread = max(scores.var(), min(share * (1 - share), 0.25) if np.ptp(scores) == 0 else 0.0)
    z = stats.norm.ppf(1 - SIGNIFICANCE / 2) + stats.norm.ppf(POWER)
    return float(z * np.sqrt(2 * spread * (1 - correlation) / n))
