"""`accord audit --fix OUT --mend NAME`: mend texts where that is safe, and list every change.

A mended row is read again before it is written: its texts must be the mended ones, and all else of
it as it was. A row for which that does not hold is written as it stood, and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from accord.auditing.scan import Scan
from accord.auditing.tables.wrecks import shown
from accord.auditing.wrecks.context import Asked
from accord.auditing.wrecks.kinds import KINDS, MENDS, mend_text
from accord.config.explain import nearest_words
from accord.data.containers import Source
from accord.data.ledger import RowError
from accord.data.read import Reading, stream, understand
from accord.errors import UsageError, plural
from accord.types import Example, Origin

TRIM = "trim"
NAMES = (*MENDS, TRIM)
LED = 0.9  # share of answers with a blank before them, by which it is the file's own way
DEPTH = 12  # lists and objects of a row inside each other
SAYS = {name: KINDS[name].title.lower() for name in MENDS} | {TRIM: "blanks around answers"}


@dataclass
class Mended:
    """The account of mended rows."""

    path: str = ""  # of the list of changes
    rows: int = 0
    by_rule: Counter = field(default_factory=Counter)  # name -> rows
    left: int = 0  # rows with a wreck that could not be mended as they are laid out

    def as_dict(self) -> dict:
        """Return a JSON-serialisable form."""
        return {
            "path": self.path,
            "rows": self.rows,
            "by_rule": dict(self.by_rule),
            "left": self.left,
        }

    def lines(self) -> list[str]:
        """List the account for a person."""
        counts = [f"  {n:>7,}  {SAYS[name]} (--mend {name})" for name, n in self.by_rule.items()]
        left = [f"  {self.left:>7,}  rows could not be mended as they are laid out"]
        head = f"{plural(self.rows, 'row')} mended, every change listed in {self.path}"
        return [head, *counts, *(left if self.left else [])]


def check_mends(names: Iterable[str]) -> None:
    """Refuse a mend that does not exist.

    Raises:
      UsageError: no mend has this name.
    """
    for name in names:
        if name not in NAMES:
            meant = nearest_words(name, NAMES, ".")
            raise UsageError(f"no --mend is called {name!r}{meant} Known: {', '.join(NAMES)}.")


def mend_everywhere(
    text: str, names: Iterable[str], asked: Asked, answer: bool, lead: bool = False
) -> str:
    """Mend a text by some rules, until none of them changes it any more.

    Args:
      lead: blanks before an answer stay: nearly all answers of the file have them.
    """
    for _ in range(4):
        before = text
        for name in NAMES:  # in the table's order, whatever the caller's
            if name in names:
                text = _mend_one(text, name, asked, answer, lead)
        if text == before:
            break
    return text


def _mend_one(text: str, name: str, asked: Asked, answer: bool, lead: bool = False) -> str:
    if name != TRIM:
        return mend_text(text, name, asked)
    if not answer or not text.strip():
        return text
    return text.rstrip() if lead else text.strip()


def led_by_blanks(scan: Scan) -> bool:
    """Return True if nearly all answers begin with a blank, as what completes "Intent:" does."""
    led = [text[:1].isspace() for each in scan.sample for text in each.example.completions]
    return sum(led) >= LED * max(1, len(led))


@dataclass(frozen=True)
class Change:
    """One changed text of a row."""

    side: str
    rules: tuple[str, ...]
    before: str
    after: str

    def as_dict(self) -> dict:
        """Return a JSON-serialisable form."""
        return {
            "side": self.side,
            "rules": list(self.rules),
            "before": _first_change(self.before, self.after),
            "after": _first_change(self.after, self.before),
        }


def _first_change(text: str, other: str) -> str:
    """Return the piece of a text around the first character in which it differs from another."""
    pairs = zip(text, other, strict=False)  # the shorter ends the comparison
    at = next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(text), len(other)))
    return shown(text[max(0, at - 20) : at + 60])


def changes_of(example: Example, names: tuple[str, ...], lead: bool = False) -> list[Change]:
    """Return what some rules change in an example's texts."""
    whole = Asked("\n".join(turn.content for turn in example.prompt))
    texts = [(turn.role, turn.content, Asked(turn.content), False) for turn in example.prompt]
    sides = ("chosen", "rejected") if len(example.completions) == 2 else ("answer",)
    texts += [(s, t, whole, True) for s, t in zip(sides, example.completions, strict=True)]
    out = []
    for side, text, asked, answer in texts:
        after = mend_everywhere(text, names, asked, answer, lead)
        if after != text:
            rules = tuple(
                n for n in NAMES if n in names and _mend_one(text, n, asked, answer, lead) != text
            )
            out.append(Change(side, rules, text, after))
    return out


def mended_rows(
    scan: Scan, source: Source, lines: set[int], names: tuple[str, ...]
) -> dict[int, list[Change]]:
    """Find the changes of each line that is to be written."""
    out: dict[int, list[Change]] = {}
    if names:
        lead = TRIM in names and led_by_blanks(scan)
        for example in stream(source, naming=scan.naming):
            if example.origin.line in lines:
                changes = changes_of(example, names, lead)
                if changes:
                    out.setdefault(int(example.origin.line), []).extend(changes)
    return out


def mend_row(row: dict, changes: list[Change], reading: Reading, origin: Origin) -> dict | None:
    """Return a row with its texts mended; None where the row would be read otherwise then.

    Args:
      row: as it stands in the file.
      reading: how the file's rows are read.
    """
    table = {change.before: change.after for change in changes}
    mended = _replaced(row, table, 0)
    if not isinstance(mended, dict) or mended == row:
        return None
    try:
        before = understand(row, origin, reading).examples
        after = understand(mended, origin, reading).examples
    except RowError:
        return None
    if len(before) != len(after):
        return None
    same = all(
        _texts(new) == [table.get(text, text) for text in _texts(old)]
        for old, new in zip(before, after, strict=True)
    )
    return mended if same else None


def _texts(example: Example) -> list[str]:
    return [*(turn.content for turn in example.prompt), *example.completions]


def _replaced(value: Any, table: Mapping[str, str], depth: int) -> Any:
    """Return a value of a row in which every string that is one of the texts is mended."""
    if isinstance(value, str):
        return _replaced_text(value, table)
    if depth > DEPTH:
        return value
    if isinstance(value, dict):
        return {key: _replaced(each, table, depth + 1) for key, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, table, depth + 1) for each in value]
    return value


def _replaced_text(text: str, table: Mapping[str, str]) -> str:
    if text in table:
        return table[text]
    stripped = text.strip()
    if stripped in table and stripped:  # the reader takes the blanks off some formats
        at = text.index(stripped)
        return text[:at] + table[stripped] + text[at + len(stripped) :]
    for before, after in table.items():  # transcripts hold several texts in one string
        if len(before) > 20 and before in text:
            text = text.replace(before, after)
    return text


def entries(scan: Scan, line: int, changes: list[Change]) -> Iterator[dict]:
    """Yield the lines of the list of changes for a row."""
    for change in changes:
        yield {**scan.origin(line).as_dict(), **change.as_dict()}
