"""The traps that real sets are known to hold, found."""

from __future__ import annotations

import numpy as np

from accord.auditing.checks import integrity, labels, shortcuts
from accord.auditing.measure import FEATURES
from accord.auditing.scan import scan


def test_hh_rows_that_diverge_and_empty_answers(shared_data):
    found = integrity.ledger_finding(scan(shared_data("hh_harmless/transcripts.jsonl.gz")))
    assert (
        found.evidence["reasons"] == {"diverges before the last turn": 5, "empty answer": 4}
        and found.verdict == "warning"
    )


def test_equal_scores_of_ultrafeedback(shared_data):
    table = scan(shared_data("ultrafeedback_small/pairs_train.jsonl.gz"))
    ties = {f.check: f for f in labels.score_findings(table)}
    assert (
        ties["labels.near_ties"].evidence["equal"] == 110
        and ties["labels.near_ties"].verdict == "warning"
    )
    assert ties["labels.scores"].evidence["estimate"]["value"] == 0


def test_repeated_prompts_of_the_mix(shared_data):
    found = integrity.repeated_prompts(scan(shared_data("permissive_mix/train.jsonl.gz")))
    assert (
        found.evidence["prompts"] == 4093
        and found.verdict == "note"
        and 1_900 < found.evidence["effective"] < 2_000
    )


def test_the_length_baseline_of_hh_helpful(shared_data):
    """.595, as the set's own README states."""
    table = scan(shared_data("hh_helpful/train.jsonl.gz"))
    rule = next(rule for rule in shortcuts.rules(table) if rule["feature"] == "characters")
    assert rule["direction"] == "more" and abs(rule["score"].value - 0.595) < 0.005
    assert FEATURES[0] == "characters" and np.isfinite(table.features).all()
