"""The reading of a judge's reply, as people and models write one: a JSON object, [[A]], \\boxed{A},
**A**, "Answer: A", "Response B wins", with or without the thoughts that led to it.

A reply is read only if it says one thing. Thoughts are cut off first. Then all its marked places
(objects, brackets, boxes, tags, lines such as "Verdict: B") must agree, and the words around them
be understood (prose.py); without any, the whole reply must be a value, or a sentence about which
answer is better and its reason. "A is good, but B is better" is not guessed at, nor is "[[A]]. On
second thought, B": it counts as unread, and is shown.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from accord.rewards.judges.prose import NOUN, claims, confirmed, introduced, sentence_behind

T = TypeVar("T")

LONGEST = 20_000  # characters of a reply without its thoughts; nobody needs as many for a verdict
MOST_OBJECTS = 20  # braces that are tried as the start of a JSON object
_THINK = r"(?:think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis)"
_OPEN, _CLOSE = rf"(?:<{_THINK}>|\[{_THINK}\])", rf"(?:</{_THINK}>|\[/{_THINK}\])"
CLOSED = re.compile(rf"{_OPEN}.*?{_CLOSE}", re.DOTALL | re.IGNORECASE)
CLOSING = re.compile(_CLOSE, re.IGNORECASE)
OPENING = re.compile(_OPEN, re.IGNORECASE)
# tokens with which chat templates end a turn, where a server leaves them in the reply
TURN_END = re.compile(r"(?:\s*(?:</s>|<\|\w{1,30}\|>|<eos>|<end_of_turn>))+\s*$", re.IGNORECASE)
WRAPPING = " \t\r\n*_`'\"“”‘’«»()[]{}<>$.,!;:"
MARKED = re.compile(
    r"\[\[(?P<brackets>[^\[\]\n]{1,60})\]\]"
    r"|\\boxed\s*\{(?:\\(?:text|mathrm|textbf|mathbf)\s*\{)?(?P<box>[^{}\n]{1,60})\}"
    r"|<(?P<tag>answer|verdict|winner|choice|score|rating)>(?P<inside>[^<>]{1,60})</(?P=tag)>",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of value that replies give: the names of its field, and the function that reads it."""

    keys: frozenset[str]  # of a JSON object, in lower case
    heads: str  # regular expression of the words in front of it: "Answer: "
    value: Callable[[str], T | None]  # reads a few words; None if they are no such value
    # reads a number of a JSON object; None where numbers are no such value
    number: Callable[[float], T | None] = lambda number: None
    # tells whether the words behind a value, given both, leave it as it is
    confirmed: Callable[[str, object], bool] = confirmed
    # the beginning of a value that a line goes on behind
    label: str = r"(?!)"


def without_thoughts(text: str) -> str | None:
    """Cut off the thoughts. Return None where they do not end: the reply was cut, and the answer is
    not there.
    """
    text = CLOSED.sub("", text)
    # templates that open the thoughts themselves leave only their end in the reply
    text = CLOSING.split(text)[-1]
    return None if OPENING.search(text) else TURN_END.sub("", text).strip()


def read_reply(text: object, kind: Kind[T]) -> T | None:
    """Read the one value that a reply gives in a marked place, or is as a whole."""
    if not isinstance(text, str) or (said := without_thoughts(text)) is None:
        return None
    if not said or len(said) > LONGEST:
        return None
    if (whole := kind.value(_bare(said))) is not None:
        return whole
    found, rest = _marked(said, kind)
    if not found or None in found or len(set(found)) > 1:
        return None
    return found[0] if kind.confirmed(rest, found[0]) else None


def plain_reply(text: object) -> str | None:
    """Return the reply without its thoughts if it has no marked place; else None."""
    said = without_thoughts(text) if isinstance(text, str) else None
    if not said or len(said) > LONGEST or said.startswith(("{", "[", "```")):
        return None
    return None if MARKED.search(said) else said


def _marked(said: str, kind: Kind[T]) -> tuple[list[T | None], str]:
    """Return the values of all marked places, None for one that cannot be read or whose sentence
    says more than it, and the text behind the last of them.
    """
    places: list[tuple[int, int, T | None]] = []
    hidden = said
    for start, end, node in _objects(said):
        if (fields := _fields(node, kind)) is not None:
            places += [(start, end, value) for value in fields]
        hidden = hidden[:start] + " " * (end - start) + hidden[end:]
    for m in MARKED.finditer(hidden):
        words = m["brackets"] or m["box"] or m["inside"]
        places.append((m.start(), m.end(), kind.value(_bare(words))))
    for pattern in (_lines(kind), _headings(kind)):
        # "The answer is [[A]]" is one place
        for m in pattern.finditer(hidden):
            if not MARKED.search(m["value"]):
                places.append((m.start(), m.end(), _line_value(m["value"], kind)))
    places.sort(key=lambda place: place[:2])
    found = []
    for i, (start, end, value) in enumerate(places):
        until = max(end, places[i + 1][0]) if i + 1 < len(places) else len(said)
        behind = sentence_behind(said[end:until])
        sound = introduced(said[:start]) and kind.confirmed(behind, value)
        found.append(value if sound else None)
    return found, said[max((end for _, end, _ in places), default=0) :]


def _fields(node: dict, kind: Kind[T]) -> list[T | None]:
    """Read the fields of an object that give the value. Another field that gives another one, or
    that takes it back, makes it unread.
    """
    names = {key: key.lower().replace(" ", "_") for key in node}
    found = [_from_json(node[key], kind) for key in node if names[key] in kind.keys]
    for key, value in node.items():
        if not found or names[key] in kind.keys:
            continue
        other = _from_json(value, kind) if RENAMED.search(names[key]) is None else None
        text = value if isinstance(value, str) else ""
        differs = other is not None and isinstance(other, str) and other != found[0]
        # a reason that calls the other one better
        differs = (differs and not LOSERS.search(names[key])) or bool(
            (claims(text) or set()) - {found[0]}
        )
        if differs or RETRACTED.search(text) or RENAMED.search(names[key]):
            found.append(None)
    return found


def _line_value(words: str, kind: Kind[T]) -> T | None:
    """Read what stands behind "Verdict:": a value, or one with its reason or confidence."""
    if (value := kind.value(_bare(words))) is not None:
        return value
    head = re.match(rf"[*_`'\"(\[ ]*{kind.label}[*_`'\")\]]*", words, re.IGNORECASE)
    value = kind.value(_bare(head[0])) if head else None
    return (
        value if head and value is not None and kind.confirmed(words[head.end() :], value) else None
    )


def _lines(kind: Kind) -> re.Pattern:
    """Match a line such as "**Final answer:** B", which holds nothing else behind its colon."""
    return re.compile(
        rf"^[ \t>*_#-]*(?:(?:so|therefore|thus|hence|overall|in conclusion),?\s+)?"
        rf"(?:(?:my|the|your|our)\s+)?(?:final\s+|overall\s+)?(?:{kind.heads})"
        r"[*_ \t]*(?:\bis\b|[:=]|->|→)[:*_ \t]*"
        rf"(?P<value>[^\n]{{1,60}}|[*_`'\"(\[ ]*{kind.label}[^\n]*)$",
        re.IGNORECASE | re.MULTILINE,
    )


def _headings(kind: Kind) -> re.Pattern:
    """Match a heading such as "## Verdict" or "Verdict:" with a value on the line below."""
    return re.compile(
        r"^[ \t>]*(?:#+|\*\*|__)?[*_ \t]*(?:(?:my|the)\s+)?(?:final\s+|overall\s+)?"
        rf"(?:{kind.heads})"
        rf"[*_: \t]*\n\s*(?P<value>[*_`'\"(\[ ]*{kind.label}[^\n]*)$",
        re.IGNORECASE | re.MULTILINE,
    )


def _objects(said: str) -> Iterator[tuple[int, int, dict]]:
    """Find the JSON objects of a text, fenced or bare, with their places."""
    decoder, at = json.JSONDecoder(object_pairs_hook=_once), 0
    for _ in range(MOST_OBJECTS):
        at = said.find("{", at)
        if at < 0:
            return
        try:
            node, end = decoder.raw_decode(said, at)
        except (ValueError, RecursionError):
            if (found := _literal(said, at)) is None:
                at += 1
                continue
            node, end = found
        yield at, end, node
        at = end


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make an object of its fields; one that is there twice has no value."""
    names = [name for name, _ in pairs]
    return {name: value if names.count(name) == 1 else None for name, value in pairs[:1000]}


def _literal(said: str, at: int) -> tuple[dict, int] | None:
    """Read an object as Python writes it, with single quotes."""
    if not (found := re.compile(r"\{[^{}]{1,2000}\}").match(said, at)):
        return None
    try:
        node = ast.literal_eval(found[0])
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    named = isinstance(node, dict) and all(isinstance(key, str) for key in node)
    return (node, found.end()) if named else None


def _from_json(value: object, kind: Kind[T]) -> T | None:
    if isinstance(value, str):
        return kind.value(_bare(value))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # 1e400 is infinite, and beyond every scale; so is an integer of as many digits
    return kind.number(math.inf if abs(value) > 1e300 else value)


def _bare(words: str) -> str:
    """Take marks of emphasis, quotes and brackets off both ends, and a fence."""
    if fenced := re.fullmatch(r"```\w*\s*(.*?)\s*```", words, re.DOTALL):
        words = fenced[1]
    return words.strip(WRAPPING)


# ---------------------------------------------------------------- which answer is better

# words of a field beside the verdict that take it back, and names of such fields
RETRACTED = re.compile(
    r"\b(?:second thoughts?|reconsider\w*|revised|correction|on reflection|edit:|scratch that"
    r"|my (?:final )?verdict is|i take (?:that|it) back)",
    re.IGNORECASE,
)
RENAMED = re.compile(
    r"revis|correct(?:ed|ion)|reconsider|edit|actual|not_|negat|final|second_th|retract"
)
LOSERS = re.compile(r"los|worse|worst|reject|other|second|runner")  # fields that name the other one
LABEL = re.compile(
    rf"(?:the\s+)?(?:{NOUN}\s*)?[\s*_`'\"(\[]*(?P<letter>[abc])[\s*_`'\")\]]*"
    r"(?:\s*(?:is\s+better|wins))?",
    re.IGNORECASE,
)
TIE = re.compile(
    r"(?:it(?:'|’)?s\s+|it\s+is\s+|this\s+is\s+)?(?:an?\s+)?(?:tie|tied|draw|equal|equally\s+good)"
    r"|no\s+preference"
    r"|both\s+(?:(?:answers|responses|assistants)\s+)?are\s+(?:equal|equally\s+(?:good|helpful))",
    re.IGNORECASE,
)
RANKED = re.compile(r"(?P<one>[ab])\s*(?P<how>>{1,3}|<{1,3}|={1,2}|≈|~)\s*(?P<other>[ab])", re.I)
_OF = {"a": "A", "b": "B", "c": "TIE"}


def read_label(words: str) -> str | None:
    """Read a few words as A, B or TIE: "A", "(b)", "Answer A", "tie", "C", "A>>B"."""
    if TIE.fullmatch(words):
        return "TIE"
    if found := LABEL.fullmatch(words):
        return _OF[found["letter"].lower()]
    if ranked := RANKED.fullmatch(words):
        one, other = ranked["one"].upper(), ranked["other"].upper()
        if one == other:
            return None
        return {">": one, "<": other}.get(ranked["how"][0], "TIE")
    return None


PREFERENCE = Kind(
    frozenset(
        (
            "verdict winner answer better better_answer better_response choice preferred preference"
            " preferred_answer result judgment judgement decision final_verdict final_answer best"
        ).split()
    ),
    r"answer|verdict|winner|choice|preference|judge?ment|decision|conclusion|result|(?:better|best"
    rf"|preferred|winning)\s+{NOUN}",
    read_label,
    label=rf"(?:(?:the\s+)?{NOUN}\s*)?[*_`'\"(\[]*[ABC]\b",
)


def read_preference(text: object) -> str | None:
    """Read which answer a reply prefers: A, B or TIE; None where it does not say one thing."""
    if (marked := read_reply(text, PREFERENCE)) is not None:
        return marked
    said = plain_reply(text)
    if said is None or _lines(PREFERENCE).search(said):
        return None
    found = claims(said)
    return found.pop() if found and len(found) == 1 else None


# ---------------------------------------------------------------- scores

# words behind a score that change it, or give another one
RESCORED = re.compile(
    r"\d|\b(?:other|second|reconsider\w*|revised?|edit|correction|instead|actually|wait|rather|no"
    r"|reflection|final|should|too\s+(?:high|low|generous|harsh)|lower|raise|raised|deduct\w*|minus"
    r"|plus|points?|one|two|three|four|five|six|seven|eight|nine|ten|zero|worst|format|example|if"
    r"|scratch|however|mistake|maximum|out\s+of)\b|(?:^|[.!\n])\s*but\b|\?",
    re.IGNORECASE,
)
NUMBER = r"[-+]?\d{1,20}(?:\.\d{1,20})?"


def score_kind(highest: float) -> Kind[float]:
    """Make the kind of a score: a number, alone or out of the highest of its scale."""
    out_of = re.compile(
        rf"(?P<number>{NUMBER})(?:\s*(?:/|out\s+of)\s*(?P<scale>{NUMBER}))?(?:\s*points?)?",
        re.ASCII | re.IGNORECASE,
    )

    def value(words: str) -> float | None:
        found = out_of.fullmatch(words)
        # 4/5 where 10 is the highest: of which scale it is cannot be known
        if not found or (found["scale"] and float(found["scale"]) != highest):
            return None
        return float(found["number"])

    def number(found: float) -> float | None:
        return float(found) if found == found else None

    keys: Sequence[str] = ("score", "rating", "grade", "final_score", "overall_score")
    return Kind(
        frozenset(keys),
        r"score|rating|grade|mark|(?:final|overall)\s+score",
        value,
        number,
        confirmed=lambda after, value: not RESCORED.search(after),
    )
