"""The intervals of `accord eval` hold the truth as often as they say, by simulation, with and
without clusters.

95 % ± 2 (± 3 where few repetitions can be afforded), or at least 95 where an interval is wider by
its making. Seeds are fixed. Samples in which few rows or none err are in test_coverage.py.
"""

import numpy as np
import pytest
from scipy.special import expit, logit

from accord.evaluate.calibration import _places, calibration, slope
from accord.evaluate.intervals import accuracy, bootstrap_mean, bootstrap_ratio, bounded_mean
from accord.evaluate.power import smallest_difference
from accord.evaluate.win_rate import win_rate

TIMES = 500


def clusters_of(rng, groups: int, most: int = 5) -> np.ndarray:
    """Prompts with 1 to `most` rows each."""
    return np.repeat(np.arange(groups), rng.integers(1, most + 1, groups))


def share_held(draw, truth: float, times: int = TIMES) -> float:
    """How often the interval that `draw` makes of a seeded generator holds the truth."""
    held = 0
    for seed in range(times):
        found = draw(np.random.default_rng(seed))
        held += found.low <= truth <= found.high
    return held / times


def test_accuracy_by_prompt():
    """Prompts differ in how hard they are (beta distribution, mean .7): rows of one prompt err
    together.
    """

    def draw(rng):
        owner = clusters_of(rng, 120)
        easy = rng.beta(2.1, 0.9, 120)[owner]
        return accuracy(np.where(rng.random(len(owner)) < easy, 1.0, -1.0), clusters=list(owner))

    assert share_held(draw, 0.7) == pytest.approx(0.95, abs=0.02)


def test_accuracy_with_ties():
    """Half wins: of three outcomes with .5, .2, .3 the mean is .6."""

    def draw(rng):
        return accuracy(
            rng.choice([1.0, 0.0, -1.0], p=[0.5, 0.2, 0.3], size=300), clusters=list(range(300))
        )

    assert share_held(draw, 0.6) >= 0.93


def test_ignoring_clusters_would_be_wrong():
    """What the tests here are able to see: the same rows as if each were of its own prompt."""

    def draw(rng):
        owner = np.repeat(np.arange(60), 6)
        return accuracy(np.where(rng.random(360) < rng.beta(0.7, 0.3, 60)[owner], 1.0, -1.0))

    assert share_held(draw, 0.7, 200) < 0.85


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_margin_by_prompt(shared):
    def draw(rng):
        owner = clusters_of(rng, 120)
        values = 0.4 + shared * rng.normal(size=120)[owner] + rng.normal(size=len(owner))
        return bootstrap_mean(values, clusters=list(owner), resamples=400)

    assert share_held(draw, 0.4) == pytest.approx(0.95, abs=0.02)


def test_ratio_by_document():
    """Nats over tokens, of documents of different length and difficulty: the ratio of the sums is
    2.
    """

    def draw(rng):
        owner = clusters_of(rng, 120)
        tokens = rng.integers(5, 60, len(owner)).astype(float)
        nats = tokens * (2 + 0.3 * rng.normal(size=120)[owner]) + rng.normal(size=len(owner))
        return bootstrap_ratio(nats, tokens, clusters=list(owner), resamples=400)

    assert share_held(draw, 2.0) == pytest.approx(0.95, abs=0.02)


def calibrated(rng, a: float, groups: int = 150):
    """Margins whose pairs are ranked rightly with probability σ(a·|m|); rows of a prompt are alike
    in size, and err together.
    """
    owner = clusters_of(rng, groups)
    size = np.abs(rng.normal(size=groups)[owner] + 0.5 * rng.normal(size=len(owner))) * 1.5
    return np.where(rng.random(groups)[owner] < expit(a * size), size, -size), owner


@pytest.mark.parametrize("a", [1.0, 0.4])
def test_slope(a):
    def draw(rng):
        return slope(*calibrated(rng, a))

    assert share_held(draw, a) == pytest.approx(0.95, abs=0.02)


def test_brier_and_expected_error():
    """The truth is that of a very large sample in bins of its own; the expected error's interval
    may hold it more often.
    """
    margins, _ = calibrated(np.random.default_rng(10**6), 0.3, 60_000)
    confidence = expit(np.abs(margins))
    gaps = np.bincount(_places(confidence), weights=(margins > 0) - confidence)
    error, brier = np.abs(gaps).sum() / len(margins), ((1 - expit(margins)) ** 2).mean()
    assert 0.1 < error < 0.3
    errors, briers, times = 0, 0, 100
    for seed in range(times):
        margins, owner = calibrated(np.random.default_rng(seed), 0.3)
        found = calibration(margins, clusters=list(owner))
        errors += found.ece.low <= error <= found.ece.high
        briers += found.brier.low <= brier <= found.brier.high
    assert errors / times >= 0.95 and 0.9 <= briers / times <= 0.99


def test_one_prompt_says_nothing_of_the_expected_error():
    found = calibration([0.5, -1.0, 2.0], clusters=["a", "a", "a"]).ece
    assert (found.low, found.high) == (0.0, 1.0)


def test_calibration_by_hand():
    """Forty pairs of confidence .75, of which 30 are ranked rightly: no error; Brier 30·.0625 +
    10·.5625 of 40; slope 1.
    """
    m = logit(0.75)
    found = calibration([m] * 30 + [-m] * 10)
    assert found.ece.value == pytest.approx(0) and found.brier.value == pytest.approx(0.1875)
    assert found.slope.value == pytest.approx(1.0)
    assert [(b.pairs, b.confidence, b.right) for b in found.bins] == [
        (40, pytest.approx(0.75), 0.75)
    ]
    doubled = calibration([2 * m] * 30 + [-2 * m] * 10)
    assert doubled.slope.value == pytest.approx(0.5) and doubled.ece.value == pytest.approx(
        expit(2 * m) - 0.75
    )


def test_a_calibrated_model_is_within_what_chance_shows():
    margins, _ = calibrated(np.random.default_rng(3), 1.0)
    found = calibration(margins)
    assert found.ece.low == 0 and found.ece.value < 2 * found.ece_of_chance
    assert len(found.bins) == 10 and sum(b.pairs for b in found.bins) == len(margins)


def test_slope_without_bound_is_not_given():
    assert slope(np.array([1.0, 2.0, 0.5]), np.arange(3)) is None
    assert slope(np.array([-1.0, -2.0]), np.arange(2)) is None
    assert slope(np.array([1.0, -2.0]), np.zeros(2, int)) is None


def test_smallest_difference_is_what_a_comparison_finds():
    """Two models that err independently, apart by just that difference, are told apart in 8 cases
    of 10.
    """
    n, base = 400, 0.65
    gap = smallest_difference(np.repeat([1.0, 0.0], [int(base * n), n - int(base * n)]))
    found = 0
    for seed in range(1_000):
        rng = np.random.default_rng(seed)
        d = (rng.random(n) < base + gap / 2).astype(float) - (rng.random(n) < base - gap / 2)
        found += abs(d.mean()) > 1.96 * d.std() / np.sqrt(n)
    assert found / 1_000 == pytest.approx(0.8, abs=0.05)


def test_smallest_difference_knows_clusters_and_correlation():
    scores = np.repeat([1.0, 0.0, 1.0, 1.0], 50)
    alone = smallest_difference(scores)
    assert smallest_difference(scores, clusters=list(np.repeat(range(20), 10))) > 2 * alone
    assert smallest_difference(scores, correlation=0.75) == pytest.approx(alone / 2)
    assert 0 < smallest_difference(np.ones(50)) < 0.2


# ---------------------------------------------------------------- win rates


def judged(rng, theta: float, phi: float, n: int = 120):
    """Wins of a judge that likes length, between answers of which one side's are longer; the true
    rate at equal length is σ(θ).
    """
    lengths, others = rng.integers(60, 200, n), rng.integers(20, 160, n)
    difference = lengths - others
    return (
        (rng.random(n) < expit(theta + phi * np.tanh(difference / difference.std()))).astype(float),
        lengths,
        others,
    )


def test_length_controlled_win_rate():
    """The plain rate is far off, the controlled one's interval holds the truth as often as it
    says.
    """
    truth, held, off = expit(-0.3), 0, 0
    for seed in range(150):
        found = win_rate(*judged(np.random.default_rng(seed), -0.3, 1.5), seed=seed)
        held += found.length_controlled.low <= truth <= found.length_controlled.high
        off += found.rate.low > truth
    assert held / 150 == pytest.approx(0.95, abs=0.03) and off > 120


def test_win_rate_by_hand():
    found = win_rate([1, 0.5, 0, 1], [3, 3, 5, 9], [3, 4, 4, 4])
    assert (found.rate.value, found.wins, found.ties, found.losses) == (0.625, 2, 1, 1)
    assert found.longer == 0.625
    all_won = win_rate([1.0] * 20, range(20), range(5, 25))
    assert all_won.length_controlled == all_won.rate and all_won.rate.low > 0.8


def test_one_prompt_many_times_is_no_evidence():
    rng = np.random.default_rng(0)
    scores, lengths, others = judged(rng, 0.3, 0.5, 40)
    many = win_rate(
        np.tile(scores, 10),
        np.tile(lengths, 10),
        np.tile(others, 10),
        clusters=list(range(40)) * 10,
    )
    once = win_rate(scores, lengths, others)

    def width(e):
        return e.high - e.low

    assert width(many.rate) == pytest.approx(width(once.rate), rel=0.15)
    assert width(many.length_controlled) == pytest.approx(width(once.length_controlled), rel=0.2)
    assert many.length_controlled.value == pytest.approx(once.length_controlled.value, abs=0.03)


def test_scores_between_win_and_loss():
    """¼ and ¾ of a judge asked in both orders."""

    def draw(rng):
        return bounded_mean(rng.choice([0, 0.25, 0.5, 0.75, 1], size=120))

    assert share_held(draw, 0.5, 400) >= 0.93
