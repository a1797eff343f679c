"""Answers in other rows: shifts, reversals, shuffles and strewn exchanges, and files that only look
like them.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
from auditing.rows import write

from accord.auditing.checks.belonging import belonging_findings
from accord.auditing.likeness import Likeness, terms
from accord.auditing.scan import scan

SYLLABLES = "ba ce di fo gu ha ji ko lu me ni po ra se ti vo wu ya ze".split()


def word(rng):
    return "".join(rng.choice(SYLLABLES) for _ in range(3))


def related(n=300, seed=0, per_prompt=1):
    """Prompts of eight words; both answers take up four of them, among words of their own."""
    rng = random.Random(seed)
    common = [word(rng) for _ in range(200)]
    rows = []
    for at in range(n):
        if at % per_prompt == 0:
            asked = [word(rng) for _ in range(5)] + rng.sample(common, 3)
        texts = []
        for _ in range(2):
            text = rng.sample(asked, 4) + rng.sample(common, 10)
            rng.shuffle(text)
            texts.append(" ".join(text))
        rows.append({"prompt": " ".join(asked), "chosen": texts[0], "rejected": texts[1]})
    return rows


def moved(rows, at, order, columns=("chosen", "rejected")):
    """The rows, where those at `at` have the answers of those in `order`."""
    out = [dict(row) for row in rows]
    for here, there in zip(at, order, strict=True):
        out[here] |= {column: rows[there][column] for column in columns}
    return out


def found_in(tmp_path, rows):
    return belonging_findings(scan(write(tmp_path / "rows.jsonl", rows)), 0)


def test_terms():
    assert terms("Cooking, 12 cooks AND 3d cookies") == {"cookin", "cooks", "and", "cookie"}
    assert terms("北京大学 in 北京") == {"北京", "京大", "大学"}
    assert terms("") == set() and terms("12 + 7 = 19") == set()


def test_ranks_by_hand():
    """Two prompts with a word each: the own answer ranks above one of two, and ties with itself."""
    prompts, answers = [{"one", "in"}, {"two", "in"}], [{"one"}, {"two"}]
    like = Likeness.of(prompts, answers, np.arange(2), 0)
    assert like.rank(np.arange(2), np.arange(2)).tolist() == [0.75, 0.75]
    assert like.rank(np.arange(2), np.array([1, 0])).tolist() == [0.25, 0.25]
    assert Likeness.of(prompts, [{"x"}, {"y"}], np.arange(2), 0) is None


@pytest.mark.parametrize("by", [1, -2, 37])
@pytest.mark.parametrize("per_prompt", [1, 3])
def test_a_shifted_column_names_the_shift(tmp_path, by, per_prompt):
    rows = related(per_prompt=per_prompt)
    every = np.arange(len(rows))
    (found,) = found_in(tmp_path, moved(rows, every, np.roll(every, by)))
    assert found.verdict == "refused" and found.evidence["side"] == ["chosen", "rejected"]
    assert found.evidence["kind"] in ("shift", "around")
    # rows of one prompt stand beside each other: any row of the right prompt is right
    assert abs((found.evidence["by"] - by + 150) % 300 - 150) < per_prompt
    assert "further" in found.says


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_one_side_of_a_window(tmp_path, side):
    rows = related()
    window = np.arange(120, 170)
    (found,) = found_in(tmp_path, moved(rows, window, np.roll(window, 1), (side,)))
    assert found.verdict == "warning" and found.evidence["side"] == [side]
    assert abs(found.evidence["count"] - 50) < 6
    assert (found.evidence["kind"], found.evidence["by"]) == ("shift", 1)


def test_a_reversed_file_and_a_shuffled_window(tmp_path):
    rows = related()
    every = np.arange(300)
    (found,) = found_in(tmp_path, moved(rows, every, every[::-1]))
    assert found.verdict == "refused" and "reverse order" in found.says
    window = np.arange(200, 260)
    order = np.random.default_rng(0).permutation(window)
    (found,) = found_in(tmp_path, moved(rows, window, order))
    assert found.evidence["kind"] == "shuffle" and abs(found.evidence["count"] - 60) < 8
    assert "rows.jsonl:2" in found.says


def test_strewn_rows(tmp_path):
    rows = related(400)
    some = np.sort(np.random.default_rng(1).permutation(400)[:80])
    (found,) = found_in(tmp_path, moved(rows, some, np.roll(some, 1)))
    assert found.evidence["kind"] == "strewn" and found.verdict == "warning"


def test_a_frame_and_a_system_turn_do_not_hide_it(tmp_path):
    rows = related()
    frame = " ".join(row["chosen"] for row in related(5, 9))
    for row in rows:
        row["prompt"] = [
            {"role": "system", "content": frame},
            {"role": "user", "content": frame[:100] + row["prompt"]},
        ]
    assert [each.verdict for each in found_in(tmp_path, rows)] == ["ok"]
    every = np.arange(300)
    (found,) = found_in(tmp_path, moved(rows, every, np.roll(every, 1)))
    assert found.verdict == "refused"


def test_labelled_rows(tmp_path):
    rows = [
        {"prompt": row["prompt"], "completion": row["chosen"], "label": at % 2 == 0}
        for at, row in enumerate(related())
    ]
    assert [each.verdict for each in found_in(tmp_path, rows)] == ["ok"]
    every = np.arange(300)
    (found,) = found_in(tmp_path, moved(rows, every, np.roll(every, 1), ("completion", "label")))
    assert found.verdict == "refused" and found.evidence["side"] == ["answers"]


def _labels(rng, row):
    return row | {"chosen": rng.choice(["yes", "maybe"]), "rejected": "no"}


def _sums(rng, row):
    a, b = rng.randrange(99), rng.randrange(99)
    return row | {"prompt": f"{a} plus {b}?", "chosen": str(a + b), "rejected": str(a - b)}


def _foreign(rng, row):
    signs = "".join(chr(rng.randrange(0x4E00, 0x5000)) for _ in range(40))
    return row | {"chosen": signs, "rejected": signs[::-1]}


def _refusals(rng, row):
    words = "sorry cannot help this request harmful advice please professional".split()
    return row | {side: " ".join(rng.sample(words, 6)) for side in ("chosen", "rejected")}


@pytest.mark.parametrize("kind", [_labels, _sums, _foreign, _refusals])
@pytest.mark.parametrize("start", [0, 150])
def test_answers_that_share_no_words_are_no_sign(tmp_path, kind, start):
    """Over the whole file, or in its second half."""
    rng = random.Random(3)
    rows = [kind(rng, row) if at >= start else row for at, row in enumerate(related())]
    assert all(each.verdict == "ok" for each in found_in(tmp_path, rows))


@pytest.mark.parametrize("seed", range(12))
def test_unrelated_texts_of_one_vocabulary_are_silent(tmp_path, seed):
    rng = random.Random(seed)
    words = [word(rng) for _ in range(rng.choice((30, 300)))]
    draw = lambda n: " ".join(rng.choice(words) for _ in range(n))  # noqa: E731
    rows = [
        {"prompt": f"{draw(6)} {at}", "chosen": draw(12), "rejected": draw(13)} for at in range(200)
    ]
    assert all(each.verdict == "ok" for each in found_in(tmp_path, rows))


def test_few_rows_and_hostile_texts(tmp_path):
    assert found_in(tmp_path, related(20)) == []
    rows = [
        row | {"chosen": row["chosen"] + "\u0301\u200b" * 500, "rejected": "京" * 70_000}
        for row in related(40)
    ]
    assert all(each.verdict == "ok" for each in found_in(tmp_path, rows))


def test_a_real_set(tmp_path, shared_data):
    import gzip
    import json

    path = shared_data("hh_helpful/train.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:600]
    assert [each.verdict for each in found_in(tmp_path, rows)] == ["ok"]
    window = np.arange(300, 400)
    (found,) = found_in(tmp_path, moved(rows, window, np.roll(window, 2)))
    assert found.evidence["kind"] in ("shift", "around")
    assert abs(found.evidence["count"] - 100) < 12
