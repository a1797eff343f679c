"""Area under the curve: by hand, and equal to the table of all pairs at every tie width."""

import math

import numpy as np
import pytest
import torch

from accord.evaluate.auc import auc, auc_by_bootstrap, auc_by_variance, share_below
from accord.evaluate.records import wins

WIDTHS = (0.0, 0.1, 0.25, 1.0, 1e6)


def of_all_pairs(good: np.ndarray, bad: np.ndarray, tie_width: float) -> float:
    """Compare every good row with every bad one: the definition, in N² numbers."""
    margins = torch.from_numpy(good)[:, None] - torch.from_numpy(bad)[None, :]
    return wins(margins, tie_width).mean().item()


def values(seed: int, rows: int, step: float, dtype=np.float64) -> np.ndarray:
    """Draw values; a step rounds them, so that many are equal or exactly a tie width apart."""
    drawn = np.random.default_rng(seed).normal(size=rows)
    return (np.round(drawn / step) * step if step else drawn).astype(dtype)


def test_by_hand():
    """Of the six comparisons 3 are won, 2 tied and 1 lost: (3 + 2/2) / 6."""
    good, bad = np.array([0.2, 0.5]), np.array([0.2, 0.5, -1.0])
    assert auc(good, bad) == pytest.approx(4 / 6)
    assert auc(bad, good) == pytest.approx(2 / 6)
    assert auc(good, bad, 10.0) == 0.5
    assert auc(np.array([2.0, 3.0]), np.array([1.0, 0.0])) == 1.0
    assert math.isnan(auc(good, bad[:0])) and math.isnan(auc(good[:0], bad))
    assert share_below(good, bad).tolist() == pytest.approx([1.5 / 3, 2.5 / 3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("step", [0.0, 0.05, 0.1, 0.25])
@pytest.mark.parametrize("tie_width", WIDTHS)
def test_equals_the_table_of_all_pairs(dtype, step, tie_width):
    """Exactly, also where a difference is a rounding error away from the tie width."""
    for seed, sides in enumerate([(1, 1), (1, 7), (40, 33), (64, 1), (211, 190)]):
        good, bad = (values(2 * seed + i, n, step, dtype) for i, n in enumerate(sides))
        assert auc(good, bad, tie_width) == of_all_pairs(good, bad, tie_width)


def test_equals_the_table_at_infinities():
    good, bad = np.array([math.inf, 1.0, -math.inf]), np.array([-math.inf, 0.5, math.inf])
    assert auc(good, bad) == of_all_pairs(good, bad, 0.0)


@pytest.mark.parametrize("tie_width", [0.0, 0.1])
def test_both_intervals_are_around_the_same_area(tie_width):
    scores, good = values(0, 300, 0.1), np.arange(300) % 3 == 0
    scores = scores + 0.5 * good
    clusters = np.arange(300) // 2
    expected = auc(scores[good], scores[~good], tie_width)
    by_variance = auc_by_variance(scores, good, clusters, tie_width)
    by_bootstrap = auc_by_bootstrap(scores, good, clusters, seed=0, tie_width=tie_width)
    assert by_variance.value == pytest.approx(expected, abs=1e-12)
    assert by_bootstrap.value == expected
    assert by_variance.low == pytest.approx(by_bootstrap.low, abs=0.02)
    assert by_variance.high == pytest.approx(by_bootstrap.high, abs=0.02)


def test_many_rows_need_no_table():
    """200,000 rows on each side: a table of all pairs would take 320 GB."""
    good, bad = values(1, 200_000, 0.0) + 1.0, values(2, 200_000, 0.0)
    expected = 0.5 * (1 + math.erf(0.5))  # Φ(1/√2)
    assert auc(good, bad, 1e-6) == pytest.approx(expected, abs=0.005)
