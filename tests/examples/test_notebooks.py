"""Every notebook runs from its first cell to its last, in a process of its own, at tiny size; none
holds outputs, which would go stale.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import assert_no_faults
from examples.run_notebook import as_python, code_cells

ROOT = Path(__file__).parents[2]
RUNNER = Path(__file__).with_name("run_notebook.py")
NOTEBOOKS = sorted((ROOT / "examples/notebooks").glob("*.ipynb"))

# What must stand in its output: it did what it promises, beyond ending without an error.
SHOWS = {
    "1_train_and_report": r"40 pairs, such as\n\{'prompt': (?s:.)*\d+ of \d+ checks passed(?s:.)*"
    r"held-out accuracy 0\.50 before, \d\.\d\d after(?s:.)*report\.html",
    "2_audit_a_file": r"48 rows(?s:.)*verdict: unfit\n- refused, integrity\.contradictions: (?s:.)*"
    r"37 rows are left of 48\nverdict of the cleaned file: fit(?s:.)*UNFIT",
    "3_compare_two_methods": r"--- cell 3(?s:.)*dpo(?s:.)*simpo(?s:.)*comparison\.html",
}


def name_of(path: Path) -> str:
    return path.stem


def start(notebook: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a notebook in a process of its own."""
    return subprocess.run(
        [sys.executable, str(RUNNER), str(notebook)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        timeout=1_800,
        check=False,
    )


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_notebook_runs_and_shows_what_it_says(notebook, tiny_folder, tmp_path):
    done = start(
        notebook,
        ACCORD_EXAMPLE_MODEL=str(tiny_folder),
        ACCORD_EXAMPLE_STEPS="2",
        ACCORD_EXAMPLE_OUTPUT=str(tmp_path),
        OMP_NUM_THREADS="1",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(SHOWS[notebook.stem], done.stdout), done.stdout


def test_every_notebook_has_an_expectation():
    assert {notebook.stem for notebook in NOTEBOOKS} == set(SHOWS) and len(NOTEBOOKS) == 3


def test_notebooks_hold_no_outputs_and_say_what_they_show():
    def check(notebook: Path) -> None:
        read = json.loads(notebook.read_text(encoding="utf-8"))
        assert (read["nbformat"], read["nbformat_minor"]) == (4, 5)
        assert len({cell["id"] for cell in read["cells"]}) == len(read["cells"])
        for cell in read["cells"]:
            if cell["cell_type"] == "code":
                assert cell["outputs"] == [] and cell["execution_count"] is None
        header = "".join(read["cells"][0]["source"])
        assert all(word in header for word in ("# ", "Shows:", "Takes:", "Expect:"))

    assert_no_faults(NOTEBOOKS, check, name_of)


def test_no_name_of_a_notebook_is_from_elsewhere():
    """Cells import accord's public names alone, so that a reader can type them."""
    for notebook in NOTEBOOKS:
        for cell in code_cells(notebook):
            assert not re.search(r"^\s*from accord\.", cell, re.MULTILINE)


def test_lines_of_the_shell_become_calls():
    assert as_python("for x in y:\n    !ls {x}\nz") == "for x in y:\n    shell(f'ls {x}')\nz"
    assert as_python("a != b") == "a != b"


@pytest.mark.parametrize(
    "source, code, said",
    [
        ("x = 2\n!echo {x} {x + 1}\nx * 2", 0, "--- cell 1\n2 3\n4\n"),
        ("!exit 3", 0, "--- cell 1\n"),
        ("!exit 2", 1, "--- cell 1\n"),
        ("1 / 0", 1, "--- cell 1\n"),
    ],
)
def test_a_cell_that_fails_is_found(source, code, said, tmp_path):
    notebook = tmp_path / "n.ipynb"
    notebook.write_text(json.dumps({"cells": [{"cell_type": "code", "source": [source]}]}))
    done = start(notebook)
    assert (done.returncode, done.stdout) == (code, said)
