"""The reading of a judge's reply, as people and models write one: a JSON object, [[A]], \\boxed{A},
**A**, "Answer: A", "Response B wins", with or without the thoughts that led to it.

A reply is read only if it says one thing. Thoughts are cut off first. Then all its marked places
(objects, brackets, boxes, tags, lines such as "Verdict: B") must agree; without any, the whole
reply must be a value, or one sentence about which answer is better that nothing beside it
qualifies. "A is good, but B is better" is not guessed at: it counts as unread, and is shown.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

LONGEST = 20_000  # characters of a reply without its thoughts; nobody needs as many for a verdict
MOST_OBJECTS = 20  # braces that are tried as the start of a JSON object
_THINK = r"(?:think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis)"
CLOSED = re.compile(rf"<{_THINK}>.*?</{_THINK}>", re.DOTALL | re.IGNORECASE)
CLOSING = re.compile(rf"</{_THINK}>", re.IGNORECASE)
OPENING = re.compile(rf"<{_THINK}>", re.IGNORECASE)
WRAPPING = " \t\r\n*_`'\"“”‘’«»()[]{}<>$.,!;:"
MARKED = re.compile(
    r"\[\[(?P<brackets>[^\[\]\n]{1,60})\]\]"
    r"|\\boxed\s*\{(?:\\(?:text|mathrm|textbf|mathbf)\s*\{)?(?P<box>[^{}\n]{1,60})\}"
    r"|<(?P<tag>answer|verdict|winner|choice|score|rating)>(?P<inside>[^<>]{1,60})</(?P=tag)>",
    re.IGNORECASE,
)
# words before a marked place that take it back, or offer it as one of several
TAKEN_BACK = re.compile(
    r"\b(?:not|never|neither|nor|or|isn't|cannot|can't|either|whether|if)\b[^\w\n]*$", re.IGNORECASE
)
# words that make a plain sentence no verdict
QUALIFIED = re.compile(
    r"\b(?:but|however|although|though|while|whereas|yet|except|unless|not|never|neither|nor|if"
    r"|would|could|might|may|perhaps|maybe|possibly|probably|seems?|unsure|unclear|depends?|hard"
    r"|difficult|cannot|can|or|nearly|almost|both)\b|n't\b|n’t\b|\?",
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


def without_thoughts(text: str) -> str | None:
    """Cut off the thoughts. Return None where they do not end: the reply was cut, and the answer is
    not there.
    """
    text = CLOSED.sub("", text)
    # templates that open the thoughts themselves leave only their end in the reply
    text = CLOSING.split(text)[-1]
    return None if OPENING.search(text) else text.strip()


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
    return found[0] if not contradicted(rest, found[0], kind) else None


def plain_reply(text: object) -> str | None:
    """Return the reply without its thoughts if it has no marked place; else None."""
    said = without_thoughts(text) if isinstance(text, str) else None
    if not said or len(said) > LONGEST or said.startswith(("{", "[", "```")):
        return None
    return None if MARKED.search(said) else said


def contradicted(after: str, value: object, kind: Kind) -> bool:
    """Tell whether what follows the last marked place takes it back."""
    return bool(re.search(r"\b(?:wait|actually|correction|no,|rather|scratch that)\b", after, re.I))


def _marked(said: str, kind: Kind[T]) -> tuple[list[T | None], str]:
    """Return the values of all marked places, None for one that cannot be read, and the text behind
    the last of them.
    """
    found: list[T | None] = []
    last = 0
    for start, end, node in _objects(said):
        for key, value in node.items():
            if key.lower().replace(" ", "_") in kind.keys:
                found.append(_from_json(value, kind))
                last = max(last, end)
        said = said[:start] + " " * (end - start) + said[end:]
    places = [(m, m["brackets"] or m["box"] or m["inside"]) for m in MARKED.finditer(said)]
    # "The answer is [[A]]" is one place
    lines = (m for m in _lines(kind).finditer(said) if not MARKED.search(m["value"]))
    places += [(m, m["value"]) for m in lines]
    for match, words in places:
        taken_back = TAKEN_BACK.search(said[max(0, match.start() - 40) : match.start()])
        found.append(None if taken_back else kind.value(_bare(words)))
        last = max(last, match.end())
    return found, said[last:]


def _lines(kind: Kind) -> re.Pattern:
    """Match a line such as "**Final answer:** B", which holds nothing else behind its colon."""
    return re.compile(
        rf"^[ \t>*_#-]*(?:(?:so|therefore|thus|hence|overall|in conclusion),?\s+)?"
        rf"(?:(?:my|the|your|our)\s+)?(?:final\s+|overall\s+)?(?:{kind.heads})"
        r"[*_ \t]*(?:\bis\b|[:=]|->|→)[:*_ \t]*(?P<value>[^\n]{1,60})$",
        re.IGNORECASE | re.MULTILINE,
    )


def _objects(said: str) -> Iterator[tuple[int, int, dict]]:
    """Find the JSON objects of a text, fenced or bare, with their places."""
    decoder, at = json.JSONDecoder(), 0
    for _ in range(MOST_OBJECTS):
        at = said.find("{", at)
        if at < 0:
            return
        try:
            node, end = decoder.raw_decode(said, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        yield at, end, node
        at = end


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

NOUN = r"(?:answer|response|assistant|option|model|candidate|output|completion|reply|choice)"
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
BETTER = (
    r"(?:(?:clearly|much|slightly|definitely|far|significantly|overall|simply|still)\s+)*"
    r"(?:the\s+)?(?:clear\s+)?"
    r"(?:better|best|superior|preferred|preferable|stronger|winner|more\s+helpful)"
    r"(?:\s+(?:one|answer|response|choice|option))?"
)
_MARKS = r"[\s*_`'\"(\[]*"
_ENDS = r"[*_`'\")\]]*"
_LETTER = rf"(?:{NOUN}\s*)?{_MARKS}(?P<{{0}}>[AB])\b{_ENDS}"
_THAN = rf"(?:\s+(?:than|over|to)\s+(?:the\s+)?(?:{NOUN}\s*)?{_MARKS}(?P<than{{0}}>[AB])\b{_ENDS})?"
SENTENCE = re.compile(
    "|".join(
        (
            rf"(?:the\s+)?{_LETTER.format('s1')}\s+(?:is|was)\s+{BETTER}{_THAN.format(1)}",
            rf"(?:the\s+)?{_LETTER.format('s2')}\s+(?:wins|won)\b",
            r"(?:the\s+)?(?:better|best|preferred|winning|superior)\s+"
            rf"(?:one|{NOUN})\s+is\s+(?:the\s+)?{_LETTER.format('s3')}",
            rf"(?:the\s+)?winner\s+is\s+(?:the\s+)?{_LETTER.format('s4')}",
            r"\bI\s+(?:(?:would|clearly|strongly|slightly)\s+)?(?:prefer|choose|pick|go\s+with)\s+"
            rf"(?:the\s+)?{_LETTER.format('s5')}{_THAN.format(5)}",
        )
    ),
    re.IGNORECASE,
)
MENTION = re.compile(
    rf"\b[AB]\b|\b{NOUN}\s+[ab]\b|\bother\b|\bformer\b|\blatter\b|\btie\b|\bdraw\b"
)


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
)


def read_preference(text: object) -> str | None:
    """Read which answer a reply prefers: A, B or TIE; None where it does not say one thing."""
    if (marked := read_reply(text, PREFERENCE)) is not None:
        return marked
    said = plain_reply(text)
    if said is None or _lines(PREFERENCE).search(said):
        return None
    return _sentence(said)


def _sentence(said: str) -> str | None:
    """Read plain prose: one statement or several that agree, and nothing beside them that mentions
    an answer or qualifies what was said.
    """
    found = set()
    for match in SENTENCE.finditer(said):
        groups = {name: letter.upper() for name, letter in match.groupdict().items() if letter}
        chosen = next(letter for name, letter in groups.items() if name.startswith("s"))
        if any(letter == chosen for name, letter in groups.items() if name.startswith("than")):
            return None
        found.add(chosen)
    rest = SENTENCE.sub(" ", said)
    if len(found) != 1 or QUALIFIED.search(rest) or MENTION.search(rest):
        return None
    return found.pop()


# ---------------------------------------------------------------- scores

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
        frozenset(keys), r"score|rating|grade|mark|(?:final|overall)\s+score", value, number
    )
