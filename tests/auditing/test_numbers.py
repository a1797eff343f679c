"""Numbers beside labels: what contradicts is named, what describes is left alone."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from auditing.rows import clean, labelled, write

from accord.auditing.checks.labels import score_findings
from accord.auditing.checks.numbers import number_findings
from accord.auditing.checks.parts import heaviest
from accord.auditing.scan import scan
from accord.auditing.tables.numbers import number


def found_in(tmp_path, rows, name):
    """The finding of one column, None where there is none."""
    found = number_findings(scan(write(tmp_path / "rows.jsonl", rows)))
    return next((each for each in found if each.check == f"labels.numbers_{name}"), None)


def with_column(rows, name, value):
    """The rows, each with `value(row number)` under the name."""
    return [row | {name: value(at)} for at, row in enumerate(rows)]


def turned(row):
    """The row with its texts exchanged, and what stands beside them left as it is."""
    return row | {"chosen": row["rejected"], "rejected": row["chosen"]}


def test_a_number_is_read_from_what_judges_write():
    read = ["8/10", "85 %", "+3", "−2.5", "4 stars", 7, "1e3"]
    assert [number(each) for each in read] == [8, 85, 3, -2.5, 4, 7, 1000]
    assert all(math.isnan(number(each)) for each in ("a", True, None, "9" * 41, 1e300, "1/2/3"))


@pytest.mark.parametrize("seed", range(20))
def test_the_heaviest_run_is_the_best_of_all_runs(seed):
    weights = np.random.default_rng(seed).normal(-0.1, 1, 12)
    sums = {(a, b): weights[a:b].sum() for a in range(13) for b in range(a, 13)}
    start, end = heaviest(weights)
    assert weights[start:end].sum() == pytest.approx(max(sums.values()))


@pytest.mark.parametrize("name", ["margin", "score_diff", "rewardGap", "meta.delta"])
def test_a_margin_that_is_negative_in_half_the_rows(tmp_path, name):
    rng = random.Random(1)
    values = [rng.uniform(0.1, 3) * rng.choice((-1, 1)) for _ in range(300)]
    if "." in name:
        outer, inner = name.split(".")
        rows = with_column(clean(300), outer, lambda at: {inner: values[at], "judge": "x"})
    else:
        rows = with_column(clean(300), name, lambda at: str(values[at]))
    found = found_in(tmp_path, rows, name)
    below = sum(value < 0 for value in values)
    assert found.verdict == "refused"
    assert f"positive in {300 - below} rows, negative in {below}" in found.says
    assert found.evidence["estimate"]["value"] == below / 300


def test_a_margin_that_is_always_above_zero_is_silent(tmp_path):
    rows = with_column(clean(300), "margin", lambda at: 0.1 + at % 7)
    assert found_in(tmp_path, rows, "margin") is None


PLACES = {"head": (0, 150), "middle": (90, 210), "tail": (200, 300)}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["margin", "helpful_points", "odd_name"])
def test_an_exchanged_part_is_named_whatever_the_name(tmp_path, place, name):
    """A margin claims; numbers of both sides under other names need not."""
    start, end = PLACES[place]
    sign = lambda at: -1 if start <= at < end else 1  # noqa: E731
    rng = random.Random(2)
    rows = clean(300)
    for at, row in enumerate(rows):
        gap = sign(at) * rng.uniform(0.1, 2)
        if name == "margin":
            row[name] = gap
        else:
            row |= {f"chosen_{name}": 5 + gap, f"rejected_{name}": 5}
    found = found_in(tmp_path, rows, name)
    assert found.verdict in ("warning", "refused")
    assert f"rows.jsonl:{start + 1} to " in found.says and f"rows.jsonl:{end}" in found.says


def test_scores_of_both_sides_name_the_part_and_are_accused_once(tmp_path):
    rows = clean(300)
    for at, row in enumerate(rows):
        row |= {"score_chosen": 3 + 4 * (at >= 120), "score_rejected": 5}
    read = scan(write(tmp_path / "rows.jsonl", rows))
    found = score_findings(read)[0]
    assert found.verdict == "warning" and "rows.jsonl:1 to " in found.says
    assert found.evidence["part"]["rows"] == 120
    assert not number_findings(read)


def test_a_source_whose_sides_are_exchanged(tmp_path):
    rng = random.Random(3)
    rows = clean(300)
    for at, row in enumerate(rows):
        row |= {"source": "abc"[at % 3], "margin": rng.random() * (-1 if at % 3 == 1 else 1)}
    found = found_in(tmp_path, rows, "margin")
    assert found.verdict == "warning" and "'source' is 'b'" in found.says


def test_another_judge_is_another_opinion(tmp_path):
    rng = random.Random(4)
    rows = clean(300)
    for row in rows:
        row |= {"score_chosen": 8, "score_rejected": 5}
        row |= {"humor_rating_chosen": rng.random(), "humor_rating_rejected": rng.random()}
    found = found_in(tmp_path, rows, "humor_rating")
    assert found.verdict == "note" and "another opinion" in found.says


HONEST = {
    "confidence": lambda rng, at: rng.random(),
    "year": lambda rng, at: 1990 + at % 30,
    "id": lambda rng, at: at - 150,
    "latitude": lambda rng, at: rng.uniform(-90, 90),
    "logprob": lambda rng, at: -rng.random(),
    "sentiment": lambda rng, at: rng.choice((-1, 0, 1)),
    "sorted_value": lambda rng, at: at - 100,
    "score": lambda rng, at: rng.random(),
}


@pytest.mark.parametrize("name", HONEST)
def test_what_describes_a_row_is_left_alone(tmp_path, name):
    rng = random.Random(5)
    rows = with_column(clean(300), name, lambda at: HONEST[name](rng, at))
    found = found_in(tmp_path, rows, name)
    assert found is None or found.verdict in ("ok", "note"), found.says


def test_lengths_of_both_sides_are_no_claim(tmp_path):
    rows = [
        row | {"chosen_length": len(row["chosen"]), "rejected_length": len(row["rejected"])}
        for row in clean(300)
    ]
    assert found_in(tmp_path, rows, "length") is None


@pytest.mark.parametrize("good", [0.2, 0.5, 0.8])
def test_scores_of_labelled_answers(tmp_path, good):
    """The share against is one minus the area under the curve, with ties half."""
    rng = random.Random(6)
    rows = labelled(300, good)
    for row in rows:
        row["score"] = 5 + row["label"] + rng.random() / 2
    assert found_in(tmp_path, rows, "score").verdict == "ok"
    reversed_ = [row | {"score": -row["score"]} for row in rows]
    assert found_in(tmp_path, reversed_, "score").verdict == "refused"
    half = [row | {"label": not row["label"]} if at < 150 else row for at, row in enumerate(rows)]
    found = found_in(tmp_path, half, "score")
    assert found.verdict in ("warning", "refused"), found.says
    assert "rows.jsonl:1 to " in found.says and abs(found.evidence["part"]["rows"] - 150) < 8
    random_ = [row | {"score": rng.random()} for row in rows]
    assert found_in(tmp_path, random_, "score").verdict in ("warning", "refused")


def test_scales_of_several_sources(tmp_path):
    """One judge gives 1 to 5 and the other 1 to 100: within each the scores are right."""
    rng = random.Random(7)
    rows = labelled(400)
    for at, row in enumerate(rows):
        scale = 20 if at % 2 else 1
        row |= {"source": "ab"[at % 2], "rating": scale * (3 + row["label"] + rng.random() / 2)}
    assert found_in(tmp_path, rows, "rating").verdict == "ok"


def test_unrelated_numbers_of_labelled_answers(tmp_path):
    rng = random.Random(8)
    rows = [row | {"weight": rng.random(), "words": 5} for row in labelled(300)]
    assert not number_findings(scan(write(tmp_path / "rows.jsonl", rows)))


def test_rows_in_order_of_their_labels(tmp_path):
    """A number that most rows share is against the labels of one half, and says nothing."""
    rng = random.Random(10)
    rows = sorted(labelled(300), key=lambda row: row["label"])
    for name in ("rank_of_source", "odd"):
        rows = [row | {name: float(rng.random() < 0.9)} for row in rows]
    assert all(
        each.evidence["part"] is None
        for each in number_findings(scan(write(tmp_path / "rows.jsonl", rows)))
    )


def test_two_sources_may_honestly_differ(tmp_path):
    """Chosen answers are the more formal ones in one half and the less formal in the other."""
    rng = random.Random(11)
    rows = clean(300)
    for at, row in enumerate(rows):
        better = (rng.random() < 0.85) == (at < 150)
        row |= {"chosen_formality": int(better), "rejected_formality": int(not better)}
    assert found_in(tmp_path, rows, "formality") is None


def test_hostile_names_and_values(tmp_path):
    rows = with_column(clean(60), "x\x1b[2Jmargin", lambda at: -1)
    rows = with_column(rows, "many", lambda at: {f"k{i}": i for i in range(1000)})
    rows = with_column(rows, "deep", lambda at: {"margin": {"margin": -1}})
    rows = [row | {f"column{i}": -i for i in range(100)} for row in rows]
    read = scan(write(tmp_path / "rows.jsonl", rows))
    assert not number_findings(read)
    assert len(read.tables.numbers.columns) <= 32


def test_noise_is_no_part(tmp_path):
    """Of 300 files with 30 % of labels against a margin, none has a part that looks exchanged."""
    from accord.auditing.checks.parts import turned_part

    read = scan(write(tmp_path / "rows.jsonl", clean(200)))
    rng = np.random.default_rng(9)
    rows = np.arange(200)
    for share in (0.1, 0.3, 0.5):
        assert all(turned_part(read, rows, rng.random(200) < share) is None for _ in range(100))
