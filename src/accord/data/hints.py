"""Cures of a row that no format reads: an option that is in the way, rows that lie inside the
row, objects whose insides have names, or columns under other names.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from accord.data.formats.guesses import candidates, guess, suggest
from accord.data.formats.structured import PROMPTS
from accord.data.naming import PLAIN, Naming, command, spread_column
from accord.data.texts import count_words, strings

# Columns of the record of a request to an API, as OpenAI's and its like write them.
API_LOG = frozenset({"choices", "request", "response_body"})
DEPTH = 3  # objects inside each other that rows are looked for in
LISTED = 6  # names that a hint lists

# the name of the format that reads a row under a naming, or None; with guesses, or by names alone
Reads = Callable[[dict, Naming, bool], str | None]


def hint(columns: dict, file: str, naming: Naming, reads: Reads, unknown: bool) -> str:
    """Say what may mend every row like this one; empty where nothing is known.

    Args:
      columns: the row as it stands in the file.
      unknown: whether no format has its columns.
    """
    found = _in_the_way(columns, file, naming, reads) or _inside(columns, file, reads)
    plain = naming.apply(columns)
    names = suggest(plain, lambda names: reads(plain, Naming(names), False) is not None)
    if not found and names:
        own = {name: naming.file_name(column) for name, column in names.items()}
        found = f"name them: {command(file, naming.options(own))}"
    if found or not unknown:
        return found
    return _prompts_or_log(columns) or _nested(columns, file, naming, reads) or _by_hand(columns)


def _in_the_way(columns: dict, file: str, naming: Naming, reads: Reads) -> str:
    """Say which option to leave out, if the row is read without it."""
    for what, without in _fewer(naming):
        if without != naming and (read_as := reads(columns, without, True)):
            return f"without {what} it is read as {read_as}: {command(file, without.options())}"
    return ""


def _fewer(naming: Naming) -> Iterator[tuple[str, Naming]]:
    """Yield (what is left out, the naming without it), from one option to all of them."""
    yield f"--format {naming.format}", replace(naming, format="auto")
    for name in naming.ignored:
        kept = tuple(one for one in naming.ignored if one != name)
        yield f"--ignore-columns {shlex.quote(name)}", replace(naming, ignored=kept)
    for name, column in naming.names.items():
        names = {one: its for one, its in naming.names.items() if one != name}
        yield f"--columns {shlex.quote(f'{name}={column}')}", replace(naming, names=names)
    yield "--ignore-columns", replace(naming, ignored=())
    yield "--columns", replace(naming, names={})
    yield "these options", PLAIN


def _inside(columns: dict, file: str, reads: Reads) -> str:
    """Say where the rows lie, if this row is an object around them, and how to write them out."""
    path = next(
        (p for p, row in _listed_rows(columns, ()) if reads(row, PLAIN, True) is not None), None
    )
    if path is None:
        return ""
    said = f"the rows lie inside {'.'.join(path)}"
    keys = "".join(f"[{json.dumps(part)}]" for part in path)
    if Path(file).suffix == ".json":
        every = f"json.load(sys.stdin){keys}"
        code = f"import json, sys; [print(json.dumps(row)) for row in {every}]"
    elif Path(file).suffix in (".jsonl", ".ndjson"):
        every = f"line in sys.stdin for row in json.loads(line){keys}"
        code = f"import json, sys; [print(json.dumps(row)) for {every}]"
    else:
        return f"{said}: write them to a file of their own, one a line"
    return (
        f"{said}. Write them out: python -c {shlex.quote(code)} < {shlex.quote(file)} > rows.jsonl"
    )


def _listed_rows(value: dict, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict]]:
    """Yield (path of a list of objects, its first one)."""
    for name, inner in value.items():
        if isinstance(inner, list) and inner and isinstance(inner[0], dict):
            yield (*path, str(name)), inner[0]
        elif isinstance(inner, dict) and len(path) < DEPTH:
            yield from _listed_rows(inner, (*path, str(name)))


def _nested(columns: dict, file: str, naming: Naming, reads: Reads) -> str:
    """Name the texts inside the row's objects with dots, as --columns reads them."""
    flat = naming.spread(columns)
    for _ in range(DEPTH):
        for name in [name for name, value in flat.items() if _holds_text(value)]:
            flat = spread_column(flat, f"{name}.{next(iter(flat[name]))}")
    if flat.keys() == columns.keys():
        return ""

    def test(names: dict) -> bool:
        return reads(flat, Naming(names), False) is not None

    said = "the values are objects, and a dotted name reads inside one: "
    names = guess(flat, test) or suggest(flat, test)
    if names:
        return said + command(file, naming.options(names))
    dotted = [f"{name}" for name in flat if name not in columns][:LISTED]
    return f"{said}--columns prompt=COLUMN,chosen=COLUMN,rejected=COLUMN with {', '.join(dotted)}"


def _holds_text(value: object) -> bool:
    return isinstance(value, dict) and any(
        isinstance(name, str) and any(map(count_words, strings(inner)))
        for name, inner in value.items()
    )


def _prompts_or_log(columns: dict) -> str:
    """Say what the rows are, if they are no preferences at all."""
    if set(map(str, columns)) <= PROMPTS and not any(map(_holds_text, columns.values())):
        return (
            "these are prompts without answers, and preferences need a chosen and a rejected"
            " one. Draw and rank answers (accord sample, score, pair), or learn from the"
            " model's own: --method grpo --set 'rollouts.rewards=[vader]'"
        )
    if API_LOG & set(columns):
        return (
            "this is the log of an API: one answer to each request, and no preference. Take its"
            " prompts, then draw and rank answers (accord sample, score, pair); or write prompt"
            " and completion of each, and tune on them: --method sft"
        )
    return ""


def _by_hand(columns: dict) -> str:
    if twins := candidates(columns):
        return (
            f"{twins[0]} and {twins[1]} are answers, and another column says which is the"
            " better one. Write chosen and rejected by it, row by row; to name one of the two"
            " chosen for all rows would be wrong."
        )
    return "name them: --columns prompt=COLUMN,chosen=COLUMN,rejected=COLUMN"
