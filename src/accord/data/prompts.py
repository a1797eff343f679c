"""Prompts to be answered, from any file that training reads, from rows with a prompt alone, or from
plain text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accord.data.containers import MAX_ROW_BYTES, Source, locate
from accord.data.formats import recognise
from accord.data.formats.drafts import prompt_of
from accord.data.formats.pairs import alpaca_prompt
from accord.data.formats.parts import Row
from accord.data.json_rows import kind_of
from accord.data.ledger import Ledger, RowError
from accord.types import DataError, Origin, Turn

LEAK = 0.01  # share of held-out rows whose prompt is trained on that is refused
# columns that hold a prompt where no answer stands beside it
ALONE = "prompt|question|instruction|messages"


@dataclass(frozen=True)
class Question:
    """A prompt, and where it first stood."""

    turns: tuple[Turn, ...]
    origin: Origin


@dataclass(frozen=True)
class Questions:
    """The distinct prompts of a file, in its order, and the account of its rows."""

    prompts: list[Question]
    ledger: Ledger
    digest: str  # sha256 of the file's bytes

    def says(self) -> str:
        """Return the account in one or more lines."""
        return "\n".join([*self.ledger.lines(), f"  {len(self.prompts):,} different prompts"])


def prompt_words(turns: Sequence[Turn]) -> str:
    """Reduce a prompt to its words, without case, blanks and punctuation: two prompts that differ
    in nothing else are one.
    """
    return " ".join(re.findall(r"\w+", " ".join(turn.content for turn in turns).casefold()))


def read_prompts(path: str) -> Questions:
    """Read each prompt of a file once.

    Args:
      path: any file of pairs, labels or demonstrations; rows with `prompt` (text or messages)
        alone; a .txt with one prompt a line; "-" for standard input.

    Raises:
      DataError: the file cannot be read, or holds no prompt.
    """
    with locate(path) as source:
        ledger = Ledger(source.name)
        found: dict[tuple[Turn, ...], Question] = {}
        for line, value in _rows(source, path):
            origin = Origin(source.name, line)
            try:
                turns = value if isinstance(value, tuple) else _turns(value, origin)
            except RowError as error:
                ledger.reject(line, error, value)
                continue
            ledger.use(1, [])
            found.setdefault(turns, Question(turns, origin))
        ledger.notes.update(dict.fromkeys(source.notes, ledger.rows))
        digest = source.digest()
    if not found:
        reasons = "\n".join(
            f"  {count:,} × {reason}: {ledger.first_places(reason)}"
            for reason, count in ledger.reasons.most_common(3)
        )
        raise DataError(f"{path}: no prompt in its {ledger.rows:,} rows.\n{reasons}".rstrip())
    return Questions(list(found.values()), ledger, digest)


def _rows(source: Source, path: str):
    """Yield (line, row) of a container, or (line, turns) of plain text."""
    if Path(path).suffix.lower() != ".txt":
        yield from source.rows(MAX_ROW_BYTES)
        return
    try:
        # do not split at every character that Unicode calls a line's end
        lines = source.path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as text in UTF-8: {error}.") from error
    yield from (
        (number, (Turn("user", line),)) for number, line in enumerate(lines, 1) if line.strip()
    )


def _turns(value: object, origin: Origin) -> tuple[Turn, ...]:
    """Return the prompt of one row."""
    if isinstance(value, RowError):
        raise value
    if not isinstance(value, dict):
        raise RowError(
            "not an object", f"the row is {kind_of(value)}; an object with a prompt is expected."
        )
    try:
        known, row = recognise(value)
        return known.examples(row, origin, value)[0].prompt
    except RowError:
        turns = _alone(value)
        if turns is None:
            raise
        return turns


def _alone(columns: dict) -> tuple[Turn, ...] | None:
    """Return the prompt of a row that no format reads; None where it has no column for one."""
    row = Row({name: value for name, value in columns.items() if value is not None})
    if row.name(ALONE) is None:
        return None
    turns = alpaca_prompt(row) if row.name(ALONE) == "instruction" else prompt_of(row, ALONE)
    if not any(turn.content.strip() for turn in turns if turn.role != "system"):
        raise RowError("empty prompt", "there is no prompt, or nothing but blanks in it.")
    return turns
