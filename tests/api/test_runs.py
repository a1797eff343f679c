"""Runs from Python: rows and models in memory, warnings, and what a result can do."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
from conftest import pair_rows, write_rows

import accord
from accord.environment.digests import file_digest

SMALL = {"steps": 2, "batch_size": 4, "dtype": "float32"}
QUIET = {"monitor.samples": 0}


@pytest.fixture(scope="module")
def result(tiny_folder, tmp_path_factory):
    """A run on rows in memory."""
    output = tmp_path_factory.mktemp("runs") / "first"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", accord.DataWarning)
        return accord.train(
            model=tiny_folder,
            data=pair_rows(24),
            held_out=pair_rows(8, start=100),
            output=output,
            set={"monitor.samples": 2},
            **SMALL,
        )


def test_rows_in_memory_make_the_run_of_their_file(result, tiny_folder, tmp_path):
    data = json.loads((result.folder / "data.json").read_text())
    assert data["train"]["sha256"] == file_digest(result.folder / "data/train.jsonl")
    file = write_rows(tmp_path / "pairs.jsonl", pair_rows(24))
    held_out = write_rows(tmp_path / "held_out.jsonl", pair_rows(8, start=100))
    assert file_digest(Path(file)) == data["train"]["sha256"]
    names = {"model": tiny_folder, "data": file, "held_out": held_out, "output": tmp_path / "run"}
    with pytest.warns(accord.DataWarning):
        other = accord.train(**names, set=QUIET, **SMALL)
    saved = [(each.saved / "adapter_model.safetensors").read_bytes() for each in (result, other)]
    assert saved[0] == saved[1]
    assert checks_of(result) == checks_of(other)


def checks_of(result) -> list[tuple[str, str]]:
    """The findings on rows; only the name of the file may differ."""
    return [
        (each.check, each.says.replace("train.jsonl", "pairs.jsonl"))
        for each in result.findings
        if each.check.startswith("data.")
    ]


def test_a_result_is_short_and_says_what_came_of_it(result):
    shown = repr(result)
    assert len(shown) < 1_000 and "held-out accuracy" in shown and str(result.saved) in shown
    assert f"warnings: {result.warnings[0].check}" in shown
    assert f"red flags: {result.flags[0].check} (step 2)" in shown
    assert "<table>" in result._repr_html_() and "held-out accuracy" in result._repr_html_()


def test_a_result_reports_generates_evaluates_and_exports(result, tmp_path):
    assert result.report(tmp_path / "report.html").stat().st_size > 1_000
    answers = result.generate("Who sat?", k=2, max_new_tokens=4, seed=1)
    assert len(answers.texts) == 1 and len(answers.texts[0]) == 2
    assert "Who sat?" in repr(answers)
    same = accord.generate(result.folder, prompt="Who sat?", k=2, max_new_tokens=4, seed=1)
    assert same.texts == answers.texts
    figures = result.evaluate(samples=2, max_new_tokens=4)
    assert figures.folder == result.folder / "evaluation" and "pairs" in figures and figures.lines
    assert (result.export(tmp_path / "out") / "adapter_config.json").is_file()
    with pytest.raises(accord.AccordError, match="is no file. A prompt itself is prompt=…"):
        accord.generate(result, "Who sat?")


def test_a_run_that_was_moved_finds_its_rows(result, tmp_path):
    moved = shutil.copytree(result.folder, tmp_path / "elsewhere")
    text = (moved / "config.yaml").read_text()
    former = str(result.folder)
    (moved / "config.yaml").write_text(text.replace(former, f"{former}-gone"))
    assert accord.resume(moved).folder == moved
    assert accord.evaluate(moved, samples=0)["source"]


def test_an_interrupted_run_goes_on_from_python(result, tiny_folder, tmp_path, monkeypatch):
    from accord.training import loop

    whole = loop.make_update
    calls = []

    def stops(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    monkeypatch.setattr(loop, "make_update", stops)
    with pytest.raises((KeyboardInterrupt, accord.AccordError)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        accord.train(
            model=tiny_folder,
            data=pair_rows(24),
            held_out=pair_rows(8, start=100),
            output=tmp_path / "run",
            set={"checkpoint.every": 1, "monitor.samples": 2},
            **SMALL,
        )
    monkeypatch.setattr(loop, "make_update", whole)
    again = accord.resume(tmp_path / "run")
    weights = "adapter/adapter_model.safetensors"
    assert (again.folder / weights).read_bytes() == (result.folder / weights).read_bytes()


def test_a_loaded_model_trains_as_its_folder(result, tiny_folder, tokenizer, tmp_path):
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(tiny_folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", accord.DataWarning)
        other = accord.train(
            model=network,
            tokenizer=tokenizer,
            data=pair_rows(24),
            held_out=pair_rows(8, start=100),
            output=tmp_path / "run",
            set={"monitor.samples": 2},
            **SMALL,
        )
    weights = "adapter/adapter_model.safetensors"
    assert (other.folder / weights).read_bytes() == (result.folder / weights).read_bytes()
    assert (other.folder / "model/config.json").is_file()
    assert accord.generate(network, ["Who?"], tokenizer=tokenizer, k=1, max_new_tokens=2).texts


@pytest.mark.parametrize(
    "keywords, says",
    [
        ({"bta": 0.1}, "accord.train does not know the keyword 'bta'; did you mean 'beta'"),
        ({"bach_size": 2}, "did you mean 'batch_size'"),
        ({"warmup": 0.1}, r"warmup is a field of a recipe: set=\{'train.warmup': …\}"),
        ({"max_length": 64}, r"max_length is TRL's name; here it is max_tokens=…"),
        ({"lora_r": 8}, r"TRL's name; here it is set=\{'model.lora.rank': …\}"),
        ({"gamma": 1.0}, "does not know the keyword 'gamma'"),
        ({"method": "dpoo"}, "did you mean 'dpo'"),
        ({"tokenizer": object()}, "tokenizer: a folder and a name bring their own"),
        ({"model": 7}, "model: of the type int; expected a folder"),
        ({"data": 7}, "data: of the type int; expected a path"),
        ({"data": {"prompt": "x"}}, r"data=\[row, …\]"),
        ({"columns": {"prompt": "question"}}, r"which columns=\{\"prompt\": \"question\"\} names"),
        (
            {"data": [{"q": "a", "w": "b", "l": "c"}] * 3},
            r"columns=\{\"prompt\": \"q\", \"chosen\"",
        ),
        ({"model": "no/such"}, r"allow=\[\"hub\"\]"),
    ],
)
def test_errors_speak_python(keywords, says, tiny_folder, tmp_path):
    given = {"model": tiny_folder, "data": pair_rows(8), "output": tmp_path / "run", **SMALL}
    with pytest.raises(accord.AccordError, match=says) as failed:
        accord.train(**(given | keywords))
    assert "--" not in str(failed.value)


def test_red_flags_are_warnings_and_stand_in_the_result(tiny_folder, tmp_path):
    """A learning rate far too high; every flag is raised at the line that called."""
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        result = accord.train(
            model=tiny_folder,
            data=pair_rows(24),
            held_out=pair_rows(8, start=100),
            learning_rate=0.5,
            steps=30,
            batch_size=8,
            dtype="float32",
            lora=False,
            output=tmp_path / "run",
            allow=["unusual_settings"],
            set=QUIET | {"evaluate.every": 5},
        )
    flags = [each for each in raised if each.category is accord.RedFlag]
    assert flags and [each.check for each in result.flags] == [
        each.message.finding.check for each in flags
    ]
    assert all(each.filename == __file__ for each in flags)
    assert f"step {result.flags[0].step}, {result.flags[0].check}" in str(flags[0].message)
    assert result.flags[0].check in repr(result)
    checks = [each.message.finding.check for each in raised if each.category is accord.DataWarning]
    assert checks == [each.check for each in result.warnings]


def test_progress_is_one_line_and_only_on_request(tiny_folder, tmp_path, capsys):
    given = {"model": tiny_folder, "data": pair_rows(24), "set": QUIET, **SMALL}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        accord.train(**given, output=tmp_path / "silent")
        silent = capsys.readouterr()
        accord.train(**given, output=tmp_path / "line", progress=True)
        line = capsys.readouterr()
        accord.train(**given, output=tmp_path / "all", verbose=True)
        every = capsys.readouterr()
    assert silent.out == silent.err == ""
    assert "\n" not in line.err and "step 2/2  loss" in line.err and line.err.endswith("\r")
    assert "checks passed" in every.err and "\n" in every.err


def test_a_dry_run_checks_and_writes_nothing(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(accord.DataWarning):
        found = accord.dry_run(model=tiny_folder, data=pair_rows(24), beta=0.2, **SMALL)
    assert found["objective"]["options"]["beta"] == 0.2 and found["checks"]
    assert any("would make 2 updates" in line for line in found.lines)
    assert list(tmp_path.iterdir()) == []
