"""Other tools' flags and other spellings: taken where they mean the same, answered where not."""

from __future__ import annotations

import pytest
from typer.main import get_command

from accord.cli.app import app
from accord.cli.foreign import translate
from accord.cli.given import method_name, method_names
from accord.cli.group import sort_words
from accord.errors import UsageError

TRAIN = get_command(app).commands["train"]  # type: ignore[attr-defined]


def understood(line: str) -> list[str]:
    """Return what the parser of `accord train` is given."""
    return TRAIN.understood(line.split())


@pytest.mark.parametrize(
    "typed, ours",
    [
        ("--learning_rate 1e-5", "--learning-rate 1e-5"),
        ("--batch_size=4", "--batch-size=4"),
        ("--held_out t.jsonl --all_weights", "--held-out t.jsonl --all-weights"),
        # a value keeps its underscores, wherever it stands
        ("--data a_b.jsonl --set model.lora.rank=4", "--data a_b.jsonl --set model.lora.rank=4"),
        ("--columns --held_out", "--columns --held_out"),
        ("-- --held_out", "-- --held_out"),
        # TRL
        ("--num_train_epochs 2", "--epochs 2"),
        ("--max_steps 30", "--steps 30"),
        ("--output_dir runs/a", "--output runs/a"),
        ("--dataset_name rows.jsonl", "--data rows.jsonl"),
        ("--loss_type sigmoid", "--method dpo"),
        ("--lora_r 8", "--set model.lora.rank=8"),
        (
            "--lora_alpha 16 --lora_dropout 0.05",
            "--set model.lora.alpha=16 --set model.lora.dropout=0.05",
        ),
        ("--warmup_ratio 0.1", "--set train.warmup=0.1"),
        ("--max_grad_norm 0.5", "--set train.max_grad_norm=0.5"),
        ("--lr_scheduler_type cosine", "--set train.schedule=cosine"),
        ("--report_to none", ""),
        # LLaMA-Factory, Axolotl
        ("--pref_beta 0.3", "--beta 0.3"),
        ("--num_epochs 2", "--epochs 2"),
        ("--sequence_len 512", "--set data.max_tokens=512"),
    ],
)
def test_what_means_the_same_is_taken(typed, ours):
    assert understood(typed) == ours.split()


def test_what_was_taken_is_reported(capsys):
    understood("--num_train_epochs 2 --learning_rate 1e-5")
    assert capsys.readouterr().err == "· TRL's --num_train_epochs 2 is here --epochs 2\n"
    understood("--learning_rate 1e-5")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "typed, words, command",
    [
        (
            "--per_device_train_batch_size 4 --gradient_accumulation_steps 8 --data a.jsonl",
            "4 × accumulated 8",
            "accord train --data a.jsonl --batch-size 32",
        ),
        ("--gradient_accumulation_steps 2", "accumulated 2", "accord train --batch-size 16"),
        ("--max_length 512", "accord drops", "accord train --set data.max_tokens=512"),
        ("--loss_type ipo", "normalize", "accord train --method ipo"),
        ("--bf16 --steps 3", "leave it out", "accord train --steps 3"),
        ("--use_peft", "attention (all four)", "accord train"),
        ("--dataset_name trl-lib/pairs", "name on a hub", "accord train --data trl-lib/pairs"),
        ("--report_to wandb", "monitor.trackers", "accord train"),
        ("--fp16 true", "float16", "accord train"),
        ("--deepspeed z3.json", "under torchrun", "accord train"),
        ("--val_size 0.1", "accord split", "accord train"),
        ("--micro_batch_size 2", "rows at once 2", "accord train --batch-size 2"),
    ],
)
def test_what_differs_is_answered_with_the_whole_command(typed, words, command):
    with pytest.raises(UsageError) as error:
        understood(typed)
    said = str(error.value)
    assert words in said and said.splitlines()[-1] == command, said


def test_a_flag_of_no_tool_is_left_to_the_parser():
    assert translate([], ["--gibberish", "3"], (), print) is None
    assert understood("--gibberish 3 --steps 2") == ["--steps", "2", "--gibberish", "3"]


def test_a_loss_that_is_not_here_says_so():
    with pytest.raises(UsageError, match="no equivalent here: accord methods"):
        understood("--loss_type discopop")


def test_every_command_takes_underscores():
    audit = get_command(app).commands["audit"]  # type: ignore[attr-defined]
    assert sort_words(["a.jsonl", "--held_out", "t"], audit) == (["a.jsonl", "--held-out", "t"], [])


@pytest.mark.parametrize(
    "typed, name",
    [("DPO", "dpo"), ("Dr-GRPO", "dr_grpo"), ("My.mod:Loss", "My.mod:Loss"), (None, None)],
)
def test_methods_in_other_letters(typed, name):
    assert method_name(typed) == name


def test_several_methods_in_other_letters():
    assert method_names("DPO, ipo,My.mod:Loss") == "dpo,ipo,My.mod:Loss"
