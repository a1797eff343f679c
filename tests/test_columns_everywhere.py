"""--columns and --ignore-columns on every command that reads data, and what each says of the file
that it read.
"""

from __future__ import annotations

import json

import pytest
from conftest import pair_rows, write_rows
from typer.main import get_command
from typer.testing import CliRunner

from accord.cli.app import app

COMMANDS = [
    *("audit", "advise", "split", "convert", "train", "eval", "compare", "sweep", "frontier"),
    *("sample", "generate", "score", "pair", "iterate", "rlhf"),
]
NAMED = "prompt=frage,chosen=gut,rejected=schlecht"
SHORT = ["--steps", "2", "--batch-size", "4", "--set", "model.dtype=float32"]


def accord(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done.output


def odd(rows: list[dict], **beside) -> list[dict]:
    names = {"prompt": "frage", "chosen": "gut", "rejected": "schlecht"}
    return [{names[k]: v for k, v in row.items()} | beside for row in rows]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("columns")
    write_rows(folder / "odd.jsonl", odd(pair_rows(24), mood="calm", license="mit"))
    write_rows(folder / "plain.jsonl", pair_rows(8, start=100))
    write_rows(folder / "hint.jsonl", [row | {"hint": "red"} for row in pair_rows(8, start=200)])
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_reads_data_has_the_options(name):
    options = {one for p in get_command(app).commands[name].params for one in p.opts}
    assert {"--columns", "--ignore-columns"} <= options


@pytest.mark.parametrize(
    "words",
    [
        ("audit",),
        ("split", "--output", "OUT"),
        ("convert", "--to", "trl-explicit", "--output", "OUT.jsonl"),
    ],
    ids=lambda words: words[0],
)
def test_commands_on_data_read_by_names_and_say_so(words, place, tmp_path):
    command, *rest = (str(word).replace("OUT", str(tmp_path / "out")) for word in words)
    bad = accord(command, place / "odd.jsonl", *rest, code=3)
    assert f"--columns {NAMED}" in bad
    said = accord(command, place / "odd.jsonl", "--columns", NAMED, *rest)
    said = " ".join(said.split())
    assert "read as 24 trl-explicit" in said
    assert "frage as prompt, gut as chosen, schlecht as rejected" in said
    assert "license (the licence of the row)" in said
    assert "columns not read: mood" in said


def test_audit_finds_content_that_nothing_reads(place, tmp_path):
    out = tmp_path / "audit.html"
    said = accord("audit", place / "hint.jsonl", "--page", out, code=3)
    assert "UNFIT" in said and f"accord audit {place}/hint.jsonl --ignore-columns hint" in said
    assert "--ignore-columns hint" in out.read_text(encoding="utf-8")
    said = accord("audit", place / "hint.jsonl", "--ignore-columns", "hint")
    assert "ignored by --ignore-columns: hint" in " ".join(said.split())


@pytest.fixture(scope="module")
def trained(place, tiny_folder):
    """A run on renamed columns, with held-out rows of ordinary names."""
    data = ["--data", place / "odd.jsonl", "--held-out", place / "plain.jsonl"]
    said = accord(
        "train",
        "--model",
        tiny_folder,
        *data,
        "--columns",
        NAMED,
        "--ignore-columns",
        "mood",
        *SHORT,
        "--output",
        place / "run",
    )
    assert "read as 24 trl-explicit" in said and "read as 8 trl-explicit" in said
    return place / "run"


def test_a_run_records_its_columns(trained):
    config = (trained / "config.yaml").read_text(encoding="utf-8")
    assert "frage" in config and "ignore_columns:\n  - mood" in config
    record = json.loads((trained / "data.json").read_text(encoding="utf-8"))["train"]
    assert record["columns"] == {
        "used": {"frage": 24, "gut": 24, "schlecht": 24},
        "read_as": {"frage": "prompt", "gut": "chosen", "schlecht": "rejected"},
        "metadata": {"license": "the licence of the row"},
        "unread": {},
        "content": {},
        "ignored": ["mood"],
    }
    assert record["message_keys"] == {"used": {}, "metadata": {}, "unread": {}, "content": {}}
    accord("report", trained)
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "read as 24 trl-explicit" in page and "frage (as prompt)" in page


def test_eval_reads_ordinary_names_though_the_run_renamed_them(trained, place):
    said = accord("eval", trained, "--data", place / "plain.jsonl", "--samples", 0)
    assert "8 pairs measured" in said and "columns read: prompt, chosen, rejected" in said


def test_eval_reads_the_runs_names_too_and_its_own_before_them(trained, place, tmp_path):
    said = accord("eval", trained, "--data", place / "odd.jsonl", "--samples", 0)
    assert "24 pairs measured" in said and "frage as prompt" in said
    write_rows(
        tmp_path / "d.jsonl",
        [{"p": r["prompt"], "c": r["chosen"], "r": r["rejected"]} for r in pair_rows(8, start=300)],
    )
    bad = accord("eval", trained, "--data", tmp_path / "d.jsonl", "--samples", 0, code=3)
    assert "--columns prompt=p,chosen=c,rejected=r" in bad
    named = ["--columns", "prompt=p,chosen=c,rejected=r"]
    assert "8 pairs measured" in accord(
        "eval", trained, "--data", tmp_path / "d.jsonl", "--samples", 0, *named
    )


def test_training_refuses_content_and_a_dry_run_names_the_rest(place, tiny_folder):
    data = ["train", "--model", tiny_folder, *SHORT, "--dry-run", "--data"]
    bad = accord(*data, place / "hint.jsonl", code=3)
    assert "column 'hint'" in bad and "--ignore-columns hint" in bad
    said = accord(*data, place / "odd.jsonl", "--columns", NAMED)
    assert "data.columns" in said and "columns not read: mood" in said


def test_prompts_are_sampled_and_scored_by_other_names(place, tiny_folder, tmp_path):
    drawn, scored = tmp_path / "drawn.jsonl", tmp_path / "scored.jsonl"
    few = ["--k", 2, "--max-new-tokens", 4, "--limit", 2]
    said = accord(
        "sample",
        tiny_folder,
        "--prompts",
        place / "odd.jsonl",
        "--columns",
        "prompt=frage",
        *few,
        "--output",
        drawn,
    )
    assert "frage as prompt" in said and "columns not read: gut" in said
    rows = [json.loads(line) for line in drawn.read_text(encoding="utf-8").splitlines()]
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in pair_rows(2)]
    write_rows(tmp_path / "other.jsonl", [{"q": r["prompt"], "a": r["completions"]} for r in rows])
    score = ["score", tmp_path / "other.jsonl", "--reward", "length", "--output", scored]
    bad = accord(*score, code=3)
    assert "--columns prompt=COLUMN,completions=COLUMN" in bad
    accord(*score, "--columns", "prompt=q,completions=a")
    assert len(scored.read_text(encoding="utf-8").splitlines()) == 2
    again = ["--columns", "prompt=nope,completions=a", "--output", tmp_path / "again.jsonl"]
    assert "no row has a column 'nope'" in accord(*score[:-2], *again, code=3)
