"""Slices of prompts: each once before any comes again, with what stands beside it; none that is
measured on.
"""

from collections import Counter

import pytest
from conftest import write_rows

from accord.campaign.rlhf import prompts
from accord.campaign.rlhf.prompts import require_apart, require_plain, slice_of, write_prompts
from accord.config.schema import DataConfig
from accord.data.columns import other_columns
from accord.data.prompts import read_prompts
from accord.types import DataError, UsageError


@pytest.mark.parametrize("total, size", [(10, 5), (10, 3), (7, 7), (7, 4), (5, 1), (9, 8)])
def test_none_twice_until_all_were_used(total, size):
    """At every moment some prompts were asked one time more than others,
    and none two times more.
    """
    used = Counter(dict.fromkeys(range(total), 0))
    for number in range(1, 8):
        chosen = slice_of(total, size, number, seed=3)
        assert len(chosen) == size == len(set(chosen))
        used.update(chosen)
        assert max(used.values()) - min(used.values()) <= 1
        if number * size <= total:
            assert max(used.values()) == 1
    assert sum(used.values()) == 7 * size


def test_the_order_is_the_seeds():
    assert slice_of(50, 10, 2, seed=1) == slice_of(50, 10, 2, seed=1) != slice_of(50, 10, 2, seed=2)
    assert slice_of(50, 50, 1, seed=1) != slice_of(50, 50, 2, seed=1)  # shuffled anew


def test_a_slice_reads_as_the_prompts_that_it_holds(tmp_path):
    """Conversations, system turns and the columns that answers are verified against survive; where
    each came from is told.
    """
    rows = [
        {"prompt": "One?", "chosen": "a", "rejected": "b", "answer": 1},
        {"system": "Be brief.", "question": "Two?", "chosen": "a", "rejected": "b", "answer": 2},
        {
            "messages": [
                {"role": "user", "content": "Three?"},
                {"role": "assistant", "content": "3"},
            ],
            "answer": 3,
        },
        {
            "prompt": [
                {"role": "user", "content": "A?"},
                {"role": "assistant", "content": "a"},
                {"role": "user", "content": "Four?"},
            ]
        },
    ]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    read, out = read_prompts(path), tmp_path / "slice.jsonl"
    write_prompts(out, path, read, [3, 1, 0, 2])
    back = read_prompts(str(out))
    assert [q.turns for q in back.prompts] == [read.prompts[i].turns for i in (3, 1, 0, 2)]
    columns = [other_columns(str(out), back)[q.origin.line] for q in back.prompts]
    assert [c.get("answer") for c in columns] == [None, 2, 1, 3]
    assert [c["source"].rpartition(":")[2] for c in columns] == ["4", "2", "1", "3"]


def test_a_slice_that_would_read_otherwise_is_refused(tmp_path, monkeypatch):
    path = write_rows(tmp_path / "rows.jsonl", [{"prompt": "One?"}])
    shouted = lambda turns, inputs: {"prompt": turns[0].content.upper()}  # noqa: E731
    monkeypatch.setattr(prompts, "prompt_columns", shouted)
    with pytest.raises(DataError, match="in a column `prompt`"):
        write_prompts(tmp_path / "slice.jsonl", path, read_prompts(path), [0])
    assert not (tmp_path / "slice.jsonl").exists()


def test_prompts_to_measure_on_are_not_trained_on(tmp_path):
    train = read_prompts(
        write_rows(tmp_path / "t.jsonl", [{"prompt": "How are you?"}, {"prompt": "One?"}])
    )
    held = read_prompts(
        write_rows(tmp_path / "h.jsonl", [{"prompt": "how are  you"}, {"prompt": "Two?"}])
    )
    with pytest.raises(DataError, match="1 of 2 held-out prompts.*h.jsonl:1.*") as refused:
        require_apart(train, held, ())
    assert "accord split" in str(refused.value)
    require_apart(train, held, ("shared_prompts",))


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"held_out": None}, "accord split"),
        ({"format": "hh"}, "does nothing for prompts"),
        ({"train": "-"}, "standard input"),
    ],
)
def test_settings_that_would_do_nothing(fields, words):
    with pytest.raises(UsageError, match=words):
        require_plain(DataConfig(**{"train": "t.jsonl", "held_out": "h.jsonl"} | fields))
