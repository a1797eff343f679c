"""The words around a verdict, and verdicts in plain words: only what is understood is read.

Whatever takes a verdict back can be put in endless ways, so no list of such words is relied on: the
words in front of a verdict must all be known ones ("So my final verdict is"), and those behind it
must be a reason, a confidence or a statement that says the same. Anything else leaves it unread.
"""

from __future__ import annotations

import re

NOUN = r"(?:answer|response|assistant|option|model|candidate|output|completion|reply|choice)"
# words in front of a verdict that leave it as it is
NEUTRAL = frozenset(
    (
        "so therefore thus hence overall in conclusion summary to summarize sum finally after"
        " careful comparison consideration review analysis evaluation based on this the above my"
        " your our final verdict winner answer response assistant option choice preference"
        " preferred judgment judgement decision result is it here i think believe that choose pick"
        " prefer select go with better best winning superior one json object output as requested"
        " opinion view score rating grade mark and am will be conclude clearly definitely"
    ).split()
)
BETTER = (
    r"(?:(?:clearly|much|slightly|definitely|far|significantly|overall|simply|still)\s+)*"
    r"(?:the\s+)?(?:clear\s+)?"
    r"(?:better|best|superior|preferred|preferable|stronger|winner|more\s+helpful)\b"
    r"(?:\s+(?:one|answer|response|choice|option)\b)?"
)
_MARKS = r"[\s*_`'\"(\[]*"
_ENDS = r"[*_`'\")\]]*"
_LETTER = rf"\b(?:{NOUN}\s*)?{_MARKS}\b(?P<{{0}}>[AB])\b{_ENDS}"
_THAN = rf"(?:\s+(?:than|over|to)\s+(?:the\s+)?(?:{NOUN}\s*)?{_MARKS}(?P<than{{0}}>[AB])\b{_ENDS})?"
SENTENCE = re.compile(
    "|".join(
        (
            rf"(?:the\s+)?{_LETTER.format('s1')}\s+(?:is|was)\s+{BETTER}{_THAN.format(1)}",
            rf"(?:the\s+)?{_LETTER.format('s2')}\s+(?:wins|won)\b",
            r"(?:the\s+)?\b(?:better|best|preferred|winning|superior)\s+"
            rf"(?:one|{NOUN})\s+is\s+(?:the\s+)?{_LETTER.format('s3')}",
            rf"(?:the\s+)?\bwinner\s+is\s+(?:the\s+)?{_LETTER.format('s4')}",
            r"\bI\s+(?:(?:would|clearly|strongly|slightly)\s+)?(?:prefer|choose|pick|go\s+with)\s+"
            rf"(?:the\s+)?{_LETTER.format('s5')}{_THAN.format(5)}",
        )
    ),
    re.IGNORECASE,
)
# what is said of the marked place that stands in front of it: "[[A]] is better than B"
PREDICATE = re.compile(rf"(?:is|was)\s+{BETTER}{_THAN.format(6)}|(?:wins|won)\b", re.IGNORECASE)
REASON = re.compile(
    r"(?:because|since|due\s+to|owing\s+to|as\s+(?:it|its|this|they)\b"
    r"|(?:reason|reasoning|explanation|rationale|justification)[*_]*\s*:)",
    re.IGNORECASE,
)
CONFIDENCE = re.compile(
    r"confidence(?:\s+(?:level|score))?[*_]*\s*[:=]?[*_\s]*"
    r"(?:(?:[5-9]\d|100)(?:\.\d+)?\s*%|0?\.[5-9]\d*|1\.0|high)(?![\w%])\)?",
    re.IGNORECASE,
)
# words that make a reason none, or more than a reason
QUALIFIED = re.compile(
    r"\b(?:but|however|although|though|while|whereas|yet|except|unless|not|never|neither|nor|if"
    r"|would|could|might|may|perhaps|maybe|possibly|probably|seems?|unsure|unclear|depends?|hard"
    r"|difficult|cannot|can|or|nearly|almost|both|instead|actually|final|finally|revised|edit"
    r"|correction|reconsider\w*|reflection|second|first|wait|rather|scratch|no|none|nothing|nobody"
    r"|hardly|wrong|incorrect|false|untrue|invent\w*|l(?:ie|ies|ying)|kidding|joke|format|example"
    r"|only|must|forced|terrible|worthless|useless|fail\w*|bad|poor\w*)\b|n't\b|n’t\b|\?",
    re.IGNORECASE,
)
LOSING = re.compile(
    r"\b(?:los(?:er|es|ing|t)|worse|worst|weak(?:er|est)?|inferior|avoid\w*|reject\w*|against"
    r"|least|last|never|not|n't|but|instead|unless|if|format|example|template|following|below)\b",
    re.IGNORECASE,
)
ANNOUNCED = re.compile(
    r"\b(?:loser|following|below|example|format|template|not|revers\w*|opposite)\b", re.I
)
MENTION = re.compile(
    rf"\b[AB]\b|\b{NOUN}\s+[ab]\b|\bother\b|\bformer\b|\blatter\b|\btie\b|\bdraw\b"
)
END = re.compile(r"[.!](?=[\s*_`'\")]|$)|\n|$")  # of a sentence
BLANK = " \t\r\n*_`'\"“”‘’«»()[]{}<>$.,!;:—–-"


def introduced(before: str) -> bool:
    """Tell whether the words in front of a marked place leave it as it is: those of its sentence
    are all known ones, and the line above does not announce something else.
    """
    before = re.sub(r"```\w*\s*$", "", before).rstrip(" \t*_`'\"“#>$([{")
    *above, line = before.rsplit("\n", 1)
    *sentences, own = re.split(r"[.!?](?:\s+|$)", line)
    if own.strip(BLANK):
        return neutral(own)
    if any(one.strip() for one in sentences):
        return not ANNOUNCED.search(next(one for one in sentences[::-1] if one.strip()))
    previous = (above[0] if above else "").rstrip(" \t\r\n*_`").rsplit("\n", 1)[-1].strip()
    last = re.split(r"[.!?]\s+", previous)[-1]
    if previous.endswith(":") or (previous.startswith("#") and last):
        return neutral(last)
    if previous.endswith((".", "!", "?")):
        return not ANNOUNCED.search(last)
    return not LOSING.search(last)


def neutral(words: str) -> bool:
    """Tell whether all words are known ones that leave a verdict as it is."""
    return all(word in NEUTRAL for word in re.findall(r"[^\W_]+", words.lower()))


def claims(text: str) -> set[str] | None:
    """Return the answers that a text calls better; None if it holds more than these and their
    reasons.
    """
    found: set[str] = set()
    text = text.strip(BLANK)
    while text:
        end = 0
        if known := CONFIDENCE.match(text):
            end = known.end()
        elif REASON.match(text):
            end = _end(text)
            said = text[REASON.match(text).end() : end]  # type: ignore[union-attr]
            if any(words.search(said) for words in (QUALIFIED, LOSING, MENTION)):
                return None
        elif (match := SENTENCE.search(text)) and neutral(text[: match.start()]):
            if (chosen := _chosen(match)) is None:
                return None
            found.add(chosen)
            end = _after(text, match.end())
        if not end:
            return None
        text = text[end:].lstrip(BLANK)
    return found


def confirmed(after: str, value: object) -> bool:
    """Tell whether the words behind a marked place say nothing but why, how surely, or the same."""
    text = after.strip(BLANK)
    if match := PREDICATE.match(text):
        other = match["than6"]
        if value not in ("A", "B") or (other and other.upper() == value):
            return False
        if not (end := _after(text, match.end())):
            return False
        text = text[end:]
    found = claims(text)
    return found is not None and found <= {value}


def sentence_behind(after: str) -> str:
    """Return the rest of the sentence."""
    return after[: _end(after)]


def _end(text: str) -> int:
    found = END.search(text)
    return found.end() if found else len(text)


def _after(text: str, at: int) -> int:
    """Return where a statement ends, which nothing but a reason or the end may follow; 0 where
    something else does.
    """
    rest = text[at:]
    inside = rest[: _end(rest)].strip(BLANK)
    if "?" in inside or (inside and not REASON.match(inside) and not CONFIDENCE.match(inside)):
        return 0
    return at + len(rest) - len(rest.lstrip(BLANK)) if inside else at + _end(rest)


def _chosen(match: re.Match) -> str | None:
    """Return the answer that a statement calls better; None if it is better than itself."""
    groups = {name: letter.upper() for name, letter in match.groupdict().items() if letter}
    chosen = next(letter for name, letter in groups.items() if name.startswith("s"))
    than = [letter for name, letter in groups.items() if name.startswith("than")]
    return None if chosen in than else chosen
