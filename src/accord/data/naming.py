"""Names of columns as a reader wants them: renamed, ignored, and spelled as a command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from accord.config.columns import parse_columns, parse_names, spell_columns, spell_names

# a message, or an answer with its scores, has one of these keys
SPOKEN = frozenset("role from type content text response answer completion output".split())
DEPTH = 4  # lists and objects of messages inside each other


@dataclass(frozen=True)
class Naming:
    """The caller's word on a file's columns.

    Args:
      names: {name expected: column of the file}.
      ignored: columns, or keys of messages, that are no content and are not read.
      lenient: the names were given for another file, and apply where this one has them.
      format: the name of the only format to read by; "auto" finds each row's own.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    lenient: bool = False
    format: str = "auto"

    @classmethod
    def of(
        cls,
        columns: object = None,
        ignore: object = None,
        lenient: bool = False,
        format: str = "auto",
    ) -> Naming:
        """Make a naming of what a caller gives; raises UsageError for what is no mapping."""
        return cls(parse_columns(columns), parse_names(ignore), lenient, format)

    def apply(self, columns: dict) -> dict:
        """Return the row as a format shall see it."""
        columns = self.spread(columns)
        if self.ignored:
            columns = self._without_ignored(columns)
        names = self.applied(columns)
        return rename_columns(columns, names) if names else columns

    def spread(self, columns: dict) -> dict:
        """Return the row with each object that a dotted name points into laid out as columns of
        their own, so that every part of it is accounted for: outputs.win and outputs.lose.
        """
        for name in (*self.names.values(), *self.ignored):
            if "." in name and name not in columns:
                columns = spread_column(columns, name)
        return columns

    def applied(self, columns: dict) -> Mapping[str, str]:
        """Return the names that apply to a row."""
        if not self.lenient or all(found in columns for found in self.names.values()):
            return self.names
        return {e: f for e, f in self.names.items() if f in columns and e not in columns}

    def keys_in(self, columns: dict) -> set[str]:
        """Return the ignored names that are keys of messages in a row."""
        keys = [name for name in self.ignored if name not in columns]
        return {
            key
            for key in keys
            if any(_without_keys(value, [key], DEPTH) != value for value in columns.values())
        }

    def _without_ignored(self, columns: dict) -> dict:
        kept = {name: value for name, value in columns.items() if name not in self.ignored}
        keys = [name for name in self.ignored if name not in columns]
        if not keys:
            return kept
        return {name: _without_keys(value, keys, DEPTH) for name, value in kept.items()}

    def file_name(self, name: str) -> str:
        """Return the file's own name of a column that was read under another."""
        return self.names.get(name, name)

    def options(
        self,
        names: Mapping[str, str] | None = None,
        ignored: tuple[str, ...] = (),
        alone: bool = False,
    ) -> str:
        """Write the options of a command line, with further names and ignored columns.

        Args:
          alone: the further names stand in place of the naming's own.
        """
        further = names or {}
        own = {} if self.lenient or alone else self.names
        columns = {n: c for n, c in own.items() if c not in further.values()} | {**further}
        gone = (*self.ignored, *(name for name in ignored if name not in self.ignored))
        out = [f"--columns {shlex.quote(spell_columns(columns))}"] if columns else []
        out += [f"--ignore-columns {shlex.quote(spell_names(gone))}"] if gone else []
        out += [f"--format {shlex.quote(self.format)}"] if self.format != "auto" else []
        return " ".join(out)


PLAIN = Naming()


def command(file: str, options: str) -> str:
    """Write a command that reads this very file with the options."""
    named = f"./{file}" if file.startswith("-") else file  # else it would be an option
    path = "-" if file == "standard input" else shlex.quote(named)
    return f"accord audit {path} {options}".rstrip()


def rename_columns(columns: dict, names: Mapping[str, str]) -> dict:
    """Return the row with columns under the expected names. A column renamed by hand takes
    precedence over one that has the name already.
    """
    given = {expected: columns[found] for expected, found in names.items() if found in columns}
    return {name: value for name, value in columns.items() if name not in names.values()} | given


def spread_column(columns: dict, path: str) -> dict:
    """Lay out the objects on the way to a dotted name as columns, in their place. The row stays as
    it is where no object is there, or a part would get the name of another column.
    """
    while path not in columns:
        parts = path.split(".")
        above = (".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
        name = next((one for one in above if isinstance(columns.get(one), dict)), None)
        if name is None:
            return columns
        inner = {f"{name}.{key}": value for key, value in columns[name].items()}
        if inner.keys() & columns.keys() or not inner:
            return columns
        columns = {
            key: each
            for one, value in columns.items()
            for key, each in (inner if one == name else {one: value}).items()
        }
    return columns


def _without_keys(value: object, keys: list[str], depth: int) -> object:
    """Return messages without some of their keys."""
    if not depth or not isinstance(value, (list, dict)):
        return value
    if isinstance(value, list):
        return [_without_keys(each, keys, depth - 1) for each in value]
    message = bool(SPOKEN & value.keys())
    return {
        name: _without_keys(each, keys, depth - 1)
        for name, each in value.items()
        if not (message and name in keys)
    }
