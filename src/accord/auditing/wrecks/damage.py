"""Texts that say one piece again and again, and texts that lost characters between words.

A loop is found by a few probes of each text: the same characters again at a small distance, then
the piece between them several times behind each other. A list, a table and a refrain differ from a
loop in that their pieces differ, hold marks, or are asked for.
"""

from __future__ import annotations

import re

from accord.auditing.wrecks.context import Asked
from accord.auditing.wrecks.whole import Hit

READ = 16_384  # characters that are looked at
# probes of a text, and their characters: one in eight lies in any loop of a fifth of a text
PROBES, PROBE = 8, 16
WINDOW = 700  # characters of the longest piece that is looked for
LEAST_LOOP = 60  # characters of the shortest text with a loop, and of a loop
TIMES, TIMES_SHORT, SHORT = 4, 10, 16  # repetitions; of a piece of so few characters, more
LOOP_SHARE = 0.2  # of the text that is the loop
PROSE = 0.9  # of a piece are letters, blanks and marks of prose: tables and code have others
PROSE_MARKS = frozenset(" .,!?'’;:，。、！？；：؟،।")
ASKED_FOR = re.compile(
    r"\b(?:repeat\w*|repetit\w*|times|song|lyrics?|poem|poetry|verse|chorus|refrain|chant|mantra"
    r"|rap|rhyme|prayer|spam|loop\w*|copy|over and over|again and again|again)\b",
    re.IGNORECASE,
)


def loop(text: str, asked: Asked) -> Hit | None:
    """Recognise an answer that says one piece again and again."""
    size = len(text)
    if size < LEAST_LOOP or asked.prompt is text:
        return None
    head = text[:READ]
    size = len(head)
    for at in range(0, size - PROBE, max(PROBE, size // PROBES)):
        again = head.find(head[at : at + PROBE], at + 1, at + WINDOW)
        if again > 0 and _loops(head, at, again - at):
            if "```" in head or ASKED_FOR.search(asked.end) or head[at:again] * 2 in asked.end:
                return None
            return Hit(head[at : at + 80])
    return None


def _loops(text: str, at: int, period: int) -> bool:
    """Return True if the piece at a place follows itself too often for a figure of speech."""
    piece = text[at : at + period]
    times = 1
    while text.startswith(piece, at + times * period):
        times += 1
    while at >= period and text.startswith(piece, at - period):
        at -= period
        times += 1
    covered = times * period
    if times < (TIMES_SHORT if period < SHORT else TIMES):
        return False
    if covered < max(LEAST_LOOP, LOOP_SHARE * len(text)):
        return False
    letters = sum(map(str.isalpha, piece))
    marks = sum(map(PROSE_MARKS.__contains__, piece)) + piece.count("\n")
    # a line of one or two words that recurs is a column of a table
    column = "\n" in piece and len(piece.split()) < 4
    return letters >= 0.5 * period and letters + marks >= PROSE * period and not column


CONTRACTION = re.compile(r"(?<![\w/=&?])[A-Za-z]{1,12}\?(?:t|s|re|ll|ve|d|m)(?![\w=/])")
HYPHEN = re.compile(r"[a-z]{2,}-\n[a-z]{2,}")
INSIDE = re.compile(r"(?<![\w/=&?.:-])[A-Za-z]{1,15}\?[a-z]{1,15}(?![\w=/&?])")
GLUED = re.compile(
    r"(?<![\w./@\\-])[a-z]{2,20}[.!?:](?:[A-Z][a-z]+(?=[ ,])|\d{1,2}\. [A-Z]|[-*•] [A-Z])"
)
# what the costlier ones need: most texts have none
ASKED_INSIDE = re.compile(r"\?[a-z]")
UNSPACED = re.compile(r"[.!?:](?:[A-Z][a-z]|\d|[-*•] )")
LEAST_GLUED, GLUED_SHARE = 2, 0.1  # places, and their share of all ends of sentences


def damaged(text: str, asked: Asked) -> Hit | None:
    """Recognise marks turned into question marks, words broken at lines, and lines glued together.

    The prompt may be damaged as well; a text about such damage, and code, are not looked at.
    """
    head = text[:READ]
    places = []
    if "?" in head and ASKED_INSIDE.search(head):
        places += [found.start() for found in CONTRACTION.finditer(head)][:2]
        inside = [] if places else [found.start() for found in INSIDE.finditer(head)]
        places += inside if len(inside) > 1 else []
    if "-\n" in head:
        broken = [found.start() for found in HYPHEN.finditer(head)]
        places += broken if len(broken) > 1 else []
    if not places and "\n" not in head and UNSPACED.search(head):
        glued = [found.start() for found in GLUED.finditer(head)]
        if len(glued) >= max(LEAST_GLUED, GLUED_SHARE * head.count(". ")):
            places = glued
    if not places or "```" in head or asked.code:
        return None
    return Hit(head[max(0, places[0] - 25) : places[0] + 40])
