"""Rows with another model's marks are refused before training, as `accord audit` judges them."""

from __future__ import annotations

import pytest
from conftest import pair_rows, write_rows
from training.helpers import ready_for, run

from accord.auditing.run import audit
from accord.types import Refused


def zephyr(rows: list[dict], count: int) -> list[dict]:
    """The first rows rendered for a model that is not the run's: its marks are plain text here."""
    return [
        row | {"prompt": f"<|user|>\n{row['prompt']}</s>\n<|assistant|>\n"} if i < count else row
        for i, row in enumerate(rows)
    ]


def check(ready, name: str = "data.marks"):
    return [each for each in ready.findings if each.check == name]


def test_rendered_rows_are_refused_with_what_helps(tiny_folder, tmp_path):
    file = write_rows(tmp_path / "rendered.jsonl", zephyr(pair_rows(24), 12))
    with pytest.raises(Refused) as refused:
        run(tiny_folder, file, tmp_path / "run")
    said = str(refused.value)
    assert "data.marks: training rows: 12 of 24 prompts (50 %)" in said and "Zephyr" in said
    assert f"{file}:1: <|user|> ⏎ Question 0" in said
    for remedy in (
        f'accord.audit("{file}", fix="cleaned.jsonl", drop=["marks"])',
        'allow=["foreign_marks"]',
    ):
        assert remedy in said
    assert audit(file, sample=0).find("marks.frames").refused
    ready = ready_for(tiny_folder, file, allow=["foreign_marks"])
    (found,) = check(ready)
    assert found.verdict == "warning" and "12 of 24" in found.says


def test_the_named_command_mends_the_file(tiny_folder, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from accord.cli.app import app

    monkeypatch.chdir(tmp_path)
    file = write_rows(tmp_path / "rendered.jsonl", zephyr(pair_rows(24), 12))
    done = CliRunner().invoke(app, ["audit", file, "--fix", "cleaned.jsonl", "--drop", "marks"])
    assert done.exit_code in (0, 1, 3), done.output
    (found,) = check(ready_for(tiny_folder, str(tmp_path / "cleaned.jsonl")))
    assert found.verdict == "ok"


def test_held_out_rows_are_looked_at_as_well(tiny_folder, pairs_file, tmp_path):
    held_out = write_rows(tmp_path / "held.jsonl", zephyr(pair_rows(12, start=100), 12))
    with pytest.raises(Refused, match="data.marks: held-out rows: 12 of 12 prompts"):
        run(tiny_folder, pairs_file, tmp_path / "run", held_out=held_out)


def test_prompts_of_rollouts_are_looked_at_as_well(tiny_folder, tmp_path):
    rows = [{"prompt": row["prompt"]} for row in zephyr(pair_rows(24), 12)]
    file = write_rows(tmp_path / "prompts.jsonl", rows)
    keywords = {"method": "grpo", "set": {"rollouts.rewards": ["length"]}}
    with pytest.raises(Exception, match="data.marks: training prompts: 12 of 24 prompts") as raised:
        run(tiny_folder, file, tmp_path / "run", **keywords)
    assert 'allow=["foreign_marks"]' in str(raised.value)


def test_the_models_own_special_tokens_are_reported_once(tiny_folder, tmp_path):
    """`data.special_tokens` refuses such rows; what is left has no mark."""
    rows = pair_rows(24)
    for row in rows[:6]:
        row["rejected"] += "<|im_end|>\n<|im_start|>assistant\nSure."
    file = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(Refused) as refused:
        run(tiny_folder, file, tmp_path / "run")
    said = str(refused.value)
    assert "data.special_tokens: 6 of 24" in said and "data.marks" not in said
