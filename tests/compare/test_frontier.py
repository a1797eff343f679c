"""A frontier of real runs: every step of every β measured, beside the bound;
and what is refused.
"""

import json

import pytest
from compare.helpers import SILENT, recipe
from conftest import pair_rows, write_rows

from accord.campaign.compare.frontier import Wanted, contenders_of, frontier, lines
from accord.pages.comparison import render_frontier
from accord.types import UsageError


@pytest.fixture(scope="module")
def base(tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    pairs, held_out = (
        write_rows(folder / "pairs.jsonl", pair_rows(24)),
        write_rows(folder / "held.jsonl", pair_rows(8, start=100)),
    )
    return recipe(tiny_folder, pairs, held_out)


def wanted(folder, **changes) -> Wanted:
    small = {
        "methods": "dpo",
        "scorer": "compare.scorers:brevity",
        "samples": 3,
        "tokens": 4,
        "reference_answers": 6,
    }
    return Wanted(str(folder), **small | changes)


def test_a_beta_twice_is_refused(base, tmp_path):
    """Two contenders of one name would be taken for seeds of one."""
    with pytest.raises(UsageError, match="dpo β=0.1 is asked for twice"):
        contenders_of(base, wanted(tmp_path, betas=(0.1, 0.1)))


def test_points_and_bound(base, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("What is red?\nWho sat on the mat?\n")
    want = wanted(tmp_path / "out", betas=(0.05, 0.5), checkpoints=2, prompts=str(prompts))
    record = frontier(base, want, SILENT)
    assert [(p["contender"], p["step"]) for p in record["points"]] == [
        ("dpo β=0.05", 1),
        ("dpo β=0.05", 2),
        ("dpo β=0.5", 1),
        ("dpo β=0.5", 2),
    ]
    assert all(p["kl"]["value"] >= 0 and p["kl"]["n"] == 4 for p in record["points"])
    first, last = record["points"][:2]
    # the checkpoint of step 1 is not the end's weights
    assert last["kl"]["value"] > first["kl"]["value"]
    assert record["reference_answers"] == [2, 6] and record["bound"][0]["kl"] < 0.01
    assert json.loads((tmp_path / "out/frontier.json").read_text()) == json.loads(
        json.dumps(record)
    )
    page = render_frontier(record)
    assert page.count("<circle") == 4 and "<script" not in page and "best possible" in page
    assert any("Best of 2" in line for line in lines(record))
    again = frontier(base, want, SILENT)
    assert again["points"] == record["points"]


def test_a_method_without_beta_stands_alone(base, tmp_path):
    names = [
        point.name
        for point in contenders_of(base, wanted(tmp_path, methods="dpo,orpo", betas=(0.1, 0.2)))
    ]
    assert names == ["dpo β=0.1", "dpo β=0.2", "orpo"]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"answers": 0}, "--answers 0"),
        ({"reference_answers": 1}, "at least 2"),
        ({"methods": "dpo,xyz"}, "no objective"),
        ({"betas": (-0.1,)}, "beta = -0.1"),
        ({"scorer": "no.such:thing"}, "no.such"),
        ({"checkpoints": 3}, "makes 2 updates"),
    ],
)
def test_bad_input(changes, words, base, tmp_path):
    with pytest.raises(UsageError, match=words):
        frontier(base, wanted(tmp_path / "out", **changes), SILENT)
