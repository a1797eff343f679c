"""Area under the curve: by hand, and equal to the table of all pairs at every tie width."""

import math

import numpy as np
import pytest
import torch

from accord.evaluate.auc import auc, auc_estimate, share_below
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
def test_the_interval_is_around_the_area(tie_width):
    """About as wide as resampling clusters says."""
    scores, good = values(0, 300, 0.1), np.arange(300) % 3 == 0
    scores = scores + 0.5 * good
    expected = auc(scores[good], scores[~good], tie_width)
    found = auc_estimate(scores, good, np.arange(300) // 2, tie_width)
    rng, drawn = np.random.default_rng(0), []
    for _ in range(300):
        pairs = rng.integers(150, size=150)
        rows = np.concatenate([2 * pairs, 2 * pairs + 1])
        drawn.append(auc(scores[rows][good[rows]], scores[rows][~good[rows]], tie_width))
    low, high = np.quantile(drawn, (0.025, 0.975))
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03)


def test_all_good_above_all_bad_is_not_certain():
    """The rarer side is counted: 5 good rows say less than 50; a side without rows says nothing."""
    few, many = (
        auc_estimate(np.arange(100.0), np.arange(100) >= 100 - good, np.arange(100))
        for good in (5, 50)
    )
    assert few.value == few.high == many.high == 1.0
    assert few.low < 0.6 < 0.9 < many.low < 1.0
    assert auc_estimate(np.arange(4.0), np.ones(4, bool), np.arange(4)).low == 0.0


def test_many_rows_need_no_table():
    """200,000 rows on each side: a table of all pairs would take 320 GB."""
    good, bad = values(1, 200_000, 0.0) + 1.0, values(2, 200_000, 0.0)
    expected = 0.5 * (1 + math.erf(0.5))  # Φ(1/√2)
    assert auc(good, bad, 1e-6) == pytest.approx(expected, abs=0.005)
