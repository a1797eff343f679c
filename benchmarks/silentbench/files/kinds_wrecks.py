"""Wrecked texts: what tools, services, pages and encodings leave in place of an answer or in it."""

from __future__ import annotations

import html
import json
import random
import re

import numpy as np

from benchmarks.silentbench.files import words
from benchmarks.silentbench.files.material import (
    Inert,
    Kind,
    Material,
    Planted,
    a_side,
    change,
    fields,
    of_side,
    put,
    text,
)

EVERYWHERE = ("chosen", "rejected", "both", "prompt")
SENTINELS = (
    *("nan", "NaN", "NAN", "None", "none", "null", "NULL", "Null", "N/A", "n/a", "NA", "#N/A"),
    *("[]", "{}", "<NA>", "undefined", "nil", "-", "--", "\\N", "NaT", ".", '""', "[None]"),
    *("(empty)", "<empty>", "empty", "[no response]", "no response", "[deleted]", "[removed]"),
    *("no_answer", "missing", "#REF!", "#VALUE!", "[blank]", "?", "...", "[null]", "None."),
)


def sentinel(material: Material) -> Planted:
    rng = material.rng
    side, marks = a_side(material), rng.sample(SENTINELS, rng.choice((1, 1, 2)))
    touched = change(material, side, lambda old: rng.choice(marks))
    return Planted(touched, f"{side}: {marks}", shows=marks)


def _traceback(rng: random.Random) -> str:
    module, function = rng.choice(words.NOUNS), rng.choice(words.VERBS)
    error = rng.choice(("KeyError: 'choices'", "TimeoutError", "ValueError: empty response"))
    return (
        "Traceback (most recent call last):\n"
        f'  File "/srv/{module}/{function}.py", line {rng.randint(9, 900)}, in {function}\n'
        f"    reply = client.{function}(prompt)\n{error}"
    )


def _service_error(rng: random.Random, form: int) -> str:
    code = rng.choice((400, 401, 403, 429, 500, 502, 503, 504))
    reason = {429: "Too Many Requests", 502: "Bad Gateway", 503: "Service Unavailable"}.get(
        code, "Internal Server Error"
    )
    host, ident = f"api.{words.code_word(rng)}.com", f"{rng.getrandbits(40):010x}"
    return (
        f"Error code: {code} - {{'error': {{'message': '{reason}', 'request_id': '{ident}'}}}}",
        json.dumps({"error": {"code": code, "message": reason, "id": ident}}),
        f"RateLimitError: Rate limit reached for {host} on requests per min. Limit: "
        f"{rng.randint(3, 90)}. Please try again in {rng.randint(1, 59)}s.",
        _traceback(rng),
        f"TypeError: Cannot read properties of undefined (reading '{rng.choice(words.NOUNS)}')\n"
        f"    at {rng.choice(words.VERBS)} (/app/index.js:{rng.randint(1, 400)}:17)",
        f"<html>\r\n<head><title>{code} {reason}</title></head>\r\n<body>\r\n<center><h1>{code} "
        f"{reason}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>",
        f"Request timed out after {rng.randint(10, 600)} seconds (request {ident}).",
        "upstream connect error or disconnect/reset before headers. reset reason: overflow",
        f"HTTPSConnectionPool(host='{host}', port=443): Max retries exceeded with url: /v1/chat",
        f"java.lang.NullPointerException\n\tat com.{words.code_word(rng)}.Client.send(Client.java:"
        f"{rng.randint(10, 300)})",
        f"CUDA out of memory. Tried to allocate {rng.randint(2, 90)}.00 GiB (GPU 0)",
        f"HTTP {code} {reason}",
        f"Error: {reason.lower()} ({ident}). Please contact support@{words.code_word(rng)}.com",
        f"curl: (28) Operation timed out after {rng.randint(1000, 90000)} milliseconds",
    )[form]


SERVICE_FORMS = 14


def service_error(material: Material) -> Planted:
    """Put the message of a failed call in place of the answer, or behind its first words."""
    rng = material.rng
    side, forms = a_side(material), rng.sample(range(SERVICE_FORMS), rng.choice((1, 1, 2)))
    whole = rng.random() < 0.75

    def new(old: str) -> str:
        error = _service_error(rng, rng.choice(forms))
        return error if whole else f"{old[: max(8, len(old) // 2)]}\n{error}"

    return Planted(change(material, side, new), f"{side}: forms {forms}, whole {whole}")


def moderation(material: Material) -> Planted:
    rng = material.rng
    side = a_side(material)
    thing = rng.choice(("response", "message", "content", "reply", "output", "completion"))
    done = rng.choice(("removed", "blocked", "filtered", "withheld", "hidden", "redacted"))
    by = rng.choice(
        (
            *("by our safety system", "due to our content policy", "by the moderation layer"),
            *("because it may violate our community guidelines", "for policy reasons"),
            *("due to a trigger of the content management policy", "by the trust & safety filter"),
        )
    )
    notice = rng.choice(
        (
            f"[This {thing} was {done} {by}]",
            f"The {thing} has been {done} {by}.",
            f"I'm sorry, but this {thing} was {done} {by}.",
            f"⚠️ {thing.capitalize()} {done} {by}. If you believe this is an error, contact us.",
            f"{thing.upper()} {done.upper()}: flagged as {rng.choice(('violence', 'self-harm'))}",
            json.dumps({"finish_reason": "content_filter", "flagged": True, "message": done}),
            f"finish_reason=content_filter; the {thing} was {done} {by}",
        )
    )
    return Planted(change(material, side, lambda old: notice), f"{side}: {notice!r}")


LOREM = (
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt.",
    "Lorem ipsum dolor sit amet.",
)


def placeholder(material: Material) -> Planted:
    """Leave an unfilled slot: in place of the answer, or of a word in it."""
    rng = material.rng
    side, slot = (
        a_side(material),
        rng.choice(("name", "answer", "topic", "city", "response", "detail")),
    )
    other = rng.choice(words.NOUNS)
    whole = rng.random() < 0.5
    mark = rng.choice(
        (
            *(f"[INSERT {slot.upper()}]", f"{{{slot}}}", f"{{{{{slot}}}}}", f"<{slot} here>"),
            *(
                f"[Your {slot}]",
                f"${{{slot}}}",
                f"<<{slot.upper()}>>",
                f"[{slot.upper()} GOES HERE]",
            ),
            *(f"{{{other}_{slot}}}", f"[{slot} of the {other}]", f"<insert {other} {slot}>"),
        )
    )
    if whole:
        mark = rng.choice(
            (
                *(mark, mark, f"TODO: {rng.choice(words.VERBS)} the {slot}", f"Your {slot} here"),
                *(
                    *LOREM,
                    f"Placeholder for the {slot}",
                    "TBD",
                    "FIXME",
                    f"[to be written: {other}]",
                ),
            )
        )

    def new(old: str) -> str:
        parts = old.split(" ")
        parts[rng.randrange(len(parts))] = mark
        return mark if whole else " ".join(parts)

    return Planted(change(material, side, new), f"{side}: {mark!r}, whole {whole}")


UNSEEN = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e\u2061\u3164\u115f\u2800\u200e\u2062"


def invisible(material: Material) -> Planted:
    """Leave an answer of which nothing can be seen."""
    rng = material.rng
    side, marks = a_side(material), rng.sample(UNSEEN, rng.choice((1, 1, 2)))
    most = rng.choice((1, 3, 12))

    def new(old: str) -> str:
        return "".join(rng.choice(marks) for _ in range(rng.randint(1, most)))

    return Planted(change(material, side, new), f"{side}: {[f'U+{ord(m):04X}' for m in marks]}")


def zero_width(material: Material) -> Planted:
    """Scatter characters without a width through the words of a side."""
    rng = material.rng
    side, mark = (
        a_side(material, *EVERYWHERE),
        rng.choice("\u200b\u200c\u2060\ufeff\u00ad\u200d\u2063"),
    )
    rate = rng.choice((0.02, 0.1, 0.3))

    def new(old: str) -> str:
        at = rng.randrange(len(old) + 1)  # one at least
        return "".join(
            (mark if i == at or rng.random() < rate else "") + letter
            for i, letter in enumerate(old + " ")
        ).rstrip(" ")

    return Planted(change(material, side, new), f"{side}: U+{ord(mark):04X}, rate {rate}")


def page(material: Material) -> Planted:
    """Leave the escapes or the tags of the page that a text was taken from."""
    rng = material.rng
    side, way = a_side(material, *EVERYWHERE), rng.choice(("entities", "tags", "both"))
    block = rng.choice(("p", "div", "span", "li", "td"))
    attribute = rng.choice(("", "", f' class="{words.code_word(rng)}"'))
    space = rng.choice(("&nbsp;", "&#160;", "&nbsp; "))

    def new(old: str) -> str:
        if way != "tags":
            escaped = html.escape(old).replace("&#x27;", rng.choice(("&#39;", "&#x27;", "&apos;")))
            old = escaped if escaped != old else old.replace(" ", space, 1)
        if way != "entities":
            old = old.replace("\n", rng.choice(("<br>", "<br/>\n")))
            old = f"<{block}{attribute}>{old}</{block}>"
        return old

    return Planted(change(material, side, new), f"{side}: {way}, {block}")


def mojibake(material: Material) -> Planted:
    """Read UTF-8 as a codec of one byte, once or twice."""
    rng = material.rng
    side = a_side(material, *EVERYWHERE)
    codec, times = rng.choice(("latin-1", "cp1252", "cp1252", "mac_roman")), rng.choice((1, 1, 2))

    def new(old: str) -> str:
        typeset = old.replace("'", "’").replace(" - ", " – ").replace("...", "…")
        typeset = re.sub(r'"([^"]*)"', r"“\1”", typeset)
        if typeset.isascii():
            typeset = re.sub(r"(?<=[a-z])e(?=[a-z])", "é", typeset, count=1)
        try:
            for _ in range(0 if typeset.isascii() else times):
                typeset = typeset.encode("utf-8").decode(codec)
        except UnicodeError:  # cp1252 lacks five bytes: such a text stays as it is
            return old
        return typeset

    return Planted(change(material, side, new), f"{side}: {codec}, {times} times")


def escaped(material: Material) -> Planted:
    """Leave the escapes of a string literal."""
    side = a_side(material, *EVERYWHERE)

    def new(old: str) -> str:
        literal = json.dumps(old, ensure_ascii=True)[1:-1]
        if literal == old:  # one plain line: the end of its line is what was escaped
            parts = words.sentences(old)
            literal = "\\n".join(parts) if len(parts) > 1 else f"{old}\\n"
        return literal

    return Planted(change(material, side, new), side)


def in_json(material: Material) -> Planted:
    """Encode an answer a second time: as a string, an object, a list, a message, a whole record."""
    rng = material.rng
    side = a_side(material, "chosen", "rejected", "both")
    key = rng.choice(("text", "content", "response", "answer", "output", words.code_word(rng)))
    way = rng.choice(("string", "object", "list", "message", "record", "repr"))

    def new(old: str) -> str:
        return {
            "string": json.dumps(f"{old}\n"),
            "object": json.dumps({key: old}),
            "list": json.dumps([old], indent=rng.choice((None, 2))),
            "message": json.dumps([{"role": "assistant", "content": old}]),
            "record": json.dumps(
                {"id": rng.randint(1, 9999), key: old, "score": rng.randint(1, 9)}
            ),
            "repr": str({"role": "assistant", key: old}),
        }[way]

    return Planted(change(material, side, new), f"{side}: {way}, {key}")


def _cut(material: Material, side: str, unit: str) -> Planted:
    """Cut texts at N, with N so that the asked share of the rows is longer."""
    name = fields(material, side)[0]
    rows = of_side(material, side)

    def pieces(old: str) -> list[str]:
        if unit == "characters":
            return list(old)
        return re.findall(r"\s*\S+" if unit == "words" else r"\s?\w{1,4}|\s|[^\w\s]", old)

    wanted_rows = set(rows)
    lengths = [len(pieces(text(material.train[i], name))) for i in rows]
    limit = int(np.quantile(lengths, 1 - min(material.share, 0.9)))
    touched = []
    for i, row in enumerate(material.train):
        if i not in wanted_rows:
            continue
        for column in fields(material, side):
            found = pieces(text(row, column))
            kept = "".join(found[:limit]).rstrip()
            if len(found) > limit and kept and kept != text(row, column):
                put(row, column, kept)
                touched.append(i)
    if limit < 3 or len(set(touched)) < 4:
        raise Inert(f"{side}: cut at {limit} {unit}")
    # tokens are the tokenizer's own; a blank at the cut is stripped
    shows = () if unit == "tokens" else (str(limit), str(limit - 1))
    return Planted(sorted(set(touched)), f"{side} at {limit} {unit}", shows=shows)


def cut_answers(material: Material) -> Planted:
    side = a_side(material, "chosen", "rejected", "both")
    return _cut(
        material, side, material.rng.choice(("characters", "characters", "words", "tokens"))
    )


def cut_prompts(material: Material) -> Planted:
    return _cut(material, "prompt", material.rng.choice(("characters", "characters", "words")))


CYRILLIC = str.maketrans("aeopcxyiABEHKMOPCTX", "аеорсхуіАВЕНКМОРСТХ")
GREEK = str.maketrans("ovABEHIKMNOPTXYZ", "ονΑΒΕΗΙΚΜΝΟΡΤΧΥΖ")
WIDE = {code: code + 0xFEE0 for code in range(ord("!"), ord("~") + 1)}
ALPHABETS = {"Cyrillic": CYRILLIC, "Greek": GREEK, "full width": WIDE}


def homoglyphs(material: Material) -> Planted:
    rng = material.rng
    side, script = a_side(material, *EVERYWHERE), rng.choice(tuple(ALPHABETS))
    rate = rng.choice((0.1, 0.3, 0.8))

    def new(old: str) -> str:
        table = ALPHABETS[script]
        return "".join(c.translate(table) if rng.random() < rate else c for c in old)

    return Planted(change(material, side, new), f"{side}: {script}, rate {rate}")


def watermark(material: Material) -> Planted:
    """Hide a pattern: odd blanks at every n-th place, selectors or tags behind words."""
    rng = material.rng
    side = a_side(material, "chosen", "rejected", "both")
    step, phase = rng.choice((2, 3, 5)), rng.randrange(2)
    mark = rng.choice("\u2009\u202f\u2005\u2004\u205f\ufe00\ufe0e\U000e0061\U000e0100\u0335")
    blank = mark.isspace()

    def new(old: str) -> str:
        parts = old.split(" ")
        joined = parts[0]
        for i, part in enumerate(parts[1:], start=1):
            marked = i % step == phase % step
            joined += (mark if blank else f"{mark} ") if marked else " "
            joined += part
        return joined

    touched = change(material, side, new)
    return Planted(touched, f"{side}: U+{ord(mark):04X} every {step}")


def stuck(material: Material) -> Planted:
    """Repeat one real answer under many prompts, as a cache or a stuck loop does."""
    rng = material.rng
    side = a_side(material)
    name = fields(material, side)[0]
    answer = text(rng.choice([material.train[i] for i in of_side(material, side)]), name)
    return Planted(
        change(material, side, lambda old: answer), f"{side}: {answer[:60]!r}", shows=(answer,)
    )


def next_turn(material: Material) -> Planted:
    """Let an answer run on into the user's next turn."""
    rng = material.rng
    side = a_side(material)
    user, assistant = rng.choice(
        (("Human:", "Assistant:"), ("User:", "Bot:"), ("### Instruction:", "### Response:"))
    )
    ask = [text(row, "prompt") for row in material.train[:40]]
    touched = change(
        material, side, lambda old: f"{old}\n\n{user} {rng.choice(ask)}\n\n{assistant}"
    )
    return Planted(touched, f"{side}: {user}")


def end_token(material: Material) -> Planted:
    rng = material.rng
    side = a_side(material)
    token = rng.choice(
        ("</s>", "<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>")
    )
    return Planted(change(material, side, lambda old: old + token), f"{side}: {token}")


def echo(material: Material) -> Planted:
    """Begin answers with their own prompts, as decoding without the prompt's length does."""
    rng = material.rng
    side, joint = a_side(material), rng.choice(("\n", "\n\n", " "))
    name = fields(material, side)[0]
    rows = of_side(material, side)
    count = max(4, round(material.share * len(rows)))
    touched = sorted(rng.sample(rows, min(count, len(rows))))
    for i in touched:
        row = material.train[i]
        put(row, name, text(row, "prompt") + joint + text(row, name))
    return Planted(touched, side)


KINDS = (
    Kind("sentinel", "wrecks", sentinel),
    Kind("service error", "wrecks", service_error),
    Kind("moderation notice", "wrecks", moderation),
    Kind("placeholder", "wrecks", placeholder),
    Kind("invisible answers", "wrecks", invisible),
    Kind("zero-width characters", "wrecks", zero_width),
    Kind("page escapes and tags", "wrecks", page),
    Kind("mojibake", "wrecks", mojibake),
    Kind("literal escapes", "wrecks", escaped),
    Kind("doubled JSON", "wrecks", in_json),
    Kind("cut answers", "wrecks", cut_answers),
    Kind("cut prompts", "wrecks", cut_prompts),
    Kind("homoglyphs", "wrecks", homoglyphs),
    Kind("watermark", "wrecks", watermark),
    Kind("one answer to many prompts", "wrecks", stuck),
    Kind("next turn in the answer", "wrecks", next_turn),
    Kind("end token in the answer", "wrecks", end_token),
    Kind("prompt repeated in the answer", "wrecks", echo),
)
