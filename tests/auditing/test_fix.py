"""--fix and split: what is written, what is left out, and that the account balances."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from auditing.rows import clean, labelled, scored, slipped, write

from accord.auditing.fix import Options, fix
from accord.auditing.run import audit
from accord.auditing.scan import scan
from accord.auditing.split import held_out_rows, split
from accord.data.containers import locate
from accord.types import DataError, UsageError


def cleaned(tmp_path, rows, **options):
    """The rows that --fix writes, and its account."""
    path = write(tmp_path / "data.jsonl", rows)
    with locate(path) as source:
        account = fix(scan(path), source, tmp_path / "out.jsonl", Options(**options))
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").open(encoding="utf-8")]
    removed = [json.loads(line) for line in (tmp_path / "out.removed.jsonl").open(encoding="utf-8")]
    assert account.rows == len(rows) == len(written) + len(removed) and account.written == len(
        written
    )
    assert Counter(each["reason"] for each in removed) == account.removed
    return written, removed


def test_each_default_rule(tmp_path):
    rows = scored(60)
    planted = [
        rows[0],
        {**rows[1], "chosen": rows[1]["rejected"], "rejected": rows[1]["chosen"]},
        rows[2] | {"prompt": "same", "rejected": rows[2]["chosen"].upper()},
        rows[3] | {"prompt": "near", "score_chosen": rows[3]["score_rejected"] + 0.25},
        rows[4] | {"prompt": "blank", "chosen": " "},
        "broken",
    ]
    written, removed = cleaned(tmp_path, rows + planted)
    reasons = {each["line"]: each["reason"] for each in removed}
    assert reasons == {
        2: "another row says the opposite",
        61: "the same as an earlier row",
        62: "another row says the opposite",
        63: "answers differ in case or blanks alone",
        64: "score gap under the threshold",
        65: "empty answer",
        66: "invalid JSON",
    }
    assert written == [row for i, row in enumerate(rows) if i != 1], (
        "rows stand as they were, in their order"
    )


def test_rules_are_switched_by_name(tmp_path):
    rows = [
        r | {"score_chosen": 1, "score_rejected": 9} if i < 5 else r
        for i, r in enumerate(scored(40))
    ]
    assert len(cleaned(tmp_path, rows + rows[:3], keep=("duplicates", "near-duplicates"))[0]) == 43
    for name in ("out.jsonl", "out.removed.jsonl"):
        (tmp_path / name).unlink()
    assert len(cleaned(tmp_path, rows, drop=("score-conflicts",))[0]) == 35


def test_the_near_tie_threshold_is_the_users(tmp_path):
    rows = [r | {"score_chosen": r["score_rejected"] + 1} for r in scored(30)]
    with pytest.raises(DataError, match="no row would be left"):
        cleaned(tmp_path, rows, near_tie=1.5)
    assert not (tmp_path / "out.jsonl").exists() and not (tmp_path / "out.removed.jsonl").exists()


def test_near_ties_of_scores_that_are_shares_of_one(tmp_path):
    """A gap of .1 is an order where all scores lie between 0 and 1; a gap of .02 is none."""
    rows = [
        r | {"score_chosen": 0.5 + (0.1 if i % 3 else 0.02), "score_rejected": 0.5}
        for i, r in enumerate(clean(30))
    ]
    assert [each["line"] for each in cleaned(tmp_path, rows)[1]] == list(range(1, 31, 3))


def test_near_ties_of_a_reward_model_go_by_the_spread_of_its_gaps(tmp_path):
    """Gaps of 0 to 1 in even steps: 3 % of the 90 % quantile, .9, is .027."""
    rows = [
        r | {"score_chosen": i * 0.01 - 0.5, "score_rejected": -0.5}
        for i, r in enumerate(clean(101))
    ]
    assert [each["line"] for each in cleaned(tmp_path, rows)[1]] == [1, 2, 3]


def test_balanced_length(tmp_path):
    rows = [
        r | {"chosen": r["chosen"] * 3} if i % 4 else r | {"rejected": r["rejected"] * 3}
        for i, r in enumerate(clean(200))
    ]
    written, removed = cleaned(tmp_path, rows, balance_length=True)
    longer = sum(len(r["chosen"]) > len(r["rejected"]) for r in written)
    assert abs(longer - len(written) / 2) <= 0.05 * len(written) and len(written) > 60
    assert {each["reason"] for each in removed} == {"length balance"}


def test_a_cap_on_prompts_keeps_the_first(tmp_path):
    rows = [r | {"prompt": "the one"} if i < 10 else r for i, r in enumerate(clean(30))]
    written, removed = cleaned(tmp_path, rows, max_per_prompt=3)
    assert [each["line"] for each in removed] == list(range(4, 11)) and written[:3] == rows[:3]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"drop": ("nonsense",)}, "no rule of --fix"),
        ({"drop": ("cycles",), "keep": ("cycles",)}, "contradict"),
        ({"near_tie": -1.0}, "0 or more"),
        ({"max_per_prompt": 0}, "1 or more"),
        ({"min_chosen_score": 3.0}, "no score"),
    ],
)
def test_options_that_cannot_be_meant(tmp_path, options, says):
    with pytest.raises(UsageError, match=says):
        cleaned(tmp_path, clean(30), **options)


def test_options_of_pairs_on_labels(tmp_path):
    with pytest.raises(UsageError, match="about two answers"):
        cleaned(tmp_path, labelled(30), balance_length=True)
    with pytest.raises(UsageError, match="says nothing of labelled"):
        cleaned(tmp_path, labelled(30), drop=("cycles",))


def test_options_of_fix_without_fix(tmp_path):
    with pytest.raises(UsageError, match="are options of --fix"):
        audit(write(tmp_path / "data.jsonl", clean(30)), options=Options(balance_length=True))


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "out.jsonl").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        cleaned(tmp_path, clean(30))
    assert (tmp_path / "out.jsonl").read_text() == "mine"


# ---------------------------------------------------------------- split


def test_split_keeps_prompts_and_near_copies_together(tmp_path):
    base = (
        "Summarise the report about the harbour, the market and the castle in three sentences,"
        " please, for the council"
    )
    rows = [
        r | {"prompt": slipped(base, i % 30)} if i < 90 else r for i, r in enumerate(clean(600))
    ]
    account = split(write(tmp_path / "data.jsonl", rows), tmp_path / "out", share=0.2)
    train, held = (
        [json.loads(line) for line in (tmp_path / f"out/{name}.jsonl").open()]
        for name in ("train", "held_out")
    )
    assert account["train"] + account["held_out"] == 600 == len(train) + len(held)
    assert len(held) == 120, "the share is met where prompts allow it"
    prompts = [{row["prompt"] for row in side} for side in (train, held)]
    assert not prompts[0] & prompts[1]
    near = [any("three sentences, please" in p for p in side) for side in prompts]
    assert near.count(True) == 1, "near copies of a prompt are on one side"
    assert not [
        f
        for f in audit(
            tmp_path / "out/train.jsonl", held_out=tmp_path / "out/held_out.jsonl"
        ).raised
        if f.check.startswith("leakage")
    ]


def test_split_is_a_function_of_its_seed(tmp_path):
    table = scan(write(tmp_path / "data.jsonl", clean(200)))
    one, again, other = (held_out_rows(table, 0.1, seed).tolist() for seed in (0, 0, 1))
    assert one == again != other


def test_one_prompt_cannot_be_split(tmp_path):
    rows = [row | {"prompt": "the only one"} for row in clean(40)]
    with pytest.raises(DataError, match="too few to hold out"):
        split(write(tmp_path / "data.jsonl", rows), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_that_is_none(tmp_path, share):
    with pytest.raises(UsageError, match="--share"):
        split(write(tmp_path / "data.jsonl", clean(40)), tmp_path / "out", share=share)


# ---------------------------------------------------------------- leakage


def test_leaks_exact_and_near(tmp_path):
    rows = clean(300)
    long = [
        r
        | {
            "prompt": (
                "Please explain, in a few plain sentences that a child would understand, how one"
                " can " + r["prompt"]
            )
        }
        for r in rows
    ]
    train = write(tmp_path / "train.jsonl", long[:200])
    held = [
        *(row | {"chosen": "other"} for row in long[:3]),
        *(row | {"prompt": row["prompt"] + "?"} for row in long[4:7]),
        *long[200:260],
    ]
    found = audit(train, held_out=write(tmp_path / "held.jsonl", held))
    exact, near = found.find("leakage.exact"), found.find("leakage.near")
    assert (exact.evidence["count"], near.evidence["count"]) == (
        3,
        3,
    ) and exact.verdict == near.verdict == "warning"
    assert exact.places[0].at.endswith("held.jsonl:1") and near.places[0].at.endswith(
        "held.jsonl:4"
    )


def test_two_labellings_of_the_same_pairs(tmp_path):
    """Every fourth pair is turned round in the second file: its flip rate lies in the interval."""
    rows = clean(400)
    turned = [
        (
            {"prompt": r["prompt"], "chosen": r["rejected"], "rejected": r["chosen"]}
            if i % 4 == 0
            else r
        )
        for i, r in enumerate(rows)
    ]
    found = audit(
        write(tmp_path / "a.jsonl", turned), held_out=write(tmp_path / "b.jsonl", rows)
    ).find("labels.second_labelling")
    estimate = found.evidence["estimate"]
    assert (
        found.verdict == "warning"
        and estimate["value"] == 0.25
        and estimate["low"] < 0.25 < estimate["high"]
        and estimate["n"] == 400
    )
