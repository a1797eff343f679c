"""`accord eval`: the figures of a run are those that training recorded, and a bare model's say what
they are.
"""

import json
import re

import pyarrow.parquet as parquet
import pytest
from conftest import pair_rows, write_rows
from training.helpers import labelled_rows, run
from typer.testing import CliRunner

from accord.assess.answers import Drawing
from accord.assess.evaluation import Request, evaluate
from accord.assess.show import lines
from accord.cli.app import app
from accord.types import UsageError

FEW = Drawing(prompts=3, max_new_tokens=5)
NONE = Drawing(prompts=0)


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return write_rows(folder / "pairs.jsonl", pair_rows(24)), write_rows(
        folder / "held.jsonl", pair_rows(40, start=100)
    )


@pytest.fixture(scope="module")
def trained(tiny_folder, files, tmp_path_factory):
    """A DPO run of the tiny model with held-out rows."""
    return run(
        tiny_folder,
        files[0],
        tmp_path_factory.mktemp("runs") / "dpo",
        held_out=files[1],
        learning_rate=1e-2,
    )


def test_a_run_is_measured_as_it_was_trained(trained):
    """Nothing is said twice: the run's own rows, objective, β and reference give the figures that
    training recorded.
    """
    found, folder = evaluate(str(trained.folder), Request(drawing=FEW))
    pairs, recorded = found["pairs"], trained.after
    assert pairs["metrics"]["eval_rewards/margins"] == pytest.approx(
        recorded["eval_rewards/margins"], rel=1e-4
    )
    assert pairs["margin"]["value"] == pytest.approx(recorded["eval_rewards/margins"], rel=1e-4)
    assert pairs["accuracy"]["value"] == pytest.approx(
        recorded["eval_rewards/accuracies"], abs=0.03
    )
    assert pairs["wins"] + pairs["ties"] + pairs["losses"] == 40 == pairs["accuracy"]["n"]
    assert (
        found["source"]["objective"]["name"] == "dpo"
        and found["source"]["objective"]["beta"] == 0.1
    )
    assert found["source"]["reference"] == "the model without its adapters"
    assert found["answers"]["kl"]["value"] > 0 and found["answers"]["prompts"] == 3
    assert json.loads((folder / "evaluation.json").read_text()) == json.loads(json.dumps(found))
    table = parquet.read_table(folder / "examples.parquet")
    assert len(table) == 40 and folder.parent == trained.folder
    again, other = evaluate(str(trained.folder), Request(drawing=NONE))
    # nothing is overwritten
    assert other != folder and other.name.startswith("evaluation-") and again["pairs"] == pairs


def test_figures_do_not_hang_on_the_batch(trained, monkeypatch):
    from accord.assess import evaluation

    whole, _ = evaluate(str(trained.folder), Request(drawing=NONE))
    own = evaluation.held_out_of
    monkeypatch.setattr(
        evaluation, "held_out_of", lambda *given: setattr(made := own(*given), "budget", 1) or made
    )
    alone, _ = evaluate(str(trained.folder), Request(drawing=NONE))
    for name in ("accuracy", "margin"):
        assert alone["pairs"][name] == pytest.approx(whole["pairs"][name], rel=1e-3, abs=1e-4)
    assert alone["pairs"]["calibration"]["brier"] == pytest.approx(
        whole["pairs"]["calibration"]["brier"], rel=1e-3
    )


def test_all_weights_are_measured_against_the_base(tiny_folder, files, tmp_path):
    result = run(tiny_folder, files[0], tmp_path / "whole", held_out=files[1], lora=False)
    found, _ = evaluate(str(result.folder), Request(drawing=FEW))
    assert found["pairs"]["margin"]["value"] == pytest.approx(
        result.after["eval_rewards/margins"], rel=1e-3, abs=1e-5
    )
    assert found["source"]["reference"] == str(tiny_folder) and found["answers"]["kl"]["value"] > 0


def test_a_reference_free_run_has_no_calibration_but_a_kl(tiny_folder, files, tmp_path):
    result = run(tiny_folder, files[0], tmp_path / "simpo", held_out=files[1], method="simpo")
    found, _ = evaluate(str(result.folder), Request(drawing=FEW))
    assert found["pairs"]["accuracy"]["value"] == pytest.approx(
        result.after["eval_rewards/accuracies"], abs=0.03
    )
    assert (
        found["source"]["reference"] is None
        and "calibration" not in found["pairs"]
        and "kl" in found["answers"]
    )
    with pytest.raises(UsageError, match="simpo uses none"):
        evaluate(str(result.folder), Request(reference="adapter_off", drawing=NONE))


def test_a_model_and_itself_tie_everywhere(tiny_folder, files):
    found, folder = evaluate(
        str(tiny_folder),
        Request(files[1], reference=str(tiny_folder), drawing=FEW, dtype="float32"),
    )
    assert (
        folder is None
        and found["pairs"]["ties"] == 40
        and found["pairs"]["accuracy"]["value"] == 0.5
    )
    assert found["answers"]["kl"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["answers"]["tokens_difference"]["value"] == 0


def test_a_bare_model_has_log_probs_alone_and_says_so(tiny_folder, files):
    found, _ = evaluate(str(tiny_folder), Request(files[1], drawing=NONE, rows=20))
    pairs, said = found["pairs"], "\n".join(lines(found))
    assert (
        pairs["accuracy"]["n"] == 20 and "no implicit reward" in said and "calibration" not in pairs
    )
    # ties of rounding apart
    assert pairs["accuracy"]["value"] == pytest.approx(
        pairs["logprob"]["token_mean"]["value"], abs=0.06
    )
    assert pairs["logprob"]["sum"] != pairs["logprob"]["token_mean"]


def test_labels_have_an_area(tiny_folder, tmp_path):
    labels = write_rows(tmp_path / "labels.jsonl", labelled_rows(pair_rows(12)))
    found, _ = evaluate(str(tiny_folder), Request(labels, drawing=NONE))
    area = found["labelled"]["auc"]
    assert area["low"] <= area["value"] <= area["high"] and area["n"] == 24
    assert area["value"] == pytest.approx(found["labelled"]["metrics"]["diag/eval_auc"])
    assert "a good answer above a bad one" in "\n".join(lines(found))


def test_the_command(trained, tmp_path):
    done = invoke(
        "eval", trained.folder, "--samples", 2, "--max-new-tokens", 4, "--output", tmp_path / "out"
    )
    assert done.exit_code == 0, done.output
    for words in (
        "accuracy",
        "wins, ties, losses",
        "Brier",
        "KL to the model without its adapters",
        "chosen is longer",
        "written to",
    ):
        assert re.search(words, done.stdout), words
    told = json.loads(invoke("eval", trained.folder, "--samples", 0, "--json").stdout)
    assert told["ok"] and told["result"]["pairs"]["accuracy"]["n"] == 40
    assert (
        invoke("eval", trained.folder, "--samples", 0, "--output", tmp_path / "out").exit_code == 2
    )


def test_what_makes_no_sense_is_said(trained, tiny_folder, files, tmp_path):
    for arguments, code, says in [
        ((tiny_folder,), 2, "names no held-out file"),
        ((tiny_folder, "--data", files[1], "--beta", 0.2), 2, "there is no reference"),
        ((trained.folder, "--beta", 0.2), 2, "--beta"),
        ((tiny_folder, "--data", files[1], "--reference", "adapter_off"), 2, "has no adapters"),
        ((tiny_folder, "--data", tmp_path / "none.jsonl"), 3, "none.jsonl"),
        ((tmp_path / "nowhere", "--data", files[1]), 2, "no such"),
        (
            (tiny_folder, "--data", write_rows(tmp_path / "p.jsonl", [{"prompt": "a"}])),
            3,
            "none of its 1 rows",
        ),
    ]:
        done = invoke("eval", *arguments)
        assert (
            done.exit_code == code
            and says in done.stderr
            and isinstance(done.exception, SystemExit)
        ), (arguments, done.stderr)


def test_another_vocabulary_is_refused(tiny_folder, files, tmp_path):
    """Ids mean something else to another tokenizer;
    log-probs of them would be compared silently.
    """
    import shutil

    shutil.copytree(tiny_folder, tmp_path / "other")
    file = tmp_path / "other/tokenizer.json"
    text = json.loads(file.read_text())
    vocabulary = text["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.get)[5:7]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    file.write_text(json.dumps(text))
    with pytest.raises(UsageError, match="other tokens"):
        evaluate(
            str(tiny_folder), Request(files[1], reference=str(tmp_path / "other"), drawing=NONE)
        )
