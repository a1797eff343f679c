"""Features of one answer in which a shortcut could hide. They take a few microseconds
per answer.
"""

from __future__ import annotations

import re
from bisect import bisect_left

DIGITS = b"0123456789"

REFUSAL = re.compile(
    r"\b(?:I (?:can(?:no|')t|can’t|cannot|am unable|am not able|won['’]t|will not|must"
    r" decline|don['’]t feel comfortable)"
    r"|I['’]m (?:unable|not able|not comfortable)|as an AI\b|against my"
    r" (?:programming|guidelines)|not appropriate to)",
    re.IGNORECASE,
)
APOLOGY = re.compile(
    r"\b(?:I['’]?m (?:so |very |really )?sorry|I am sorry|I apologi[sz]e|my apologies|^sorry)\b",
    re.IGNORECASE,
)
OPENER = re.compile(
    r"\s*(?:sure|certainly|of course|absolutely|great question|yes)\b", re.IGNORECASE
)
NUMBERED = re.compile(r"(?:^|\n)\s*\d{1,3}[.)]\s")
EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")
START = 400  # characters in which a refusal or an apology stands, if it is the answer's point
HEAD = 1 << 16  # characters that are read

# Names of the features, in the order of `counts`. Each of them gives the rule "more of it wins".
FEATURES = (
    "characters",
    "words",
    "lines",
    "list items",
    "headings",
    "bold",
    "code blocks",
    "digits",
    "questions",
    "exclamations",
    "links",
    "emoji",
    "refusal",
    "apology",
    "obliging opener",
    "non-ASCII",
    "complete ending",
    "in the prompt's language",
)
COLUMN = {name: at for at, name in enumerate(FEATURES)}


def counts(text: str) -> list[float]:
    """Count all features of an answer but the last, which needs the prompt."""
    whole, text = len(text), text[:HEAD]
    ascii_only = text.isascii()
    raw = text.encode("utf-8", "replace")
    start = text[:START]
    lined = "\n" in text
    bullets = (
        sum(map(text.count, ("\n- ", "\n* ", "\n• "))) + text.startswith(("- ", "* ", "• "))
        if lined
        else 0
    )
    return [
        whole,
        len(text.split()),
        text.count("\n") + 1,
        bullets + len(NUMBERED.findall(text)) if lined else 0,
        text.count("\n#") + text.startswith("#"),
        text.count("**") // 2,
        text.count("```") // 2,
        len(raw) - len(raw.translate(None, DIGITS)),
        text.count("?"),
        text.count("!"),
        text.count("http"),
        0 if ascii_only else len(EMOJI.findall(text)),
        REFUSAL.search(start) is not None,
        APOLOGY.search(start) is not None,
        OPENER.match(start) is not None,
        0 if ascii_only else len(text) - len(text.encode("ascii", "ignore")),
        text.rstrip()[-1:] in ENDINGS,
    ]


ENDINGS = frozenset(".!?)]}\"'”’`*:;|>。！？…")

_WORDS = {
    "en": "the of and to is in that it for you with was on are this be have from or not",
    "de": "der die das und ist nicht ein eine zu mit von auf für den im sich auch es wird sind",
    "fr": "le la les des et est un une dans que qui pour pas sur avec au ce il vous du",
    "es": "el los las y es un una en que por para con del se no su lo como más al",
    "pt": "o os as e é um uma em que por para com do da não se mais ao na no",
    "it": "il lo gli e è un una di che per con del della non si sono come più nel alla",
    "nl": "de het een en is van dat niet voor met op zijn te aan er maar om ook als bij",
}
LANGUAGES: dict[str, list[str]] = {}
for _language, _words in _WORDS.items():
    for _word in _words.split():
        LANGUAGES.setdefault(_word, []).append(_language)

# Names of languages, in English and as they call themselves. In UltraFeedback the 15 chosen answers
# in another language than their prompt all answer a prompt that names it.
_NAMES = re.compile(
    r"\b(?:translat\w*|transliterat\w*|übersetz\w*|traduc\w*|tradui\w*|language|languages"
    r"|arabic|bengali|bulgarian|cantonese|catalan|chinese|croatian|czech|danish|dutch|english"
    r"|estonian|farsi|filipino|finnish|french|german|greek|gujarati|hausa|hebrew|hindi|hungarian"
    r"|icelandic|igbo|indonesian|irish|italian|japanese|javanese|kannada|korean|kurdish|latin"
    r"|latvian|lithuanian|malay|malayalam|mandarin|marathi|mongolian|nepali|norwegian|oriya|panjabi"
    r"|pashto|persian|polish|portuguese|punjabi|romanian|russian|serbian|sinhala|slovak|slovenian"
    r"|somali|spanish|swahili|swedish|tagalog|tamil|telugu|thai|turkish|ukrainian|urdu|uzbek"
    r"|vietnamese|welsh|yoruba|zulu|deutsch|français|español|italiano|português)\b"
    r"|русск|中文|英文|英语|日本語|英語|한국어|영어|العربية|الإنجليزية|हिन्दी|हिंदी|अंग्रेज़ी",
    re.IGNORECASE,
)
NAMED_IN = 4_000  # characters of a prompt in which a language is looked for


def names_language(text: str) -> bool:
    """Tell whether a prompt names a language, or speaks of translating."""
    return _NAMES.search(text[:NAMED_IN]) is not None or (
        len(text) > NAMED_IN and _NAMES.search(text[-NAMED_IN:]) is not None
    )


_SCRIPTS = (
    ("Cyrillic", 0x400, 0x530),
    ("Hebrew", 0x590, 0x600),
    ("Arabic", 0x600, 0x780),
    ("Devanagari", 0x900, 0x980),
    ("Thai", 0xE00, 0xE80),
    ("Japanese", 0x3040, 0x3100),
    ("Chinese", 0x4E00, 0xA000),
    ("Korean", 0xAC00, 0xD7B0),
    ("Greek", 0x370, 0x400),
)
LOOKED_AT = 60  # words


def language(text: str) -> str:
    """Guess the language from script and the commonest words: "en", "de", …, "Cyrillic", …, or ""
    if there is no clue.

    Code, names and answers of a few words give "": such texts count as being in any language.
    """
    text = text[:600]
    if not text.isascii() and (script := _script(text)):
        return script
    votes: dict[str, int] = {}
    for word in text.lower().split()[:LOOKED_AT]:
        for name in LANGUAGES.get(word, ()):
            votes[name] = votes.get(name, 0) + 1
    if not votes:
        return ""
    best = sorted(votes.values())[::-1]
    clear = best[0] >= 3 and (len(best) == 1 or best[0] >= 2 * best[1])
    return max(votes, key=votes.__getitem__) if clear else ""


def _script(text: str) -> str:
    """Return the script of more than half of the letters, or "". No script here has ASCII letters:
    a text that is mostly ASCII, as one with a curly quote, is decided by two counts.
    """
    letters = [c for c in text if c.isalpha()]
    foreign = sorted(ord(c) for c in letters if c > "\x7f")
    if 2 * len(foreign) <= len(letters):
        return ""
    for name, low, high in _SCRIPTS:
        if 2 * (bisect_left(foreign, high) - bisect_left(foreign, low)) > len(letters):
            return name
    return ""
