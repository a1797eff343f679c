"""Does the suite bite? Wrong lines of code, one at a time, each run against the tests of its file.

    python benchmarks/mutants.py --sample 400 --seed 0            # all files; results in benchmarks/results/mutants.json
    python benchmarks/mutants.py --only data/order.py             # every mutant of one file

A mutant is one changed node of a file's syntax tree: a comparison or a sign flipped, a constant moved, `and` for `or`, a
condition turned round, a statement, a keyword or a `.detach()` dropped. It is written into a copy of `src`, and its tests
run in a child forked from a parent that has torch and pytest loaded. A failure, an error or a time limit kills it.
Messages, annotations and docstrings are not mutated. What survives is listed with its line; tests/survivors.md says why.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
CPU_SECONDS = 240  # of one mutant's tests; the slowest set takes about 30 unmutated

LOSSES = ("objectives/test_battery.py", "objectives/test_exact_numbers.py", "objectives/test_options.py", "objectives/test_records.py")
# Source file -> the test files that are there for it, the quickest first.
TARGETS: dict[str, tuple[str, ...]] = {
    "objectives/pairs.py": LOSSES, "objectives/labelled.py": LOSSES, "objectives/reference_free.py": LOSSES,
    "objectives/supervised.py": LOSSES, "objectives/numerics.py": ("objectives/test_numerics.py", *LOSSES),
    "objectives/options.py": ("objectives/test_options.py", "objectives/test_custom.py"),
    "objectives/objective.py": ("objectives/test_options.py", *LOSSES),
    "objectives/table.py": (*LOSSES, "objectives/test_certificate.py"),
    "objectives/custom.py": ("objectives/test_custom.py",),
    "objectives/closed_forms.py": ("objectives/test_certificate.py",),
    "objectives/certificate.py": ("objectives/test_certificate.py",),
    "data/trees.py": ("data/test_trees.py",), "data/order.py": ("data/test_order.py",),
    "evaluate/records.py": ("evaluate/test_records.py",), "evaluate/statistics.py": ("evaluate/test_statistics.py",),
    "training/checkpoint.py": ("training/test_checkpoint.py",),
    "forward/layout.py": ("forward/test_layout.py", "forward/test_every_path.py"),
    "forward/attention.py": ("forward/test_attention.py", "forward/test_every_path.py"),
    "forward/head.py": ("forward/test_head.py", "forward/test_every_path.py"),
    "forward/logps.py": ("forward/test_golden.py", "forward/test_every_path.py"),
    "forward/rows.py": ("forward/test_rows.py",), "forward/choose.py": ("forward/test_choose.py",),
    "forward/reference.py": ("forward/test_reference.py",),
}  # fmt: skip

FLIPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Add, ast.Pow: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
UNWRAPPED = {"detach", "abs", "neg", "exp", "log", "strip", "float", "contiguous", "clone", "items"}


@dataclass(frozen=True)
class Mutant:
    """One wrong file."""

    file: str
    line: int
    says: str
    source: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line}: {self.says}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, help="so many mutants, drawn evenly; all without it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=sorted(TARGETS), choices=sorted(TARGETS), metavar="FILE")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long, and say how far it came")
    parser.add_argument("--output", type=Path, default=RESULTS / "mutants.json")
    options = parser.parse_args()
    mutants = [mutant for file in options.only for mutant in mutants_of(file)]
    whole = len(mutants)
    random.Random(options.seed).shuffle(mutants)
    mutants = mutants[: options.sample]
    warm_up()
    tried = run_all(mutants, options.seconds)
    record = report(tried, whole, options.seed)
    options.output.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["total"]))


def report(tried: list[tuple[Mutant, str]], whole: int, seed: int) -> dict:
    """Counts in all and by file, and the survivors."""
    by_file = {file: Counter(fate for mutant, fate in tried if mutant.file == file) for file in sorted({m.file for m, _ in tried})}
    fates = Counter(fate for _, fate in tried)
    killed = len(tried) - fates["survived"]
    return {
        "total": {"mutants": whole, "tried": len(tried), "killed": killed, "share": killed / max(1, len(tried)), "seed": seed},
        "fates": dict(fates), "by_file": {file: dict(found) for file, found in by_file.items()},
        "survivors": sorted(mutant.name for mutant, fate in tried if fate == "survived"),
    }  # fmt: skip


# ---------------------------------------------------------------- making them


def mutants_of(file: str) -> list[Mutant]:
    """Every mutant of a file that still compiles."""
    path = ROOT / "src/accord" / file
    tree = ast.parse(path.read_text("utf-8"))
    count = sum(1 for _ in _changes(tree))
    out = []
    for number in range(count):
        fresh = copy.deepcopy(tree)
        line, says, apply = next(change for at, change in enumerate(_changes(fresh)) if at == number)
        apply()
        out.append(Mutant(file, line, says, ast.unparse(ast.fix_missing_locations(fresh))))
    return out


def _changes(tree: ast.Module) -> Iterator[tuple[int, str, object]]:
    """(line, what it does, a function that does it to the tree) for every change there is."""
    for parent, field, index, node in _nodes(tree):
        def put(new: ast.AST | None, parent=parent, field=field, index=index) -> None:
            where = getattr(parent, field)
            if index is None:
                setattr(parent, field, new)
            else:
                where[index] = new

        for says, new in _replacements(node, parent):
            yield getattr(node, "lineno", getattr(parent, "lineno", 0)), says, lambda put=put, new=new: put(new)


def _nodes(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Every node with its place, but what only documents: annotations, docstrings, messages of errors, imports."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list") or isinstance(tree, (ast.Import, ast.ImportFrom, ast.JoinedStr)):
            continue
        if isinstance(tree, ast.Raise) and field == "exc":
            continue
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(node, ast.AST) or _is_docstring(node):
                continue
            yield tree, field, index, node
            yield from _nodes(node)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _replacements(node: ast.AST, parent: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What to put in a node's place, one wrong thing at a time."""
    flipped = FLIPS.get(type(node))
    if flipped is not None:
        yield f"{type(node).__name__} → {flipped.__name__}", flipped()
    if isinstance(node, ast.Constant):
        yield from _constants(node, parent)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        yield f"dropped the {type(node.op).__name__} of {_short(node)}", node.operand
    elif isinstance(node, (ast.If, ast.IfExp)):
        turned = copy.deepcopy(node)
        turned.test = ast.UnaryOp(ast.Not(), turned.test)
        yield f"condition turned round: {_short(node.test)}", turned
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, (ast.Expr, ast.AugAssign, ast.Raise, ast.Continue, ast.Break)):
        yield f"dropped: {_short(node)}", ast.Pass()
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield f"returns None: {_short(node)}", ast.Return(ast.Constant(None))


def _constants(node: ast.Constant, parent: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    value = node.value
    if isinstance(value, bool):
        yield f"{value} → {not value}", ast.Constant(not value)
    elif isinstance(value, (int, float)):
        yield f"{value} → {value + 1}", ast.Constant(value + 1)
        if isinstance(value, float) and value:
            yield f"{value} → {value * 2}", ast.Constant(value * 2)


def _calls(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    for at, keyword in enumerate(node.keywords):
        if keyword.arg is not None:
            fewer = copy.deepcopy(node)
            del fewer.keywords[at]
            yield f"dropped {keyword.arg}=… of {_short(node.func)}", fewer
    method = isinstance(node.func, ast.Attribute) and not node.args and not node.keywords
    if method and node.func.attr in UNWRAPPED:
        yield f"dropped .{node.func.attr}() of {_short(node.func.value)}", node.func.value
    if isinstance(node.func, ast.Name) and node.func.id in ("min", "max"):
        other = copy.deepcopy(node)
        other.func.id = "max" if node.func.id == "min" else "min"
        yield f"{_short(node)} → {other.func.id}", other


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _short(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:70]


# ---------------------------------------------------------------- trying them


def warm_up() -> None:
    """Load what every child needs, so that it forks with it: not accord itself, which each child loads mutated."""
    sys.dont_write_bytecode = True
    import hypothesis  # noqa: F401
    import mpmath  # noqa: F401
    import peft  # noqa: F401
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401

    torch.set_num_threads(1)
    assert "accord" not in sys.modules


def run_all(mutants: list[Mutant], seconds: float) -> list[tuple[Mutant, str]]:
    """(mutant, its fate) of each. Tests run without a mutant first: where they fail anyway, nothing would be shown."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for part in ("src", "tests", "recipes"):
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "PAPERS.md", "README.md"):
            shutil.copy(ROOT / name, tree)
        tried, passing, until = [], set(), time.monotonic() + seconds
        for number, mutant in enumerate(mutants, 1):
            if time.monotonic() > until:
                break
            tests = TARGETS[mutant.file]
            if tests not in passing and (fate := _fate(tree, tests)) != "survived":
                raise SystemExit(f"the tests fail without any mutant ({fate}): {' '.join(tests)}")
            passing.add(tests)
            fate = run(tree, mutant.file, mutant.source)
            tried.append((mutant, fate))
            print(f"{number:>5}/{len(mutants)}  {fate:<9} {mutant.name}", flush=True)
        return tried


def run(tree: Path, file: str, source: str) -> str:
    """The fate of a file's mutant, the copy being as it was afterwards."""
    path = tree / "src/accord" / file
    kept = path.read_text("utf-8")
    path.write_text(source, "utf-8")
    try:
        return _fate(tree, TARGETS[file])
    finally:
        path.write_text(kept, "utf-8")


def _fate(tree: Path, tests: tuple[str, ...]) -> str:
    """"survived" where the tests of the copy pass, else how it died."""
    child = os.fork()
    if not child:
        _test(tree, tests)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return "timeout" if os.WTERMSIG(status) in (9, 24) else "crash"
    return {0: "survived", 1: "killed"}.get(os.WEXITSTATUS(status), "broken")


def _test(tree: Path, files: tuple[str, ...]) -> None:
    """The child's life: pytest on the copy, silent, in its own working folder."""
    import pytest

    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree / "src")
    sys.path[:] = [str(tree / "src"), *(p for p in sys.path if not (Path(p) / "accord").is_dir())]
    tests = [str(tree / "tests" / file) for file in files]
    more = ["--hypothesis-seed=0", "--basetemp", str(tree / "tmp"), "--override-ini", "addopts=--import-mode=importlib"]
    os._exit(pytest.main(["-x", "-q", "--tb=no", "-p", "no:cacheprovider", *more, *tests]))


if __name__ == "__main__":
    main()
