"""What is written about the objectives agrees with the table, and the files keep to themselves."""

import ast
import re
import sys
from pathlib import Path

from conftest import assert_no_faults

import accord.objectives
from accord.objectives import OBJECTIVES

ROOT = Path(__file__).parents[2]
HERE = Path(accord.objectives.__file__).parent
FILES = sorted(file for file in HERE.glob("*.py") if file.name != "configured.py")


def entry(name):
    found = re.search(
        rf"^## {name}\n(.*?)(?=^## |\Z)",
        (ROOT / "PAPERS.md").read_text(encoding="utf-8"),
        re.M | re.S,
    )
    return found.group(1) if found else ""


def test_every_objective_has_an_entry_in_papers():
    def check(name):
        text = entry(name)
        assert "](https://" in text
        assert all(f"**{part}**" in text for part in ("Equation", "Convention", "Ours differs"))

    assert_no_faults(OBJECTIVES, check)


def test_papers_and_table_name_the_same_source():
    def check(name):
        for number in re.findall(r"arXiv:\d{4}\.\d{5}|cdpo\.pdf", OBJECTIVES[name].source):
            assert number in entry(name)

    assert_no_faults(OBJECTIVES, check)


def test_objectives_import_torch_and_types_only():
    """Pure functions of tensors: no model, no data, no process group. A stranger's function by
    name, how a mixture is written, words that are alike and the standard library do no harm;
    `configured.py` reads a config and is left out.
    """

    def check(path):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        modules += [
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        ]
        for module in modules:
            ours = module in (
                "accord.types",
                "accord.config.objective_list",
                "accord.config.plugins",
                "accord.environment.nearest",
                "accord.objectives",
            ) or module.startswith("accord.objectives.")
            assert ours or module.partition(".")[0] in {"torch", *sys.stdlib_module_names}
            assert not module.startswith("torch.distributed")

    assert_no_faults(FILES, check, lambda path: path.name)
