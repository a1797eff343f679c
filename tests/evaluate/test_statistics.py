"""Intervals against closed forms, and their coverage by simulation with fixed seeds."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from accord.evaluate.intervals import (
    Estimate,
    accuracy,
    bootstrap_difference,
    bootstrap_mean,
    format_interval,
    wilson,
)


def test_wilson_by_hand():
    """p = 1/2 gives ½ ± (z/2)/√(n + z²); p = 0 gives (0, z²/(n + z²)). With z = 2 and n = 96, n +
    z² = 100.
    """
    assert_allclose(wilson(0.5, 96, z=2.0), (0.4, 0.6))
    assert_allclose(wilson(0.0, 96, z=2.0), (0.0, 0.04))
    assert_allclose(wilson(1.0, 96, z=2.0), (0.96, 1.0))


def test_wilson_bounds_solve_the_score_equation():
    """A bound is the share whose own standard error puts the observed share exactly z away."""
    for bound in wilson(0.3, 40, confidence=0.9):
        assert abs(0.3 - bound) / np.sqrt(bound * (1 - bound) / 40) == pytest.approx(1.6448536)


def test_wilson_stays_a_share():
    """Rounding would leave bounds of -1e-17 or 1 + 2e-16 here and there."""
    bounds = [wilson(share, n) for n in range(1, 400) for share in (0.0, 1.0)]
    assert all(0.0 <= low <= high <= 1.0 for low, high in bounds)


def test_accuracy_counts_ties_half():
    assert accuracy([0.0, 0.0, 0.0]).value == 0.5  # every run at step 0
    assert accuracy([2.0, -1.0, 0.0, 3.0]).value == pytest.approx(2.5 / 4)
    assert accuracy([2.0, -0.5, 0.5, 3.0], tie_width=0.5).value == pytest.approx(3 / 4)


def test_accuracy_without_clusters_is_wilson():
    estimate = accuracy([1.0] * 30 + [-1.0] * 10)
    assert (estimate.low, estimate.high) == wilson(0.75, 40)
    assert estimate.n == 40


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
    # t and 39/40 instead of z and 1
    assert clustered.high - clustered.low == pytest.approx(alone.high - alone.low, rel=0.06)
    assert clustered.n == 400


def test_clusters_of_one_row_each_are_rows():
    margins = np.array([1.0] * 300 + [-1.0] * 100)
    plain, clustered = accuracy(margins), accuracy(margins, clusters=range(400))
    assert_allclose((clustered.low, clustered.high), (plain.low, plain.high), atol=2e-3)


def test_all_right_is_not_certain():
    """Without any spread the clusters are what is counted, and one cluster says nothing."""
    clustered = accuracy([1.0] * 50, clusters=[i // 5 for i in range(50)])
    # t with 9 degrees is wider than z
    assert clustered.high == 1.0 and clustered.low < accuracy([1.0] * 10).low
    assert accuracy([1.0] * 50, clusters=["p"] * 50).low == 0.0


def test_clusters_by_hand():
    """Three prompts of two rows, 2, 1 and 0 of them right: the mean's variance is 1/12, that of six
    rows 1/24: three rows.

    t with 2 degrees is 4.3027: ½ ± (t/2)/√(3 + t²). Prompts that are all alike are worth their
    rows, and no more.
    """
    t = 4.30265272991
    found = accuracy([1.0, 1.0, 1.0, -1.0, -1.0, -1.0], clusters="aabbcc")
    half = t / 2 / np.sqrt(3 + t**2)
    assert_allclose((found.low, found.high), (0.5 - half, 0.5 + half))
    alike = accuracy([1.0, -1.0] * 3, clusters="aabbcc")
    half = t / 2 / np.sqrt(6 + t**2)
    assert_allclose((alike.low, alike.high), (0.5 - half, 0.5 + half))
    # 2, 2 and 1 of four rows each: less apart than chance makes prompts, and yet no more than
    # twelve rows
    share = 5 / 12
    even = accuracy([1.0, 1.0, -1.0, -1.0] * 2 + [1.0, -1.0, -1.0, -1.0], clusters="aaaabbbbcccc")
    assert_allclose((even.low, even.high), wilson(share, 12, z=t))
    nine = accuracy([1.0, 1.0, 1.0, -1.0, -1.0, -1.0], clusters="aabbcc", confidence=0.9)
    half = 2.91998558036 / 2 / np.sqrt(3 + 2.91998558036**2)
    assert_allclose((nine.low, nine.high, nine.n), (0.5 - half, 0.5 + half, 6))


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
    assert 0.92 <= clustered / 400 <= 0.98
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
    estimate = bootstrap_mean([0.0, 1.0, 1.0, 1.0], clusters=["a", "b", "b", "b"])
    wider = stats.t.ppf(0.975, 1) / stats.norm.ppf(0.975) * np.sqrt(2)
    assert_allclose(
        (estimate.value, estimate.low, estimate.high),
        (0.75, 0.75 - wider * 0.75, 0.75 + wider * 0.25),
    )


def test_bootstrap_is_a_function_of_its_seed_and_not_of_its_chunks(monkeypatch):
    values = np.random.default_rng(3).normal(size=30)
    first = bootstrap_mean(values, seed=5)
    assert first == bootstrap_mean(values, seed=5) != bootstrap_mean(values, seed=6)
    assert bootstrap_mean(values) == bootstrap_mean(values, seed=0)
    monkeypatch.setattr("accord.evaluate.intervals.CELLS_AT_ONCE", 100)
    assert bootstrap_mean(values, seed=5) == first


def test_every_resample_counts():
    """Three draws of four rows, written out; the first is one of them."""
    values = np.array([1.0, 2.0, 4.0, 8.0])
    means = values[np.random.default_rng(7).integers(4, size=(3, 4))].mean(1)
    found = bootstrap_mean(values, seed=7, resamples=3, confidence=0.5)
    wider = stats.t.ppf(0.75, 3) / stats.norm.ppf(0.75) * np.sqrt(4 / 3)
    assert_allclose(
        (found.low, found.high), 3.75 + wider * (np.quantile(means, (0.25, 0.75)) - 3.75)
    )
    assert found.value == 3.75 and found.n == 4


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
        and format_interval(Estimate(1.0, 0.5, 2.0, 9).as_dict(), 1, "–") == "1.0 (0.5–2.0)"
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
