"""Intervals over rows and seeds: right about as often as they say, paired, and wide where seeds are
few.
"""

import numpy as np
import pytest

from accord.evaluate.two_way_intervals import crossed_difference, crossed_mean, holm

PROMPTS, EACH = 60, 2
CLUSTERS = list(np.repeat(np.arange(PROMPTS), EACH))


def measured(rng, seeds, of_seed, of_prompt, rest):
    """A method's scores [S, N] around 0: a part of each seed, of each prompt, and the rest."""
    n = PROMPTS * EACH
    prompt = np.repeat(rng.normal(size=PROMPTS), EACH)
    return (
        of_seed * rng.normal(size=(seeds, 1))
        + of_prompt * prompt
        + rest * rng.normal(size=(seeds, n))
    )


@pytest.mark.parametrize(
    "seeds, parts, most",
    [
        (1, (0, 0.5, 1), 0.08),
        (3, (0.1, 0.5, 1), 0.08),
        (3, (0.5, 0, 1), 0.09),
        (3, (0, 1, 0.5), 0.08),
        (5, (0.5, 0.5, 1), 0.08),
    ],
)
def test_a_method_against_itself(seeds, parts, most):
    """Two methods that are one: a difference is found in about 5 % of cases, though seeds and
    prompts move both. Resampling seeds without a correction would find one in up to 30 %, ignoring
    them in up to 90 %.
    """
    rng = np.random.default_rng(7)
    found = [
        crossed_difference(measured(rng, seeds, *parts), measured(rng, seeds, *parts), CLUSTERS)
        for _ in range(200)
    ]
    assert np.mean([d.p < 0.05 for d in found]) <= most
    assert np.mean([not d.estimate.low <= 0 <= d.estimate.high for d in found]) <= most
    if parts[0] and seeds == 3:
        assert np.mean([d.p < 0.05 for d in found]) >= 0.01


@pytest.mark.parametrize("seeds, of_seed", [(1, 0), (3, 0.02), (5, 0.05)])
def test_an_accuracy_s_interval_holds_the_truth(seeds, of_seed):
    """Wins, ties and losses of prompts that differ in how hard they are, under seeds that differ:
    95 % mean 95 %.
    """

    def drawn(rng, seeds):
        hard = np.repeat(rng.beta(3, 2, size=PROMPTS), EACH) + of_seed * rng.normal(size=(seeds, 1))
        ties = rng.random((seeds, PROMPTS * EACH)) < 0.1
        return np.where(ties, 0.5, rng.random((seeds, PROMPTS * EACH)) < hard)

    rng = np.random.default_rng(3)
    truth = np.mean([drawn(rng, 5).mean() for _ in range(3_000)])
    found = [crossed_mean(drawn(rng, seeds), CLUSTERS, share=True) for _ in range(300)]
    # 2.4 standard errors of 300 draws below
    assert 0.92 <= np.mean([e.low <= truth <= e.high for e in found]) <= 0.985


def test_pairing_sees_what_two_intervals_cannot():
    """Rows differ far more than methods: paired, a small gain is plain; each by itself, the
    intervals overlap.
    """
    rng = np.random.default_rng(0)
    hard = 3 * rng.normal(size=PROMPTS * EACH)
    one, other = (hard + gain + 0.1 * rng.normal(size=(3, len(hard))) for gain in (0.1, 0.0))
    assert crossed_difference(one, other, CLUSTERS).p < 1e-3
    first, second = crossed_mean(one, CLUSTERS), crossed_mean(other, CLUSTERS)
    assert first.low < second.high


def test_rows_of_a_prompt_are_one_observation():
    """The same rows copied five times say no more."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(2, 40))
    once = crossed_mean(values, range(40))
    often = crossed_mean(np.repeat(values, 5, axis=1), np.repeat(np.arange(40), 5).tolist())
    assert (often.low, often.high) == pytest.approx((once.low, once.high), rel=0.02)


def test_few_seeds_that_disagree_make_wide_intervals():
    """Two seeds 0.2 apart on endless rows: Student's t with one degree of freedom, ±12.7 standard
    errors.
    """
    values = np.stack([np.full(4_000, 0.4), np.full(4_000, 0.6)]) + 1e-6 * (np.arange(4_000) % 2)
    estimate = crossed_mean(values, range(4_000))
    assert estimate.high - estimate.low == pytest.approx(2 * 12.706 * 0.1, rel=0.01)


def test_one_seed_is_rows_alone():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(1, 300))
    estimate = crossed_mean(values, range(300))
    assert estimate.high - estimate.low == pytest.approx(
        2 * 1.96 * values.std() / np.sqrt(300), rel=0.08
    )


def test_shares_stay_inside():
    """All right on 20 prompts: not "surely 1"."""
    estimate = crossed_mean(np.ones((3, 20)), range(20), share=True)
    assert estimate.value == estimate.high == 1 and 0.75 < estimate.low < 0.9


def test_nothing_moves():
    same = np.ones((2, 10))
    difference = crossed_difference(same, same, range(10))
    assert (difference.estimate.low, difference.estimate.high, difference.p) == (0, 0, 1)
    assert crossed_difference(same, 0 * same, range(10)).p == 0


def test_holm_by_hand():
    """0.01 × 4, 0.02 × 3, 0.03 × 2, 0.04 × 1; never below a smaller one's."""
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


@pytest.mark.parametrize(
    "values, clusters",
    [(np.ones(3), range(3)), (np.ones((1, 3)), range(2)), (np.array([[np.nan]]), [0])],
)
def test_what_is_no_table(values, clusters):
    with pytest.raises(AssertionError):
        crossed_mean(values, clusters)
