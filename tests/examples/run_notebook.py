"""Run the code cells of a notebook in order, as Jupyter would, in this process.

    python tests/examples/run_notebook.py NOTEBOOK

A small part of what Jupyter does, and enough for the examples: a line that begins with ! is a
command of the shell with Python's values between braces, and the last expression of a cell is
shown. A cell that fails ends the process.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

SHELL = re.compile(r"^( *)!(.+)$", re.MULTILINE)


def code_cells(notebook: Path) -> list[str]:
    """Read the source of every code cell."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def as_python(cell: str) -> str:
    """Turn the lines for the shell into calls."""
    return SHELL.sub(lambda found: f"{found[1]}shell(f{found[2]!r})", cell)


def shell(command: str) -> None:
    """Run a command of the shell. 3 is the verdict "unfit", which a notebook may want to show."""
    sys.stdout.flush()
    code = subprocess.run(command, shell=True, check=False).returncode
    if code not in (0, 3):
        raise SystemExit(f"exit {code}: {command}")


def run(notebook: Path) -> None:
    """Run the cells in one namespace, in the notebook's folder."""
    os.chdir(notebook.parent)
    names: dict[str, object] = {"shell": shell}
    for number, cell in enumerate(code_cells(notebook), 1):
        print(f"--- cell {number}", flush=True)
        tree = ast.parse(as_python(cell), f"cell {number}")
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {number}", "exec"), names)
        if last is not None:
            shown = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
            if shown is not None:
                print(repr(shown), flush=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]).resolve())
