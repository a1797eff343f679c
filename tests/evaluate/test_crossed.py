"""Intervals over rows and seeds: right about as often as they say, paired, and wide where seeds are
few.
"""

import numpy as np
import pytest

from accord.evaluate.intervals import format_short_interval
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
    found = [crossed_mean(drawn(rng, seeds), CLUSTERS, bounds=(0.0, 1.0)) for _ in range(300)]
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
    """Three seeds 0.1 apart on endless rows: Student's t with two degrees of freedom, ±4.3 standard
    errors.
    """
    values = np.stack([np.full(4_000, at) for at in (0.4, 0.5, 0.6)]) + 1e-6 * (
        np.arange(4_000) % 2
    )
    estimate = crossed_mean(values, range(4_000))
    half = 4.3027 * 0.1 / np.sqrt(3)
    assert estimate.high - estimate.low == pytest.approx(2 * half, rel=0.01)


def test_two_seeds_give_their_values_and_no_interval():
    values = np.stack([np.full(40, 0.4), np.linspace(0.5, 0.7, 40)])
    found = crossed_mean(values, range(40), bounds=(0.0, 1.0))
    assert (
        found.seeds == pytest.approx((0.4, 0.6)) and not np.isfinite((found.low, found.high)).any()
    )
    assert format_short_interval(found.as_dict()) == "0.500 (2 seeds: 0.400 and 0.600)"
    apart = crossed_difference(values, 0 * values, range(40))
    assert apart.p is None and apart.estimate.seeds == pytest.approx((0.4, 0.6))


def test_one_seed_is_rows_alone():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(1, 300))
    estimate = crossed_mean(values, range(300))
    assert estimate.high - estimate.low == pytest.approx(
        2 * 1.96 * values.std() / np.sqrt(300), rel=0.08
    )


def test_shares_stay_inside():
    """All right on 20 prompts: not "surely 1"."""
    estimate = crossed_mean(np.ones((3, 20)), range(20), bounds=(0.0, 1.0))
    assert estimate.value == estimate.high == 1 and 0.75 < estimate.low < 0.9


def test_nothing_moves():
    """Constant rows: no interval of no width, and no p-value below what exchanging the sides of so
    many prompts can give.
    """
    same = np.ones((3, 10))
    found = crossed_difference(same, same, range(10))
    assert found.p == 1 and found.estimate.value == 0
    assert found.estimate.high == np.inf
    apart = crossed_difference(same, 0 * same, range(10), bounds=(0.0, 1.0))
    assert apart.p == 2.0**-9 and 0.3 < apart.estimate.low < apart.estimate.high == 1


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_few_rows_prove_little(rows, seeds):
    """Two rows that agree gave p = 0."""
    rng = np.random.default_rng(0)
    for values in (np.ones((seeds, rows)), 1 + 1e-3 * rng.normal(size=(seeds, rows))):
        assert crossed_difference(values, 0 * values, range(rows)).p >= 2.0 ** (1 - rows)


def test_an_interval_and_its_p_value_agree():
    rng = np.random.default_rng(3)
    for _ in range(100):
        one, other = (rng.random((1, 20)) < share for share in (0.99, 0.8))
        found = crossed_difference(one, other, range(20), bounds=(0.0, 1.0))
        assert (found.p < 0.05) <= (not found.estimate.low <= 0 <= found.estimate.high)


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
