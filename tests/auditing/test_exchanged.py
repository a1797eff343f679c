"""A part whose sides are exchanged is named from the texts alone; honest files are not."""

from __future__ import annotations

import random

import numpy as np
import pytest
from auditing.rows import clean, labelled, write

from accord.auditing.checks.exchanged import exchanged_findings
from accord.auditing.checks.probes import Probes
from accord.auditing.scan import scan

FITTED = object()  # stands for probes that could be fitted: only their presence counts


def found_in(tmp_path, rows):
    found = exchanged_findings(scan(write(tmp_path / "rows.jsonl", rows)), FITTED)
    return found[0] if found else None


def turned(row):
    if "label" in row:
        return row | {"label": not row["label"]}
    return row | {"chosen": row["rejected"], "rejected": row["chosen"]}


@pytest.mark.parametrize("make", [clean, labelled])
@pytest.mark.parametrize(("start", "end"), [(0, 200), (120, 220), (320, 400)])
def test_a_run_is_named(tmp_path, make, start, end):
    rows = [turned(row) if start <= at < end else row for at, row in enumerate(make(400))]
    found = found_in(tmp_path, rows)
    assert found.verdict == "warning"
    assert abs(found.evidence["part"]["rows"] - (end - start)) <= 12, found.says
    assert found.evidence["inside"]["high"] < 0.5 < found.evidence["outside"]["low"]


def test_a_source_is_named(tmp_path):
    rows = [
        (turned(row) if at % 3 == 1 else row) | {"source": "abc"[at % 3]}
        for at, row in enumerate(clean(400))
    ]
    found = found_in(tmp_path, rows)
    assert found.verdict == "warning" and "'source' is 'b'" in found.says


@pytest.mark.parametrize("seed", range(4))
def test_half_of_the_sources_in_mixed_order(tmp_path, seed):
    """No run of rows has a direction; the sources have."""
    rng = random.Random(seed)
    rows = [row | {"source": rng.choice("abcd")} for row in clean(400)]
    rows = [turned(row) if row["source"] in "ad" else row for row in rows]
    found = found_in(tmp_path, rows)
    assert found.verdict == "warning"
    named = {each for each in "abcd" if f"'{each}'" in found.says}
    assert named in ({"a", "d"}, {"b", "c"}), found.says


def test_a_part_of_another_kind_is_noted(tmp_path):
    """People may want the opposite there."""
    rows = clean(400)
    for row in rows[250:]:
        row["prompt"] = "Gib eine Antwort auf diese Frage: " + row["prompt"]
    rows = [turned(row) if at >= 250 else row for at, row in enumerate(rows)]
    found = found_in(tmp_path, rows)
    assert found.verdict == "note" and "another kind" in found.says


@pytest.mark.parametrize("make", [clean, labelled])
def test_an_honest_file_and_a_file_of_noise_are_silent(tmp_path, make):
    rng = random.Random(0)
    assert found_in(tmp_path, make(400)) is None
    for _ in range(15):
        noise = [turned(row) if rng.random() < 0.5 else row for row in make(300, seed=_)]
        assert found_in(tmp_path, noise) is None


def test_no_probes_no_word(tmp_path):
    read = scan(write(tmp_path / "rows.jsonl", clean(400)))
    missing: Probes | None = None
    assert exchanged_findings(read, missing) == []
    assert exchanged_findings(scan(write(tmp_path / "few.jsonl", clean(70))), FITTED) == []


def test_a_real_set(tmp_path, shared_data):
    """Pairs of truthfulqa share prompts, which stand in both parts here."""
    import json

    path = shared_data("truthfulqa/pairs_train.jsonl")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()[:1200]]
    random.Random(1).shuffle(rows)
    assert found_in(tmp_path, rows) is None
    found = found_in(tmp_path, [turned(r) if 300 <= at < 700 else r for at, r in enumerate(rows)])
    assert found.verdict == "warning" and abs(found.evidence["part"]["rows"] - 400) < 40


def test_margins_leave_out_rows_of_the_same_prompt():
    """By hand: two terms, the direction is the sum of rows with another prompt, over the scale."""
    from scipy import sparse

    from accord.auditing.checks.exchanged import _Texts

    table = sparse.csr_matrix(np.array([[1.0, 0], [0, 2], [1, 1], [3, 0]]))
    texts = _Texts(table, None, np.array([7, 7, 8, 9]))
    every = np.arange(4)
    dense, expected = table.toarray(), []
    for at in every:
        others = [k for k in every if texts.groups[k] != texts.groups[at]]
        expected.append(dense[at] @ (texts.scale * dense[others].sum(0)))
    assert texts.fitted(every, every) == pytest.approx(expected)


def test_one_fault_is_named_once(tmp_path):
    """A margin names the part row by row; the texts' finding is its symptom."""
    from accord.auditing.run import audit

    rows = [row | {"margin": 1 + at % 3} for at, row in enumerate(clean(400))]
    rows = [turned(row) | {"margin": -1} if at < 150 else row for at, row in enumerate(rows)]
    found = audit(write(tmp_path / "rows.jsonl", rows))
    assert found.always("labels.numbers_margin").verdict == "warning"
    texts = found.always("labels.exchanged")
    assert (texts.verdict, texts.explained_by) == ("note", "labels.numbers_margin")
