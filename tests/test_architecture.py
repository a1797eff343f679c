"""What the tree promises: imports run one way, nothing dangerous is imported, the command line
answers at once.
"""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import pytest
from conftest import assert_no_faults
from tiers import ROUNDS, SLOW, is_slow, is_slow_file, round_now, round_of

SOURCE = Path(__file__).parents[1] / "src/accord"
FILES = sorted(SOURCE.rglob("*.py"))

# Rooms from the bottom to the top. Each may import itself and those that stand before it.
LAYERS = [
    {"errors"},
    {"types"},
    {"environment"},
    {"compat"},
    {"config"},
    {"objectives"},
    {"data"},
    {"models"},
    {"distributed"},
    {"forward"},
    {"sampling"},
    {"rewards"},
    {"evaluate"},
    {"engine"},
    {"monitor"},
    {"runs"},
    {"rollouts"},
    {"verify"},
    {"auditing"},
    {"training"},
    {"assess"},
    {"campaign"},
    {"pages"},
    {"migrate", "play"},
    {"demo"},
    {"api"},
    {"cli"},
    {"__main__"},
]
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}


def name_of(file: Path) -> str:
    return str(file.relative_to(SOURCE))


def part_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


@cache  # four tests read the 271 files: parsing them takes most of the time
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


@cache
def imports(file: Path) -> frozenset[str]:
    """Full names of every module that a file imports anywhere, inside functions too; not for type
    checkers alone.
    """
    found = set()
    for node in _without_type_checking(parsed(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def _without_type_checking(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree and leave out what stands under `if TYPE_CHECKING:`."""
    if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _without_type_checking(child)


def parts_imported(file: Path) -> set[str]:
    names = (name.split(".") for name in imports(file) if name.startswith("accord."))
    return {parts[1] for parts in names if parts[1] in RANK}


def wrong_way(file: Path) -> list[str]:
    """List the imports of a file that its layer does not allow."""
    part, imported = part_of(file), sorted(parts_imported(file))
    if part == "__init__":
        return [f"imports accord.{other}, and not lazily, by name" for other in imported]
    if part not in RANK:
        return [f"{part} has no place in LAYERS"]
    return [
        f"imports accord.{other}"
        for other in imported
        if other != part and not RANK[other] < RANK[part]
    ]


def test_imports_run_one_way():
    assert_no_faults(FILES, wrong_way, name_of)


def module_of(file: Path) -> str:
    parts = ("accord", *file.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Find the groups of modules that reach one another through their imports."""
    reach = {name: set(others) for name, others in graph.items()}
    for middle in graph:
        for name in graph:
            if middle in reach[name]:
                reach[name] |= reach[middle]
    inside = {name: {o for o in reach[name] if name in reach[o]} for name in graph}
    return sorted({tuple(sorted(group)) for group in inside.values() if len(group) > 1})


def import_graph() -> dict[str, set[str]]:
    """Map each module to those of ours that it imports, inside functions too. A submodule that is
    imported from its package counts as itself, and not as the package.
    """
    modules = {module_of(file): file for file in FILES}

    def found(file: Path) -> set[str]:
        names = imports(file)
        packages = {name.rpartition(".")[0] for name in names if name in modules}
        from_package = {
            node.module
            for node in _without_type_checking(parsed(file))
            if isinstance(node, ast.ImportFrom)
            and any(f"{node.module}.{alias.name}" not in modules for alias in node.names)
        }
        return {n for n in names if n in modules and (n not in packages or n in from_package)}

    return {name: found(file) for name, file in modules.items()}


def test_no_circle_of_imports():
    """Not between packages, and not inside one: a file can be read with what stands below it."""
    assert circles(import_graph()) == []


def test_a_circle_is_seen():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}
    assert circles(graph) == [("a", "b", "c")]


def test_the_top_of_the_package_holds_no_ideas():
    files = {file.name for file in SOURCE.glob("*.py")}
    assert files == {"__init__.py", "__main__.py", "compat.py", "errors.py", "types.py"}


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
    "huggingface_hub",
    "socket",
}
MAY_TALK = {
    # to the one address that it is given
    **{name: {"httpx"} for name in ("environment/web.py", "rewards/judges/endpoint.py")},
    "sampling/server_client.py": {"httpx"},
    # to the hub, where a name asks for it
    **{f"environment/hub/{name}.py": {"huggingface_hub"} for name in ("client", "store")},
    **{f"environment/hub/{name}.py": {"huggingface_hub"} for name in ("upload", "words")},
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {
    ("torch", "load"),
    ("os", "system"),
    ("os", "popen"),
    ("yaml", "load"),
    ("numpy", "load"),
    ("np", "load"),
}
FORBIDDEN_KEYWORDS = {"trust_remote_code", "shell", "allow_pickle"}  # unless False


def dangers(file: Path) -> list[str]:
    """List the forbidden imports, calls and keyword arguments of a file, with their lines."""
    allowed = MAY_TALK.get(name_of(file), set())
    named = {name.split(".")[0] for name in imports(file)} & (FORBIDDEN_MODULES - allowed)
    found = [f"imports {name}" for name in sorted(named)]
    for node in ast.walk(parsed(file)):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN_CALLS:
                found.append(f"line {node.lineno} calls {name}")
            case ast.Attribute(value=ast.Name(id=owner)) if (
                owner,
                node.attr,
            ) in FORBIDDEN_ATTRIBUTES:
                found.append(f"line {node.lineno} uses {owner}.{node.attr}")
            case ast.keyword(arg=name, value=value) if name in FORBIDDEN_KEYWORDS and not (
                isinstance(value, ast.Constant) and value.value is False
            ):
                found.append(f"line {value.lineno} passes {name}")
    return found


def test_nothing_dangerous():
    """No pickle, no evaluation of text, no remote code, no network of our own."""
    assert_no_faults(FILES, dangers, name_of)


@pytest.mark.parametrize(
    "line, danger",
    [
        ("import pickle", "imports pickle"),
        ("from urllib import request", "imports urllib"),
        ("eval('1')", "line 1 calls eval"),
        ("torch.load('f')", "line 1 uses torch.load"),
        ("f(shell=True)", "line 1 passes shell"),
        ("f(trust_remote_code=flag)", "line 1 passes trust_remote_code"),
    ],
)
def test_each_kind_of_danger_is_seen(line, danger, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path)
    file = tmp_path / "spoiled.py"
    file.write_text(f"{line}\nf(shell=False)\n")
    assert dangers(file) == [danger]


def test_no_file_is_long():
    def too_long(file: Path) -> list[str]:
        lines = len(file.read_text().splitlines())
        return [f"{lines} lines"] if lines > 500 else []

    assert_no_faults(FILES, too_long, name_of)


def test_every_file_introduces_itself():
    def nameless(file: Path) -> list[str]:
        return [] if ast.get_docstring(parsed(file)) else ["no docstring"]

    assert_no_faults(FILES, nameless, name_of)


def test_the_table_of_slow_tests_names_what_is_there():
    """An entry whose file or test is gone would hide that its successor is in the wrong tier."""
    here = Path(__file__).parent

    def gone(entry: str) -> list[str]:
        file, _, test = entry.partition("::")
        if not (here / file).exists():
            return ["no such file or folder"]
        found = not test or f"def {test}(" in (here / file).read_text()
        return [] if found else ["no such test"]

    assert_no_faults(SLOW, gone)
    assert len(set(SLOW)) == len(SLOW)


def test_the_fast_tier_has_tests_of_every_part():
    here = Path(__file__).parent
    parts = {folder for folder in here.iterdir() if any(folder.glob("**/test_*.py"))}
    parts -= {here / "bad", here / "gpu", here / "web"}  # whole commands; a device

    def fast(folder: Path) -> list[str]:
        files = [file for file in folder.glob("**/test_*.py") if not is_slow_file(file)]
        return [] if files else ["every file is slow"]

    assert_no_faults(sorted(parts), fast, lambda folder: folder.name)


@pytest.mark.parametrize(
    "file, test, fixtures, slow",
    [
        ("training/test_runs.py", "test_any", [], True),
        ("bad/test_data_files.py", "test_any", [], True),
        ("training/test_files.py", "test_any", [], False),
        ("training/test_files.py", "test_any", ["tokenizer", "smollm2_folder"], True),
        ("examples/test_examples.py", "test_example_runs_and_shows_what_it_says", [], True),
        ("examples/test_examples.py", "test_every_example_has_an_expectation", [], False),
        ("../benchmarks/training/test_runs.py", "test_any", [], False),
    ],
)
def test_a_test_is_slow_by_its_file_its_name_or_its_fixtures(file, test, fixtures, slow):
    assert is_slow((Path(__file__).parent / file).resolve(), test, fixtures) == slow


def folders_beside(tree: ast.AST) -> list[int]:
    """Find the lines that build a path to ../shared; a docstring may name it."""
    prose, pieces = [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            prose.append(node.value)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            pieces += [node.left, node.right]
        if isinstance(node, ast.Call) and getattr(node.func, "attr", None) in ("join", "joinpath"):
            pieces += node.args
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in prose
        if re.search(r"(^|/)shared/", node.value) or (node in pieces and node.value == "shared")
    ]


def test_real_data_is_reached_through_one_fixture():
    """A test that reads ../shared by itself fails or skips without a reason in a fresh clone."""
    here = Path(__file__).parent

    def own_path(file: Path) -> list[str]:
        return [
            f"line {line} names ../shared: use the fixture shared_data"
            for line in folders_beside(parsed(file))
        ]

    files = sorted({*here.rglob("*.py")} - {here / "conftest.py", Path(__file__)})
    assert_no_faults(files, own_path)
    # the fixtures themselves are seen: real data, and small strangers' files
    assert len(folders_beside(parsed(here / "conftest.py"))) == 3


@pytest.mark.parametrize(
    "line, seen",
    [
        ('Path(__file__).parents[2] / "../shared/data"', True),
        ('ROOT.parent / "shared" / "data"', True),
        ('ROOT.parent.joinpath("shared", name)', True),
        ('open("/data/shared/x")', True),
        ('"""Rows of ../shared/data."""', False),
        ('seen.add("shared")', False),
    ],
)
def test_a_path_to_the_folder_beside_is_seen(line, seen):
    assert bool(folders_beside(ast.parse(line))) == seen


def test_every_fault_is_reported():
    def odd(number: int) -> list[str]:
        assert number != 2, "it is two"
        return ["odd"] if number % 2 else []

    with pytest.raises(AssertionError) as failed:
        assert_no_faults([1, 2, 3, 4], odd)
    for line in ("3 faults in 4 checked:", "1: odd", "2: AssertionError: it is two", "3: odd"):
        assert line in str(failed.value).splitlines()
    assert_no_faults([4], odd)
    with pytest.raises(AssertionError, match="nothing to check"):
        assert_no_faults([], odd)


@pytest.mark.parametrize(
    "what",
    [
        "import accord",
        "import accord.cli.app",
        "from accord.config.schema import make_config",
        "import accord.config.build",
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
        "import sys; from accord.cli.app import app\n"
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
    assert shown == LAYERS and len(text.split()) <= 1_500


def test_files_that_contributing_names_are_there():
    root = Path(__file__).parents[1]
    text = (root / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`((?:src|tests|docs|benchmarks)/[\w/*.]+)`", text))
    assert len(named) > 15 and not [name for name in named if not list(root.glob(name))]


def test_every_slow_test_has_its_week():
    weeks = [round_now(date(2026, 1, 1) + timedelta(weeks=week)) for week in range(ROUNDS)]
    assert sorted(weeks) == list(range(ROUNDS))
    nodes = [f"tests/a.py::test_{number}" for number in range(300)]
    shares = Counter(round_of(node) for node in nodes)
    assert len(shares) == ROUNDS and min(shares.values()) > 300 / ROUNDS / 2
    assert len({round_of(f"{nodes[0]}[{name}]") for name in "abcdef"}) == 1
