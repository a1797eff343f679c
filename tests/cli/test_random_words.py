"""Random lines over all commands: whatever is typed ends in words, never in a bug or a traceback.

Each line is a command with options of its own and of others, values that fit and that do not. No
line names data that is there, so that nothing trains.
"""

from __future__ import annotations

import random

import pytest
import typer
from typer.testing import CliRunner

from accord.cli.app import app

GROUP = typer.main.get_command(app)
COMMANDS = GROUP.commands  # type: ignore[attr-defined]
LINES, PARTS = 300, 10
# What needs no input at all and works for minutes, serves for ever, or writes into a home folder.
LEFT_OUT = {"demo", "doctor", "watch", "play", "frontier", "serve-policy"}
NEVER = {"--install-completion", "--show-completion", "--demo", "--help"}
VALUES = (
    *"0 -1 7 0.5 1e-5 nan inf 1e999 ten true none.jsonl none/ /dev/null . .. ~ ~nobody/x".split(),
    *"a=b = a= =b a.b.c=1 objective.beta=x train.steps=[1 DPO dpo, , é * ? [ [a] -- - -x".split(),
    *"--json org/name http://x %s {} json:dumps no.module:f smollm3 runs __import__".split(),
    *("", "a b", "data.train={a: b}", "x" * 5000, "\u202e", "\x1b[31m", "${HOME}", "\\", "'", '"'),
)
FOREIGN = [
    f"--{name}"
    for name in (
        "per_device_train_batch_size bf16 loss_type use_peft lora_r lr num_train_epochs rl stage"
        " dataset_name model_name_or_path report_to gradient_accumulation_steps max_length gpu"
        " micro_batch_size pref_beta warmup_ratio save_steps eval_strategy config template"
    ).split()
]


def options_of(command) -> list[str]:
    named = [name for param in command.params for name in param.opts if name.startswith("--")]
    return [name for name in named if name not in NEVER]


def random_line(rng: random.Random) -> list[str]:
    name = rng.choice([name for name in COMMANDS if name not in LEFT_OUT])
    own = options_of(COMMANDS[name]) or ["--json"]
    others = options_of(COMMANDS[rng.choice(list(COMMANDS))]) or ["--model"]
    words = [name] if rng.random() < 0.97 else [name[:-1], name]
    for _ in range(rng.randrange(6)):
        kind = rng.random()
        option = rng.choice(own if kind < 0.6 else others if kind < 0.7 else FOREIGN)
        option = option.replace("-", "_").replace("__", "--", 1) if rng.random() < 0.2 else option
        value = rng.choice(VALUES)
        if kind > 0.85:
            words.append(value)
        elif rng.random() < 0.2:
            words.append(f"{option}={value}")
        else:
            words += [option, value][: rng.choice((1, 2, 2, 2))]
    return words


@pytest.mark.parametrize("part", range(PARTS))
def test_random_lines(part, tmp_path, monkeypatch):
    """Exit codes of an answer alone: 0 done, 2 usage, 3 data, 4 refused, 6 files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "cache"))
    rng = random.Random(part)
    for _ in range(LINES // PARTS):
        words = random_line(rng)
        done = CliRunner().invoke(app, words, input="")
        assert isinstance(done.exception, SystemExit | None), (words, done.exception)
        assert done.exit_code in (0, 2, 3, 4, 6), (words, done.output)
        assert "Traceback" not in done.output and "\x1b[31m" not in done.output, words
