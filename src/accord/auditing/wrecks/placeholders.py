"""Places that were to be filled in: TODO, [INSERT NAME], {{answer}}, lorem ipsum."""

from __future__ import annotations

import re

from accord.auditing.wrecks.context import Asked
from accord.auditing.wrecks.whole import Hit, weak

WHOLE = 160  # characters of an answer that is nothing but a placeholder
READ = 8_000  # characters that are read
THINGS = r"(?:answer|response|text|content|output|completion|reply|name|prompt|question|code|story)"
OPEN_THINGS = (
    r"(?:answer|response|text|content|output|completion|reply|placeholder|todo|tbd|here|name|message"
    r"|instruction|question|prompt|input|generation|chosen|rejected|body|description|summary)"
)
VERBS = (
    r"(?:(?:please )?(?:insert|enter|write|add|fill|put|your|the|model|assistant|user|provide|type"
    r"|todo|tbd|example|sample|generated|placeholder|an?)\b[ _-]?)"
)
OPENS, CLOSES = r"(?:\[{1,2}|<{1,2}|\{{1,3}|%|\$\{|__)", r"(?:\]{1,2}|>{1,2}|\}{1,3}|%|__)"
WHOLE_SURE = tuple(
    re.compile(each)
    for each in (
        r"\A\W*(?:<\w+>)?\W*(?:your|insert|enter|write|type|put|add|fill|place|provide|paste|the"
        r"|an?|model|assistant)\b[^.\n]{0,60}\b(?:goes |comes |stands |is |in )?here\b\W*\Z",
        rf"\A\W*{THINGS} (?:goes|comes|to be (?:added|written|filled in)|to come|pending|tbd|here"
        r"|placeholder)\b(?: here)?\W*\Z",
        r"\A\W*(?:todo|tbd|tba|fixme|placeholder|to be (?:done|determined|added|written|completed"
        r"|filled(?: in)?|announced|continued)|work in progress|coming soon|under construction"
        r"|dummy(?: (?:text|answer|response|output))?|sample (?:text|answer|response|output)"
        r"|example (?:answer|response|output) (?:text|here)|placeholder (?:text|answer|response))"
        r"\W*\Z",
        r"\A\W{0,4}(?:todo|fixme|tbd)\b\s*[:(\-–—]",
        rf"\A\s*{OPENS}\s*(?:{VERBS}[\w '-]{{0,40}}?\b{OPEN_THINGS}\b[\w '-]{{0,40}}"
        rf"|(?:\w+[ _-])?{OPEN_THINGS}(?:[ _-]\w+)?)\s*{CLOSES}\W{{0,3}}\Z",
        r"\A\s*(?:\{\{\s*[\w.]{1,40}\s*\}\}|\{[a-z_]\w{1,30}\}|\$\{\w{1,40}\}|%\(\w{1,40}\)s)"
        r"\W{0,3}\Z",
    )
)
QUICK = tuple(
    "here|todo|tbd|tba|fixme|[|{|<|(|%|__|to be |to come|goes|comes|pending|placeholder"
    "|in progress|coming soon|construction|dummy|sample|example".split("|")
)
WHOLE_WEAK = re.compile(
    r"\A\W*(?:test(?:ing)?(?: \w{1,10})?|asdf\w*|qwerty|foo ?bar|foo|bar|baz|xxx+|abc|example"
    r"|sample|dummy|wip|hello world|some text|text|string|answer|response|output|completion)\W*\Z"
)
LOREM = re.compile(r"lorem ipsum|dolor sit amet|consectetur adipiscing")
INSIDE = re.compile(
    r"(?:\{\{\s*[A-Za-z_][\w. ]{1,38}\}\}|\{[A-Za-z_][a-zA-Z0-9_]{2,30}\}"
    r"|\$\{[A-Za-z_]\w{1,30}\}|%\([a-z_]\w{1,30}\)s|<[A-Z]{2,}_[A-Z_]{2,}>|__[A-Z_]{3,30}__"
    r"|\[\s*(?:(?:insert|todo|tbd|enter|fill|placeholder|put|INSERT|TODO|TBD|ENTER|Insert|Enter|Fill"
    r"|Placeholder|PLACEHOLDER|XXX|FILL)\b[^\]\n]{0,60}|(?:your|YOUR|Your) (?:answer|response|text"
    r"|ANSWER|RESPONSE|TEXT|Answer|Response|Text)[^\]\n]{0,30}|[A-Z]{2,}[ _][A-Z_ ]{2,30})\]"
    r"|<(?:insert|your|enter|placeholder|fill|INSERT|YOUR|ENTER|FILL)[ _-][^>\n]{0,60}>)"
)
WORDS = re.compile(r"\b(?:TODO|FIXME|TBD|XXXX+)\b")
# in front of LaTeX's arguments, of shell variables and of strings in code
HELD = frozenset("\\}_^$#\"'`")


def placeholder(text: str, asked: Asked) -> Hit | None:
    """Recognise a text that is to be filled in, or a place in it that is."""
    if len(text) <= WHOLE and text.strip():
        low = text.strip().lower()
        if any(map(low.__contains__, QUICK)) and any(each.search(low) for each in WHOLE_SURE):
            return None if low in asked.low and len(low) < len(asked.low) else Hit(text)
        if WHOLE_WEAK.search(low):
            return weak(text)
    head = text[:READ]
    if ("psum" in head or "PSUM" in head or "dolor sit" in head) and LOREM.search(head.lower()):
        return None if asked.form or "ipsum" in asked.low else Hit(text)
    piece = _inside(head)
    if piece is None or "```" in text:
        return None
    own = asked.prompt is text
    if asked.code or (not own and (asked.form or piece in asked.prompt)):
        return None
    return weak(piece)


def _inside(text: str) -> str | None:
    """Return the first place in a text that is to be filled in."""
    for mark in ("TODO", "FIXME", "TBD", "XXXX"):
        if mark in text and (found := WORDS.search(text)):
            return found.group()
    if not any(map(text.__contains__, ("{", "[", "<", "__", "%("))):
        return None
    for found in INSIDE.finditer(text):
        before = text[found.start() - 1] if found.start() else " "
        if before not in HELD and not before.isalnum():
            return found.group()
    return None
