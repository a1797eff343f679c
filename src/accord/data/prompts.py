"""Prompts to be answered, from any file that training reads, from rows with a prompt alone, or from
plain text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from accord.data.containers import MAX_ROW_BYTES, Source, locate
from accord.data.formats import inputs, media, structured
from accord.data.formats.drafts import prompt_of
from accord.data.formats.guesses import only_prompt
from accord.data.formats.parts import Row
from accord.data.json_rows import kind_of
from accord.data.ledger import Ledger, RowError
from accord.data.naming import PLAIN, Naming, rename_columns
from accord.data.read import GUESSED, Reading, require_columns, understand
from accord.data.refusals import refusal
from accord.data.unread import ColumnAccount
from accord.errors import plural
from accord.types import NO_INPUTS, DataError, Demonstration, Example, Origin, TemplateInputs, Turn

LEAK = 0.01  # share of held-out rows whose prompt is trained on that is refused
# columns that hold a prompt where no answer stands beside it
ALONE = "prompt|question|instruction|messages"


@dataclass(frozen=True)
class Question:
    """A prompt, and where it first stood."""

    turns: tuple[Turn, ...]
    origin: Origin
    # what the row has for the chat template beside its turns: tools, documents, options
    inputs: TemplateInputs = NO_INPUTS


@dataclass(frozen=True)
class Questions:
    """The distinct prompts of a file, in its order, and the account of its rows."""

    prompts: list[Question]
    ledger: Ledger
    digest: str  # sha256 of the file's bytes
    naming: Naming = PLAIN  # of the columns that it was read with

    def says(self) -> str:
        """Return the account in one or more lines."""
        return "\n".join([*self.ledger.lines(), f"  {len(self.prompts):,} different prompts"])


def prompt_words(turns: Sequence[Turn]) -> str:
    """Reduce a prompt to its words, without case, blanks and punctuation: two prompts that differ
    in nothing else are one.
    """
    return " ".join(re.findall(r"\w+", " ".join(turn.content for turn in turns).casefold()))


def read_prompts(path: str, naming: Naming = PLAIN) -> Questions:
    """Read each prompt of a file once.

    Args:
      path: any file of pairs, labels or demonstrations; rows with `prompt` (text or messages)
        alone; a .txt with one prompt a line; "-" for standard input.
      naming: renamed and ignored columns.

    Raises:
      DataError: the file cannot be read, holds no prompt, or holds content of prompts that nothing
        reads. Other columns may stand beside a prompt: its answers are verified against them.
    """
    with locate(path) as source:
        account = ColumnAccount(naming, prompts_only=True)
        ledger = Ledger(source.name, columns=account)
        found: dict[tuple[tuple[Turn, ...], TemplateInputs], Question] = {}
        seen: set[str] = set()
        for line, value in _rows(source, path):
            origin = Origin(source.name, line)
            try:
                if isinstance(value, tuple):
                    asked = Asked(value, "plain text")
                else:
                    value = naming.spread(value) if isinstance(value, dict) else value
                    asked = _asked(value, origin, naming)
                    seen |= value.keys() | naming.keys_in(value)
                    account.add(value, asked.row, asked.examples, line, asked.names)
            except RowError as error:
                ledger.reject(line, error, value)
                continue
            ledger.use(1, asked.notes)
            ledger.formats[asked.format] += 1
            question = Question(asked.turns, origin, asked.inputs)
            found.setdefault((asked.turns, asked.inputs), question)
        ledger.notes.update(dict.fromkeys(source.notes, ledger.rows))
        require_columns(account, seen, source.name)
        digest = source.digest()
    if not found:
        reasons = "\n".join(ledger.commonest())
        raise DataError(
            f"{path}: no prompt in its {plural(ledger.rows, 'row')}.\n{reasons}".rstrip()
        )
    if unread := refusal(account, ledger.file, _attempt):
        raise DataError(unread)
    return Questions(list(found.values()), ledger, digest, naming)


@dataclass(frozen=True)
class Asked:
    """The prompt of one row, and how it was read."""

    turns: tuple[Turn, ...]
    format: str
    inputs: TemplateInputs = NO_INPUTS
    row: Row = field(default_factory=lambda: Row({}))
    examples: tuple[Example, ...] = ()
    notes: list[str] = field(default_factory=list)
    names: Mapping[str, str] = field(default_factory=dict)


def _attempt(columns: dict, naming: Naming) -> set[str] | None:
    """Return the columns that a row's prompt is read from under another naming; None where it is
    not read.
    """
    try:
        return set(_asked(columns, Origin("", 0), naming).row.read)
    except RowError:
        return None


def _rows(source: Source, path: str):
    """Yield (line, row) of a container, or (line, what was asked) of plain text."""
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


def _asked(value: object, origin: Origin, naming: Naming) -> Asked:
    """Return the prompt of one row."""
    if isinstance(value, RowError):
        raise value
    if not isinstance(value, dict):
        raise RowError(
            "not an object", f"the row is {kind_of(value)}; an object with a prompt is expected."
        )
    try:
        found = understand(value, origin, Reading(naming=naming))
        one = found.whole[0]
        beside = replace(one.inputs, answers=())
        whole = tuple(found.whole)
        return Asked(
            one.prompt, found.format.name, beside, found.row, whole, found.notes, found.names
        )
    except RowError:
        asked = _alone(naming.apply(value), origin, naming.applied(value))
        if asked is None:
            raise
        return asked


def _alone(columns: dict, origin: Origin, names: Mapping[str, str]) -> Asked | None:
    """Return the prompt of a row that no format reads; None where it has no column for one."""
    notes = []
    if not any(columns.get(name) is not None for name in ALONE.split("|")):
        guessed = only_prompt(columns)
        if guessed is None:
            return None
        notes = [f"{GUESSED}: read as prompt={guessed}"]
        names = {**names, "prompt": names.get(guessed, guessed)}
        columns = rename_columns(columns, {"prompt": guessed})
    decoded = structured.decode(columns)
    row = Row({name: value for name, value in decoded.columns.items() if value is not None})
    name = row.name(ALONE)
    if name is None:
        return None
    decoded.settle([name], row.notes)
    row.read.clear()
    turns = prompt_of(row, ALONE)
    if not any(turn.content.strip() for turn in turns if turn.role != "system"):
        raise RowError("empty prompt", "there is no prompt, or nothing but blanks in it.")
    media.refuse_columns(row)
    media.refuse_marks(turns)
    beside = inputs.inputs_of(row)
    example = Demonstration(turns, "", origin, {}, beside)
    notes = [*notes, *dict.fromkeys(row.notes)]
    return Asked(turns, "prompts alone", beside, row, (example,), notes, names)
