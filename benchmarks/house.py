"""Figures of the source tree: its rooms, its functions, its lines, and which way imports run.

    python benchmarks/house.py                        # the working tree
    python benchmarks/house.py --at 52bc468 --json    # a revision, without a checkout

A room is a folder of src/accord, or a module that stands beside the folders. The layers are LAYERS
of tests/test_architecture.py, of the same revision. Functions are counted with their decorators,
signatures and docstrings.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "src/accord/"
LAYERS_FILE = "tests/test_architecture.py"
LONG = 60  # lines of a function

Files = dict[str, str]  # path below src/accord -> text


def files_at(revision: str | None) -> tuple[Files, str]:
    """Read every Python file of the package, and the test that has the layers."""
    if revision is None:
        package = ROOT / SOURCE
        paths = sorted(package.rglob("*.py"))
        found = {p.relative_to(package).as_posix(): p.read_text("utf-8") for p in paths}
        return found, (ROOT / LAYERS_FILE).read_text("utf-8")
    names = _git("ls-tree", "-r", "--name-only", revision, SOURCE).decode().splitlines()
    python = [name for name in names if name.endswith(".py")]
    texts = {name: _git("show", f"{revision}:{name}").decode() for name in [*python, LAYERS_FILE]}
    layers = texts.pop(LAYERS_FILE)
    return {name.removeprefix(SOURCE): text for name, text in texts.items()}, layers


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout


def layers_of(text: str) -> list[set[str]]:
    """Read LAYERS from the source of the test that holds it."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "LAYERS":
            return ast.literal_eval(node.value)
    raise LookupError(f"no LAYERS in {LAYERS_FILE}")


def room_of(module: str) -> str:
    """Name the room of a module: `accord.data.read` stands in `data`."""
    return [*module.split("."), "__init__"][1]


def module_of(path: str) -> str:
    return "accord." + path.removesuffix(".py").replace("/", ".")


def imports_of(tree: ast.Module, modules: set[str]) -> set[str]:
    """List the modules of ours that a module imports, inside functions too; not for type checkers
    alone.
    """
    found: set[str] = set()
    for node in _running(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= named & modules
            if named - modules:
                found.add(node.module)
    packages = {f"{name}.__init__" for name in found if f"{name}.__init__" in modules}
    return (found & modules) | packages


def _running(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _running(child)


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Find the groups of names that reach one another."""
    reach = {name: set(others) for name, others in graph.items()}
    for middle in graph:
        for name in graph:
            if middle in reach[name]:
                reach[name] |= reach[middle]
    groups = {frozenset({n, *(o for o in reach[n] if n in reach[o])}) for n in graph}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def functions_of(tree: ast.Module) -> list[tuple[int, str, bool]]:
    """List every function: its lines, its name, and whether it has a docstring."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (
            (node.end_lineno or node.lineno)
            - min([node.lineno, *(d.lineno for d in node.decorator_list)])
            + 1,
            node.name,
            ast.get_docstring(node) is not None,
        )
        for node in ast.walk(tree)
        if isinstance(node, kinds)
    ]


def comments_of(text: str) -> int:
    """Count the lines that hold a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type == tokenize.COMMENT for token in tokens)


def upward(graph: Mapping[str, set[str]], layers: list[set[str]]) -> list[str]:
    """List the imports from one room into another that does not stand below it."""
    rank = {room: i for i, layer in enumerate(layers) for room in layer}
    arrows = {(room_of(name), room_of(other)) for name, others in graph.items() for other in others}
    return sorted(
        f"{a} -> {b}" for a, b in arrows if a != b and a in rank and rank.get(b, -1) >= rank[a]
    )


def measure(files: Files, layers: list[set[str]]) -> dict:
    """Measure the tree."""
    trees = {name: ast.parse(text) for name, text in files.items()}
    modules = {module_of(name) for name in files}
    graph = {module_of(name): imports_of(tree, modules) for name, tree in trees.items()}
    rooms: dict[str, dict[str, int]] = {}
    for name, text in files.items():
        room = rooms.setdefault(room_of(module_of(name)), {"files": 0, "lines": 0})
        room["files"] += 1
        room["lines"] += len(text.splitlines())
    between: dict[str, set[str]] = {}
    for name, others in graph.items():
        between.setdefault(room_of(name), set()).update(map(room_of, others))
    rings = circles(graph)
    functions = [
        (length, f"{name}:{function}", documented)
        for name, tree in trees.items()
        for length, function, documented in functions_of(tree)
    ]
    lengths = [length for length, _, _ in functions]
    lines = [len(line) for text in files.values() for line in text.splitlines() if line.strip()]
    longest = max(functions)
    return {
        "files": len(files),
        "lines": sum(room["lines"] for room in rooms.values()),
        "rooms": rooms,
        "top-level entries": len({name.split("/")[0] for name in files}),
        "largest folder, files": max(room["files"] for room in rooms.values()),
        "longest file, lines": max(len(text.splitlines()) for text in files.values()),
        "functions": len(functions),
        f"functions over {LONG} lines": sum(length > LONG for length in lengths),
        "longest function": f"{longest[0]} lines ({longest[1]})",
        "median function, lines": median(lengths),
        "functions with a docstring, %": _share(sum(f[2] for f in functions), len(functions)),
        "line length, 90th percentile": quantiles(lines, n=10, method="inclusive")[-1],
        "comments in 100 lines": _share(sum(map(comments_of, files.values())), len(lines)),
        "circles inside a room": sum(len(set(map(room_of, ring))) == 1 for ring in rings),
        "circles across rooms": sum(len(set(map(room_of, ring))) > 1 for ring in rings),
        "modules in a circle": sum(map(len, rings)),
        "rooms in a circle": sum(map(len, circles(between))),
        "arrows that do not run down": len(upward(graph, layers)),
    }


def _share(part: int, whole: int) -> float:
    return round(100 * part / whole, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--at", metavar="REV", help="a git revision instead of the working tree")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    files, layers = files_at(options.at)
    found = measure(files, layers_of(layers))
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for room, size in sorted(found.pop("rooms").items(), key=lambda item: -item[1]["lines"]):
        print(f"{room:<14}{size['files']:>5} files{size['lines']:>8,} lines")
    print("\n".join(f"{name:<34}{value}" for name, value in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
