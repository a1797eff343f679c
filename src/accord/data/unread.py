"""The account of a file's columns and of its messages' keys: each was read, is known metadata, is
named as unread, or holds content that nothing reads.

    columns of a row ── used ─────────────────▶ used
          │              └ not handed over ───▶ content
          └─ unread ── by its name ──▶ metadata (with its reason) or content
                └───── by its texts ──▶ named, or content where they are long or vary

A text that stands in the columns read as well is no loss, and neither is a column that renders the
whole row. Every row is judged on its own columns; the texts of a column are judged together.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from accord.data.formats.messages import exchange_keys
from accord.data.formats.parts import Row
from accord.data.formats.structured import CONVERSATIONS, PROMPTS
from accord.data.metadata import (
    ANY,
    MESSAGE_KEYS,
    SHORT,
    TEMPLATE_COLUMNS,
    TEMPLATE_KEYS,
    Content,
    Metadata,
    classify,
)
from accord.data.naming import PLAIN, Naming
from accord.data.texts import ALONE, TextSketch, count_words, is_empty, strings
from accord.errors import plural, printable, shorten
from accord.types import Example

MOST = 2000  # columns and keys that are accounted for one by one
LABEL = 4.5  # words of a short label on average; a sentence is named as unread
OTHERS = "(further columns)"
DICTS = 20_000  # objects of a row whose keys are looked at
RENDERED = 2  # texts around a rendered row that a template may have: with and without an input
SHOWN = 12  # names in one line
NAME = 60  # characters of a name that are shown

# Keys of objects that the formats of answers and questions take their texts and scores from.
ANSWER_KEYS = frozenset(
    "messages full_text response answer completion output score overall_score rating reward rank"
    " type".split()
)
# Columns whose objects without a role are exchanges, such as Capybara's {input, output}
TURNS = CONVERSATIONS | PROMPTS | {"history"}
MANY = 64  # keys of an object that are looked at for what a name beside them means
NO_KEYS: frozenset[str] = frozenset()
PLANS = 512  # ways in which rows of a file are read that are remembered
COPY = "the same text as in the columns read"
RENDERING = "the row rendered as one text"
OTHER_TEXT = Content("", "text in columns beyond the first 2,000")
NOT_HANDED = Content("", "an input of the chat template that was not handed over", True)


@dataclass
class Entry:
    """One column or key under one verdict of the table."""

    name: str
    verdict: Metadata | Content | None
    first: int = 0  # line of the first row that has it
    sample: dict | None = None  # that row, for trying remedies
    sketch: TextSketch = field(default_factory=TextSketch)
    copies: int = 0
    rendered: int = 0
    around: set[int] = field(default_factory=set)  # hashes of the texts around rendered rows
    named_only: bool = False  # reported, and never content

    @property
    def rows(self) -> int:
        return self.sketch.rows + self.copies + self.rendered

    def is_content(self) -> bool:
        """Tell whether it holds content that nothing reads."""
        sketch, verdict = self.sketch, self.verdict
        if self.named_only:
            return False
        if len(self.around) > max(RENDERED, self.rendered // 50):
            return True
        if isinstance(verdict, Content):
            return bool(sketch.rows if verdict.any_value else sketch.texts)
        if verdict is None or verdict.longest == SHORT:
            return sketch.is_content()
        return verdict.longest != ANY and sketch.mean > verdict.longest

    def reason(self) -> str:
        """Return why nothing is lost with it; empty where that is not known."""
        if self.is_content():
            return ""
        if isinstance(self.verdict, Metadata):
            wordy = self.verdict.longest == SHORT and self.sketch.words > LABEL * self.sketch.prose
            return "" if self.verdict.loud or wordy else self.verdict.reason
        if not self.sketch.rows:
            return RENDERING if self.rendered else COPY
        return ""

    def says(self) -> str:
        """Describe it in a few words."""
        what = ""
        if isinstance(self.verdict, Content):
            what = f"{self.verdict.what}; "
        elif isinstance(self.verdict, Metadata) and self.verdict.loud:
            what = f"{self.verdict.reason}; "
        return f"{what}{plural(self.sketch.rows or self.rows, 'row')}, {self.sketch.says()}"


@dataclass
class _Plan:
    """A list of what to do with each row that has the same columns and is read the same way."""

    read: list[tuple[str, str]]  # (name, the file's own name)
    unread: list[tuple[str, str, Metadata | Content | None]]
    rows: int = 0


class ColumnAccount:
    """The account of one file, filled row by row.

    Args:
      naming: renamed and ignored columns.
      prompts_only: prompts are read and nothing else, so that what answers are verified against may
        stand beside them: only names that carry content count as such.
    """

    def __init__(self, naming: Naming = PLAIN, *, prompts_only: bool = False) -> None:
        self.naming, self.prompts_only = naming, prompts_only
        self.rows = 0
        self.handed: Counter = Counter()  # columns that were handed to the chat template -> rows
        self._plans: dict[tuple, _Plan] = {}
        # of plans that were forgotten: the file's own name of a column -> rows, and its names
        self._used: Counter = Counter()
        self._read_as: dict[str, str] = {}
        self.used_keys: Counter = Counter()
        self.ignored: Counter = Counter()
        self._columns: dict[tuple, Entry] = {}
        self._keys: dict[tuple, Entry] = {}

    # -------------------------------------------------------------- filling

    def add(
        self, columns: dict, row: Row, examples: Sequence[Example], line: int, names=None
    ) -> None:
        """Account for one row that was used.

        Args:
          columns: the row as it stands in the file.
          row: the same as its format read it.
          names: the names that were applied to this row; the naming's own by default.
        """
        self.rows += 1
        plan = self._plan(row, columns, self.naming.names if names is None else names)
        plan.rows += 1
        for name in self.naming.ignored:
            if name in columns:
                self.ignored[name] += 1
        texts: _RowTexts | None = None
        for name, column, verdict in plan.unread:
            value = dict.__getitem__(row, name)
            if is_empty(value):
                continue
            if name in TEMPLATE_COLUMNS and _is_handed(name, examples):
                self.handed[column] += 1
                continue
            entry = self._entry(self._columns, column, verdict, line, columns, value)
            entry.named_only = self.prompts_only and not isinstance(verdict, Content)
            if isinstance(verdict, Metadata):
                if verdict.longest == ANY:
                    entry.sketch.rows += 1  # its texts say nothing
                else:
                    entry.sketch.add(value)
                continue
            if verdict is not None and verdict.any_value:
                entry.sketch.add(value)
                continue
            texts = texts or _RowTexts(row, examples)
            before = entry.sketch.rows
            _count(entry, value, texts)
            if not before and entry.sketch.rows and entry.first != line:
                entry.first = line  # rows before it held copies
                entry.sample = columns if entry.sample is not None else None
        self._add_keys(row, plan.read, examples, line, columns)

    def _plan(self, row: Row, columns: dict, names: Mapping[str, str]) -> _Plan:
        """Return what is to be done for rows of these columns, read like this one."""
        key = (tuple(row), frozenset(row.read), tuple(names.items()))
        plan = self._plans.get(key)
        if plan is None:
            beside = frozenset(row)
            plan = _Plan([], [])
            for name in row:
                column = names.get(name, name)
                column = str(column if column in columns else name)
                read = name in row.read
                if read and name not in TEMPLATE_COLUMNS:
                    plan.read.append((name, column))
                    continue
                # a part of an object, outputs.system, is judged by its own name too
                own = classify(name, beside) or classify(str(name).rpartition(".")[2], beside)
                plan.unread.append((name, column, NOT_HANDED if read else own))
            if len(self._plans) >= PLANS:
                self._forget_plans()
            self._plans[key] = plan
        return plan

    def _forget_plans(self) -> None:
        """Keep the counts of the plans alone: every row of a hostile file may need its own."""
        used, read_as = self.used, self.read_as
        self._used, self._read_as = used - self.handed, read_as
        self._plans.clear()

    @property
    def used(self) -> Counter:
        """The columns that were read, by the file's own names, and in how many rows."""
        total = Counter(self._used)
        for plan in self._plans.values():
            for _, column in plan.read:
                total[column] += plan.rows
        return total + self.handed

    @property
    def read_as(self) -> dict[str, str]:
        """The names under which columns of other names were read."""
        pairs = [(c, n) for plan in self._plans.values() for n, c in plan.read if n != c]
        return {**self._read_as, **dict(pairs)}

    def _add_keys(
        self,
        row: Row,
        read: list[tuple[str, str]],
        examples: Sequence[Example],
        line: int,
        columns: dict,
    ) -> None:
        handed: set[str] | None = None
        left = [DICTS]
        for name, _ in read:
            value = dict.__getitem__(row, name)
            if isinstance(value, str):
                value = _parsed_messages(value) if value[:2] in ("[{", '{"') else None
            if not isinstance(value, (list, dict)) or _is_plain(value):
                continue
            for key, found, node in _keys(value, left, name in TURNS):
                if handed is None:
                    handed = _handed_keys(examples)
                if key in handed or _is_handed(key, examples):
                    self.used_keys[key] += 1
                    continue
                group = TEMPLATE_KEYS.get(key)
                verdict = classify(key, node)
                if group == "name":
                    verdict = None
                elif group is not None or key in TEMPLATE_COLUMNS:
                    verdict = NOT_HANDED
                entry = self._entry(self._keys, key, verdict, line, columns, found)
                entry.sketch.add(found)

    def _entry(
        self, table: dict, name: str, verdict, line: int, columns: dict, value: object
    ) -> Entry:
        key = (name, verdict)
        entry = table.get(key)
        if entry is None and len(table) >= MOST:
            # too many to sketch one by one: a value with words counts as content by itself
            worded = any(count_words(each) >= ALONE for each in strings(value))
            lost = verdict if isinstance(verdict, Content) else OTHER_TEXT if worded else None
            name, verdict = OTHERS, lost
            key = (name, verdict)
            entry = table.get(key)
        if entry is None:
            entry = table[key] = Entry(name, verdict, line)
            if len(table) <= SHOWN:
                entry.sample = columns
        return entry

    # -------------------------------------------------------------- reading

    @property
    def content(self) -> list[Entry]:
        """The columns that hold content which nothing reads."""
        return [each for each in self._columns.values() if each.is_content()]

    @property
    def content_keys(self) -> list[Entry]:
        """The keys of messages that hold content which nothing reads."""
        return [each for each in self._keys.values() if each.is_content()]

    def key_rows(self, name: str) -> int:
        """Return how many messages have an unread key."""
        return sum(entry.rows for entry in self._keys.values() if entry.name == name)

    def seen(self) -> set[str]:
        """Return the names of all columns and keys that were looked at."""
        names = {entry.name for table in (self._columns, self._keys) for entry in table.values()}
        return names | set(self.used) | set(self.used_keys) | set(self.ignored)

    def as_dict(self) -> dict:
        """Return the account of the columns for a run's records; JSON-serialisable."""
        return {
            "used": dict(self.used),
            "read_as": dict(self.read_as),
            **_sorted_out(self._columns.values()),
            "ignored": sorted(self.naming.ignored),
        }

    def keys_as_dict(self) -> dict:
        """Return the account of the messages' keys."""
        return {"used": dict(self.used_keys), **_sorted_out(self._keys.values())}

    def lines(self) -> list[str]:
        """Return the account for a person: what is read, what is known, what is not read."""
        used = [
            f"{_shown(name)} as {self.read_as[name]}" if name in self.read_as else _shown(name)
            for name in self.used
        ]
        columns, keys = self.as_dict(), self.keys_as_dict()
        lines = [f"  columns read: {_listed(used)}"] if used else []
        if columns["metadata"]:
            known = (f"{_shown(n)} ({why})" for n, why in columns["metadata"].items())
            lines.append(f"  known and not read: {_listed(known)}")
        if self.ignored:
            lines.append(f"  ignored by --ignore-columns: {_listed(map(_shown, self.ignored))}")
        for word, table in (("columns", columns), ("message keys", keys)):
            for state, says in (("unread", "not read"), ("content", "CONTENT NOT READ")):
                if found := table[state]:
                    told = (f"{_shown(name)} ({what})" for name, what in found.items())
                    lines.append(f"  {word} {says}: {_listed(told)}")
        if keys["metadata"]:
            known = (f"{_shown(n)} ({why})" for n, why in keys["metadata"].items())
            lines.append(f"  message keys known and not read: {_listed(known)}")
        return lines


class _RowTexts:
    """The texts of a row that its format read."""

    def __init__(self, row: Row, examples: Sequence[Example]) -> None:
        self.prompt = {t.content.strip() for e in examples for t in e.prompt if t.content.strip()}
        self.answers = {one.strip() for e in examples for one in e.completions}
        read = (dict.__getitem__(row, name) for name in row.read if name in row)
        self.all = {text.strip() for value in read for text in strings(value)}
        self.all |= self.prompt | self.answers

    def has(self, text: str) -> bool:
        """Tell whether a text was read, or stands in a prompt."""
        text = text.strip()
        return text in self.all or any(text in each for each in self.prompt)

    def around(self, text: str) -> str | None:
        """Return a text without the row's own; None where it does not hold prompt and answer."""
        if not any(one in text for one in self.answers):
            return None
        if not self.prompt or not all(one in text for one in self.prompt):
            return None
        for own in sorted(self.prompt | self.answers, key=len, reverse=True):
            text = text.replace(own, "")
        return text


def _count(entry: Entry, value: object, texts: _RowTexts) -> None:
    """Count one unread value: as a copy, as a rendering of the row, or by what it holds."""
    found = list(strings(value))
    if found and all(map(texts.has, found)):
        entry.copies += 1
    elif isinstance(value, str) and (rest := texts.around(value)) is not None:
        entry.rendered += 1
        if len(entry.around) < MOST:
            entry.around.add(hash(rest))
    else:
        entry.sketch.add(value)


def _is_handed(name: str, examples: Sequence[Example]) -> bool | None:
    """Tell whether an input of the chat template reached the examples; None for other columns."""
    slot = TEMPLATE_COLUMNS.get(name)
    return None if slot is None else any(getattr(each.inputs, slot) for each in examples)


def _handed_keys(examples: Sequence[Example]) -> set[str]:
    """Return the keys of messages that the examples hand to the chat template, with the other names
    of the same things.
    """
    given = {key for e in examples for turn in e.prompt for key, _ in turn.keys}
    given |= {key for e in examples for keys in e.inputs.answers for key, _ in keys}
    groups = {TEMPLATE_KEYS[key] for key in given if key in TEMPLATE_KEYS}
    return given | {key for key, group in TEMPLATE_KEYS.items() if group in groups}


def _is_plain(value: list | dict) -> bool:
    """Tell whether messages have a role and a text and nothing else, as nearly all do."""
    for node in value if isinstance(value, list) else (value,):
        if not isinstance(node, dict) or len(node) != 2 or "role" not in node:
            return False
        if not isinstance(node.get("content"), str):
            return False
    return True


def _keys(value: object, left: list[int], turns: bool) -> Iterator[tuple]:
    """Yield (key, value, all keys of the object) of every key of messages and answers, at any
    depth, that no reader takes by itself.

    Args:
      turns: whether objects without a role are exchanges, of which two keys are read.
    """
    todo = [value]
    taken = MESSAGE_KEYS | ANSWER_KEYS
    while todo and left[0] > 0:
        node = todo.pop()
        if isinstance(node, list):
            todo += [each for each in node if isinstance(each, (list, dict))]
            continue
        if not isinstance(node, dict):
            continue
        left[0] -= 1
        own = exchange_keys(node) if turns else None
        mine = taken if own is None else {*own} if own[1] in node else taken | {own[0]}
        for key, found in node.items():
            if key in mine:
                if isinstance(found, (list, dict)):
                    todo.append(found)
            elif not is_empty(found):
                yield str(key), found, frozenset(map(str, node)) if len(node) < MANY else NO_KEYS


def _parsed_messages(text: str) -> object:
    """Read messages that stand as JSON in a text; None where it is other text."""
    if not text.startswith(("[{", '{"')) or len(text) > 1_000_000:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    listed = value if isinstance(value, list) else [value]
    roles = (isinstance(each, dict) and {"role", "from"} & each.keys() for each in listed)
    return value if all(roles) else None


def _sorted_out(entries: Iterable[Entry]) -> dict:
    """Sort entries by what is known of them; the gravest state of a name counts."""
    states: dict[str, dict[str, str]] = {"metadata": {}, "unread": {}, "content": {}}
    for entry in entries:
        reason = entry.reason()
        state = "content" if entry.is_content() else "metadata" if reason else "unread"
        states[state].setdefault(entry.name, reason or entry.says())
    for name in states["content"]:
        states["metadata"].pop(name, None)
        states["unread"].pop(name, None)
    for name in states["unread"]:
        states["metadata"].pop(name, None)
    return states


def _shown(name: object) -> str:
    return shorten(printable(str(name)), NAME)


def _listed(names: Iterable[str]) -> str:
    named = list(names)
    more = f", and {len(named) - SHOWN:,} more" if len(named) > SHOWN else ""
    return ", ".join(named[:SHOWN]) + more
