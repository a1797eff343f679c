"""Wrong files: one node of a file's syntax tree changed, in every way there is.

A comparison or a sign flipped, a constant moved, `and` for `or`, a condition turned round, a
statement, a keyword or a `.detach()` dropped. Messages, annotations and docstrings are left alone:
they compute nothing.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src/accord"

FLIPS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
    ast.Pow: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
UNWRAPPED = {"detach", "abs", "neg", "exp", "log", "strip", "float", "contiguous", "clone", "items"}


@dataclass(frozen=True)
class Mutant:
    """One wrong file."""

    file: str
    number: int  # among the changes of the file
    line: int
    last: int  # line on which what is changed ends
    says: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line}: {self.says}"

    def source(self) -> str:
        tree = _tree(self.file)
        next(islice(_changes(tree), self.number, None)).apply()
        return ast.unparse(ast.fix_missing_locations(tree))


@dataclass(frozen=True)
class Change:
    """What can be done to a tree, and where."""

    line: int
    last: int
    says: str
    apply: Callable[[], None]


def mutants_of(file: str) -> list[Mutant]:
    """Every mutant of a file."""
    return [
        Mutant(file, number, change.line, change.last, change.says)
        for number, change in enumerate(_changes(_tree(file)))
    ]


def _tree(file: str) -> ast.Module:
    return ast.parse((SOURCE / file).read_text("utf-8"))


def _changes(tree: ast.Module) -> Iterator[Change]:
    for parent, field, index, node in _nodes(tree):
        place = node if hasattr(node, "lineno") else parent  # an operator has none of its own
        end = place.test if isinstance(place, (ast.If, ast.IfExp)) else place
        for says, new in _replacements(node, parent):
            yield Change(
                place.lineno, end.end_lineno, says, partial(_put, parent, field, index, new)
            )


def _put(parent: ast.AST, field: str, index: int | None, new: ast.AST) -> None:
    if index is None:
        setattr(parent, field, new)
    else:
        getattr(parent, field)[index] = new


def _nodes(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Every node with its place, but what only documents: annotations, docstrings, messages of
    errors, imports.
    """
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list") or isinstance(
            tree, (ast.Import, ast.ImportFrom, ast.JoinedStr)
        ):
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
