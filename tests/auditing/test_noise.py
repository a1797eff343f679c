"""The estimate of flipped labels: the known rate lies in its interval, and a clean file's interval
lies apart.
"""

from __future__ import annotations

import numpy as np
import pytest
from auditing.rows import clean, flipped, write

from accord.auditing.checks.noise import flipped_share
from accord.auditing.checks.probes import Probed, probe
from accord.auditing.scan import scan
from accord.evaluate.intervals import Estimate


def estimate(margins, groups=None) -> Estimate:
    rows = np.arange(len(margins))
    return flipped_share(
        Probed(rows, margins, Estimate(0.5, 0, 1, len(rows))), rows if groups is None else groups
    )


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_known_rates_from_the_model_itself(share):
    """Margins and labels drawn from P = ε + (1 - 2ε) σ(margin)."""
    rng = np.random.default_rng(0)
    size = np.abs(rng.normal(0, 3, 8_000))
    right = rng.random(8_000) < share + (1 - 2 * share) / (1 + np.exp(-size))
    found = estimate(np.where(right, size, -size))
    assert found.low <= share <= found.high and found.high - found.low < 0.1


def test_a_classifier_that_is_never_sure_tells_nothing():
    """Weak margins: half a coin flip explains the labels as well as flips do, and the interval says
    so.
    """
    rng = np.random.default_rng(0)
    right = rng.random(2_000) < 0.55
    found = estimate(np.where(right, 0.2, -0.2) * rng.uniform(0.9, 1.1, 2_000))
    assert found.low <= 0.01 and found.high > 0.4


def test_rows_of_one_prompt_widen_the_interval():
    rng = np.random.default_rng(0)
    size = np.abs(rng.normal(0, 3, 400))
    margins = np.where(rng.random(400) < 0.2 + 0.6 / (1 + np.exp(-size)), size, -size)
    alone, together = (
        estimate(margins),
        estimate(np.repeat(margins, 5), np.repeat(np.arange(400), 5)),
    )
    assert together.high - together.low == pytest.approx(alone.high - alone.low, abs=0.02)
    assert estimate(np.repeat(margins, 5)).high - estimate(np.repeat(margins, 5)).low < 0.7 * (
        alone.high - alone.low
    )


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_planted_flips(share, tmp_path):
    table = scan(write(tmp_path / "data.jsonl", flipped(clean(800, mixed=0.0), share)))
    probes = probe(table)
    found = flipped_share(probes.words, probes.groups)
    assert found.low <= share <= found.high and found.high - found.low < 0.15


def test_planted_flips_in_real_answers(tmp_path, shared_data):
    """20 % of TruthfulQA's labels turned round: inside the interval, and the file as it is lies
    below it.
    """
    import json

    file = shared_data("truthfulqa/pairs_train.jsonl")
    rows = [json.loads(line) for line in file.open(encoding="utf-8")]
    found = {}
    for share in (0.0, 0.2):
        table = scan(write(tmp_path / f"{share}.jsonl", flipped(rows, share)))
        probes = probe(table)
        found[share] = flipped_share(probes.words, probes.groups)
    assert found[0.2].low <= 0.2 <= found[0.2].high
    assert found[0.0].high < found[0.2].low
