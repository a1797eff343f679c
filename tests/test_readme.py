"""What the documents say is there, is there: commands parse, files exist, links lead somewhere,
the recipes of benchmarks load.
"""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from pathlib import Path
from statistics import median

from conftest import assert_no_faults
from test_architecture import LAYERS
from typer.testing import CliRunner

from accord.campaign.rlhf.phases import Recipe
from accord.cli.app import app
from accord.config.schema import load_recipe, make_config
from accord.data.convert import WRITERS
from accord.monitor.watch import RULES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = "ARCHITECTURE.md"
MEASURED = sorted((ROOT / "benchmarks/recipes").glob("*.yaml"))
DOCUMENTS = [
    ROOT / name
    for name in (
        "README.md",
        "ARCHITECTURE.md",
        "BENCHMARKS.md",
        "PAPERS.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
    )
]


def commands(text: str) -> list[list[str]]:
    """Every line of a bash block that calls accord."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("accord ")]
    return [shlex.split(line, comments=True) for line in lines]


@cache
def help_of(command: str):
    return CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})


def test_every_flag_of_a_command_in_the_readme_exists():
    """Each subcommand's help lists every flag that the README uses."""

    def check(command):
        result = help_of(command[1])
        assert result.exit_code == 0, f"accord {command[1]} is no command"
        for flag in (word for word in command[2:] if word.startswith("--")):
            assert re.search(rf"{flag}\b", result.output), (
                f"{flag} is no flag of accord {command[1]}"
            )

    assert_no_faults(commands((ROOT / "README.md").read_text()), check, " ".join)


def test_the_readme_shows_commands():
    assert len(commands((ROOT / "README.md").read_text())) >= 6


def test_the_readme_counts_the_rules():
    assert f"({len(RULES)} rules," in (ROOT / "README.md").read_text()


def test_make_targets_of_the_readme_exist():
    def check(target):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert_no_faults(["setup", "demo", "test"], check)


def test_the_gate_calls_the_readme_s_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_links_between_documents_lead_somewhere():
    def check(document):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"

    assert_no_faults(DOCUMENTS, check, lambda path: path.name)


def test_recipes_of_benchmarks_load_and_say_their_command():
    """Those of several phases by phase; the data of the others is not part of the repository."""

    def check(recipe):
        command = next(
            line for line in recipe.read_text().splitlines() if line.startswith("#   accord ")
        )
        if "accord rlhf" in command:
            read = Recipe.read(str(recipe), [], [], skip_sft="--skip-sft" in command, gold="vader")
            assert (
                read.config("reward_model", ROOT, 0).data.train
                and read.config("ppo", ROOT, 0).rollouts is not None
            )
        else:
            assert make_config(load_recipe(str(recipe))).train.batch_size
        assert recipe.name in command and re.search(
            recipe.name, (ROOT / "BENCHMARKS.md").read_text()
        )

    assert_no_faults(MEASURED, check, lambda path: path.stem)


def rooms_on_disk() -> set[str]:
    """List the folders of the package as "data/", and its modules as "api"."""
    package = ROOT / "src/accord"
    folders = {f"{path.parent.name}/" for path in package.glob("*/*.py")}
    return folders | {path.stem for path in package.glob("[!_]*.py")}


def test_the_readme_s_tree_is_the_one_on_disk():
    block = re.search(r"^src/accord/\n(.*?)^tests/", README, re.DOTALL | re.MULTILINE)[1]
    shown = [name for line in block.splitlines() for name in line.strip().split("  ")[0].split()]
    assert len(shown) == len(set(shown)) and set(shown) == rooms_on_disk()


def test_the_architecture_s_rooms_are_those_on_disk_in_the_order_of_their_imports():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    table = text.partition("| room | holds |")[2].partition("\n\n")[0]
    shown = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", table, re.MULTILINE)
    assert set(shown) == {name.rstrip("/") for name in rooms_on_disk()}
    ranks = [next(i for i, layer in enumerate(LAYERS) if name in layer) for name in shown]
    assert ranks == sorted(ranks)


def test_documents_that_are_read_whole_are_short():
    words = {name: len((ROOT / name).read_text().split()) for name in ("README.md", ARCHITECTURE)}
    assert words["README.md"] < 1_600 and words[ARCHITECTURE] < 2_000


NUMBERS = {14: "fourteen", 15: "fifteen", 16: "sixteen", 17: "seventeen", 18: "eighteen"}


def test_the_readme_counts_examples_and_formats():
    examples = len([file for file in (ROOT / "examples").iterdir() if file.name[:3].isdigit()])
    words = " ".join(README.split())
    assert f"has {NUMBERS[examples]} numbered scripts" in words
    assert f"another of {len(WRITERS)} formats" in words


def test_the_readme_s_figures_against_trl_are_the_measured_ones():
    """Medians over the repeats, as in benchmarks/results/vs_trl.json."""
    measured = json.loads((ROOT / "benchmarks/results/vs_trl.json").read_text())
    rows = re.findall(r"^\| ([\w ]+) \| ([\d.]+) × \| ([\d.]+) \|$", README, re.MULTILINE)
    assert len(rows) == 5
    for name, speed, memory in rows:
        case = measured[name]
        assert (speed, memory) == (f"{median(case['speed']):.1f}", f"{median(case['memory']):.2f}")


def test_what_the_demo_shows_is_from_the_log():
    log = (ROOT / "benchmarks/results/first_run.txt").read_text(encoding="utf-8")
    start = (ROOT / "docs/start.md").read_text(encoding="utf-8")
    shown = [
        re.search(rf"^```\n({begins}.*?)^```", start, re.DOTALL | re.MULTILINE)[1]
        for begins in ("What changed", "  Finish the sentence")
    ]
    for line in "".join(shown).splitlines():
        assert line.rstrip() in log, line


def test_what_the_first_five_minutes_print_is_from_the_log():
    """The README breaks the lines, and leaves out what stands between them."""
    log = (ROOT / "benchmarks/results/first_five_minutes.txt").read_text(encoding="utf-8")
    shown = re.search(r"^```\n(dpo on .*?)^```", README, re.DOTALL | re.MULTILINE)[1]
    command, said = log.split("\n", 1)
    assert command.removeprefix("$ ") in README
    for part in shown.split("\n\n"):
        assert " ".join(part.split()) in " ".join(said.split())
