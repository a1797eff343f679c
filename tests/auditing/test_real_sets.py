"""The traps that real sets are known to hold, found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accord.auditing import integrity, labels, shortcuts
from accord.auditing.measure import FEATURES
from accord.auditing.scan import scan

DATA = Path(__file__).parents[2] / "../shared/data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data")


def test_hh_rows_that_diverge_and_empty_answers():
    found = integrity.ledger_finding(scan(DATA / "hh_harmless/transcripts.jsonl.gz"))
    assert (
        found.evidence["reasons"] == {"diverges before the last turn": 5, "empty answer": 4}
        and found.verdict == "warning"
    )


def test_equal_scores_of_ultrafeedback():
    ties = {
        f.check: f
        for f in labels.score_findings(scan(DATA / "ultrafeedback_small/pairs_train.jsonl.gz"))
    }
    assert (
        ties["labels.near_ties"].evidence["equal"] == 110
        and ties["labels.near_ties"].verdict == "warning"
    )
    assert ties["labels.scores"].evidence["estimate"]["value"] == 0


def test_repeated_prompts_of_the_mix():
    found = integrity.repeated_prompts(scan(DATA / "permissive_mix/train.jsonl.gz"))
    assert (
        found.evidence["prompts"] == 4093
        and found.verdict == "warning"
        and 1_900 < found.evidence["effective"] < 2_000
    )


def test_the_length_baseline_of_hh_helpful():
    """.595, as the set's own README states."""
    table = scan(DATA / "hh_helpful/train.jsonl.gz")
    rule = next(rule for rule in shortcuts.rules(table) if rule["feature"] == "characters")
    assert rule["direction"] == "more" and abs(rule["score"].value - 0.595) < 0.005
    assert FEATURES[0] == "characters" and np.isfinite(table.features).all()
