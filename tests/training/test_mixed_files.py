"""Runs on several files with weights: what an epoch takes, what a mix of one file equals, and that
a stopped run goes on with the same rows.
"""

import hashlib
import json
from collections import Counter

import pytest
import yaml
from conftest import pair_rows, write_rows
from training.helpers import (
    AUDITED,
    json_lines,
    labelled_rows,
    metrics,
    ready_for,
    run,
    stopped_after,
)
from training.worlds import in_world, train

import accord
from accord.pages.run import render
from accord.runs.recorded import Recorded
from accord.types import DataError, Interrupted, Refused, UsageError


@pytest.fixture
def two(tmp_path) -> list[dict]:
    """10 pairs that are taken twice, and 12 of which each epoch takes a half."""
    return [
        {"path": write_rows(tmp_path / "a.jsonl", pair_rows(10)), "weight": 2},
        {"path": write_rows(tmp_path / "b.jsonl", pair_rows(12, start=50)), "weight": 0.5},
    ]


def weights(result) -> str:
    file = next(result.saved.glob("*.safetensors"))
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_an_epoch_takes_what_the_weights_say(tiny_folder, two):
    ready = ready_for(tiny_folder, two, steps=None, epochs=2, batch_size=13)
    assert ready.steps == 4  # 20 + 6 rows an epoch
    counts = Counter(
        ready.source.origin(tree).rpartition("/")[2]
        for update in range(ready.steps)
        for tree in ready.source.batch(update)
    )
    assert counts == Counter(
        {f"a.jsonl:{n}": 4 for n in range(1, 11)} | {f"b.jsonl:{n}": 1 for n in range(1, 13)}
    )
    said = {f.check: f for f in ready.findings}["data.mix"]
    assert "each epoch takes 26 rows: 20 of" in said.says and "weight 0.5, 23.1% of" in said.says
    assert {f["per_epoch"] for f in said.evidence["files"]} == {20, 6}


def test_findings_and_accounts_are_of_each_file(tiny_folder, two, tmp_path):
    with open(two[1]["path"], "a") as file:
        file.write('{"prompt": "p", "chosen": "same", "rejected": "same"}\n')
    result = run(tiny_folder, two, tmp_path / "run", set={"data.max_rejected": 0.1}, steps=2)
    ledgers = [f for f in result.findings if f.check == "data.ledger"]
    assert [f.says.partition(" of ")[2].partition(":")[0] for f in ledgers] == [
        each["path"] for each in two
    ]
    assert "13 rows = 12 used + 1 rejected" in ledgers[1].says
    record = json.loads((tmp_path / "run/data.json").read_text())["train"]
    files = record["files"]
    assert [(f["path"], f["weight"], f["ledger"]["used"]) for f in files] == [
        (two[0]["path"], 2, 10),
        (two[1]["path"], 0.5, 12),
    ]
    assert record["ledger"]["rows"] == 23 and record["tokens"]["trees"] == 22
    rejected = json_lines(tmp_path / "run/rejected.jsonl")
    assert [(r["file"], r["line"]) for r in rejected] == [(two[1]["path"], 13)]


def test_one_file_of_weight_one_is_the_file(tiny_folder, pairs_file, tmp_path):
    plain = run(tiny_folder, pairs_file, tmp_path / "plain")
    mixed = run(tiny_folder, [{"path": pairs_file}], tmp_path / "mixed")
    assert weights(plain) == weights(mixed)
    one, other = (
        json.loads((folder / "data.json").read_text()) for folder in (plain.folder, mixed.folder)
    )
    assert other["train"].pop("weight") == 1 and one == other


def test_the_order_of_the_files_and_their_weights_are_the_runs(tiny_folder, two):
    identity = ready_for(tiny_folder, two).identity()
    turned = ready_for(tiny_folder, two[::-1]).identity()
    assert identity["train_data"] != turned["train_data"] and identity["order"] != turned["order"]
    heavier = ready_for(tiny_folder, [two[0], two[1] | {"weight": 1}]).identity()
    assert heavier["train_data"] == identity["train_data"]
    assert heavier["order"] != identity["order"]
    assert heavier["config"]["data.weights"] != identity["config"]["data.weights"]


@pytest.mark.parametrize("changes", [{}, {"reference": "cached"}], ids=["adapters", "cached"])
def test_a_run_stopped_inside_a_fractional_epoch_goes_on(
    tiny_folder, two, tmp_path, monkeypatch, changes
):
    """7 updates of 4 rows are one epoch of 26 and a bit; the cut is inside the second."""
    changes = {
        "steps": 11,
        "set": {"checkpoint.every": 3},
        "held_out": two_held_out(tmp_path),
    } | changes
    whole = run(tiny_folder, two, tmp_path / "whole", **changes)
    with stopped_after(monkeypatch, 8), pytest.raises(Interrupted):
        run(tiny_folder, two, tmp_path / "cut", **changes)
    resumed = accord.resume(tmp_path / "cut")
    assert weights(whole) == weights(resumed)
    for name in ("metrics.jsonl", "data.json", "trained_rows.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def two_held_out(tmp_path) -> list[str]:
    return [
        write_rows(tmp_path / "c.jsonl", pair_rows(12, start=100)),
        write_rows(tmp_path / "d.jsonl", pair_rows(14, start=200)),
    ]


def test_a_resumed_run_with_another_weight_is_refused(tiny_folder, two, tmp_path, monkeypatch):
    changes = {"steps": 6, "set": {"checkpoint.every": 2}}
    with stopped_after(monkeypatch, 3), pytest.raises(Interrupted):
        run(tiny_folder, two, tmp_path / "cut", **changes)
    file = tmp_path / "cut/config.yaml"
    raw = yaml.safe_load(file.read_text())
    assert raw["data"]["train"][1]["weight"] == 0.5
    raw["data"]["train"][1]["weight"] = 0.75
    file.write_text(yaml.safe_dump(raw))
    with pytest.raises(Refused, match=r"data\.weights"):
        accord.resume(tmp_path / "cut")


def test_a_cached_reference_knows_the_rows_of_every_epoch(tiny_folder, two, tmp_path):
    """Each epoch sees a quarter of the second file; the cache must have all of it."""
    two[1]["weight"] = 0.25
    result = run(
        tiny_folder, two, tmp_path / "run", reference="cached", steps=None, epochs=4, batch_size=8
    )
    assert result.steps == 12


def test_two_ranks_see_the_same_mix(tiny_folder, two, tmp_path):
    answers = in_world(
        2, tmp_path / "w", train, tiny_folder, two, tmp_path / "run", {"set": CHECKED}
    )
    assert answers[0]["saved"] == str(tmp_path / "run/adapter")
    alone = run(tiny_folder, two, tmp_path / "alone", set=CHECKED)
    one, other = (
        json_lines(folder / "metrics.jsonl") for folder in (alone.folder, tmp_path / "run")
    )
    for left, right in zip(one, other, strict=True):
        if "loss" in left:
            assert right["loss"] == pytest.approx(left["loss"], rel=1e-4)


CHECKED = {"checkpoint.every": 2}


def test_labels_of_two_files(tiny_folder, tmp_path):
    files = [
        {"path": write_rows(tmp_path / "a.jsonl", labelled_rows(pair_rows(6))), "weight": 2},
        {"path": write_rows(tmp_path / "b.jsonl", pair_rows(8, start=60))},
    ]
    ready = ready_for(tiny_folder, files, method="kto", batch_size=10)
    assert ready.order.strata is not None and ready.order.rows_per_epoch == 24 + 16
    for update in range(4):
        good = sum(bool(tree.desirable) for tree in ready.source.batch(update))
        assert 3 <= good <= 7


def test_pairs_of_labels_of_two_files(tiny_folder, two):
    ready = ready_for(
        tiny_folder, two, method="kto", batch_size=8, assignments=["train.pair_labels=true"]
    )
    batch = ready.source.batch(0)
    assert all(
        one.prompt == other.prompt and one.desirable and not other.desirable
        for one, other in zip(batch[::2], batch[1::2], strict=True)
    )


def test_columns_stand_beside_the_path(tiny_folder, two, tmp_path):
    rows = [
        {"question": r["prompt"], "good": r["chosen"], "bad": r["rejected"]}
        for r in pair_rows(9, 300)
    ]
    named = {
        "path": write_rows(tmp_path / "c.jsonl", rows),
        "columns": {"prompt": "question", "chosen": "good", "rejected": "bad"},
    }
    ready = ready_for(tiny_folder, [two[0], named])
    assert [len(each.trees) for each in ready.source.rows.files] == [10, 9]


# ---------------------------------------------------------------- checks over all files


def test_leaks_are_looked_for_in_every_file(tiny_folder, two, tmp_path):
    """Held-out rows of the second file alone."""
    held_out = write_rows(tmp_path / "held_out.jsonl", pair_rows(8, start=50))
    with pytest.raises(DataError, match="8 of 8 held-out rows have a prompt that is trained on"):
        ready_for(tiny_folder, two, held_out=held_out)


def test_the_audit_sees_repeats_between_files(tiny_folder, tmp_path):
    files = [
        write_rows(tmp_path / "a.jsonl", pair_rows(20)),
        write_rows(tmp_path / "b.jsonl", pair_rows(20)),
    ]
    result = run(tiny_folder, files, tmp_path / "run", steps=2, set=AUDITED)
    found = {f.check: f for f in result.findings}
    assert found["data.repeats"].verdict != "ok"
    audit = json.loads((tmp_path / "run/audit.json").read_text())
    assert audit["files"] == files and not any(f["command"] for f in audit["findings"])
    remedy = found["data.audit"].remedy
    assert f"accord audit {files[0]}; accord audit {files[1]}" in remedy


def test_the_report_slices_by_file(tiny_folder, two, tmp_path):
    held_out = two_held_out(tmp_path)
    result = run(tiny_folder, two, tmp_path / "run", held_out=held_out)
    page = render([Recorded.open(str(result.folder))])
    for path in held_out:
        assert f"<td>file {path}</td>" in page
    assert "(train, weight 2)" in page and "margin, 95 % interval" in page
    assert f"{two[0]['path']}" in (result.folder / "README.md").read_text()
    measured = accord.evaluate(result.folder, samples=0)
    assert {f"file {path}" for path in held_out} <= {
        s["slice"] for s in measured["pairs"]["slices"]
    }


@pytest.mark.parametrize("method", ["dpo", "simpo", "sft", "kto"])
def test_figures_of_the_files_add_up_to_those_of_the_whole(method, tiny_folder, two, tmp_path):
    """A batch's figure is the mean of its files' figures, by what the loss is divided by."""
    result = run(tiny_folder, two, tmp_path / "run", method=method, steps=6, batch_size=6)
    ready = ready_for(tiny_folder, two, method=method, steps=6, batch_size=6)
    per = "answer_tokens" if ready.learner.objective.denominator == "tokens" else "rows"
    for update, line in enumerate(metrics(result)):
        counts = Counter(
            ready.source.origin(tree).rpartition(":")[0] for tree in ready.source.batch(update)
        )
        found = [of_file(line, number) for number in (1, 2)]
        assert [each.get("rows", 0) for each in found] == [counts[each["path"]] for each in two]
        found = [each for each in found if each]
        total = sum(each[per] for each in found)
        loss = sum(each[per] * each["loss"] for each in found) / total
        assert loss == pytest.approx(line["loss"], rel=1e-12)
        named = {"margins": "rewards/margins", "accuracies": "rewards/accuracies"}
        for short, name in named.items():
            assert all((short in each) == (name in line) for each in found)
            if name in line:
                whole = sum(each["rows"] * each[short] for each in found) / sum(counts.values())
                assert whole == pytest.approx(line[name], rel=1e-9, abs=1e-12)


def of_file(line: dict, number: int) -> dict:
    """The figures of one file in a line of metrics.jsonl."""
    start = f"diag/file_{number}/"
    return {name.removeprefix(start): v for name, v in line.items() if name.startswith(start)}


def test_a_run_on_one_file_has_no_figures_by_file(tiny_folder, pairs_file, tmp_path):
    result = run(tiny_folder, [pairs_file], tmp_path / "run", steps=2)
    assert not any("file_" in name for line in metrics(result) for name in line)
    assert "Training rows by file" not in render([Recorded.open(str(result.folder))])


def test_the_report_shows_the_training_rows_of_each_file(tiny_folder, two, tmp_path):
    result = run(tiny_folder, two, tmp_path / "run", steps=11, batch_size=4)
    lines = metrics(result)
    page = render([Recorded.open(str(result.folder))])
    assert "Training rows by file" in page
    for number, file in enumerate(two, 1):
        own = [of_file(line, number) for line in lines]
        taken = sum(each.get("rows", 0) for each in own)
        cells = [f"{taken:,}"]
        for name in ("loss", "margins", "accuracies"):
            ends = [f"{each[name]:.3f}" if each else "–" for each in (own[0], own[-1])]
            cells.append(" → ".join(ends))
        row = "".join(f'<td class="n">{cell}</td>' for cell in cells)
        assert f"<td>{file['path']}</td>{row}" in page


def test_held_out_files_may_have_columns_of_their_own(tiny_folder, two, tmp_path):
    rows = [
        {"question": r["prompt"], "good": r["chosen"], "bad": r["rejected"]}
        for r in pair_rows(12, 300)
    ]
    named = {
        "path": write_rows(tmp_path / "e.jsonl", rows),
        "columns": "prompt=question,chosen=good,rejected=bad",
    }
    ready = ready_for(tiny_folder, two, held_out=[two_held_out(tmp_path)[0], named])
    assert len(ready.source.held_out_rows.trees) == 24


# ---------------------------------------------------------------- bad input


def test_an_empty_file_in_a_mix_is_named(tiny_folder, two, tmp_path):
    empty = write_rows(tmp_path / "empty.jsonl", [])
    with pytest.raises(DataError, match="empty.jsonl"):
        ready_for(tiny_folder, [*two, empty])


def test_a_file_of_another_kind_is_named(tiny_folder, two, tmp_path):
    labels = write_rows(tmp_path / "labels.jsonl", labelled_rows(pair_rows(4)))
    with pytest.raises(DataError, match="labels.jsonl"):
        ready_for(tiny_folder, [*two, labels])


def test_a_file_that_is_not_there(tiny_folder, two, tmp_path):
    with pytest.raises(DataError, match="gone.jsonl"):
        run(tiny_folder, [*two, str(tmp_path / "gone.jsonl")], tmp_path / "run")


def test_an_epoch_of_too_many_rows(tiny_folder, two, monkeypatch):
    from accord.training.setup import plan

    monkeypatch.setattr(plan, "MOST_ROWS", 25)
    with pytest.raises(UsageError, match="an epoch of 26 rows is over the 25"):
        ready_for(tiny_folder, two)


def test_an_odd_file_has_no_pairs_of_labels(tiny_folder, two, tmp_path):
    odd = write_rows(tmp_path / "odd.jsonl", labelled_rows(pair_rows(4))[:7])
    with pytest.raises(UsageError, match="pair_labels"):
        ready_for(
            tiny_folder,
            [two[0], odd],
            method="kto",
            batch_size=4,
            assignments=["train.pair_labels=true"],
        )
