"""The estimate of flipped labels: the known rate lies in its interval, other defects do not move
it, and where the texts cannot tell it says so.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from auditing.rows import clean, flipped, labelled, scored, write

from accord.auditing.causes import Cause
from accord.auditing.checks import labels
from accord.auditing.checks.noise import GRID, SLOPES, _losses, accounted_for, flipped_share
from accord.auditing.checks.probes import Probed, probe
from accord.auditing.scan import scan
from accord.auditing.thresholds import limit
from accord.evaluate.intervals import Estimate
from benchmarks import noise_coverage

SKILLED = Estimate(0.8, 0.75, 0.85, 1_000)


def estimate(margins, groups=None, left_out=None, skill=SKILLED) -> Estimate:
    rows = np.arange(len(margins))
    return flipped_share(Probed(rows, margins, skill), rows if groups is None else groups, left_out)


def of_model(rng, share: float, rows: int) -> np.ndarray:
    """Margins and labels drawn from P = ε + (1 - 2ε) σ(margin)."""
    size = np.abs(rng.normal(0, 3, rows))
    right = rng.random(rows) < share + (1 - 2 * share) / (1 + np.exp(-size))
    return np.where(right, size, -size)


# ---------------------------------------------------------------- arithmetic


def test_the_likelihood_by_hand():
    """All margins are 1 and 8 of 10 labels agree. Up to ε = .2 some slope gives P = .8, and the
    loss is the entropy; at ε = .3 the best is σ = 1, so P = .7.
    """
    margins = np.repeat([1.0, -1.0], [80, 20])
    profile = _losses(margins).min(1)
    entropy = -80 * np.log(0.8) - 20 * np.log(0.2)
    assert profile[GRID <= 0.19] == pytest.approx(entropy, abs=0.05)
    at = int(np.abs(GRID - 0.3).argmin())
    assert profile[at] == pytest.approx(-80 * np.log(0.7) - 20 * np.log(0.3), abs=1e-6)


def test_the_likelihood_equals_a_row_by_row_sum():
    """Under 64 rows each row has a bin of its own; a margin of 0 is half right."""
    margins = np.array([2.0, -1.0, 0.5, 0.0, -3.0])
    found = _losses(margins)
    for at, slope in ((3, 20), (50, 80), (98, 160)):
        total = 0.0
        for margin in margins:
            p = GRID[at] + (1 - 2 * GRID[at]) / (1 + np.exp(-SLOPES[slope] * abs(margin)))
            right = 0.5 if margin == 0 else float(margin > 0)
            total -= right * np.log(p) + (1 - right) * np.log(1 - p)
        assert found[at, slope] == pytest.approx(total, rel=1e-6)


def test_bins_lose_nothing_that_counts():
    """The interval from 64 bins is that from 8,000 rows one by one, within a step of the grid."""
    margins = of_model(np.random.default_rng(1), 0.2, 8_000)
    margins /= np.abs(margins).mean()
    size, right = np.abs(margins), margins > 0
    sure = 1 / (1 + np.exp(-SLOPES[None, 40:120] * size[:, None]))
    for at in (20, 40, 60):
        p = GRID[at] + (1 - 2 * GRID[at]) * sure
        exact = -np.where(right[:, None], np.log(p), np.log(1 - p)).sum(0).max()
        assert _losses(margins)[at].min() == pytest.approx(exact, abs=1.0)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.3])
def test_known_rates_from_the_model_itself(share):
    found = [estimate(of_model(np.random.default_rng(seed), share, 4_000)) for seed in range(20)]
    assert sum(one.low <= share <= one.high for one in found) >= 19
    assert np.mean([one.high - one.low for one in found]) < 0.2


def test_the_lower_end_allows_for_errors_of_sure_rows():
    """No flips, but one sure row in twenty goes against the pattern: nothing is shown."""
    rng = np.random.default_rng(0)
    margins = np.where(rng.random(20_000) < 0.05, -1, 1) * np.abs(of_model(rng, 0, 20_000))
    found = estimate(margins)
    assert found.value == pytest.approx(0.05, abs=0.01) and found.low == 0.0


def test_the_upper_end_by_hand():
    """All margins equal, 80 of 400 wrong: a likelihood ratio of 3.841·2 allows ε up to where
    400·KL(.2 ‖ ε) is 3.841, between .255 and .26. The wrong rows come last, so that the bound of
    the surest rows (the first ones among equals) is lower.
    """
    found = estimate(np.repeat([1.0, -1.0], [320, 80]))
    divergence = lambda e: 0.2 * np.log(0.2 / e) + 0.8 * np.log(0.8 / (1 - e))  # noqa: E731
    assert 400 * divergence(0.255) < 3.841 < 400 * divergence(0.26)
    assert found.high == pytest.approx(0.255)


def test_the_surest_rows_bound_the_flips_without_a_model():
    """No label of 400 contradicts: half of them, at an error of .05/8, allow 1 - (.05/8)^(1/200).
    If every row has four copies in its prompt, it is 1 - (.05/8)^(1/50).
    """
    margins = np.linspace(5, 6, 400)
    assert estimate(margins).high == pytest.approx(1 - 0.00625 ** (1 / 200))
    wrong = np.zeros(800, bool)
    wrong[:8] = True  # of two prompts: the design effect is 4
    groups = np.arange(800) // 4
    clustered = estimate(np.where(wrong, -5.0, np.linspace(5, 6, 800)), groups)
    alone = estimate(np.where(wrong, -5.0, np.linspace(5, 6, 800)))
    assert clustered.high > 1.5 * alone.high


# ---------------------------------------------------------------- silence


def test_a_classifier_that_is_never_sure_tells_nothing():
    """Weak margins: half a coin flip explains the labels as well as flips do, and the interval says
    so.
    """
    rng = np.random.default_rng(0)
    right = rng.random(2_000) < 0.55
    found = estimate(np.where(right, 0.2, -0.2) * rng.uniform(0.9, 1.1, 2_000))
    assert found.low == 0 and found.high > 0.4


@pytest.mark.parametrize("rows, prompts", [(199, 199), (1_000, 99)])
def test_too_few_rows_or_prompts_tell_nothing(rows, prompts):
    margins = of_model(np.random.default_rng(0), 0.3, rows)
    found = estimate(margins, np.arange(rows) % prompts)
    assert (found.low, found.high, found.n) == (0.0, 0.49, rows)


def test_a_classifier_without_skill_shows_no_flips():
    margins = of_model(np.random.default_rng(0), 0.3, 4_000)
    assert estimate(margins).low > limit("noise")
    assert estimate(margins, skill=Estimate(0.56, 0.54, 0.58, 4_000)).low == 0


def test_sure_rows_of_few_prompts_show_no_flips():
    """All sure rows belong to 40 prompts; the other 3,000 rows are less sure."""
    rng = np.random.default_rng(0)
    sure = np.where(rng.random(3_000) < 0.3, -8.0, 8.0)
    size = rng.uniform(0, 2, 3_000)
    unsure = np.where(rng.random(3_000) < 0.3 + 0.4 / (1 + np.exp(-size)), size, -size)
    margins = np.concatenate([sure, unsure])
    apart = estimate(margins)
    groups = np.concatenate([np.arange(3_000) % 40, 100 + np.arange(3_000)])
    assert apart.low > limit("noise") and estimate(margins, groups).low == 0


def test_rows_of_one_prompt_widen_the_interval():
    rng = np.random.default_rng(0)
    margins = of_model(rng, 0.2, 400)
    alone, together = (
        estimate(margins),
        estimate(np.repeat(margins, 5), np.repeat(np.arange(400), 5)),
    )
    assert together.high - together.low == pytest.approx(alone.high - alone.low, abs=0.02)
    independent = estimate(np.repeat(margins, 5))
    assert independent.high - independent.low < 0.7 * (alone.high - alone.low)


@pytest.mark.parametrize("margins", [np.zeros(500), np.full(500, 1e300), np.full(500, -1e-300)])
def test_odd_margins_give_an_interval(margins):
    found = estimate(margins)
    assert 0 <= found.low <= found.high <= 0.49


def test_the_finding_says_that_it_cannot_tell(tmp_path):
    table = scan(write(tmp_path / "data.jsonl", clean(150)))
    found = labels.noise(table, probe(table))
    assert found.verdict == "note" and "cannot tell" in found.says and "200 rows" in found.says
    assert not found.evidence["identified"] and not found.command


def test_an_end_that_is_not_known_is_not_given(tmp_path):
    table = scan(write(tmp_path / "data.jsonl", clean(30)))
    says = labels._noise_says(table, Estimate(0.04, 0.0, 0.15, 300), True, 12)
    assert "at most 15 %" in says and "between" not in says and "12 that other" in says
    says = labels._noise_says(table, Estimate(0.2, 0.12, 0.25, 300), True, 0)
    assert "between 12 % and 25 %, most likely 20 %" in says and "left out" not in says
    says = labels._noise_says(table, Estimate(0.2, 0.0, 0.35, 300), False, 0)
    assert "at most 35 %" in says and "most likely" not in says


def test_an_upper_end_over_the_limit_is_no_warning(tmp_path, monkeypatch):
    table = scan(write(tmp_path / "data.jsonl", clean(150)))
    probes = probe(table)
    cases = [(0.0, 0.45, "note"), (0.09, 0.3, "note"), (0.11, 0.3, "warning")]
    cases.append((0.41, 0.45, "refused"))
    # a lower end over the limit in an interval as wide as that: the texts cannot tell
    for low, high, verdict in (*cases, (0.13, 0.44, "note")):
        found = Estimate(0.42, low, high, 500)
        monkeypatch.setattr(labels, "flipped_share", lambda *a, found=found: found)
        assert labels.noise(table, probes).verdict == verdict


# ---------------------------------------------------------------- rows that others account for


def test_rows_left_out_do_not_count():
    rng = np.random.default_rng(0)
    kept = of_model(rng, 0.2, 1_000)
    wrong = np.full(300, -9.0)
    both = np.concatenate([kept, wrong])
    out = np.arange(1_300) >= 1_000
    assert estimate(both, left_out=out) == estimate(kept)
    assert estimate(both) != estimate(kept)


def turned(row: dict) -> dict:
    return row | {"chosen": row["rejected"], "rejected": row["chosen"]}


def test_each_defect_is_left_out_and_nothing_else(tmp_path):
    rows = scored(40)
    long = " ".join(f"word{i}" for i in range(200))
    rows[1] = rows[0]  # a copy
    rows[3] = turned(rows[2])  # a contradiction: both
    rows[4] = rows[4] | {"rejected": rows[4]["chosen"].upper()}
    rows[5] = rows[5] | {"chosen": long, "rejected": long + " more"}
    rows[6] = rows[6] | {"score_chosen": 7, "score_rejected": 7}
    rows[7] = rows[7] | {"noise": {"selected": True}}
    rows[9] = rows[8] | {"prompt": rows[8]["prompt"] + "!", "chosen": rows[8]["chosen"] + "."}
    for row, (one, two) in zip((10, 11, 12), ("AB", "BC", "CA"), strict=True):  # a cycle
        rows[row] = rows[row] | {
            "prompt": "Who is first?",
            "chosen": f"{one} is the first of the three, I believe.",
            "rejected": f"{two} is the first of the three, I believe.",
        }
    table = scan(write(tmp_path / "data.jsonl", rows))
    out = np.flatnonzero(accounted_for(table)).tolist()
    assert out == [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12]


def test_even_votes_are_left_out(tmp_path):
    rows = [
        row | {"votes_chosen": 3, "votes_rejected": 3 if at == 4 else 1}
        for at, row in enumerate(clean(30))
    ]
    table = scan(write(tmp_path / "data.jsonl", rows))
    if np.isnan(table.votes).all():
        pytest.skip("votes are read under other names")
    assert np.flatnonzero(accounted_for(table)).tolist() == [4]


def test_rows_of_a_cause_that_cannot_be_taken_out_are_left_out(tmp_path):
    table = scan(write(tmp_path / "data.jsonl", clean(30)))
    touched = np.arange(30) < 7
    kept = Cause("shortcuts.dates", "Dates", touched, lambda text: text)
    gone = Cause("wrecks.cut", "Cut answers", touched, None)
    assert not accounted_for(table, [kept]).any()
    assert accounted_for(table, [kept, gone]).tolist() == touched.tolist()


def test_contradictory_labels_and_copies_of_labelled_rows(tmp_path):
    rows = labelled(60)
    rows[1] = rows[0]
    rows[3] = rows[2] | {"label": not rows[2]["label"]}
    table = scan(write(tmp_path / "data.jsonl", rows))
    assert np.flatnonzero(accounted_for(table)).tolist() == [1, 2, 3]


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_planted_flips(share, tmp_path):
    table = scan(write(tmp_path / "data.jsonl", flipped(clean(800, mixed=0.0), share)))
    probes = probe(table)
    found = flipped_share(probes.words, probes.groups)
    assert found.low <= share <= found.high and found.high - found.low < 0.2


def test_other_defects_do_not_move_the_estimate(tmp_path):
    """20 % of labels flipped, then 15 % of rows contradicted, 15 % copied, 10 % equal answers:
    without leaving them out the upper end alone would be of use.
    """
    rows = flipped(clean(600, mixed=0.0), 0.2)
    defects = [turned(row) for row in rows[:90]] + rows[90:180]
    defects += [row | {"rejected": row["chosen"].upper()} for row in clean(60, 5, 0.0)]
    table = scan(write(tmp_path / "data.jsonl", rows + defects))
    probes = probe(table)
    found = flipped_share(probes.words, probes.groups, accounted_for(table))
    assert found.n == 600 - 90 and found.low <= 0.2 <= found.high <= 0.3
    assert found.high - found.low < limit("noise_wide")


def test_flipped_labels_of_single_answers(tmp_path):
    rng = np.random.default_rng(0)
    sound = labelled(800, mixed=0.0)
    rows = [row | {"label": bool(row["label"] ^ (rng.random() < 0.25))} for row in sound]
    table = scan(write(tmp_path / "data.jsonl", rows))
    probes = probe(table)
    found = flipped_share(probes.words, probes.groups, accounted_for(table))
    assert limit("noise") < found.low <= 0.25 <= found.high


@pytest.mark.parametrize("shape", noise_coverage.SHAPES)
def test_the_interval_holds_with_every_defect(shape, tmp_path):
    """Cells of benchmarks/noise_coverage.py at small size, with all defects at once."""
    held = []
    for seed, flips in enumerate(noise_coverage.FLIPS):
        rows = noise_coverage.synthetic(np.random.default_rng(seed), 700, shape, flips, "all")
        path = tmp_path / "data.jsonl"
        write(path, rows)
        base = noise_coverage.Base.of(path, 10_000)
        found = noise_coverage.estimate(base, np.zeros(len(base.groups), bool), seed)
        held.append(found.low <= flips <= found.high)
    assert all(held)


@pytest.mark.parametrize("file", ["hh_helpful/train.jsonl.gz", "truthfulqa/pairs_train.jsonl"])
def test_no_part_of_a_sound_file_raises_a_warning(file, shared_data):
    """160 rows of 1,954 once raised one. The whole file raises none."""
    base = noise_coverage.Base.of(shared_data(file), 6_000)
    for seed in range(20):
        size = (160, 320, 640)[seed % 3]
        part = base.part(np.random.default_rng(seed).permutation(len(base.groups))[:size])
        found = noise_coverage.estimate(part, np.zeros(size, bool), seed)
        assert found.low <= limit("noise"), (seed, size, found)


def test_planted_flips_in_real_answers(shared_data):
    """20 % of TruthfulQA's labels turned round: inside the interval, and the file as it is lies
    below it.
    """
    base = noise_coverage.Base.of(shared_data("truthfulqa/pairs_train.jsonl"), 10_000)
    flips = np.random.default_rng(0).random(len(base.groups)) < 0.2
    noisy = noise_coverage.estimate(base, flips, 0)
    sound = noise_coverage.estimate(base, np.zeros(len(flips), bool), 0)
    assert noisy.low <= 0.2 <= noisy.high and sound.high < 0.1
    assert noisy.value > sound.high


def test_the_benchmark_counts_what_it_drew():
    """Two of four intervals hold, one of four warns."""
    ends = [(0.0, 0.3, True), (0.2, 0.3, False), (0.0, 0.1, False), (0.0, 0.2, True)]
    drawn = [
        {"flips": 0.2, "rows": 5, "low": low, "high": high, "held": held}
        for low, high, held in ends
    ]
    (cell,) = noise_coverage.summary(drawn, "flips")
    assert (cell["n"], cell["held"], cell["warned"]) == (4, 0.5, 0.25)
    assert cell["width"] == pytest.approx(0.175)
    assert json.dumps(cell)
