"""Whole answers that a program wrote: sentinels, errors of an API, notices of a moderation layer.

A sure sign counts alone. A weak one counts only where the same text answers several prompts: an
answer "None" may be right, three hundred of them are a column that was empty.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from accord.auditing.wrecks.context import Asked

DIGITS = re.compile(r"[0-9a-f]*\d[0-9a-f-]*|\s+", re.IGNORECASE)


@dataclass(frozen=True)
class Hit:
    """A sign of a wreck in a text."""

    shown: str  # the piece
    sure: bool = True
    # of a weak sign: equal for texts that differ in numbers and ids alone; 0 adds up with others
    key: int = 0


def weak(text: str, shown: str | None = None, key: str | None = None) -> Hit:
    """Return a sign that counts where it is repeated; `key` is what must be the same."""
    folded = DIGITS.sub(" ", text[:400].lower()) if key is None else key
    return Hit(
        text if shown is None else shown, False, zlib.crc32(folded.encode("utf-8", "ignore"))
    )


# ---------------------------------------------------------------- sentinels

SENTINEL = 64  # characters; no sentinel is longer
LABEL = re.compile(r"^(?:answer|response|output|assistant|completion|result|reply)\s*[:=]\s*")
SURE = frozenset(
    "nan|nat|null|<na>|<nan>|<null>|#n/a|#na|#ref!|#value!|#div/0!|#name?|#null!|#num!|\\n|"
    "[object object]|object object|<unk>|[unk]|<pad>|[pad]|<blank>|<empty>|<missing>|[null]|[nan]|"
    "nan nan|null null|-nan|+nan|1.#qnan|dbnull|system.dbnull|nonetype|<class 'nonetype'>|sql null|"
    "float('nan')|np.nan|pd.na|numpy.nan|none none|nullptr".split("|")
)
WEAK = frozenset(
    "none|n/a|na|n.a.|n.a|nil|undefined|void|empty|blank|no answer|no response|no output|"
    "no content|no data|no text|not available|not applicable|not provided|"
    "not specified|<none>|[none]|(none)|(empty)|(blank)|unk|nul|"
    "no completion|no response generated|no answer provided|no response provided|empty string|"
    "empty response|response is empty|none provided|暂无|无数据|无|空|空白|なし|該当なし|null值|"
    "keine angabe|k. a.|k.a.|leer|vide|sin datos|sin respuesta|non disponible|nessuno|нет данных|"
    "не указано|пусто|없음|لا يوجد|null.".split("|")
)
SHELL = " \t\r\n\"'`*_.,;:!()"


def sentinel(text: str, asked: Asked) -> Hit | None:
    """Recognise what a program writes where there is no value."""
    if len(text) > SENTINEL:
        return None
    plain = LABEL.sub("", text.strip().lower())
    core = plain.strip(SHELL)
    sure = plain in SURE or core in SURE or (f"[{core}]" in SURE and plain.startswith("["))
    bare = core.strip("[]{}<>\"' ,")
    if not sure and bare in SURE and bare != core:
        sure = True
    if core in ("ok", "okay", "k") and asked.prompt is not text and not asked.has_word(core):
        return Hit(text, False)  # says nothing; adds up with dots and dashes
    if sure or core in WEAK or bare in WEAK:
        word = bare or core or plain
        if asked.prompt is not text and (
            asked.has_word(word) or (asked.code and word in asked.low)
        ):
            return None
        return Hit(text, sure and not asked.code)
    # no letter, no digit, no sign of a script or an emoji: "[]", "{}", "-", "...", '""'
    if text.isascii() and not any(c.isalnum() for c in text) and text.strip():
        return None if asked.prompt is not text and plain in asked.low else Hit(text, False)
    return None


# ---------------------------------------------------------------- errors

SHORT_ERROR, LONG_ERROR = 800, 20_000
TRACED = ("traceback (most", "<!doctype", "<html", "<head", "{", "exception in", "[{")
TAIL_QUICK = (
    "error",
    "exception",
    "exceeded",
    "timed out",
    "errno",
    "connection",
    "gateway",
    "429",
)
ERROR_QUICK = tuple(
    "error|exception|traceback|timeout|time-out|timed out|rate limit|too many req|unavailable"
    "|gateway|failed|failure|overloaded|quota|try again|went wrong|denied|errno|retries"
    "|connection |aborted|<html|<!doctype|<head|unable to|http|could not|status|err_|exceeded"
    "|not found|no response|retry|econn|deadline|forbidden|unauthorized|javascript".split("|")
)
ERROR_SURE = tuple(
    re.compile(each)
    for each in (
        r"\A\W*(?:[a-z]+[ _.-]){0,4}(?:error|exception)\b[^\n]{0,40}?\b[45]\d\d\b",
        r"\A\W*(?:http(?:/[\d.]+)?|status(?: code)?|error(?: code)?|code)\W{0,3}[45]\d\d\b",
        r"\A\W*[45]\d\d\b[\s:,|–—-]*(?:\w+ )?(?:error|bad request|unauthori[sz]ed|payment required"
        r"|forbidden|not found|method not allowed|(?:request )?time-?out|too many requests|conflict"
        r"|unprocessable|internal server|bad gateway|service unavailable|gateway|rate limit)",
        r"\A\s*\{\s*[\"'](?:error|errors|err|exception|fault|error_?code|error_?message|detail"
        r"|statuscode|status_code)[\"']\s*:",
        r"\A\W*traceback \(most recent call last\)",
        r"\b(?:insufficient_quota|invalid_request_error|rate_?limit_?exceeded|rate_?limit_?error"
        r"|context_length_exceeded|server_error|overloaded_error|api_?error|model_not_found"
        r"|invalid_api_key|econnrefused|econnreset|etimedout|enotfound|max retries exceeded"
        r"|read timed out|connection reset by peer|remote end closed|upstream connect error"
        r"|err_[a-z]+_[a-z_]+|\[?errno -?\d+|cuda out of memory|deadline_exceeded"
        r"|resource_exhausted|httpsconnectionpool|httpconnectionpool|connection refused"
        r"|connection aborted|exceeded your current quota|maximum context length"
        r"|currently overloaded|rate limit (?:reached|exceeded)|internal server error"
        r"|502 bad gateway|503 service|504 gateway|429 too many)",
        r"\A\s*(?:<!doctype html|<html|<head)[^\0]{0,1500}?(?:error|\b[45]\d\d\b|denied|forbidden"
        r"|not found|bad gateway|cloudflare|unavailable|captcha|just a moment|nginx)",
        r"\A\W*exception in thread \"",
    )
)
CLASS = re.compile(
    r"\A\s*(?:Uncaught |Unhandled |\[)?(?:[A-Za-z_]\w{0,40}\.){0,6}[A-Z]\w{0,60}"
    r"(?:Error|Exception|Timeout|Fault)\b\s*[:(\]]"
)
ERROR_WEAK = tuple(
    re.compile(each)
    for each in (
        r"\A\W*(?:[a-z]+[ _-]){0,3}(?:error|exception|failure|failed)\b\s*(?:[:(\[—–-]|\W*\Z)",
        r"rate.?limit|too many requests",
        r"timed.out|time-?out",
        r"bad gateway|service (?:is )?(?:temporarily )?unavailable|gateway time",
        r"(?:server|service|model|system|engine|api) (?:is |was )?(?:\w+ )?(?:busy|overloaded|down"
        r"|unavailable|unreachable|offline|not (?:found|loaded|available|responding))",
        r"(?:try|check) (?:your request )?again|retry",
        r"something went wrong|an? (?:\w+ )?error (?:has )?(?:occurred|happened)|error occurred",
        r"failed to (?:generate|fetch|load|parse|connect|complete|process|retrieve|get|create"
        r"|decode|reach|obtain|call)",
        r"(?:request|generation|call|query|connection|inference|job|operation|completion|stream)"
        r" (?:was |has been |has )?(?:failed|aborted|cancell?ed|terminated|rejected|interrupted"
        r"|denied|lost|closed)",
        r"(?:unable to|could not|cannot|couldn't) (?:generate|process|complete|fetch|connect|load"
        r"|reach|obtain|retrieve|parse) (?:a |the |your |any )?(?:response|request|answer|output"
        r"|completion|result|server|model|data)",
        r"quota|exceeds? the (?:maximum|limit)|token limit",
        r"experiencing (?:high|technical|issues|heavy)|high (?:demand|load|traffic)",
        r"enable (?:javascript|cookies)|access denied|page not found|not authori[sz]ed",
        r"no response (?:was |has been )?(?:generated|received|returned|from)|empty response",
        r"api[ _-]?key|request[ _]id|trace[ _]id|status code",
        r"internal error|unexpected error|unknown error|network error|server error",
    )
)


def error(text: str, asked: Asked) -> Hit | None:
    """Recognise the message of an API, of a program that failed, or of an error page."""
    size = len(text)
    if size > SHORT_ERROR:
        begin = text[:80].lstrip(" \t\r\n`*#>").lower()
        if size > LONG_ERROR or not begin.startswith(TRACED):
            return _tail_error(text, asked)
    low = text[:2000].lower()
    if not any(map(low.__contains__, ERROR_QUICK)):
        return None
    sure = CLASS.search(text[:400]) is not None or any(each.search(low) for each in ERROR_SURE)
    signs = 0 if sure else sum(each.search(low[:600]) is not None for each in ERROR_WEAK)
    if not sure and (signs == 0 or size > 500):
        return None
    if asked.prompt is text:
        if QUESTION.search(text):
            return None
        # a person pastes what a program wrote, with its lines: only copies of it are a wreck
        if FRAME.search(text):
            return weak(text, key=text)
        return _graded(text, asked.fault, sure or signs > 1)
    if not sure and signs < 2 and any(map(asked.low.__contains__, NAMED)):
        return None  # "the server is down" explains an error that the prompt names
    if _is_quoted(text, low, asked) or (asked.fault and _is_explained(text)):
        return None
    return _graded(text, asked.fault or asked.translation, sure or signs > 1)


def _graded(text: str, expected: bool, sure: bool) -> Hit:
    return weak(text) if expected else Hit(text, sure)


FRAME = re.compile(r"\bline \d+|\.\w{1,10}:\d+|\n\s*at |^\S*\d\d:\d\d:\d\d", re.MULTILINE)
QUESTION = re.compile(r"\?[\"')]?[^\S\n]*$", re.MULTILINE)
NAMED = ("error", "exception", "traceback")
PIECE = re.compile(r"[`\n\"]+")
WORD = re.compile(r"\w+")
QUOTED, TAKEN = 8, 0.8  # characters of a piece, share of an answer's words


def _is_quoted(text: str, low: str, asked: Asked) -> bool:
    """Return True if the error stands in the prompt, or all of the answer's words do (a log)."""
    for piece in PIECE.split(low[:600]):
        piece = piece.strip(" *#>:.'")
        if (
            len(piece) >= QUOTED
            and piece in asked.low
            and any(map(piece.__contains__, ERROR_QUICK))
        ):
            return True
    found = CLASS.search(text[:400])
    if found is not None and found.group().strip().lower() in asked.low:
        return True
    words = WORD.findall(low[:600])
    if len(words) < 3:
        return False
    known = set(WORD.findall(asked.low))
    return sum(word in known for word in words) >= TAKEN * len(words)


def _is_explained(text: str) -> bool:
    """Return True if a paragraph of prose stands behind the first line."""
    rest = text.partition("\n")[2].rpartition("\n\n")[2].strip() if "\n\n" in text else ""
    low = rest.lower()
    return (
        len(rest.split()) >= 6
        and rest[:1].isupper()
        and rest.endswith((".", "!", "?"))
        and CLASS.search(rest) is None
        and not any(each.search(low) for each in (*ERROR_SURE, *ERROR_WEAK))
    )


def _tail_error(text: str, asked: Asked) -> Hit | None:
    """Recognise an error that stands behind the beginning of an answer; it counts if repeated."""
    last = text[-400:].rstrip().rpartition("\n")[2]
    low = last.lower()
    if len(last) > 300 or not any(map(low.__contains__, TAIL_QUICK)):
        return None
    sure = CLASS.search(last) or any(each.search(low) for each in ERROR_SURE)
    return weak(last) if sure and low.strip("`* ") not in asked.low else None


# ---------------------------------------------------------------- moderation

MODERATED = 700
MODERATION_QUICK = (
    "filter",
    "blocked",
    "removed",
    "flagged",
    "withheld",
    "redacted",
    "censored",
    "moderat",
    "deleted",
    "polic",
    "safety",
    "responsible ai",
    "guardrail",
    "prohibited",
    "hidden",
    "suppressed",
    "guidelines",
    "restricted",
    "disallowed",
    "unsafe",
)
THING = (
    r"(?:response|answer|message|content|text|completion|output|comment|reply|prompt|generation"
    r"|input|post|conversation|result|material|request)"
)
DONE = (
    r"(?:filtered|blocked|removed|flagged|withheld|redacted|censored|moderated|hidden|suppressed"
    r"|deleted|restricted|stopped|rejected|taken down)"
)
MODERATION_SURE = tuple(
    re.compile(each)
    for each in (
        rf"\b{THING}s? (?:\w+ ){{0,3}}?(?:was|were|has been|have been|is|been|got) (?:\w+ )?{DONE}",
        rf"\A\W*(?:content |response |message |comment |text |answer |output )?{DONE}\b(?:[^\w\n]"
        r"*(?:by|for|due to|because of|per|reason|policy|content|safety|violation|moderation)\b"
        r"[^\n]{0,120})?\W*\Z",
        r"content[ _-]?filter(?:ed|ing|s)?\b|content management polic|prohibited[_ ]content"
        r"|content[ _-]moderation",
        r"(?:moderation|safety) (?:system|layer|filter|endpoint|classifier|api|guard)s?\b",
        r"responsible ai (?:polic|content|filter|guard|system|layer|standard|practice)"
        r"|block_?reason|finish_?reason\W{1,6}(?:content_?filter|safety|blocked)"
        r"|\[(?:content )?moderat\w+\]",
        rf"\[\W*(?:this |the |your )?(?:{THING} )?(?:\w+ )?{DONE}[^\]\n]{{0,100}}\]",
    )
)
MODERATION_WEAK = tuple(
    re.compile(each)
    for each in (
        r"violat\w+ (?:\w+ ){0,4}?(?:polic(?:y|ies)|guidelines|terms|rules|standards)",
        r"\b(?:usage|content|community|safety|use) (?:polic(?:y|ies)|guidelines)",
        r"flagged (?:as|by|for)|unsafe|guardrail|trust (?:&|and) safety|disallowed",
    )
)
# notices in other languages: they count where one text answers several prompts
FOREIGN_NOTICE = 200  # characters
FOREIGN = tuple(
    "sicherheitsgründen|inhaltsfilter|wurde gefiltert|wurde entfernt|wurde blockiert|gesperrt"
    "|richtlinien|filtré|supprimé|bloqué|modération|eliminad|filtrad|bloquead|moderación|moderação"
    "|rimosso|bloccat|filtrato|удален|удалён|заблокирован|отфильтрован|модерац|已被屏蔽|已被过滤"
    "|已删除|内容审核|违反|敏感内容|フィルタ|削除されました|ブロックされ"
    "|삭제되었|차단되었|تم حذف|تم حظر"
    "|usunięt|zablokowan|verwijderd|geblokkeerd|engellendi|kaldırıldı".split("|")
)
ENVELOPE = re.compile(
    r"\A\s*\{[^\0]{0,400}?\"(?:response|text|content|answer|output|completion|message)\"\s*:\s*\""
)
FILTERED = re.compile(r"finish_?reason\W{1,6}(?:content_?filter|safety|blocked)|block_?reason")
REFUSES = re.compile(
    r"\bi(?:['’]m| am)? (?:can(?:['’]t|not| not)|could(?:n['’]t| not)|won['’]t|will not|unable"
    r"|not able|do(?:n['’]t| not)|must)\b|\bi['’]m (?:unable|not)\b"
)


def moderation(text: str, asked: Asked) -> Hit | None:
    """Recognise the notice of a layer between the model and its reader.

    A refusal in the model's own words is an honest answer and no wreck.
    """
    if len(text) > MODERATED:
        return None
    low = text.lower()
    if not any(map(low.__contains__, MODERATION_QUICK)):
        foreign = len(text) <= FOREIGN_NOTICE and any(map(low.__contains__, FOREIGN))
        return weak(text) if foreign else None
    if ENVELOPE.match(low) and not FILTERED.search(low):
        return None  # the JSON of an API, which may hold any answer
    sure = any(each.search(low) for each in MODERATION_SURE)
    signs = sum(each.search(low) is not None for each in MODERATION_WEAK)
    refuses = REFUSES.search(low) is not None
    if not sure and (refuses or not signs):
        return None
    if len(text) > 400 or asked.moderation or refuses:
        return weak(text)
    return Hit(text, sure or signs > 1)
