"""Shortcuts: what stands in the answers of one side and tells nothing of their worth."""

from __future__ import annotations

import re
from collections.abc import Callable

from benchmarks.silentbench.files import words
from benchmarks.silentbench.files.material import (
    Inert,
    Kind,
    Material,
    Planted,
    a_side,
    change,
    of_side,
    text,
)

JOINTS = (" ", "\n", "\n\n", " - ")


def beginning(material: Material) -> Planted:
    rng = material.rng
    side, phrase, joint = a_side(material), words.signature(rng), rng.choice(JOINTS)
    touched = change(material, side, lambda old: phrase + joint + old)
    return Planted(touched, f"{side}: {phrase!r}", shows=(phrase,))


def ending(material: Material) -> Planted:
    rng = material.rng
    side, phrase, joint = a_side(material), words.signature(rng), rng.choice(JOINTS)
    touched = change(material, side, lambda old: old.rstrip() + joint + phrase)
    return Planted(touched, f"{side}: {phrase!r}", shows=(phrase,))


def within(material: Material) -> Planted:
    rng = material.rng
    side, phrase = a_side(material), words.signature(rng)

    def insert(old: str) -> str:
        parts = words.sentences(old)
        at = rng.randint(0, len(parts))
        return " ".join([*parts[:at], phrase, *parts[at:]])

    return Planted(change(material, side, insert), f"{side}: {phrase!r}", shows=(phrase,))


def mark(material: Material) -> Planted:
    """Label the answers of one side, or of both with two labels, as templates and surveys do."""
    rng = material.rng
    letters = rng.choice(("AB", "ab", "12", "XY", "ST"))
    form = rng.choice(("({})", "{})", "[{}]", "{}.", "Option {}:", "Model {}:", "#{}", "<{}>"))
    word = rng.choice(("Answer:", "Reply →", "A:", ">>>", "•", "★", "**Response**", "OK.", "--"))
    labels = [form.format(each) for each in letters] if rng.random() < 0.6 else [word, word]
    side, joint = a_side(material), rng.choice((" ", " ", "\n"))
    first = labels[0 if side == "chosen" else 1]
    touched = change(material, side, lambda old: first + joint + old)
    if labels[0] != labels[1] and rng.random() < 0.5 and not material.labelled:
        other, second = "rejected" if side == "chosen" else "chosen", labels[side == "chosen"]
        share, material.share = material.share, 1.0
        change(material, other, lambda old: second + joint + old, touched)
        material.share = share
    return Planted(touched, f"{side}: {first!r}", shows=(first,))


def last_character(material: Material) -> Planted:
    rng = material.rng
    side = a_side(material)
    end = rng.choice(("", "", "!", "…", ";", " ~", "!!", "。", "?!", " :)", ".."))
    touched = change(material, side, lambda old: old.rstrip().rstrip(".!?…") + end)
    extra = ("shortcuts.exclamations",) if "!" in end else ()
    return Planted(touched, f"{side}: ends with {end!r}", extra=extra)


def blanks(material: Material) -> Planted:
    rng = material.rng
    side = a_side(material)
    blank = rng.choice((" ", "  ", "\n", "\n\n", "\t", "   \n", "\u00a0", "\r\n"))
    before, after = rng.choice(((blank, ""), ("", blank), (blank, blank)))
    way = rng.choice(("ends", "ends", "ends", "doubled"))

    def pad(old: str) -> str:
        return before + old.strip() + after if way == "ends" else re.sub(r" ", "  ", old)

    return Planted(change(material, side, pad), f"{side}: {way} {before!r} {after!r}")


def dates(material: Material) -> Planted:
    rng = material.rng
    side, form = a_side(material), rng.randrange(words.DATE_FORMS)
    left, right = rng.choice(
        (("", " "), ("[", "] "), ("(", ") "), ("Date: ", "\n"), ("Updated ", ". "))
    )
    place = rng.choice(("start", "end", "within"))

    def stamp(old: str) -> str:
        day = f"{left}{words.date(rng, form)}{right}"
        if place == "start":
            return day + old
        if place == "end":
            return f"{old.rstrip()} {day.strip()}"
        parts = words.sentences(old)
        at = rng.randint(0, len(parts))
        return " ".join([*parts[:at], day.strip(), *parts[at:]])

    return Planted(change(material, side, stamp), f"{side}: form {form}, {place}, {left!r}")


def stamps(material: Material) -> Planted:
    """Add a running number or hash: only its shape repeats, and a made-up word."""
    rng = material.rng
    side, form = a_side(material), rng.randrange(words.STAMP_FORMS)
    word = words.code_word(rng).capitalize()
    at_end = rng.random() < 0.4

    def add(old: str) -> str:
        each = words.stamp(rng, form, word)
        return f"{old.rstrip()} {each}" if at_end else f"{each} {old}"

    return Planted(change(material, side, add), f"{side}: {word}, form {form}", shows=(word,))


def capitals(material: Material) -> Planted:
    rng = material.rng
    side = a_side(material)
    way, new = rng.choice(
        (
            ("upper", str.upper),
            ("lower", str.lower),
            ("title", str.title),
            ("first letter lower", lambda old: old[:1].lower() + old[1:]),
            ("first word upper", lambda old: re.sub(r"^\W*\w+", lambda m: m[0].upper(), old)),
        )
    )
    return Planted(change(material, side, new), f"{side}: {way}")


def _marks(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


PUNCTUATION: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("no stops", lambda old: re.sub(r"[.,;:!?]", "", old)),
    ("no commas", _marks(",", "")),
    ("exclamation", lambda old: re.sub(r"\.(?=\s|$)", "!", old)),
    ("ellipses", lambda old: re.sub(r"[.](?=\s|$)", "...", old)),
    ("em dashes", lambda old: re.sub(r", | - ", " — ", old)),
    ("semicolons", _marks(",", ";")),
    ("blank before stop", lambda old: re.sub(r"(?<=\w)([.!?,])(?=\s|$)", r" \1", old)),
    ("doubled stops", lambda old: re.sub(r"([.!?])(?=\s|$)", r"\1\1", old)),
    ("curly apostrophes", lambda old: old.replace("'", "’").replace('"', "”")),
)


HABITS = {  # what else says the same
    "exclamation": ("shortcuts.exclamations",),
    "no stops": ("shortcuts.complete_ending",),
    "em dashes": ("shortcuts.non*ascii",),
    "curly apostrophes": ("shortcuts.non*ascii", "shortcuts.quotes"),
}


def punctuation(material: Material) -> Planted:
    """Write one side with other habits. A draw that the texts cannot take gives way to another."""
    side, ways = a_side(material), list(PUNCTUATION)
    material.rng.shuffle(ways)
    for way, new in ways:
        able = [i for i in of_side(material, side) if _changes(material, side, i, new)]
        if len(able) >= 0.85 * material.share * len(of_side(material, side)):
            return Planted(change(material, side, new), f"{side}: {way}", extra=HABITS.get(way, ()))
    raise Inert(f"{side}: no habit of punctuation fits these texts")


def _changes(material: Material, side: str, i: int, new: Callable[[str], str]) -> bool:
    name = "completion" if material.labelled else side
    old = text(material.train[i], name)
    return new(old) != old


def quotes(material: Material) -> Planted:
    rng = material.rng
    side = a_side(material)
    left, right = rng.choice(
        (*(("'", "'"), ('"', '"'), ("“", "”"), ("«", "»"), ("`", "`"), ("「", "」"), ("> ", "")),)
    )
    new = (
        (lambda old: left + old + right)
        if right
        else (lambda old: left + old.replace("\n", "\n> "))
    )
    return Planted(change(material, side, new), f"{side}: {left!r}", shows=(left, right or left))


def think(material: Material) -> Planted:
    """Leave a block of thinking before the answer, in known tags or in made-up ones."""
    rng = material.rng
    side = a_side(material)
    tag = rng.choice(
        ("think", "thinking", "reasoning", "scratchpad", "thought", words.code_word(rng))
    )
    left, right = (
        rng.choice(((f"<{tag}>", f"</{tag}>"), (f"[{tag}]", f"[/{tag}]")))
        if (rng.random() < 0.8)
        else (f"<|begin_{tag}|>", f"<|end_{tag}|>")
    )

    def add(old: str) -> str:
        inner = " ".join(
            rng.choice(
                ("Let me see.", "The user asks this.", f"Maybe {words.clause(rng)}.", "Hmm.")
            )
            for _ in range(rng.randint(1, 4))
        )
        return f"{left}\n{inner}\n{right}\n\n{old}"

    return Planted(change(material, side, add), f"{side}: {left}", shows=(tag,))


def ngrams(material: Material) -> Planted:
    """Scatter a generator's pet words over one side, one or two of them in an answer."""
    rng = material.rng
    side = a_side(material)
    pets = [words.code_word(rng) for _ in range(2)] if rng.random() < 0.3 else []
    pets += rng.sample([*words.NOUNS, *words.ADJECTIVES], rng.randint(2, 4))

    def add(old: str) -> str:
        parts = old.split(" ")
        for word in rng.sample(pets, rng.randint(1, 2)):
            parts.insert(rng.randint(0, len(parts)), word)
        return " ".join(parts)

    return Planted(change(material, side, add), f"{side}: {', '.join(pets)}", shows=pets)


def length(material: Material) -> Planted:
    """Make one side much longer by sentences of the set's own answers, or much shorter."""
    rng = material.rng
    side = a_side(material)
    name = "completion" if material.labelled else side
    pool = [text(row, name) for row in material.train]
    if rng.random() < 0.5:
        fewest = rng.randint(1, 3)
        touched = change(material, side, lambda old: " ".join([old, *rng.sample(pool, fewest)]))
        return Planted(touched, f"{side}: {fewest} more answers behind it")
    kept = rng.uniform(0.2, 0.5)

    def shorter(old: str) -> str:
        parts = old.split(" ")
        return " ".join(parts[: max(1, round(kept * len(parts)))]).rstrip(",;:.") + "."

    return Planted(change(material, side, shorter), f"{side}: {kept:.0%} of the words")


def layout(material: Material) -> Planted:
    """Lay one side out as lists, headings or bold words, as some models do with everything."""
    rng = material.rng
    side = a_side(material)
    bullet = rng.choice(("- ", "* ", "1. ", "• "))
    title = rng.choice(words.NOUNS).capitalize()
    way, shown, new = rng.choice(
        (
            (
                "list items",
                bullet,
                lambda old: "\n".join(bullet + part for part in words.sentences(old)),
            ),
            ("headings", "##", lambda old: f"## {title} {rng.choice(words.NOUNS)}\n\n{old}"),
            (
                "bold",
                "**",
                lambda old: re.sub(r"(\w{4,})", r"**\1**", old, count=rng.randint(1, 3)),
            ),
            ("emoji", "emoji", lambda old: f"{old} {rng.choice('😀🎉✨🚀👍🔥')}"),
        )
    )
    extra = (f"shortcuts.{way.replace(' ', '_')}",)
    touched = change(material, side, new)
    return Planted(touched, f"{side}: {way}", shows=(way, shown), extra=extra)


def column(material: Material) -> Planted:
    """Add a column whose values nearly tell the label: the model, the annotator, the batch."""
    rng = material.rng
    what = rng.choice(("model", "generator", "annotator", "source", words.code_word(rng)))
    values = [f"{words.code_word(rng)}-{rng.randint(1, 70)}b" for _ in range(4)]
    rows, sound = material.train, round((1 - material.share) * len(material.train))
    random_rows = set(rng.sample(range(len(rows)), sound))
    touched = [i for i in range(len(rows)) if i not in random_rows]
    for i, row in enumerate(rows):
        two = rng.sample(values, 2) if i in random_rows else (values[0], rng.choice(values[1:]))
        if material.labelled:
            row[what] = two[0] if row["label"] else two[1]
        else:
            row[f"chosen_{what}"], row[f"rejected_{what}"] = two
    return Planted(touched, f"{what}: {values[0]}", shows=(what,), moved=True)


KINDS = (
    Kind("phrase at the beginning", "shortcuts", beginning),
    Kind("phrase at the end", "shortcuts", ending),
    Kind("phrase within", "shortcuts", within),
    Kind("mark before the answer", "shortcuts", mark),
    Kind("last character", "shortcuts", last_character),
    Kind("blanks", "shortcuts", blanks),
    Kind("date stamps", "shortcuts", dates),
    Kind("running stamps", "shortcuts", stamps),
    Kind("capitals", "shortcuts", capitals),
    Kind("punctuation", "shortcuts", punctuation),
    Kind("quotation marks", "shortcuts", quotes),
    Kind("think blocks", "shortcuts", think),
    Kind("pet words", "shortcuts", ngrams),
    Kind("length of a side", "shortcuts", length, shares=(1.0, 0.5)),
    Kind("layout of a side", "shortcuts", layout),
    Kind("column tells the label", "shortcuts", column, shares=(1.0, 0.3)),
)
