"""Words for content that nothing reads: what it is, where it stands, and commands that work with
this very file.
"""

from __future__ import annotations

from collections.abc import Callable

from accord.data.metadata import normalised
from accord.data.naming import Naming, command
from accord.data.texts import strings
from accord.data.unread import ColumnAccount, Entry
from accord.errors import plural, printable, shorten

TRIED = 4  # columns that a way to read them is looked for
# the name under which a format may take a column, by the content that its name says it holds
TAKES = {
    "instructions to the model": ("system",),
    "turns of a conversation": ("history", "input"),
    "what the question is about": ("input",),
    "what the instruction works on": ("input",),
    "choices to answer from": ("input",),
    "tools that the model may call": ("tools",),
    "options of the chat template": ("chat_template_kwargs",),
    "": ("input",),
}

# whether a row of the file can be read by a naming, and the columns that are read then
Try = Callable[[dict, Naming], set[str] | None]


def refusal(account: ColumnAccount, file: str, attempt: Try) -> str:
    """Say what content of the file nothing reads, and what to do; empty where there is none."""
    columns, keys = account.content, account.content_keys
    if not columns and not keys:
        return ""
    lines = [f"{file}: it holds content that nothing reads, so that the model would not see it:"]
    lines += [f"  column {_described(each, account, file)}" for each in columns[:6]]
    lines += [f"  message key {_described(each, account, file)}" for each in keys[:6]]
    for words, options in remedies(account, attempt):
        lines.append(f"{words}:\n  {command(file, options)}")
    lines.append(
        "The same options serve every command that reads data; in a recipe and in Python they are"
        " data.columns and data.ignore_columns."
    )
    return "\n".join(lines)


def remedies(account: ColumnAccount, attempt: Try) -> list[tuple[str, str]]:
    """Return (words, options of a command) of each way out; the last always works."""
    naming = account.naming
    names: dict[str, str] = {}
    for entry in account.content[:TRIED]:
        names |= _way_to_read(entry, naming, names, attempt)
    left = [e.name for e in account.content if e.name not in names.values()]
    left += [entry.name for entry in account.content_keys]
    found = []
    if names:
        options = naming.options(names, tuple(dict.fromkeys(left)))
        more = " and leave out the rest" if left else ""
        found.append((f"To read it{more}", options))
    gone = tuple(dict.fromkeys(e.name for e in (*account.content, *account.content_keys)))
    found.append(("If the model is not meant to see it", naming.options(ignored=gone)))
    return found


def _way_to_read(entry: Entry, naming: Naming, taken: dict, attempt: Try) -> dict[str, str]:
    """Return {name: column} under which a format takes the column, tried on its first row."""
    if entry.sample is None:
        return {}
    what = getattr(entry.verdict, "what", "")
    whole = _repeats_the_row(entry)
    for name in TAKES.get(what, ()):
        if whole and name in ("history", "input"):
            continue  # a copy of the row and more: the question would stand twice in the prompt
        if name in entry.sample or name in taken or name == normalised(entry.name):
            continue
        names = {**naming.names, **taken, name: entry.name}
        read = attempt(entry.sample, Naming(names, naming.ignored))
        if read is not None and {name, *taken} <= read:
            return {name: entry.name}
    return {}


def _repeats_the_row(entry: Entry) -> bool:
    """Tell whether a column holds a text of another column, as a whole conversation does."""
    row = entry.sample or {}
    own = {text.strip() for text in strings(row.get(entry.name)) if text.strip()}
    return any(value.strip() in own for value in row.values() if isinstance(value, str)) and not (
        isinstance(row.get(entry.name), str)
    )


def _described(entry: Entry, account: ColumnAccount, file: str) -> str:
    name = shorten(printable(entry.name), 60)
    sample = f": {shorten(printable(entry.sketch.sample), 50)!r}" if entry.sketch.sample else ""
    return (
        f"{name!r} ({entry.says()} in {plural(account.rows, 'row')} used; first at"
        f" {file}:{entry.first}{sample})"
    )
