"""The tree keeps its shape: formatted and linted by ruff without exceptions, no `zip` that drops
what is left over, and docstrings in plain English.
"""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("src", "tests", "benchmarks", "examples", "docs")
FILES = sorted(file for part in PARTS for file in (ROOT / part).rglob("*.py"))

needs_ruff = pytest.mark.skipif(
    importlib.util.find_spec("ruff") is None,
    reason="ruff is not installed: pip install -e '.[dev]'",
)


@needs_ruff
@pytest.mark.parametrize("command", [("format", "--check"), ("check",)], ids=" ".join)
def test_ruff_finds_nothing(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", *PARTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (
        f"Run `ruff format` and `ruff check` before you commit:\n{done.stdout[-4000:]}{done.stderr}"
    )


def test_nothing_is_kept_from_the_formatter():
    switched_off = re.compile(r"#\s*(fmt|yapf):\s*(skip|off|on|disable|enable)\b")
    found = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in FILES
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if switched_off.search(line)
    ]
    assert not found


def lax_zips(text: str) -> list[int]:
    """Lines of the calls of `zip` that do not say `strict=True`, nor `strict=False` with a comment
    on that line or the one before.
    """
    lines, found = text.splitlines(), []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "zip":
            strict = {k.arg: k.value for k in node.keywords}.get("strict")
            value = strict.value if isinstance(strict, ast.Constant) else None
            explained = any("#" in line for line in lines[max(node.lineno - 2, 0) : node.lineno])
            if not (value is True or (value is False and explained)):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("zip(a, b)", [1]),
        ("x = [\n    p for p in zip(*q)\n]", [2]),
        ("zip(a, b, strict=False)", [1]),
        ("zip(a, b, strict=False)  # up to the shorter one", []),
        ("# up to the shorter one\nzip(a, b, strict=False)", []),
        ("zip(a, b, strict=True)", []),
    ],
)
def test_lax_zips_are_found(text, found):
    assert lax_zips(text) == found


def test_every_zip_is_strict():
    """Rows and labels of unequal number must not be paired in silence."""
    texts = {file: text for file in FILES if "zip(" in (text := file.read_text())}
    assert len(texts) > 50
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for file, text in texts.items()
        for line in lax_zips(text)
    ]
    assert not found


FIRST_WORDS = re.compile(
    r"(Of|As|What|Where|Whether|How|Which|Who|Whose|See|That|Those|When|In|Inside|For|By|From|On"
    r"|With|At|To|Not|Only|Nothing|Any)\b"
)
CONTORTED = re.compile(r"\baloud\b|\btold apart\b|\bis said\b")


def docstrings(text: str) -> list[tuple[int, str]]:
    """Line and text of every docstring of a module."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return [(node.body[0].lineno, words) for node in nodes if (words := ast.get_docstring(node))]


def contorted(words: str) -> bool:
    """Tell whether a docstring begins with a banned word, or says a thing in a contorted way."""
    return bool(FIRST_WORDS.match(words) or CONTORTED.search(words))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("Of every row, its hash.", True),
        ("What is left.", True),
        ("Hash every row.\n\nA bad one is passed over aloud.", True),
        ("List the rows that cannot be told apart.", True),
        ("Information on the run.", False),
        ("Hash every row.", False),
    ],
)
def test_contorted_docstrings_are_found(words, found):
    assert contorted(words) is found


SOURCE = ROOT / "src" / "accord"
ROOMS = sorted({file.relative_to(SOURCE).parts[0] for file in SOURCE.rglob("*.py")})


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_begin_with_a_verb_or_a_noun(room):
    """A docstring that begins with Of, What, Where or Whether must be read twice."""
    place = SOURCE / room
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    texts = {file.relative_to(SOURCE).as_posix(): file.read_text() for file in files}
    found = [
        f"{name}:{line}: {words.splitlines()[0]}"
        for name, text in texts.items()
        for line, words in docstrings(text)
        if contorted(words)
    ]
    assert not found, "\n".join(found)
