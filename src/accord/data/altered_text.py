"""Alterations of a text: how a chat template's version of it differs from the row's, in words."""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SHOWN = 60  # characters of a changed text that are shown


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between a row's text and what its template made of it."""

    cause: str  # the same words for every such row: "the template drops a system turn"
    before: str  # the beginning of the text as the row has it
    after: str  # and of what stands in its place
    # the model sees the same at inference, and nothing of the answer is lost: reported, not refused
    mild: bool = False
    piece: int | None = None  # of a change that all rows of a shape share: whose text `before` is

    @property
    def detail(self) -> str:
        return f"{_shown(self.before)} became {_shown(self.after)}"


def _shown(text: str) -> str:
    cut = text if len(text) <= SHOWN else text[:SHOWN] + "…"
    return json.dumps(cut, ensure_ascii=False)


def _without_edges(text: str) -> Iterator[str]:
    yield text.rstrip()
    yield text.lstrip()
    yield text.strip()
    yield text.strip("\n")
    yield text.rstrip("\n")
    yield text.lstrip("\n")


def _joined(blanks: re.Match) -> str:
    return " " if "\n" in blanks[0] else blanks[0]


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


# What templates do to a text, by name: functions whose result stands in its place.
ALTERED: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("lower-cases", str.lower),
    ("upper-cases", str.upper),
    ("capitalises", str.capitalize),
    ("capitalises", str.title),
    ("joins the lines of", lambda text: re.sub(r"\s+", _joined, text)),
    ("joins the lines of", lambda text: text.replace("\n", " ")),
    ("joins the lines of", lambda text: text.replace("\n", "")),
    ("folds the blanks of", lambda text: " ".join(text.split())),
    ("folds the blanks of", lambda text: re.sub(r"[ \t]+", " ", text)),
    ("folds the line breaks of", lambda text: re.sub(r"\n+", "\n", text)),
    ("escapes", html.escape),
    ("escapes", lambda text: json.dumps(text, ensure_ascii=False)),
    ("escapes", json.dumps),
    ("escapes", _in_json),  # where the quotes are the template's own
    ("escapes", lambda text: json.dumps(text)[1:-1]),
    ("normalises characters of", lambda text: unicodedata.normalize("NFC", text)),
    ("normalises characters of", lambda text: unicodedata.normalize("NFKC", text)),
)


def beginning_of_difference(text: str, made: str, mild: bool) -> str:
    """Return the part of a text where it differs."""
    if mild and len(text) > SHOWN:
        return "…" + text[-SHOWN // 2 :] if text.rstrip() == made else text
    both = enumerate(zip(text, made, strict=False))  # up to the end of the shorter one
    at = next((i for i, (a, b) in both if a != b), len(made))
    return text[max(0, at - 20) :] if at > 20 else text


def what_became_of(
    text: str, rendered: str, position: int, behind: str, final: bool
) -> tuple[str, str, bool]:
    """Return what the template did to a text (a verb, empty for nothing), what stands in its place,
    and whether that is mild.
    """

    def fits(made: str) -> bool:
        stop = position + len(made)
        if not rendered.startswith(made, position) or not rendered.startswith(behind, stop):
            return False
        return not final or len(rendered) == stop + len(behind)

    if fits(text):
        return "", text, False
    for made in _without_edges(text):
        if fits(made):
            return "removes the blanks at the edges of", made, True
    for verb, change in ALTERED:
        for made in (change(text), change(text.strip())):
            if made != text and fits(made):
                return verb, made, False
    found = rendered.find(text, position)
    if found > position and fits(rendered[position : found + len(text)]):
        made = rendered[position : found + len(text)]
        return "writes text of its own beside", made, False
    if rendered.startswith(text, position):
        return "", text, False  # what differs stands behind it
    stop = (
        len(rendered) - len(behind)
        if final
        else rendered.find(behind, position)
        if behind
        else position
    )
    made = rendered[position : max(stop, position)]
    if not made.strip():
        return "drops", made, False
    if text.startswith(made) or text.endswith(made):
        return "cuts", made, False
    return "changes", made, False


def divergence(text: str, full: str) -> str:
    """Show where a prompt that was rendered alone differs from the one in a conversation."""
    both = enumerate(zip(text, full, strict=False))  # up to the end of the shorter one
    at = next((i for i, (a, b) in both if a != b), min(len(text), len(full)))
    return f"alone …{json.dumps(text[at : at + 30])}, in context …{json.dumps(full[at : at + 30])}"
