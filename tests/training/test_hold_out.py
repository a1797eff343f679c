"""Held-out rows cut off the training file by a share: the rows of `accord split`, never trained on,
counted, and the same after a kill.
"""

import json
from pathlib import Path

import pytest
from conftest import WORDS, write_rows
from training.helpers import DEFAULTS, json_lines, labelled_rows, run, stopped_after
from training.worlds import in_world, train

import accord
from accord.auditing.split import split
from accord.auditing.trained import trained_rows
from accord.config.build import build
from accord.data.read import read
from accord.runs import trained_rows as recorded
from accord.runs.folder import RunFolder
from accord.types import DataError, Interrupted, UsageError


def some_rows(count=40) -> list[dict]:
    """Pairs whose prompts share no more than chance: near copies would stay together."""
    import random

    draw = random.Random(5)

    def words(n):
        return " ".join(f"{draw.choice(WORDS)}{draw.randrange(100)}" for _ in range(n))

    return [
        {"prompt": words(6) + "?", "chosen": words(3 + i % 4), "rejected": words(2 + i % 3)}
        for i in range(count)
    ]


@pytest.fixture
def rows_file(tmp_path):
    return write_rows(tmp_path / "rows.jsonl", some_rows())


def parts_of(folder) -> dict[str, list[dict]]:
    return {
        name: json_lines(Path(folder) / f"split/{name}.jsonl") for name in ("train", "held_out")
    }


def test_the_rows_cut_off_are_those_of_split_and_never_trained_on(tiny_folder, rows_file, tmp_path):
    """By bytes of the files, and by the digests of the rows that were trained on."""
    done = run(tiny_folder, rows_file, tmp_path / "run", hold_out=0.2, seed=3)
    account = split(rows_file, tmp_path / "by_hand", share=0.2, seed=3)
    for name in ("train.jsonl", "held_out.jsonl"):
        ours = (done.folder / "split" / name).read_bytes()
        assert ours == (tmp_path / "by_hand" / name).read_bytes(), name
    held_out = read(done.folder / "split/held_out.jsonl")
    trained = recorded.read(done.folder)
    mine = trained_rows((each.prompt, each.completions) for each in held_out.examples)
    assert len(held_out) == account["held_out"] == 8 and trained is not None
    assert not set(mine.prompts.tolist()) & set(trained.prompts.tolist())
    assert not set(mine.answers.tolist()) & set(trained.answers.tolist())
    assert done.after["eval_rewards/accuracies"] is not None and done.before


def test_every_row_is_counted(tiny_folder, rows_file, tmp_path):
    done = run(tiny_folder, rows_file, tmp_path / "run", hold_out=0.2)
    data = json.loads((done.folder / "data.json").read_text())
    cut = data["hold_out"]
    assert cut["rows"] == 40 == cut["train"] + cut["held_out"] + cut["unusable"]
    assert data["train"]["ledger"]["rows"] == cut["train"]
    assert data["held_out"]["ledger"]["rows"] == cut["held_out"]
    (finding,) = [each for each in done.findings if each.check == "data.hold_out"]
    assert "40 rows = 32 to train on + 8 held out + 0 unusable" in finding.says
    config = RunFolder.open(str(done.folder)).config()
    assert config.data.train == rows_file and config.data.hold_out == 0.2


@pytest.mark.parametrize("method, make", [("kto", labelled_rows), ("sft", None)])
def test_other_kinds_of_rows(tiny_folder, tmp_path, method, make):
    rows = some_rows()
    if make is None:
        rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]
    else:
        rows = make(rows)
    data = write_rows(tmp_path / "rows.jsonl", rows)
    done = run(tiny_folder, data, tmp_path / "run", hold_out=0.25, method=method, steps=1)
    parts = parts_of(done.folder)
    assert len(parts["train"]) + len(parts["held_out"]) == len(rows) and parts["held_out"]
    prompts = [{row["prompt"] for row in part} for part in parts.values()]
    assert not prompts[0] & prompts[1]


def test_a_killed_run_goes_on_with_the_same_rows(tiny_folder, rows_file, tmp_path, monkeypatch):
    """Also where the folder was moved, and where the parts are gone and the file is there."""
    whole = run(tiny_folder, rows_file, tmp_path / "whole", hold_out=0.2)
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        run(tiny_folder, rows_file, tmp_path / "killed", hold_out=0.2)
    moved = tmp_path / "moved"
    (tmp_path / "killed").rename(moved)
    for file in (moved / "split").iterdir():
        file.unlink()
    resumed = accord.resume(str(moved))
    assert resumed.after["eval_loss"] == whole.after["eval_loss"]
    assert parts_of(moved) == parts_of(whole.folder)


def test_a_run_without_its_rows_says_which(tiny_folder, rows_file, tmp_path, monkeypatch):
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        run(tiny_folder, rows_file, tmp_path / "run", hold_out=0.2)
    (tmp_path / "run/split/held_out.jsonl").unlink()
    Path(rows_file).unlink()
    with pytest.raises(Exception, match=r"rows\.jsonl: no such file, and .* cannot go on"):
        accord.resume(str(tmp_path / "run"))


def test_unusable_rows_are_not_lost_in_silence(tiny_folder, tmp_path):
    """A row that cannot be read is in neither part: it counts against data.max_rejected."""
    data = write_rows(tmp_path / "rows.jsonl", [*some_rows(), {"prompt": "", "chosen": "a"}])
    with pytest.raises(DataError, match=r"41 rows = 32 to train on \+ 8 held out \+ 1 unusable"):
        run(tiny_folder, data, tmp_path / "refused", hold_out=0.2)
    allowed = {"data.max_rejected": 0.1}
    done = run(tiny_folder, data, tmp_path / "run", hold_out=0.2, steps=1, set=allowed)
    (line,) = json_lines(done.folder / "split/rejected.jsonl")
    assert line["line"] == 41


def test_refusals_of_split_are_those_of_a_run(tiny_folder, tmp_path):
    data = write_rows(
        tmp_path / "rows.jsonl", [some_rows(1)[0] | {"chosen": f"a{i}"} for i in range(9)]
    )
    with pytest.raises(DataError, match="9 of 9 rows have one prompt"):
        run(tiny_folder, data, tmp_path / "run", hold_out=0.2)
    assert (tmp_path / "run/refused.txt").is_file()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, "ten"])
def test_a_share_lies_between_0_and_1(rows_file, share):
    with pytest.raises(UsageError, match="--hold-out .*: expected"):
        build(data=rows_file, hold_out=share)


def test_one_of_the_two_is_given(rows_file):
    with pytest.raises(UsageError, match=r"--held-out .* and --hold-out .* give one"):
        build(data=rows_file, held_out=rows_file, hold_out=0.1)


def test_prompts_are_refused_with_the_reason(tiny_folder, rows_file, tmp_path):
    with pytest.raises(UsageError, match=r"hold_out: .* file of prompts.*held_out=\"FILE\""):
        accord.train(
            model=str(tiny_folder),
            data=rows_file,
            output=str(tmp_path / "run"),
            hold_out=0.1,
            **DEFAULTS | {"method": "grpo"},
            set={"rollouts.rewards": ["length"]},
        )


def test_two_processes_read_the_parts_that_the_first_wrote(tiny_folder, rows_file, tmp_path):
    changes = {"hold_out": 0.2, "steps": 1}
    one, two = in_world(2, tmp_path / "w", train, tiny_folder, rows_file, tmp_path / "two", changes)
    alone = run(tiny_folder, rows_file, tmp_path / "alone", **changes)
    assert one["after"] == two["after"] and one["saved"].endswith("two/adapter")
    assert parts_of(tmp_path / "two") == parts_of(alone.folder)


def test_the_page_names_the_file_that_was_cut(tiny_folder, rows_file, tmp_path):
    done = run(tiny_folder, rows_file, tmp_path / "run", hold_out=0.2, seed=3)
    page = accord.report(str(done.folder)).read_text(encoding="utf-8")
    assert f"Both are parts of {rows_file}" in page
    assert "0.2 of it was cut off by prompt (data.hold_out, seed 3)" in page
    other = run(tiny_folder, rows_file, tmp_path / "other", hold_out=0.2, seed=4)
    both = accord.report(str(done.folder), str(other.folder), output=tmp_path / "both.html")
    assert both.is_file()
