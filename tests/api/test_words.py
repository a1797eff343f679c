"""The words of the command line, in Python."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
import typer
from conftest import assert_no_faults

import accord
from accord.api import words
from accord.api.words import in_python
from accord.cli.app import app

SOURCE = Path(accord.__file__).parent


@pytest.mark.parametrize(
    "said, wanted",
    [
        (
            "name them: --columns prompt=question,chosen=good.",
            'name them: columns={"prompt": "question", "chosen": "good"}.',
        ),
        ("--columns '{prompt: \"a, b\"}'", 'columns={"prompt": "a, b"}'),
        (
            "--columns prompt=COLUMN,chosen=COLUMN",
            'columns={"prompt": "COLUMN", "chosen": "COLUMN"}',
        ),
        (
            "leave it out: --ignore-columns notes,hint",
            'leave it out: ignore_columns=["notes", "hint"]',
        ),
        (
            "Go on with it: accord resume runs/first\nOr",
            'Go on with it: accord.resume("runs/first")\nOr',
        ),
        (
            "accord export RUN --checkpoint best (step 12); fewer",
            'accord.export("RUN", checkpoint="best") (step 12); fewer',
        ),
        ("accord eval RUN --judge vader.", 'accord.evaluate("RUN", judge="vader").'),
        ("permit it: --allow hub (it goes", 'permit it: allow=["hub"] (it goes'),
        ("--set data.max_tokens=2048", 'set={"data.max_tokens": 2048}'),
        (
            "--set rollouts.rewards=[vader] --set train.dora=true",
            'set={"rollouts.rewards": [\'vader\'], "train.dora": True}',
        ),
        ("--set objective.beta=0.05,0.1", 'set={"objective.beta": [0.05, 0.1]}'),
        ("--reward vader --reward length=-1", 'reward=["vader", "length=-1"]'),
        ("all weights train (--all-weights)", "all weights train (lora=False)"),
        ("--for inspect-ai: it loads", 'harness="inspect-ai": it loads'),
        ("Add --merge.", "Add merge=True."),
        ("--judge is an address", "judge is an address"),
        ("as accord sample writes it", "as accord.sample writes it"),
        ("see accord train RECIPE --dry-run", 'see accord.dry_run("RECIPE")'),
        ("--max-new-tokens N, with a larger N", "max_new_tokens=N, with a larger N"),
        ("accord generate and accord sample take it", "accord.generate and accord.sample take it"),
        ("--set train=… and more", 'set={"train": …} and more'),
        (
            "the same command asks; give the command again",
            "the same call asks; give the call again",
        ),
        # what has no function stays a command
        ("run accord doctor --device cpu", "run accord doctor --device cpu"),
        ("xz --format=lzma -d", "xz --format=lzma -d"),
        ('accord.audit "rows of data"', "accord.audit data"),
        ("a plain sentence about an accord", "a plain sentence about an accord"),
    ],
)
def test_a_hint_in_python(said, wanted):
    assert in_python(said) == wanted


def test_a_word_behind_a_command_is_prose_or_a_value():
    """A small word that stands in a message behind a command is part of the sentence: what a
    command is given is filled in, in capitals, or has the look of a file.
    """

    def faults(file: Path) -> list[str]:
        return [
            f"line {line}: {found[0]!r}: write {found[2]} into PROSE of api/words.py"
            for line, text in _messages(file)
            for found in re.finditer(rf"\baccord ({'|'.join(words.FUNCTIONS)}) ([a-z]+)\b", text)
            if found[2] not in words.PROSE and f"{found[2]}/" not in text
        ]

    files = [file for file in SOURCE.rglob("*.py") if file.parts[-2] not in ("cli", "api")]
    assert_no_faults(sorted(files), faults, lambda file: str(file.relative_to(SOURCE)))


def test_a_message_that_was_translated_stays():
    once = in_python("accord resume runs/first, or --columns prompt=a. Or --allow hub")
    assert in_python(once) == once


def _options(command) -> set[str]:
    return {
        option.removeprefix("--")
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--")
    }


def test_every_flag_has_a_python_form():
    """Of each command that is a function, too, each flag is a parameter of that function."""
    commands = typer.main.get_command(app).commands
    train = set(inspect.signature(accord.train).parameters)

    def faults(command: str) -> list[str]:
        function = getattr(accord, words.FUNCTIONS[command][0])
        known = set(inspect.signature(function).parameters)
        known |= train if "keywords" in known else set()
        found = []
        for flag in sorted(_options(commands[command]) - words.TERMINAL_FLAGS):
            if flag not in words.FLAGS:
                found.append(f"--{flag} stands in no table of api/words.py")
            elif flag in ("dry-run", "page") and command in ("train", "audit"):
                continue  # a function of its own, and a method of the result
            elif flag == "beta" and command == "train":
                continue  # an option of the method, as every other
            elif _keyword(flag) not in known:
                found.append(f"--{flag}: {function.__name__} has no keyword {_keyword(flag)}")
        return found

    assert_no_faults(list(words.FUNCTIONS), faults)


def _keyword(flag: str) -> str:
    fixed = words.FIXED_FLAGS.get(flag, "").partition("=")[0]
    return fixed or words.RENAMED_FLAGS.get(flag, flag.replace("-", "_"))


def test_the_tables_name_no_flag_that_is_gone():
    commands = typer.main.get_command(app).commands
    there = {flag for command in commands.values() for flag in _options(command)}
    assert there >= words.FLAGS


def _messages(file: Path) -> list[tuple[int, str]]:
    """Every text of a file that is no docstring; VALUE stands for what is filled in."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inside = {
        id(part)
        for node in ast.walk(tree)
        for part in (
            node.values
            if isinstance(node, ast.JoinedStr)
            else [node.value]
            if isinstance(node, ast.Expr)
            else []
        )
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [
                part.value if isinstance(part, ast.Constant) else "VALUE" for part in node.values
            ]
            found.append((node.lineno, "".join(map(str, parts))))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append((node.lineno, node.value))
    return found


def test_no_message_below_the_command_line_keeps_a_flag():
    """Every text of the package is translated: no flag of a mirrored command is left, and what
    looks like a call is one.
    """
    rest = re.compile(rf"(?<![\w-])--({'|'.join(sorted(words.FLAGS))})(?![\w=-])")
    files = [f for f in SOURCE.rglob("*.py") if f.parts[-2] not in ("cli", "api")]

    def faults(file: Path) -> list[str]:
        found = []
        for line, text in _messages(file):
            said = in_python(text)
            found += [f"line {line}: {said!r}"] if rest.search(said) else []
            for call in re.findall(
                r"accord\.[a-z_]+\((?!….\))[^()]*\)", said if said != text else ""
            ):
                try:
                    ast.parse(call.replace("…", "..."))
                except SyntaxError:
                    found.append(f"line {line}: {call} is no call")
        return found

    assert_no_faults(sorted(files), faults, lambda file: str(file.relative_to(SOURCE)))
