"""Containers, formats, names of columns, markers of turns, what --fix removes, and the audit's
limits: their own tables, shown.
"""

from __future__ import annotations

import re
from itertools import product

from accord.auditing.fix import RULES
from accord.auditing.thresholds import THRESHOLDS
from accord.data.chat_marks import FAMILIES as MARKS
from accord.data.containers import KINDS
from accord.data.convert import WRITERS
from accord.data.formats.guesses import SIDES
from accord.data.formats.table import FORMATS
from accord.data.formats.transcripts import FAMILIES as TRANSCRIPTS
from accord.data.metadata import ANY, CONTENT, METADATA, SHORT
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


def containers() -> str:
    """Every container that is read."""
    return table(
        ("container", "names", "what"),
        [
            (f"**{each.name}**", ", ".join(map(literal, each.suffixes)) or "–", plain(each.says))
            for each in KINDS
        ],
    )


# Parts of a pattern that a name may lack: groups and letters with a question mark, further digits.
OPTIONAL = re.compile(r"\((?:[^()]|\([^()]*\))*\)[?*]|\w\?|\\d\*")


def names(pattern: str) -> list[str]:
    """List the names that a pattern of the table of columns stands for, each in its shortest form;
    "…" stands for any text.
    """
    text = OPTIONAL.sub("", pattern.replace("_?", "_").replace("\\d+", "0"))
    text = re.sub(r"\[(\w)[\w-]*\]", r"\1", text)
    text = re.sub(r"\.[+*]", "…", text)
    found: list[str] = []
    for branch in re.split(r"\|(?![^()]*\))", text):
        parts = [part.split("|") for part in re.split(r"[()]", branch)]
        found += ["".join(words) for words in product(*parts)]
    return list(dict.fromkeys(found))


def metadata() -> str:
    """Names that are known to hold no content, with the reason."""
    rows = [(plain(each.reason), _longest(each.longest), _names(each.names)) for each in METADATA]
    return table(("nothing is lost, since it is", "texts", "names, such as"), rows)


def _longest(mean: int) -> str:
    """Say which texts of a metadata column its name is believed for."""
    return {ANY: "any", SHORT: "no prose"}.get(mean, f"up to {mean} characters on average")


def content_names() -> str:
    """Names that carry content: read, or the file is refused."""
    return table(
        ("content", "names, such as"), [(plain(each.what), _names(each.names)) for each in CONTENT]
    )


def _names(pattern: str) -> str:
    return ", ".join(map(literal, names(pattern)))


def guesses() -> str:
    """Names of the two sides that are guessed."""
    return ", ".join(literal(f"{better}/{worse}") for better, worse in SIDES)


def transcripts() -> str:
    """Markers of the turns of a transcript."""
    return ", ".join(literal(each.name) for each in TRANSCRIPTS)


def marks() -> str:
    """Models whose marks are known."""
    return ", ".join(map(plain, MARKS))


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
