"""Requests of a prompt: "None" is a right answer to some questions, and tags to others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

READ = 20_000  # characters of a prompt that are read from its end: the question stands there

CODE = re.compile(
    r"```|\b(?:code|coding|python|java|javascript|typescript|c\+\+|rust|golang|bash|shell|sql|regex"
    r"|regular expression|function|script|program|programming|algorithm|compiler?|snippet|api"
    r"|json|yaml|xml|css|latex|django|flask|react|jinja|template|string|variable|parse|render"
    r"|def |class |import |print\(|select |console\.|escape|markdown|terminal|command line"
    r"|typeof\b|js\b|parse(?:int|float)\b|\w{1,40}\.\w{1,40}\(|\w{1,40}\[-?\d)|\[\]\[",
    re.IGNORECASE,
)
PAGE = re.compile(
    r"\b(?:html|xml|svg|css|web ?(?:page|site|app)?|markup|tags?|entit(?:y|ies)|escape"
    r"|browser|front-?end|javascript|react|email template|rss|wiki|jsx|vue|angular|landing page)\b",
    re.IGNORECASE,
)
# what asks for markup itself, so that even a text that is escaped throughout is right
MARKUP = re.compile(
    r"\b(?:x?html\d?|xml|svg|jsx|rss|markup|entit(?:y|ies)|(?:un|double-)?escap(?:e|es|ed|ing))\b",
    re.IGNORECASE,
)
TRANSLATION = re.compile(
    r"\b(?:translat\w*|translit\w*|localis\w*|localiz\w*|übersetz\w*|tradui\w*|traduc\w*"
    r"|(?:in|into|to|auf|en) (?:english|german|french|spanish|italian|portuguese|russian|japanese"
    r"|chinese|korean|arabic|hindi|turkish|polish|dutch|deutsch|englisch|français|anglais|español"
    r"|inglés))\b|翻译|翻譯|翻訳|перев[её]д|ترجم|अनुवाद|번역",
    re.IGNORECASE,
)
TAGGED = re.compile(r"<[a-z!/]", re.IGNORECASE)
JSON = re.compile(
    r"[{\[]\s*[\"'{]|\b(?:json|yaml|schema|dict(?:ionary)?|object|array|struct|python|api"
    r"|payload|code|function|tuple|graphql|javascript|key-value|key/value)s?\b",
    re.IGNORECASE,
)
FAULT = re.compile(
    r"\b(?:error|exception|traceback|bug|debug|http|status|server|code|python|java|javascript"
    r"|program|function|log|stack|time-?out|crash|fail\w*|output|troubleshoot\w*|website|api"
    r"|request|connect\w*|exploit|script|sql|prints?|returns?)\b|```",
    re.IGNORECASE,
)
MODERATION = re.compile(
    r"\b(?:moderat\w+|filter\w*|remov\w+|polic(?:y|ies)|censor\w*|flag\w*|block\w*|ban(?:ned)?"
    r"|content|guidelines|reddit|comment|redact\w*|violat\w+)\b",
    re.IGNORECASE,
)
FORM = re.compile(
    r"[\[{<]|\b(?:template|letter|e-?mail|placeholder|form|format|lorem|dummy|draft|message|memo"
    r"|contract|invitation|resume|cv|cover|speech|bio|certificate|agreement|announcement|press"
    r"|release|fill|blanks?|mad ?libs?|invoice|note|script|card|post|newsletter|response to|reply"
    r"|design|layout|todo|to-do|list|notice|resignation|proposal|statement|application)s?\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Asked:
    """The prompt beside a text. Each question is answered when it is asked first."""

    prompt: str

    @cached_property
    def end(self) -> str:
        return self.prompt[-READ:]

    @cached_property
    def low(self) -> str:
        return self.end.lower()

    def has_word(self, word: str) -> bool:
        """Return True if it stands in the prompt as a word of its own."""
        return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", self.low) is not None

    @cached_property
    def code(self) -> bool:
        """True if it is about a program."""
        return CODE.search(self.end) is not None

    @cached_property
    def page(self) -> bool:
        """True if it is about a page or its markup."""
        return PAGE.search(self.end) is not None

    @cached_property
    def markup(self) -> bool:
        """True if it asks for markup or escapes, or holds a tag."""
        return MARKUP.search(self.end) is not None or TAGGED.search(self.end) is not None

    @cached_property
    def translation(self) -> bool:
        """True if it asks for a translation."""
        return TRANSLATION.search(self.end) is not None

    @cached_property
    def tagged(self) -> bool:
        """True if it is about a page, or holds a tag."""
        return self.page or TAGGED.search(self.end) is not None

    @cached_property
    def json(self) -> bool:
        """True if an answer may be structured."""
        return JSON.search(self.end) is not None

    @cached_property
    def fault(self) -> bool:
        """True if an answer may quote an error."""
        return FAULT.search(self.end) is not None

    @cached_property
    def moderation(self) -> bool:
        """True if it is about what is taken down."""
        return MODERATION.search(self.end) is not None

    @cached_property
    def form(self) -> bool:
        """True if an answer may leave places to be filled in."""
        return FORM.search(self.end) is not None
