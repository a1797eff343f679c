"""Help reads well at 80 columns; every command has an example that parses; defaults are true."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest
import typer
from conftest import assert_no_faults
from typer.testing import CliRunner

from accord import __version__
from accord.cli.app import app
from accord.cli.command_table import COMMANDS, ELSEWHERE, example_of
from accord.cli.group import first_sentence
from accord.config.schema import DEFAULT_OBJECTIVE, Config

GROUP = typer.main.get_command(app)
NAMES = list(GROUP.commands)  # type: ignore[attr-defined]


def invoke(*words: str):
    return CliRunner().invoke(app, [*words], env={"COLUMNS": "80", "TERMINAL_WIDTH": ""})


def parse(line: str) -> None:
    """Parse a line as it is typed, without running anything."""
    _, name, *words = shlex.split(line)
    command = GROUP.commands[name]  # type: ignore[attr-defined]
    command.make_context(name, words)


def test_version():
    assert invoke("--version").stdout == f"{__version__}\n" == invoke("version").stdout


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_command(name):
    """Both spellings answer; lines fit 80 columns; the example stands at the end and parses."""
    short, long = invoke(name, "-h"), invoke(name, "--help")
    assert short.exit_code == long.exit_code == 0 and short.stdout == long.stdout
    assert max(map(len, short.stdout.splitlines())) <= 80
    example = example_of(name)
    assert example is not None, f"{name} has no line in cli/command_table.py"
    assert short.stdout.endswith(f"Example:\n  {example}\n") and example.split()[1] == name
    parse(example)


def test_the_list_of_commands():
    """Each command once, with one sentence that fits its line, under its group."""
    shown = invoke("-h").stdout
    assert shown == invoke().stdout and max(map(len, shown.splitlines())) <= 80
    for group, commands in COMMANDS.items():
        block = shown.partition(f"\n{group}:\n")[2].partition("\n\n")[0]
        assert [line.split()[0] for line in block.splitlines()] == [*commands]
    listed = [name for commands in COMMANDS.values() for name in commands]
    assert sorted(listed) == sorted(NAMES)


def test_first_sentences_are_short():
    def long(name: str) -> list[str]:
        said = first_sentence(GROUP.commands[name])  # type: ignore[attr-defined]
        return [] if len(said) <= 66 and said.endswith(".") else [f"{len(said)}: {said}"]

    assert_no_faults(NAMES, long)


def test_no_word_of_an_option_is_broken():
    """A name such as --held-out stands on one line, wherever it is mentioned."""
    for name in NAMES:
        lines = invoke(name, "-h").stdout.splitlines()
        assert not [line for line in lines if re.search(r"--?$|[a-z]-$", line.rstrip())], name


def test_defaults_that_are_shown_are_those_that_count():
    """The help is too quick to read the schema, so this compares the two."""
    shown = " ".join(invoke("train", "-h").stdout.split())
    train = Config.model_fields["train"].default
    defaults = {
        "--model": Config.model_fields["model"].default.name,
        "--method": DEFAULT_OBJECTIVE,
        "--batch-size": train.batch_size,
        "--seed": train.seed,
        "--on-flag": Config.model_fields["monitor"].default.on_flag,
    }
    for option, default in defaults.items():
        own = shown.partition(f" {option} ")[2].partition(" --")[0]
        assert f"[default: {default}]" in own, option


def test_words_of_other_tools_lead_to_commands_that_parse():
    for line in ELSEWHERE.values():
        if not line.startswith("accord --"):
            parse(line)


@pytest.mark.parametrize(
    "typed, answers",
    [
        ("accord tr", ["train"]),
        ("accord train --held", ["--held-out"]),
        ("accord s", ["split", "sweep", "sample", "score", "serve-policy"]),
    ],
)
def test_completion_answers(typed, answers):
    """The shell's own question, as the script of `accord --install-completion` asks it."""
    asked = {
        "_ACCORD_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "accord"], capture_output=True, text=True, env=os.environ | asked
    )
    assert sorted(done.stdout.split()) == sorted(answers), done.stderr


@pytest.mark.parametrize("shell, code", [("bash", 0), ("zsh", 0), ("fish", 0), (None, 2)])
def test_completion_can_be_installed(shell, code, monkeypatch):
    """The script asks the program under its own name; an unknown shell is no bug of accord."""
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: shell)
    done = invoke("--show-completion")
    assert done.exit_code == code and (shell is None or "_ACCORD_COMPLETE" in done.stdout)
    assert "--install-completion" in invoke("--help").stdout
