"""Every command line of README.md and docs/ can be typed as it stands, into bash and into zsh, and
into PowerShell where it stands on one line.

benchmarks/readme_commands.py runs them; here they are read: they parse, hold no comment (typed into
zsh, `#` is none) and no character that a shell would expand, and every command, option and extra
that they name exists.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from accord.cli.app import app
from accord.config.build import build
from benchmarks import readme_commands as readme

ROOT = Path(__file__).parents[2]
DOCUMENTS = readme.documents()
BLOCKS = [(name, block) for name, text in DOCUMENTS.items() for block in readme.blocks(text)]
COMMANDS = list(dict.fromkeys(readme.commands()))
QUOTED = re.compile(r"'[^']*'|\"(?:[^\"\\]|\\.)*\"|\\.", re.DOTALL)
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def named(command: readme.Command) -> str:
    return f"{command.document}: {command.flat}"


def bare(line: str) -> str:
    """Leave out what is quoted or escaped."""
    return QUOTED.sub("", line)


def typed_badly(line: str) -> list[str]:
    """Say what a shell would take for something else than the reader meant."""
    text, faults = bare(line), []
    if re.search(r"(?:^|\s)#", text):
        faults.append("a comment: typed into zsh, # is none")
    if re.search(r"[\[\]?*]", text):
        faults.append("a bracket, ? or * that is not quoted: zsh looks for files and fails")
    if re.search(r"<(?!\()|(?<![0-9&])>", text):
        faults.append("a placeholder in < >: a shell reads it as a file to read from")
    if re.search(r"(?:^|\s)=\w", text):
        faults.append("a word that begins with =: zsh looks for a command of that name")
    if re.search(r"(?:^|\s)[~^{]|\{\S*[,.]\S*\}", text):
        faults.append("a ~, ^ or braces that are not quoted: a shell puts something else there")
    if re.search(r"!(?![\s=]|$)", re.sub(r"'[^']*'|\\.", "", line)):
        faults.append("an ! outside single quotes: both shells look for an earlier command")
    if re.search(r"[“”‘’–—]", text):
        faults.append("a typographic quotation mark or dash: a shell takes it for a letter")
    return faults


def is_plain(command: readme.Command) -> bool:
    """Tell a command that PowerShell can take from one that only a shell of Unix has."""
    unix = ("source ", "sudo ", "bash ")
    return not ("\\\n" in command.text or "<(" in command.text or command.text.startswith(unix))


def typed_badly_in_powershell(line: str) -> list[str]:
    """Say what PowerShell would take for something else than the reader meant.

    Its own quotes: no escape by a backslash, and `$` counts between double quotes.
    """
    text, faults = re.sub(r"'[^']*'", "''", line), []
    if "\\" in text:
        faults.append("a backslash, which escapes nothing there")
    if re.search(r"[$`]", text):
        faults.append("a $ or ` outside single quotes: a variable, an escape")
    if re.search(r"[;&|<>(){}@#]", re.sub(r'"[^"]*"', '""', text)):
        faults.append("an operator that is not quoted")
    if re.search(r"''\S|\"[^\"]*\"\S", text):
        faults.append("a quotation that ends inside a word: PowerShell makes two words of it")
    return faults


def parsed(words: list[str]) -> None:
    """Parse the arguments of accord as its command line does, without running anything."""
    group = typer.main.get_command(app)
    name, *arguments = words
    assert name in group.commands, f"accord {name} is no command"
    group.commands[name].make_context(name, arguments)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize("place, block", BLOCKS, ids=lambda value: value.splitlines()[0])
def test_blocks_parse(shell, place, block):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n"], input=block, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", COMMANDS, ids=named)
def test_commands_can_be_typed_into_any_shell(command):
    assert not typed_badly(command.text)


@pytest.mark.parametrize("command", list(filter(is_plain, COMMANDS)), ids=named)
def test_plain_commands_can_be_typed_into_powershell(command):
    assert not typed_badly_in_powershell(command.text)


def test_most_commands_are_plain():
    assert len(list(filter(is_plain, COMMANDS))) > 0.8 * len(COMMANDS)


@pytest.mark.parametrize(
    "line, fault",
    [
        ("echo $HOME", "variable"),
        ("make demo; make test", "operator"),
        ("make demo && make test", "operator"),
        ("accord train --set 'a=1' | tail", "operator"),
        ("accord sample \\'a\\'", "backslash"),
        ("accord train --set 'rewards='[vader]", "inside a word"),
        ("accord train --set @file", "operator"),
    ],
)
def test_what_powershell_does_not_take_is_found(line, fault):
    assert fault in " ".join(typed_badly_in_powershell(line))


@pytest.mark.parametrize("shell", readme.SHELLS)
def test_what_is_typed_is_what_arrives(shell, tmp_path):
    """The shells themselves read every command: each program gets the words as they are written."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    typed = [shlex.split(command.flat) for command in COMMANDS]
    wanted = [[] if words[0] == "source" else [words] for words in typed]
    assert readme.arguments(COMMANDS, shell, tmp_path) == wanted


def test_a_command_that_zsh_does_not_take_is_found(tmp_path):
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    bad = readme.Command("x", "accord train --set rollouts.rewards=[vader]")
    with pytest.raises(AssertionError, match="no matches found"):
        readme.arguments([bad], "zsh", tmp_path)


@pytest.mark.parametrize(
    "line, fault",
    [
        ("accord doctor   # is it well?", "comment"),
        ("# one machine", "comment"),
        ("accord train --set rollouts.rewards=[vader]", "bracket"),
        ("pip install accord[watch]", "bracket"),
        ("ls *.jsonl", "bracket"),
        ("git clone <this repository> accord", "placeholder"),
        ("accord eval =MODEL", "begins with ="),
        ("accord eval ~/models/mine", "something else there"),
        ("accord report runs/{first,second}", "something else there"),
        ('accord generate runs/first --prompt "Hello!"', "an earlier command"),
        ("accord generate runs/first --prompt Hello!you", "an earlier command"),
        ("accord train —method dpo", "typographic"),
    ],
)
def test_what_cannot_be_typed_is_found(line, fault):
    assert fault in " ".join(typed_badly(line))


@pytest.mark.parametrize(
    "line",
    [
        "accord train --set 'rollouts.rewards=[vader]'",
        'accord report "runs/*"',
        "accord train --data <(zcat pairs.jsonl.gz)",
        "accord score a.jsonl --reward length=-0.001",
        "python issue#17.py",
        "accord generate runs/first --prompt 'Hello!'",
        "pip install accord!=1.0",
        "ls /home/a~b",
    ],
)
def test_what_can_be_typed_is_let_through(line):
    assert not typed_badly(line)


@pytest.mark.parametrize("command", COMMANDS, ids=named)
def test_every_command_and_option_exists(command):
    """Those too that benchmarks/readme_commands.py does not run."""
    words = shlex.split(command.flat)
    if words[0] == "accord":
        parsed(words[1:])
    elif words[0] == "docker":
        assert words[1] in ("build", "run")
        if words[1] == "run":
            parsed(words[words.index("accord") + 1 :])
    elif "accord" in words:
        from torch.distributed.run import get_args_parser

        place = words.index("accord")
        options = get_args_parser().parse_args(words[1 : place + 1])
        assert options.module and options.training_script == "accord"
        parsed(words[place + 1 :])
    elif words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
    elif words[:3] == ["python", "-m", "pytest"]:
        assert all((ROOT / word).exists() for word in words[3:] if not word.startswith("-"))
    elif words[0] in ("python", "bash") and not words[1].startswith("-"):
        assert (ROOT / words[1]).is_file()
    elif words[0] in ("pip", ".venv/bin/pip"):
        assert words[1] == "install"
    else:
        assert command.reason() or words[0] in ("git", "cp"), f"{words[0]} is known to nobody here"


def test_scripts_that_are_shown_call_accord_as_it_is():
    """The Slurm script: its last command's arguments are accord's."""
    scripts = [block for _, block in BLOCKS if readme.is_script(block)]
    assert scripts
    for script in scripts:
        last = list(readme.lines_of(script))[-1].replace("\\\n", " ")
        words = shlex.split(last)
        parsed(words[words.index("accord") + 1 :])


def test_the_recipe_that_is_shown_is_one():
    """Its fields exist, and its files are those that the commands above it write and read."""
    (shown,) = re.findall(r"```yaml\n(.*?)```", DOCUMENTS["docs/start.md"], re.DOTALL)
    recipe = yaml.safe_load(shown)
    assert build(recipe).objective["name"] == "dpo"
    before = DOCUMENTS["docs/start.md"].partition(shown)[0]
    assert all(f" {file} " in before for file in recipe["data"].values())


def test_a_command_that_does_not_exist_is_found():
    with pytest.raises(AssertionError, match="no command"):
        parsed(["trian"])
    with pytest.raises(
        Exception, match="No such option: --methd"
    ):  # click's, or typer's copy of it
        parsed(["train", "--methd", "dpo"])


@pytest.mark.parametrize("name, text", DOCUMENTS.items(), ids=list(DOCUMENTS))
def test_extras_exist_and_are_quoted(name, text):
    """In prose too, and in what the program itself says: brackets in quotes, names of pyproject."""
    for before, package, extras in re.findall(r"(.?)\b(accord|lm_eval|-e \.)\[([\w,-]+)\]", text):
        if package == "lm_eval":
            assert before == "'", "brackets in quotes"
            continue
        assert before == "'" and not set(extras.split(",")) - set(EXTRAS)


def test_what_is_not_run_says_why_and_is_still_there():
    """A pattern that no command fits any more goes out of the table."""
    flat = [command.flat for command in COMMANDS]
    for table in (readme.NOT_RUN, readme.CODES, dict.fromkeys(readme.SERVERS)):
        for like in table:
            assert [line for line in flat if readme.fnmatch(line, like)], like
    run = [command for command in COMMANDS if command.reason() is None]
    assert len(run) > 50


def test_gpu_and_slurm_commands_come_with_the_warning():
    """They were never run: whoever reads one has read that."""
    for name in ("README.md", "docs/many.md"):
        text = " ".join(DOCUMENTS[name].split())
        first = text.index("torchrun --standalone --nproc-per-node 8")
        assert "for GPUs (NCCL) and for Slurm were written and not run" in (
            text[:first].replace("**", "")
        ), name
