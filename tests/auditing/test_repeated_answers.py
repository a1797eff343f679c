"""Answers under several prompts, answers made of the other one, and texts in each other's columns,
beside files that only look like them.
"""

from __future__ import annotations

import random

import pytest
from auditing.rows import clean, labelled, write

from accord.auditing.checks.derived_answers import derived_findings
from accord.auditing.checks.repeated_answers import repeated_findings
from accord.auditing.checks.swapped import swapped_findings
from accord.auditing.run import audit
from accord.auditing.scan import scan

LONG = (
    "The committee met on a rainy Tuesday, counted every chair twice, and went home without an"
    " answer to anything."
)


def repeated(tmp_path, rows):
    findings, causes = repeated_findings(scan(write(tmp_path / "rows.jsonl", rows)))
    return findings[0], causes


def some(n, share, seed=1):
    return sorted(random.Random(seed).sample(range(n), round(share * n)))


def parts(found):
    return [(part["kind"], part["side"], part["count"]) for part in found.evidence["parts"]]


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_one_long_answer_under_many_prompts(tmp_path, side):
    rows = clean(300)
    hit = some(300, 0.1)
    for at in hit:
        rows[at][side] = LONG
    found, (cause,) = repeated(tmp_path, rows)
    assert found.verdict == "warning" and parts(found) == [("one", side, 30)]
    assert "under 30 different prompts" in found.says and "The committee met" in found.says
    assert cause.rows.nonzero()[0].tolist() == hit and cause.without is None
    assert [place.row for place in found.places] == hit[:5]


@pytest.mark.parametrize("n, verdict", [(2, "ok"), (3, "warning")])
def test_two_rows_are_a_slip(tmp_path, n, verdict):
    rows = clean(100)
    for at in range(0, 10 * n, 10):
        rows[at]["chosen"] = LONG
    assert repeated(tmp_path, rows)[0].verdict == verdict


def test_a_stale_answer_is_the_row_befores(tmp_path):
    rows = clean(300)
    for at in range(1, 300, 3):
        rows[at]["chosen"] = rows[at - 1]["chosen"]
    found, (cause,) = repeated(tmp_path, rows)
    assert found.verdict == "warning" and parts(found) == [("stale", "chosen", 100)]
    assert "the row before" in found.says and cause.rows.sum() == 100
    rows = clean(300)
    for at in range(100, 130):
        rows[at]["rejected"] = rows[99]["rejected"]
    found, _ = repeated(tmp_path, rows)
    assert parts(found) == [("stale", "rejected", 30)]
    assert rows[99]["rejected"][:40] in found.says


def test_a_chosen_answer_is_another_rows_rejected_one(tmp_path):
    rows = clean(300)
    rng = random.Random(3)
    for row in rows:  # over 80 characters
        row["chosen"] += " " + row["prompt"]
        row["rejected"] += " " + row["prompt"]
    before = [row["rejected"] for row in rows]
    for at in some(300, 0.2):
        rows[at]["chosen"] = before[rng.choice([k for k in range(300) if k != at])]
    found, _ = repeated(tmp_path, rows)
    kinds = {part["kind"]: part["count"] for part in found.evidence["parts"]}
    assert found.verdict == "warning" and kinds["crossed"] >= 50
    assert "rejected answer of a row with another prompt" in found.says


def test_labelled_rows(tmp_path):
    rows = labelled(300)
    bad = [row for row in rows if not row["label"]]
    for row in bad[::4]:
        row["completion"] = LONG
    found, _ = repeated(tmp_path, rows)
    assert parts(found) == [("one", "undesirable", len(bad[::4]))] and found.verdict == "warning"


def _labels(rows, rng):
    for row in rows:
        row["chosen"], row["rejected"] = rng.sample(["yes", "no"], 2)


def _sorted_labels(rows, rng):
    for at, row in enumerate(rows):
        row["chosen"], row["rejected"] = ("yes", "no") if at < 150 else ("no", "yes")


def _stock_refusal(rows, rng):
    for row in rng.sample(rows, 40):
        row["chosen"] = "I have no comment."


def _both_sides(rows, rng):
    for row in rng.sample(rows, 60):
        row[rng.choice(["chosen", "rejected"])] = LONG


def _several_pairs(rows, rng):
    """Four ranked answers a prompt: one's chosen answer is another's rejected one."""
    for at in range(0, 300, 3):
        texts = [rows[at + k]["chosen"] * 2 for k in range(3)]
        for k, (one, two) in enumerate([(0, 1), (1, 2), (0, 2)]):
            rows[at + k] |= {
                "prompt": rows[at]["prompt"],
                "chosen": texts[one],
                "rejected": texts[two],
            }


def _stock_answers(rows, rng):
    """One question in many wordings has one answer."""
    topics = ["password", "invoice", "delivery", "refund", "account", "discount"]
    asks = "change lose forget need want find reset cancel check print move share".split()
    for row in rows:
        topic, verb, other = rng.choice(topics), rng.choice(asks), rng.choice(asks)
        row["prompt"] = f"How do I {verb} or {other} my {topic} {rng.getrandbits(30):x}?"
        row["chosen"] = f"Everything on the {topic} stands in the settings. " * 3


@pytest.mark.parametrize(
    "change", [_labels, _sorted_labels, _stock_refusal, _both_sides, _several_pairs, _stock_answers]
)
def test_sound_repetition_is_no_warning(tmp_path, change):
    rows = clean(300)
    change(rows, random.Random(5))
    found, causes = repeated(tmp_path, rows)
    assert found.verdict in ("ok", "note") and not causes


def test_clean_rows_are_silent(tmp_path):
    for seed, rows in enumerate([clean(200, 4), clean(60, 5), labelled(200, seed=6)]):
        file = scan(write(tmp_path / f"{seed}.jsonl", rows))
        assert [f.verdict for f in repeated_findings(file)[0]] == ["ok"]
        assert derived_findings(file) == ([], []) and swapped_findings(file, 0) == []


def test_the_whole_audit_names_a_repeated_answer_once(tmp_path):
    rows = clean(300)
    for at in some(300, 0.3):
        rows[at]["rejected"] = LONG
    result = audit(write(tmp_path / "rows.jsonl", rows))
    assert result.find("integrity.repeated_answers").verdict == "warning"
    assert not [
        f.check
        for f in result.raised
        if f.check.startswith("shortcuts.") and f.verdict != "note" and not f.explained_by
    ]
    for row in rows:
        row["rejected"] = LONG
    result = audit(write(tmp_path / "all.jsonl", rows))
    assert result.find("integrity.repeated_answers").verdict == "warning"


def test_hostile_text_is_printable(tmp_path):
    rows = clean(100)
    for at in range(0, 60, 2):
        rows[at]["chosen"] = "\x1b[2J\x1b]0;title\x07" + LONG * 600
    found, _ = repeated(tmp_path, rows)
    assert "\x1b" not in found.says and "\x07" not in found.says and len(found.says) < 300


# ---------------------------------------------------------------- made of the other answer


def derived(tmp_path, rows):
    return derived_findings(scan(write(tmp_path / "rows.jsonl", rows)))


@pytest.mark.parametrize("side, other", [("rejected", "chosen"), ("chosen", "rejected")])
@pytest.mark.parametrize("end", ["", "..."])
def test_cut_short(tmp_path, side, other, end):
    rows = clean(100)
    hit = some(100, 0.2)
    for at in hit:
        rows[at][side] = rows[at][other][:50].rstrip() + end
    (found,), (cause,) = derived(tmp_path, rows)
    assert found.check == "integrity.same_answers_cut" and found.verdict == "warning"
    assert found.evidence["count"] == 20 and found.evidence["side"] == side
    assert cause.rows.nonzero()[0].tolist() == hit


def test_stripped_of_marks(tmp_path):
    rows = clean(100)
    for at in some(100, 0.2):
        rows[at]["chosen"] = "Well, " + rows[at]["chosen"] + " Is it so?"
        rows[at]["rejected"] = "".join(c for c in rows[at]["chosen"] if c not in ",.?")
    (found,), _ = derived(tmp_path, rows)
    assert found.check == "integrity.same_answers_marks" and found.evidence["count"] == 20


def test_made_answers_that_are_sound(tmp_path):
    rows = clean(100)
    for at, row in enumerate(rows):  # a bracket decides; a few words are no cut; either side alike
        if at % 3 == 0:
            row |= {"chosen": "x = [1, 2][0];", "rejected": "x = (1, 2)(0);"}
        elif at % 3 == 1:
            row |= {"chosen": "Yes, it is.", "rejected": "Yes"}
        else:
            row["chosen" if at % 2 else "rejected"] = row["rejected" if at % 2 else "chosen"][:50]
    findings, causes = derived(tmp_path, rows)
    assert [f.verdict for f in findings] == ["note"] and not causes


# ---------------------------------------------------------------- exchanged columns

ASKED = (
    "What is the {}?|How does a {} work?|Why is the {} old?|Write a line about the {}.|Explain the"
    " {} to me.|Can you describe a {}?|Give me a name for a {}.|List the parts of a {}."
).split("|")
TOLD = (
    "The {} is made of stone.|It is a {} by the sea.|A {} has many sides.|There are two kinds of"
    " {}.|Most people know the {} well.|In short, the {} is new.|One may say that the {} rests."
).split("|")


def talk(n=300, seed=0):
    rng = random.Random(seed)
    rows = []
    for row in clean(n, seed):
        thing = " ".join(row["prompt"].split()[1:3])
        texts = [
            f"{rng.choice(TOLD)} {row[s]}".replace("{}", thing) for s in ("chosen", "rejected")
        ]
        asked = rng.choice(ASKED).replace("{}", thing)
        rows.append({"prompt": asked, "chosen": texts[0], "rejected": texts[1]})
    return rows


def exchanged(rows, hit, side="chosen"):
    for at in hit:
        rows[at]["prompt"], rows[at][side] = rows[at][side], rows[at]["prompt"]
    return rows


@pytest.mark.parametrize("side", ["chosen", "rejected"])
@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_exchanged_columns(tmp_path, side, share):
    rows = exchanged(talk(), some(300, share), side)
    (found,) = swapped_findings(scan(write(tmp_path / "rows.jsonl", rows)), 0)
    assert found.evidence["side"] == side and found.evidence["whole"] == (share == 1.0)
    assert abs(found.evidence["count"] - 300 * share) <= 0.1 * 300 * share
    assert found.verdict == ("refused" if share == 1.0 else "warning")


def test_a_run_of_exchanged_rows(tmp_path):
    rows = exchanged(talk(1000), range(500, 520))
    (found,) = swapped_findings(scan(write(tmp_path / "rows.jsonl", rows)), 0)
    assert 18 <= found.evidence["count"] <= 20


def test_answers_that_ask_are_sound(tmp_path):
    """Chosen answers ask back; prompts are statements."""
    rows = talk()
    for row in rows:
        row["chosen"] = "Could you tell me more? " + row["chosen"] + " Which one do you mean?"
    assert swapped_findings(scan(write(tmp_path / "one.jsonl", rows)), 0) == []
    for row in rows:
        row["prompt"] = "I have a problem with " + row["prompt"].split()[-1].strip("?.")
    assert swapped_findings(scan(write(tmp_path / "two.jsonl", rows)), 0) == []
    assert swapped_findings(scan(write(tmp_path / "three.jsonl", talk())), 0) == []
