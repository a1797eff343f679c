"""What a prompt asks for: "None" is a right answer to some questions, and tags to others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

READ = 20_000  # characters of a prompt that are read from its end: the question stands there

CODE = re.compile(
    r"```|\b(?:code|coding|python|java|javascript|typescript|c\+\+|rust|golang|bash|shell|sql|regex"
    r"|regular expression|function|script|program|programming|algorithm|compiler?|snippet|api"
    r"|json|yaml|xml|css|latex|django|flask|react|jinja|template|string|variable|parse|render"
    r"|def |class |import |print\(|select |console\.|escape|markdown|terminal|command line)",
    re.IGNORECASE,
)
PAGE = re.compile(
    r"\b(?:html|xml|svg|css|web ?(?:page|site|app)?|markup|tags?|entit(?:y|ies)|escape"
    r"|browser|front-?end|javascript|react|email template|rss|wiki|jsx|vue|angular|landing page)\b",
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
