"""accord audit, split, convert, advise: exit codes, JSON for machines, words for people, no
traceback.
"""

from __future__ import annotations

import json

import pytest
from auditing.rows import clean, flipped, labelled, scored, write
from typer.testing import CliRunner

from accord.cli.app import app
from accord.data.convert import WRITERS
from accord.data.read import read


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.parametrize(
    ("rows", "code", "verdict"),
    [
        (clean(300), 0, "fit"),
        (flipped(clean(600, mixed=0.0), 0.25), 0, "fit with care"),
        ([r | {"label": True} for r in labelled(60)], 3, "unfit"),
    ],
    ids=["fit", "care", "unfit"],
)
def test_audit_for_machines(rows, code, verdict, tmp_path):
    done = invoke("audit", write(tmp_path / "data.jsonl", rows), "--json")
    assert done.exit_code == code, done.stderr
    result = json.loads(done.stdout)["result"]
    assert (
        result["verdict"] == verdict
        and {"says", "why", "remedy", "command", "rows", "harm"} <= result["findings"][0].keys()
    )


def test_audit_for_people(tmp_path):
    done = invoke(
        "audit",
        write(tmp_path / "data.jsonl", flipped(clean(600, mixed=0.0), 0.25)),
        "--page",
        tmp_path / "p.html",
        "--fix",
        tmp_path / "out.jsonl",
    )
    assert done.exit_code == 0, done.output
    last = done.stdout.splitlines()[-1]
    assert (
        last.startswith("FIT WITH CARE, small: data.jsonl, 600 pairs (")
        and "why:" in done.stdout
        and "▸" in done.stdout
    )
    assert (tmp_path / "p.html").exists() and "600 rows = 600 written + 0 left out" in done.stdout


def test_an_audit_is_the_same_twice(tmp_path):
    path = write(tmp_path / "data.jsonl", flipped(clean(300), 0.1))
    one, two = (
        json.loads(invoke("audit", path, "--json", "--sample", 200).stdout)["result"]
        for _ in range(2)
    )
    assert one["sample"] == 200 and {**one, "seconds": 0} == {**two, "seconds": 0}


@pytest.mark.parametrize("command", ["audit", "split", "convert", "advise"])
def test_a_missing_file(command, tmp_path):
    more = {
        "convert": ["--to", "openai", "--output", tmp_path / "o.jsonl"],
        "split": ["--output", tmp_path / "split"],
    }
    done = invoke(command, tmp_path / "none.jsonl", *more.get(command, []))
    assert (
        done.exit_code == 3
        and "there is no such file" in done.stderr
        and "Traceback" not in done.output
    )


def test_commands_are_quoted_for_a_shell():
    """A file's name may hold anything; a command that is pasted must not do anything else."""
    from accord.auditing.lines import full_command

    assert (
        full_command("--fix OUT --drop cycles", "a;b $(c).jsonl")
        == "accord audit 'a;b $(c).jsonl' --fix cleaned.jsonl --drop cycles"
    )
    assert (
        full_command("accord split DATA --output split", "a b")
        == "accord split 'a b' --output split"
    )
    assert (
        full_command("--set data.max_tokens=2048", "a.jsonl")
        == "accord train --data a.jsonl --set data.max_tokens=2048"
    )


def test_split_and_its_output(tmp_path):
    done = invoke(
        "split", write(tmp_path / "data.jsonl", clean(100)), "--output", tmp_path / "out", "--json"
    )
    assert done.exit_code == 0 and json.loads(done.stdout)["result"]["held_out"] == 10


@pytest.mark.parametrize("name", WRITERS)
def test_convert_to_every_format_and_back(name, tmp_path):
    """There and back again: the same prompts and answers, as the kind that the format holds."""
    path = write(tmp_path / "data.jsonl", scored(12))
    done = invoke("convert", path, "--to", name, "--output", tmp_path / "there.jsonl")
    assert done.exit_code == 0, done.output
    kind = WRITERS[name].kind

    def meant(file):
        return [
            (e.prompt, e.completions, getattr(e, "desirable", None))
            for e in read(file, kind).examples
        ]

    assert meant(tmp_path / "there.jsonl") == meant(path)


def test_convert_counts_what_a_format_cannot_hold(tmp_path):
    rows = [r if i else r | {"score_rejected": r["score_chosen"]} for i, r in enumerate(scored(5))]
    done = invoke(
        "convert",
        write(tmp_path / "data.jsonl", rows),
        "--to",
        "webgpt",
        "--output",
        tmp_path / "o.jsonl",
        "--json",
    )
    result = json.loads(done.stdout)["result"]
    assert (
        result["written"] == 4
        and result["refused"] == {"tie": 1}
        and "data.jsonl:1" in result["first_refused"]
    )


def test_convert_to_nothing(tmp_path):
    path = write(tmp_path / "data.jsonl", clean(5))
    done = invoke("convert", path, "--to", "webgpt", "--output", tmp_path / "o.jsonl")
    assert (
        done.exit_code == 3 and "no scores" in done.stderr and not (tmp_path / "o.jsonl").exists()
    )
    assert (
        invoke("convert", path, "--to", "nonsense", "--output", tmp_path / "o.jsonl").exit_code == 2
    )


# ---------------------------------------------------------------- with a model


def test_tokens_and_hardness(tiny_folder, tmp_path):
    rows = clean(60)
    rows[3] = rows[3] | {"chosen": "an end <|im_end|> in the text"}
    done = invoke(
        "audit",
        write(tmp_path / "data.jsonl", rows),
        "--model",
        tiny_folder,
        "--model-rows",
        60,
        "--json",
    )
    assert done.exit_code == 3, done.output
    found = {each["check"]: each for each in json.loads(done.stdout)["result"]["findings"]}
    assert (
        found["tokens.special_tokens"]["verdict"] == "refused"
        and "data.jsonl:4" in found["tokens.special_tokens"]["rows"][0]["at"]
    )
    assert "59 of 60 pairs, read by the model" in found["hardness.ranked"]["says"]
    nll = found["hardness.on_policy"]["evidence"]["nll"]["chosen"]["value"]
    assert 4 < nll < 11, "a random model: log(400) = 6.0 nats a token, and more for its spread"
    assert found["tokens.lengths"]["evidence"]["tokens"]["prompt"][2] > 20


def test_advice_runs_as_it_is(tiny_folder, tmp_path):
    """The recipe is one that `accord train --dry-run` accepts, and it names the measured noise."""
    data, recipe = (
        write(tmp_path / "data.jsonl", flipped(clean(800, mixed=0.0), 0.25)),
        tmp_path / "recipe.yaml",
    )
    done = invoke(
        "advise", data, "--model", tiny_folder, "--model-rows", 10, "--recipe", recipe, "--json"
    )
    assert done.exit_code == 0, done.output
    advice = json.loads(done.stdout)["result"]
    assert (
        advice["method"] == "cdpo"
        and "flipped labels" in advice["why"]
        and set(advice["others"]) >= {"dpo", "kto", "simpo", "ipo", "orpo"}
    )
    assert all("(" in each["reason"] for each in advice["settings"])
    trial = invoke("train", recipe, "--dry-run", "--set", "model.dtype=float32", "--json")
    assert trial.exit_code == 0, trial.output
    objective = json.loads(trial.stdout)["result"]["objective"]
    assert objective["name"] == "cdpo" and 0.1 < objective["options"]["label_smoothing"] < 0.3


def test_advice_says_when_there_is_too_little(tiny_folder, tmp_path):
    done = invoke(
        "advise",
        write(tmp_path / "data.jsonl", clean(40)),
        "--model",
        tiny_folder,
        "--model-rows",
        5,
    )
    assert done.exit_code == 0 and "enough data" not in done.stdout
    assert "FIT, very small: data.jsonl, 40 pairs" in done.stdout
    assert "Amount: 40 pairs, very small: under 200, no difference" in done.stdout
