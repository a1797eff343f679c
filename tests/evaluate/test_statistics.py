"""Intervals against closed forms, and their coverage by simulation with fixed seeds."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from accord.evaluate import bounded_means, intervals
from accord.evaluate.intervals import (
    Estimate,
    accuracy,
    bootstrap_difference,
    bootstrap_mean,
    bounded_mean,
    clopper_pearson,
    format_interval,
)


def test_exact_shares_by_hand():
    """None of 20 wrong: .975 = (1 − p)^20 gives the low end, .025^(1/20); half of 2 by the beta
    distribution's closed form, whose ends are 1 − √.975 and √.975.
    """
    assert_allclose(clopper_pearson(1.0, 20), (0.025 ** (1 / 20), 1.0))
    assert_allclose(clopper_pearson(0.0, 20), (0.0, 1 - 0.025 ** (1 / 20)))
    assert_allclose(clopper_pearson(0.5, 2), (1 - 0.975**0.5, 0.975**0.5))


def test_a_bounded_mean_of_wins_is_the_exact_interval():
    """The Dirichlet draws of Gaffke's bound give the beta quantiles of Clopper and Pearson."""
    for right, n in ((20, 20), (19, 20), (35, 50), (1, 200)):
        found = accuracy([1.0] * right + [-1.0] * (n - right))
        assert_allclose((found.low, found.high), clopper_pearson(right / n, n), atol=0.008)


def test_many_distinct_clusters_are_approximated_alike(monkeypatch):
    values = np.random.default_rng(0).random(1_500)
    drawn = bounded_mean(values)
    monkeypatch.setattr(bounded_means, "MOST_DISTINCT", 100)
    near = bounded_mean(values)
    assert_allclose((near.low, near.high), (drawn.low, drawn.high), atol=1e-3)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (0.0, 64.0)], ids=str)
@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_constant_values_have_a_width_and_stay_inside(bounds, at):
    value = bounds[0] + at * (bounds[1] - bounds[0])
    for n in (1, 2, 3, 20, 200):
        found = bounded_mean(np.full(n, value), bounds)
        assert bounds[0] <= found.low <= value <= found.high <= bounds[1]
        assert found.low < found.high


def test_accuracy_counts_ties_half():
    assert accuracy([0.0, 0.0, 0.0]).value == 0.5  # every run at step 0
    assert accuracy([2.0, -1.0, 0.0, 3.0]).value == pytest.approx(2.5 / 4)
    assert accuracy([2.0, -0.5, 0.5, 3.0], tie_width=0.5).value == pytest.approx(3 / 4)


def test_repeating_every_row_does_not_narrow_the_interval():
    """Ten copies of a pair are one pair's worth of evidence, once they are named as one cluster."""
    margins = np.array([1.0] * 30 + [-1.0] * 10)
    copies, prompts = np.repeat(margins, 10), np.repeat(np.arange(40), 10)
    alone, blind, clustered = (
        accuracy(margins),
        accuracy(copies),
        accuracy(copies, clusters=prompts),
    )
    assert blind.high - blind.low < 0.4 * (alone.high - alone.low)
    assert clustered.high - clustered.low == pytest.approx(alone.high - alone.low, rel=0.01)
    assert clustered.n == 400


def test_clusters_of_one_row_each_are_rows():
    margins = np.array([1.0] * 300 + [-1.0] * 100)
    plain, clustered = accuracy(margins), accuracy(margins, clusters=range(400))
    assert_allclose((clustered.low, clustered.high), (plain.low, plain.high), atol=2e-3)


def test_all_right_is_not_certain():
    """Without any spread the clusters are what is counted, and one cluster says nothing."""
    clustered = accuracy([1.0] * 50, clusters=[i // 5 for i in range(50)])
    assert clustered.high == 1.0
    assert clustered.low == pytest.approx(accuracy([1.0] * 10).low, abs=0.01)
    assert accuracy([1.0] * 50, clusters=["p"] * 50).low == 0.0


def test_accuracy_covers_the_truth_in_19_of_20_samples():
    """True share .8, 60 prompts of 5 rows that lean the same way: 95 % with clusters, far less
    without.
    """
    rng, prompts = np.random.default_rng(0), np.repeat(np.arange(60), 5)
    clustered = blind = 0
    for _ in range(400):
        lean = rng.beta(1.6, 0.4, 60)[prompts]  # mean .8, rows of one prompt correlated by 1/3
        margins = np.where(rng.random(300) < lean, 1.0, -1.0)
        with_clusters, without = accuracy(margins, clusters=prompts), accuracy(margins)
        clustered += with_clusters.low <= 0.8 <= with_clusters.high
        blind += without.low <= 0.8 <= without.high
    assert 0.93 <= clustered / 400 <= 0.99
    assert blind / 400 < 0.88


def test_bootstrap_mean_is_the_normal_interval_when_rows_are_many():
    values = np.random.default_rng(1).normal(3.0, 2.0, 2_000)
    estimate = bootstrap_mean(values)
    half = 1.96 * values.std() / np.sqrt(2_000)
    assert estimate.value == pytest.approx(values.mean())
    assert_allclose(
        (estimate.low, estimate.high), (values.mean() - half, values.mean() + half), atol=0.1 * half
    )


def test_bootstrap_draws_whole_clusters():
    """Ten copies of each value, named as clusters, give what the values alone give: the same draws
    and means.
    """
    values = np.random.default_rng(2).normal(size=50)
    clustered = bootstrap_mean(
        np.repeat(values, 10), clusters=np.repeat(np.arange(50), 10).tolist()
    )
    alone = bootstrap_mean(values)
    assert_allclose(
        (clustered.value, clustered.low, clustered.high), (alone.value, alone.low, alone.high)
    )


def test_bootstrap_weighs_a_cluster_by_its_rows():
    """Clusters of 1 row at 0 and of 3 rows at 1: the mean of rows is .75, not .5."""
    found = bootstrap_mean([0.0, 1.0, 1.0, 1.0] * 3, clusters=list("abbbcdddefff"))
    assert found.value == 0.75 and found.low < 0.75 < found.high


def test_bootstrap_is_a_function_of_its_seed_and_not_of_its_chunks(monkeypatch):
    values = np.random.default_rng(3).normal(size=30)
    first = bootstrap_mean(values, seed=5)
    assert first == bootstrap_mean(values, seed=5) != bootstrap_mean(values, seed=6)
    assert bootstrap_mean(values) == bootstrap_mean(values, seed=0)
    monkeypatch.setattr(intervals, "CELLS_AT_ONCE", 100)
    assert bootstrap_mean(values, seed=5) == first


def test_each_end_is_at_least_student_s_t_away():
    """Of skewed values the upper end is further, up to three times so."""
    values = np.random.default_rng(7).exponential(size=40)
    found, t = bootstrap_mean(values), stats.t.ppf(0.975, 39)
    half = t * values.std(ddof=1) / np.sqrt(40)
    assert found.low == pytest.approx(values.mean() - half)
    assert values.mean() + 1.1 * half < found.high <= values.mean() + 3 * half


@pytest.mark.parametrize("values", [[2.0] * 50, [0.1] * 3, [1.0, 2.0], [5.0]], ids=len)
def test_without_a_spread_no_interval_is_known(values):
    """Constant rows, and fewer than three, say nothing of the next row: never an interval of no
    width, and never one beyond what is possible.
    """
    found = bootstrap_mean(values)
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert bootstrap_mean(values, bounds=(0.0, np.inf)).low == 0.0
    assert "interval not known" in str(found)


def test_bootstrap_covers_the_truth_in_19_of_20_samples():
    """A skewed truth (exponential, mean 1), 40 clusters of 4 rows that share half their value."""
    rng, clusters, covered = np.random.default_rng(4), np.repeat(np.arange(40), 4).tolist(), 0
    for trial in range(300):
        values = (np.repeat(rng.exponential(size=40), 4) + rng.exponential(size=160)) / 2
        estimate = bootstrap_mean(values, clusters=clusters, seed=trial, resamples=400)
        covered += estimate.low <= 1.0 <= estimate.high
    assert 0.90 <= covered / 300 <= 0.98


@pytest.mark.parametrize("clusters", [3, 5, 8])
def test_few_clusters_cover_too(clusters):
    """Without Student's t these were .74, .84 and .88."""
    rng, covered = np.random.default_rng(6), 0
    for trial in range(300):
        values = np.repeat(rng.normal(size=clusters), 4) + 0.3 * rng.normal(size=4 * clusters)
        estimate = bootstrap_mean(
            values, clusters=np.repeat(np.arange(clusters), 4).tolist(), seed=trial, resamples=400
        )
        covered += estimate.low <= 0 <= estimate.high
    assert covered / 300 >= 0.92


def test_of_one_cluster_no_interval_is_known():
    """Three answers to one prompt say nothing of other prompts; in JSON an unknown end is null, in
    words it is said.
    """
    found = bootstrap_mean([0.1, 0.5, 0.9], clusters=["a", "a", "a"])
    assert found.low == -np.inf and found.high == np.inf
    assert found.as_dict() == {"value": pytest.approx(0.5), "low": None, "high": None, "n": 3}
    assert (
        format_interval(found.as_dict()) == "0.500 (interval not known)"
        and format_interval(Estimate(1.0, 0.5, 2.0, 9).as_dict(), 1) == "1.0 (0.5 to 2.0)"
    )


def test_paired_difference_cancels_what_the_rows_share():
    """Rows differ by 10 among themselves and by 0.1 ± 0.01 between the two: the pairing sees it,
    two means do not.
    """
    rng = np.random.default_rng(5)
    before = rng.normal(0.0, 10.0, 200)
    after = before + rng.normal(0.1, 0.01, 200)
    estimate = bootstrap_difference(after, before, seed=1)
    assert estimate.value == pytest.approx(0.1, abs=0.005)
    assert 0.09 < estimate.low < estimate.high < 0.11
    assert bootstrap_difference(before, after, seed=1).value == -estimate.value


def test_nan_never_becomes_a_loss():
    for measure in (accuracy, bootstrap_mean):
        with pytest.raises(AssertionError, match="NaN"):
            measure([1.0, float("nan")])


def test_an_estimate_reads_as_a_sentence_needs_it():
    assert str(Estimate(0.7312, 0.70, 0.7604, 1_876)) == "0.731 (0.700 to 0.760, n = 1,876)"


def test_a_number_that_rounds_to_zero_has_no_sign():
    tiny = {"value": -1e-9, "low": -0.0002, "high": 0.25}
    assert format_interval(tiny) == "0.000 (0.000 to 0.250)"
    assert format_interval(tiny | {"low": None}) == "0.000 (interval not known)"
    assert format_interval(tiny | {"low": -0.25}) == "0.000 (-0.250 to 0.250)"
