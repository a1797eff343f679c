"""Texts that were encoded once too often: for a page, for JSON, or as a program's literal.

Each kind has its sign and its mend. A text is mended only where it has the sign, and until the sign
is gone, so that mending twice is mending once.
"""

from __future__ import annotations

import ast
import html
import json
import re
import warnings

from accord.auditing.wrecks.context import Asked
from accord.auditing.wrecks.whole import Hit, weak

ROUNDS = 4  # times that a text can have been encoded
READ = 65_536  # characters that are looked at for a sign

# ---------------------------------------------------------------- pages

ENTITY = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,24}|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});")
TAG = re.compile(
    r"</?(?:p|br|b|i|u|em|strong|span|div|li|ul|ol|blockquote|h[1-6]|font|center|hr|td|tr|tbody"
    r"|table|small|sup|sub|pre|img|section|article|strike|a(?= href|>))(?:\s[^<>\n]{0,200})?\s?/?>",
    re.IGNORECASE,
)
LAID_OUT = re.compile(r"</|<(?:br|p|hr|div|li)\b", re.IGNORECASE)
SPAN = re.compile(r"```[^\0]*?(?:```|\Z)|`[^`\n]{1,200}`")


def page_escapes(text: str, asked: Asked) -> Hit | None:
    """Recognise entities and tags that came from a page."""
    head = text[:READ]
    entity = ENTITY.search(head) if "&" in head and ";" in head else None
    if entity is not None and html.unescape(entity.group()) == entity.group():
        entity = None
    if entity is not None and not asked.markup and _is_escaped(head):
        return Hit(_around(head, entity.start(), entity.end()))
    tag = TAG.search(head) if "<" in head and ">" in head else None
    if entity is None and tag is None:
        return None
    about = asked.page if asked.prompt is text else asked.tagged
    if about or "<!doctype" in head[:200].lower():
        return None
    if asked.code or "```" in head:
        return None
    if asked.prompt is text and entity is None and not LAID_OUT.search(head):
        return None  # a prompt that names a tag: "put it in <u>"
    prose = SPAN.sub(" ", head)
    entity, tags = ENTITY.search(prose), TAG.findall(prose)
    first = entity or TAG.search(prose)
    if first is None:
        return None
    # a line break inside a table's cell is Markdown's only way to write one
    if entity is None and set(map(str.lower, tags)) <= {"<br>", "<br/>", "<br />"} and "|" in prose:
        return None
    return Hit(_around(prose, first.start(), first.end()))


def _is_escaped(text: str) -> bool:
    """Return True if a text is what an escaping function returns: nothing raw is left in it."""
    if "<" in text or ">" in text or "`&" in text:
        return False
    if ("&quot;" in text and '"' in text) or (
        ("&#39;" in text or "&#x27;" in text) and "'" in text
    ):
        return False
    entities = ENTITY.findall(text)
    if len(entities) != text.count("&"):
        return False
    return any(each.lower() in ESCAPES for each in entities)


ESCAPES = frozenset(("&amp;", "&lt;", "&gt;", "&quot;", "&#39;", "&#x27;", "&apos;", "&#34;"))
BREAKS = re.compile(r"<br\s?/?>\n?|</p>\s{0,4}<p>", re.IGNORECASE)
OUTER = re.compile(r"\A\s*<p>|</p>\s*\Z", re.IGNORECASE)


def mend_page(text: str) -> str:
    """Turn entities into characters, and the tags of lines and paragraphs into line breaks."""
    for _ in range(ROUNDS):
        before = text
        text = html.unescape(text) if ENTITY.search(text) else text
        if text == before:
            break
    text = BREAKS.sub(lambda found: "\n\n" if "p>" in found.group().lower() else "\n", text)
    return OUTER.sub("", text)


# ---------------------------------------------------------------- literal escapes

BREAK = re.compile(
    r"\\n(?=\\[nrt]|[\sA-Z0-9*#>|•\-–—\"'([_`]|\\[\"']|\Z|[^\x00-\x7f])"
    r"|(?<=[.!?:;,)\]])(?<![A-Z]:)(?:\\r)?\\n|(?<=\\n)\\t"
)
QUOTE = re.compile(r"\\\"")
UNICODE = re.compile(r"\\u[0-9a-fA-F]{4}|\\x[c-fC-F][0-9a-fA-F]\\x[89abAB][0-9a-fA-F]")
# what stands behind a backslash in LaTeX and begins like an escape
LATEX = re.compile(
    r"\\(?:nabla|neq?|neg|ni|not(?:in)?|nu|newline|newcommand|nmid|nonumber|nolimits|nwarrow|n?leq"
    r"|n?geq|normal\w*|noindent|newpage|nexists|text\w*|times|theta|tan\w*|tau|to|top|triangle\w*"
    r"|tfrac|tilde|title|table\w*|right\w*|rho|rm|r?angle|ref|renewcommand|relax|times)(?![a-z])"
)
INQUOTES = re.compile(r"\"[^\"\n]{0,200}\\n[^\"\n]{0,200}\"|'[^'\n]{0,200}\\n[^'\n]{0,200}'")


def escapes(text: str, asked: Asked) -> Hit | None:
    r"""Recognise `\n`, `\"` and `\u00e9` written out in a text that is no code."""
    head = text[:READ]
    if "\\" not in head or not any(
        sign in head for sign in ("\\n", '\\"', "\\u", "\\t", "\\x", "\\'")
    ):
        return None
    plain = head.strip()
    if (
        plain[:1] in ("{", "[", '"')
        and plain[-1:] in ("}", "]", '"')
        and _parsed(plain) is not None
    ):
        return None  # JSON, in which they are right
    broken = "\n" in plain
    if not broken and _literal(plain):
        found = BREAK.search(plain) or UNICODE.search(plain) or QUOTE.search(plain)
        if found is not None:
            return Hit(_around(plain, found.start(), found.end()))
    if asked.code or "```" in head or "$" in head:
        return None
    prose = LATEX.sub(" ", INQUOTES.sub(" ", SPAN.sub(" ", head)))
    found = UNICODE.search(prose) or (None if broken else BREAK.search(prose))
    if found is None and broken:  # half of the breaks may be literal: two of them in prose
        found = BREAK.search(prose) if len(BREAK.findall(prose)) > 1 else None
    if found is None and '\\"' in prose and not re.search(r'(?<!\\)"', prose):
        found = QUOTE.search(prose)
    return None if found is None else Hit(_around(prose, found.start(), found.end()))


def _literal(text: str) -> bool:
    r"""Return True if a text of one line is what a function that escapes returns.

    It holds two breaks or more outside quotes, or every quotation mark in it is escaped.
    """
    quotes = text.count('"')
    if quotes and quotes == text.count('\\"') and not text.startswith(("{", "[")):
        return True
    bare = LATEX.sub(" ", INQUOTES.sub(" ", SPAN.sub(" ", text)))
    return len(BREAK.findall(bare)) > 1 and len(text) > 40


ESCAPE = re.compile(r"\\(?:([nrt\"'])|u([0-9a-fA-F]{4})(?:\\u([0-9a-fA-F]{4}))?|x([0-9a-fA-F]{2}))")
ONE = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "'": "'"}


def mend_escapes(text: str) -> str:
    r"""Turn `\n`, `\t`, `\"` and `\u00e9` into their characters; LaTeX's commands stay."""
    spared = [found.span() for found in (*LATEX.finditer(text), *SPAN.finditer(text))]
    spared.sort()
    out, at = [], 0
    for low, high in spared:
        if low >= at:
            out += [_unescaped(text[at:low]), text[low:high]]
            at = high
    return "".join([*out, _unescaped(text[at:])]).replace("\r\n", "\n")


def _unescaped(text: str) -> str:
    return ESCAPE.sub(_character, text)


def _character(found: re.Match[str]) -> str:
    one, first, second, byte = found.groups()
    if one:
        return ONE[one]
    if byte:
        return found.group()  # bytes of an unknown code page
    value = int(first, 16)
    if second is None:
        return found.group() if 0xD800 <= value < 0xE000 or value < 32 else chr(value)
    low = int(second, 16)
    if 0xD800 <= value < 0xDC00 <= low < 0xE000:
        return chr(0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00))
    pair = (value, low)
    return (
        found.group()
        if any(0xD800 <= v < 0xE000 or v < 32 for v in pair)
        else "".join(map(chr, pair))
    )


# ---------------------------------------------------------------- JSON and literals

KEYS = frozenset(
    "content text answer response output completion generated_text message messages chosen rejected"
    " prompt question role instruction input reply assistant conversation choices generations"
    " solution body".split()
)
# what an API writes beside its answer
BESIDE = frozenset(
    "id object model created finish_reason finishreason stop_reason stop usage index logprobs role"
    " type status system_fingerprint refusal latency tokens seed timestamp request_id".split()
)
BYTES = re.compile(r"\Ab(['\"])[^\0]*\1\Z")
LISTED = re.compile(r"\A\['[^\0]*'\]\Z")


def doubled_json(text: str, asked: Asked) -> Hit | None:
    """Recognise a text that is JSON, or a literal, and holds the answer inside."""
    if len(text) < 3 or text[0] not in "\"{['b \n" or len(text) > READ:
        return None
    plain = text.strip()
    if BYTES.match(plain):
        return None if asked.code else Hit(plain)
    if LISTED.match(plain):
        return Hit(plain) if _literal_text(plain) is not None and not asked.json else None
    if plain[0] == '"' == plain[-1]:
        inner = _parsed(plain)
        if isinstance(inner, str) and inner != plain[1:-1]:
            return Hit(plain)
        if not isinstance(inner, str) or len(inner.split()) < 2:
            return None  # a word in quotation marks is a value: typeof null is "object"
        return weak(plain, "quotation marks around a whole text")
    if plain[0] not in "{[" or plain[-1] not in "}]":
        return None
    if asked.json and asked.prompt is not text:
        return None
    return Hit(plain) if _inner(plain) is not None or _has_keys(plain) else None


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _literal_text(text: str) -> str | None:
    """Return the text that Python wrote as bytes, or as a list of one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None


def _has_keys(text: str) -> bool:
    value = _parsed(text)
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict):
        return bool(KEYS & {str(key).lower() for key in value})
    # a literal of Python is not parsed: its keys are looked for as they are written
    return bool(re.match(r"\A[\[\s]*\{\s*'(?:" + "|".join(sorted(KEYS)) + r")'\s*:", text))


def _inner(text: str) -> str | None:
    """Return the only text in a JSON object or a list, where it is one of a message."""
    value = _parsed(text)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
        if isinstance(value, str):
            return value
    if not isinstance(value, dict):
        return None
    texts = [each for key, each in value.items() if str(key).lower() in KEYS - {"role"}]
    others = {str(key).lower() for key in value} - KEYS - BESIDE
    return texts[0] if len(texts) == 1 and isinstance(texts[0], str) and not others else None


def mend_json(text: str) -> str:
    """Take the text out of the JSON around it; a text whose inside is not one text stays."""
    for _ in range(ROUNDS):
        plain = text.strip()
        if len(plain) > 1 and plain[0] == '"' == plain[-1]:
            inner = _parsed(plain)
            inner = inner if isinstance(inner, str) else None
        elif BYTES.match(plain) or LISTED.match(plain):
            inner = _literal_text(plain)
        else:
            inner = _inner(plain) if plain[:1] in ("{", "[") else None
        if inner is None or not inner.strip():
            return text
        text = inner
    return text


def _around(text: str, low: int, high: int) -> str:
    """Return a piece of a text with a few characters on both sides."""
    return text[max(0, low - 25) : high + 40]
