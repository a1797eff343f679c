"""Formats, what --fix removes, and the audit's limits: their own tables, shown."""

from __future__ import annotations

from accord.auditing.fix import RULES
from accord.auditing.thresholds import THRESHOLDS
from accord.data.convert import WRITERS
from accord.data.formats.table import FORMATS
from making.text import literal, plain, table


def formats() -> str:
    """Every format in the order in which they are tried, what it needs and what else it reads."""
    return table(
        ("format", "rows", "needs the columns", "reads too, where they are there"),
        [
            (f"**{each.name}**", each.kind, _columns(each.needs), _columns(each.reads) or "–")
            for each in FORMATS
        ],
    )


def _columns(choices: tuple[str, ...]) -> str:
    return ", ".join(" or ".join(map(literal, choice.split("|"))) for choice in choices)


def writers() -> str:
    """Formats that `accord convert` writes."""
    return ", ".join(map(literal, WRITERS))


def fixes() -> str:
    """What `accord audit --fix` can remove, and what it does by itself."""
    rows = [
        (
            literal(n),
            plain(r.says),
            "yes" if r.default else f"with `--drop {n}`",
            ", ".join(r.kinds),
        )
        for n, r in RULES.items()
    ]
    return table(("name", "a row goes if it is", "by itself", "rows"), rows)


def thresholds() -> str:
    """The audit's limits, each with its reason."""
    return table(
        ("limit", "value", "why there"),
        [(literal(n), f"{t.value:,g}", plain(t.reason)) for n, t in THRESHOLDS.items()],
    )
