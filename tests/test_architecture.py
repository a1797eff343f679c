"""What the tree promises: imports run one way, nothing dangerous is imported, the command line
answers at once.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src/accord"
FILES = sorted(SOURCE.rglob("*.py"))

# Each part may import itself and those that stand before it.
LAYERS = [
    {"errors", "environment"},
    {"types"},
    {"config", "flags", "distributed", "imported", "secrets"},
    {"objectives", "data", "models"},
    {"forward"},
    {"evaluate", "monitor"},
    {"online"},
    {"auditing"},
    {"training"},
    {"assess"},
    {"api", "report", "web", "migrate", "play", "rlhf"},
    {"compare"},
    {"demo"},
    {"cli_options"},
    {"cli_data", "cli_import", "cli_play", "cli_evaluate", "cli_compare", "cli_online", "cli_rlhf"},
    {"cli"},
]
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}


def name_of(file: Path) -> str:
    return str(file.relative_to(SOURCE))


def part_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(file: Path) -> set[str]:
    """Full names of every module that a file imports anywhere, inside functions too; not for type
    checkers alone.
    """
    found = set()
    for node in ast.walk(_without_type_checking(ast.parse(file.read_text()))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _without_type_checking(tree: ast.AST) -> ast.AST:
    class Drop(ast.NodeTransformer):
        def visit_If(self, node):
            return (
                None
                if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
                else self.generic_visit(node)
            )

    return Drop().visit(tree)


def parts_imported(file: Path) -> set[str]:
    names = (name.split(".") for name in imports(file) if name.startswith("accord."))
    return {parts[1] for parts in names if parts[1] in RANK}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_run_one_way(file):
    part = part_of(file)
    if part == "__init__":
        assert not parts_imported(file), "accord/__init__.py imports lazily, by name"
        return
    assert part in RANK, f"{part} has no place in LAYERS"
    for other in parts_imported(file):
        allowed = (
            other == part
            or RANK[other] < RANK[part]
            or (RANK[other] == RANK[part] == RANK["config"])
        )
        assert allowed, f"{name_of(file)} imports accord.{other}"


FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "requests",
    "urllib",
    "httpx",
    "socket",
}
MAY_TALK = {"evaluate/judges/endpoint.py": {"httpx"}}  # to the one address that it is given
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {
    ("torch", "load"),
    ("os", "system"),
    ("os", "popen"),
    ("yaml", "load"),
    ("numpy", "load"),
    ("np", "load"),
}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_nothing_dangerous(file):
    """No pickle, no evaluation of text, no remote code, no network of our own."""
    allowed = MAY_TALK.get(name_of(file), set())
    assert not {name.split(".")[0] for name in imports(file)} & (FORBIDDEN_MODULES - allowed)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS, node.lineno
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in FORBIDDEN_ATTRIBUTES, node.lineno
        if isinstance(node, ast.keyword) and node.arg in (
            "trust_remote_code",
            "shell",
            "allow_pickle",
        ):
            assert isinstance(node.value, ast.Constant) and node.value.value is False, (
                node.value.lineno
            )


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_file_is_long(file):
    assert len(file.read_text().splitlines()) <= 500


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_every_file_introduces_itself(file):
    assert ast.get_docstring(ast.parse(file.read_text()))


@pytest.mark.parametrize(
    "what",
    [
        "import accord",
        "import accord.cli",
        "from accord.config import make_config",
        "import accord.flags",
    ],
)
def test_light_imports(what):
    """--help answers at once: none of these touches torch or transformers."""
    code = (
        f"{what}; import sys; print(sorted({{'torch', 'transformers', 'numpy', 'peft', 'datasets'}}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_help_is_light():
    code = (
        "import sys; from accord.cli import app\n"
        "try: app(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "False" and "--held-out" in done.stdout


def test_contributing_shows_the_layers_as_they_are():
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
    block = text.partition("```text\n")[2].partition("```")[0]
    shown = [set(line.split(", ")) for line in block.splitlines()]
    assert shown == LAYERS and len(text.split()) <= 1_200


def test_files_that_contributing_names_are_there():
    root = Path(__file__).parents[1]
    text = (root / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`((?:src|tests|docs|benchmarks)/[\w/*.]+)`", text))
    assert len(named) > 15 and not [name for name in named if not list(root.glob(name))]
