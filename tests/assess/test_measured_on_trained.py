"""Rows that a model was trained on are counted wherever it is measured: from hashes in the run's
folder, so also where the training file has moved.
"""

import json
import shutil
from pathlib import Path

import pytest
from conftest import pair_rows, write_rows
from training.helpers import run
from typer.testing import CliRunner

from accord.assess.answers import Drawing
from accord.assess.evaluation import Request, evaluate
from accord.assess.show import lines
from accord.auditing.trained import near_rows, seen, seen_by, trained_rows
from accord.cli.app import app
from accord.data.read import read
from accord.models import provenance
from accord.runs import trained_rows as files
from accord.types import CheckpointError

LONG = (
    "I would like to know how a bird that lives in a tree finds its way home in the dark of a"
    " winter night",
    "Please explain why the water of the sea is salt while the water of the rivers that feed it"
    " is not",
)
ANSWER = (
    "It looks at the stars, it smells the wind, and it remembers each hill and river on its way"
)


def examples(folder, rows, name="rows.jsonl"):
    return read(write_rows(folder / name, rows), "pairs").examples


def row(prompt, chosen="Yes, certainly.", rejected="No, never."):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


@pytest.fixture(scope="module")
def trained(tiny_folder, tmp_path_factory):
    """A run on 24 pairs, whose file is then moved away."""
    folder = tmp_path_factory.mktemp("bound")
    data = write_rows(folder / "train.jsonl", pair_rows(24))
    held = write_rows(folder / "held.jsonl", pair_rows(8, start=100))
    result = run(tiny_folder, data, folder / "dpo", held_out=held, steps=1)
    Path(data).unlink()
    return result.folder


KINDS = {
    "whole": (row(LONG[0]), "whole rows"),
    "case and blanks": (row(LONG[0].upper() + "  ?!", "yes   certainly"), "whole rows"),
    "prompt": (row(LONG[0], "Quite another answer."), "their prompt but other answers"),
    "answers": (row("Who?", ANSWER, ANSWER[::-1]), "their answers under another prompt"),
    "near": (
        row(LONG[1].replace("salt", "salty"), "A new answer."),
        "their prompt but for a few words",
    ),
}


@pytest.mark.parametrize(("measured", "says"), KINDS.values(), ids=KINDS)
def test_kinds(measured, says, tmp_path):
    rows = [row(LONG[0]), row(LONG[1]), row("Where?", ANSWER, ANSWER[::-1])]
    known = trained_rows((e.prompt, e.completions) for e in examples(tmp_path, rows, "a.jsonl"))
    found = seen([known], examples(tmp_path, [measured, row("Other question?")]))
    assert (found.rows, found.total) == (2, 1) and f"1 {says}" in (
        found.parts().replace("with ", "")
    )
    assert "rows.jsonl:1" in found.says()


def test_what_was_not_trained_on_is_not_said(tmp_path):
    """Short answers stand under many prompts, and prompts of one form are alike by their form."""
    form = "Classify the mood of this review of a film in one word, good or bad, please: {}"
    rows = [row(form.format(f"{word} film")) for word in ("a fine", "a dull", "the best")]
    ours, theirs = rows[:1], rows[1:]
    one, two = examples(tmp_path, ours, "a.jsonl"), examples(tmp_path, theirs)
    assert seen([trained_rows((e.prompt, e.completions) for e in one)], two).total == 0
    assert near_rows(one, two).verdict == "ok"


def test_near_rows_of_a_training_file(tmp_path):
    one = examples(tmp_path, [row(LONG[1])], "a.jsonl")
    two = examples(tmp_path, [row(LONG[1].replace("salt", "salty")), row("Who?")])
    found = near_rows(one, two)
    assert found.verdict == "warning" and "1 of 2 held-out rows" in found.says


def test_eval_on_the_rows_of_training(trained, tmp_path):
    """Said in the terminal, in --json and in the record."""
    data = write_rows(tmp_path / "mixed.jsonl", pair_rows(6) + pair_rows(6, start=200))
    words = ["eval", trained, "--data", data, "--samples", 0, "--output", tmp_path / "out"]
    result = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout.strip().splitlines()[-1])["result"]["binding"]
    assert (said["trained_on"]["whole"], said["trained_on"]["total"]) == (6, 6)
    assert said["trained_on"]["trained_by"] == ["dpo"]
    assert "! 6 of 12 rows were trained on by dpo: 6 whole rows" in result.stderr
    record = json.loads((tmp_path / "out/evaluation.json").read_text("utf-8"))
    assert record["binding"] == said


def test_eval_on_held_out_rows_has_no_alarm(trained):
    found, _ = evaluate(str(trained), Request(drawing=Drawing(prompts=0)))
    assert found["binding"]["warnings"] == []
    assert "none of the 8 rows was trained on" in "\n".join(lines(found))


def test_found_by_weights_exports_and_descendants(trained, tmp_path):
    """An adapter in its run, one that was copied out, and a run that began from one."""
    rows = read(write_rows(tmp_path / "rows.jsonl", pair_rows(3)), "pairs")

    def total(name, digest=None):
        return seen_by(str(name), rows.examples, digest).total

    assert total(trained) == total(trained / "adapter") == 3
    bare = shutil.copytree(trained / "adapter", tmp_path / "bare")
    (bare / provenance.NAME).unlink(missing_ok=True)
    assert total(bare) == 0
    record = json.loads((trained / "data.json").read_text("utf-8"))["train"]["sha256"]
    provenance.write(bare, provenance.Provenance(train_data=record, run=str(trained)))
    assert total(bare) == 3
    # the run is gone: the digest of the whole file is what is left
    provenance.write(bare, provenance.Provenance(train_data=record, run=str(tmp_path / "gone")))
    assert total(bare) == 0 and total(bare, record) == 3
    child = tmp_path / "child"
    child.mkdir()
    text = (trained / "config.yaml").read_text("utf-8")
    (child / "config.yaml").write_text(
        text.replace("adapter: null", f"adapter: {trained}/adapter"), encoding="utf-8"
    )
    assert total(child) == 3


def test_size_and_damage(trained, tmp_path):
    file = trained / files.NAME
    assert file.stat().st_size < 24 * (8 + 16 + 128) + 1000
    assert len(files.read(trained).prompts) == 24
    (tmp_path / files.NAME).write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"damaged.*which rows were trained on"):
        files.read(tmp_path)
