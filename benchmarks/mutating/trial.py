"""Mutants put into a copy of the project, and the tests that see them run there, in forks of one
warm process.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from mutating.changes import Mutant
from mutating.lines import Lines, who_sees

ROOT = Path(__file__).parents[2]
# seconds on a processor that a child may take, and ten times what its tests take unmutated
PATIENCE = 60.0
UNSEEN = "no test runs it"


def warm_up() -> None:
    """Load what every child needs, so that it forks with it: not accord itself, which each child
    loads mutated.
    """
    import hypothesis  # noqa: F401
    import mpmath  # noqa: F401
    import peft  # noqa: F401
    import pytest  # noqa: F401
    import safetensors.torch  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401

    torch.set_num_threads(1)
    assert "accord" not in sys.modules


class Trial:
    """A copy of the project, and what its tests execute."""

    def __init__(self, tree: Path, tests: Iterable[str]):
        self.tree, self.tests, self.known = tree, list(tests), {}
        for part in ("src", "tests"):
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "PAPERS.md", "README.md"):
            shutil.copy(ROOT / name, tree)

    def follow(self) -> None:
        """Run the tests without a mutant, noting what they execute. Compiled files stay, for every
        child to load.
        """
        notes = self.tree / "lines.json"
        child = os.fork()
        if not child:
            _followed(self.tree, self.tests, notes)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            raise SystemExit(
                f"the tests fail without any mutant (exit {code}): {' '.join(self.tests)}"
            )
        self.known = json.loads(notes.read_text())

    def fate(self, mutant: Mutant) -> str:
        """How a mutant died, or that it did not; the copy is as it was afterwards."""
        chosen = who_sees(self.known, mutant.file, mutant.line, mutant.last)
        if not chosen:
            return UNSEEN
        path = self.tree / "src/accord" / mutant.file
        kept = path.read_text("utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()
        path.write_text(mutant.source(), "utf-8")
        try:
            return self._fate(chosen)
        finally:
            path.write_text(kept, "utf-8")

    def _fate(self, chosen: list[str]) -> str:
        child = os.fork()
        if not child:
            limit = PATIENCE + 10 * sum(self.known["seconds"][test] for test in chosen)
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit)))
            sys.dont_write_bytecode = True
            _test(self.tree, sorted({test.split("::")[0] for test in chosen}), Chosen(chosen))
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            return "timeout" if os.WTERMSIG(status) in (9, 24) else "crash"
        return {0: "survived", 1: "killed"}.get(os.WEXITSTATUS(status), "broken")


class Chosen:
    """A pytest plugin: these tests alone, in this order."""

    def __init__(self, tests: list[str]):
        self.place = {test: number for number, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.place),
            key=lambda item: self.place[item.nodeid],
        )


def _followed(tree: Path, files: list[str], notes: Path) -> None:
    lines = Lines(tree / "src/accord")
    _test(tree, files, lines, lambda: notes.write_text(json.dumps(lines.as_dict())))


def _test(tree: Path, files: list[str], plugin: object, after=lambda: None) -> None:
    """A child's life: pytest on the copy, silent, in its own working folder."""
    import pytest

    log = os.open(tree / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree / "src")
    sys.path[:] = [str(tree / "src"), *(p for p in sys.path if not (Path(p) / "accord").is_dir())]
    more = [
        "--hypothesis-seed=0",
        "--basetemp",
        str(tree / "tmp"),
        "--override-ini",
        "addopts=--import-mode=importlib",
    ]
    code = pytest.main(
        ["-x", "-q", "--tb=short", "-p", "no:cacheprovider", *more, *files], plugins=[plugin]
    )
    after()
    sys.stdout.flush()
    os._exit(code)
