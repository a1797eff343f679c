"""What other tools' defaults mean, from the tables that `accord import` reads by."""

from __future__ import annotations

from accord.migrate.reading import Without
from accord.migrate.run import TOOLS
from making.text import literal, plain, table


def defaults(tool: str) -> str:
    """What a tool does where its file is silent: key, value, what that means."""
    rows = [
        (literal(each.key), literal(each.value), plain(each.means) or "–")
        for each in TOOLS[tool].defaults({})
    ]
    return table(("where the file says nothing of", "it is", "note"), rows)


def without(tool: str) -> str:
    """Keys that accord has nothing like, and what to do instead."""
    rows = [
        (literal(key), plain(rule.why))
        for key, rule in sorted(TOOLS[tool].rules.items())
        if isinstance(rule, Without)
    ]
    return table(("key", "instead"), rows)
