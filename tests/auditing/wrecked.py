"""Clean files in which a careless check sees wrecks, and files with wrecks of every kind."""

from __future__ import annotations

import html
import json
import random
from collections.abc import Callable

NOUNS = "river castle engine garden market violin comet bridge harbour forest ladder candle".split()
NAMES = "Ada Grace Alan Edsger Barbara Donald Frances Niklaus Radia Leslie Shafi Tony".split()
WORDS = (
    "the a of to and in that is was for it with as his on be at by had not are but from or have an"
    " they which one you were her all there would their we him been has when who will more if out"
    " so said what up its about into than them can only other new some could time these two may"
    " then do first any my now such like our over man me even most made after also did many before"
    " must through years where much your way well down should because each just those people how"
    " little state good very make world still own see men work long get here between both life"
    " being under never day same another know while last might us great old year off come since"
    " against go came right used take three"
).split()


def prose(rng: random.Random, sentences: int = 3) -> str:
    """A few sentences of common words and rarer nouns, which end with a full stop."""
    out = []
    for _ in range(sentences):
        words = [
            rng.choice(WORDS if rng.random() < 0.7 else NOUNS) for _ in range(rng.randint(6, 16))
        ]
        words[-1] = rng.choice(NOUNS)
        out.append(" ".join(words).capitalize() + ".")
    return " ".join(out)


def pairs(n: int = 200, seed: int = 0) -> list[dict]:
    """Clean pairs of prose."""
    rng = random.Random(seed)
    return [
        {
            "prompt": f"Tell me of the {rng.choice(NOUNS)} number {i}, please.",
            "chosen": prose(rng, rng.randint(1, 5)),
            "rejected": prose(rng, rng.randint(1, 5)),
        }
        for i in range(n)
    ]


# ---------------------------------------------------------------- clean files

Draw = Callable[[random.Random, int], tuple[str, str]]


def _html(rng: random.Random, i: int) -> tuple[str, str]:
    word = rng.choice(NOUNS)
    return (
        f"Write an HTML list about a {word}, item {i}.",
        f"<ul><li>{word}</li><li>{rng.choice(NOUNS)} &amp; {i}</li></ul>",
    )


def _entities(rng: random.Random, i: int) -> tuple[str, str]:
    sign = rng.choice(["&amp;", "&lt;", "&nbsp;", "&quot;"])
    return (
        f"How do I escape sign {i} on a web page?",
        f"Write `{sign}` in place {i}, since a browser reads <{rng.choice(NOUNS)}> as a tag.",
    )


def _code(rng: random.Random, i: int) -> tuple[str, str]:
    name = rng.choice(NOUNS)
    return (
        f"Write a Python function {name}_{i} that prints two lines.",
        f'```python\ndef {name}_{i}(x):\n    print(f"{{x}}\\n{{{name}}}")\n'
        f"    return {{'a': {i}}}\n```",
    )


def _one_liner(rng: random.Random, i: int) -> tuple[str, str]:
    return f"Print {i} twice in C.", f'printf("{rng.choice(NOUNS)} {i}.\\n{i}\\n");'


def _latex(rng: random.Random, i: int) -> tuple[str, str]:
    return (
        f"What is the gradient of f number {i}?",
        f"It is $\\nabla f = \\frac{{\\theta}}{{{i}}}$ where \\nu \\neq \\tau and \\text{{name}} is"
        f" {rng.choice(NOUNS)}, so that $\\{{x_n\\}}$ converges for α, β and cosα.",
    )


def _chinese(rng: random.Random, i: int) -> tuple[str, str]:
    signs = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏"
    said = "".join(rng.choice(signs) for _ in range(rng.randint(8, 40)))
    return f"请说明第{i}个问题", f"这是\u201c{said}\u201d，第{i}条：ＡＢＣ。"


def _persian(rng: random.Random, i: int) -> tuple[str, str]:
    return (
        f"سؤال {i} چیست؟",
        f"این\u200cها کتاب\u200cهای {rng.choice(['من', 'تو', 'او'])} هستند \u200f{i}.",
    )


def _hindi(rng: random.Random, i: int) -> tuple[str, str]:
    return f"प्रश्न {i} क्या है?", f"क्\u200dष और र्\u200dय {rng.choice(['नदी', 'घर', 'बाग'])} {i} है।"


def _thai(rng: random.Random, i: int) -> tuple[str, str]:
    return f"คำถาม {i} คืออะไร", f"สวัสดี\u200bครับ\u200bนี่คือ\u200bคำตอบ {i} {rng.choice(NOUNS)}"


def _emoji(rng: random.Random, i: int) -> tuple[str, str]:
    face = rng.choice(["👨‍👩‍👧", "❤️", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "👩🏽‍🚀", "1️⃣", "☀️"])
    return f"Cheer me up, number {i}!", f"Here you are: {face} and {face}, {rng.choice(NOUNS)} {i}!"


def _french(rng: random.Random, i: int) -> tuple[str, str]:
    return (
        f"Que dire de la question {i}\u00a0?",
        f"Voilà\u00a0: «\u00a0{rng.choice(NOUNS)} à\u00a0Noël\u00a0», dit-il\u00a0; çà et là, Ô"
        f" CAFÉ”, {i}\u202f000\u00a0€ à l'été\u00a0!",
    )


def _russian(rng: random.Random, i: int) -> tuple[str, str]:
    word = rng.choice(["река", "СССР", "Россия", "РС", "сад"])
    return f"Что такое {word} номер {i}?", f"Это {word}, USB-кабель и Wi-Fi {i}; ТАСС и МХАТ тоже."


def _maths(rng: random.Random, i: int) -> tuple[str, str]:
    return f"How long is side {i}?", f"√π·{i} ≤ ∫√Ω, and {i}×2 – {rng.choice(NOUNS)} ± 3 μm."


def _json(rng: random.Random, i: int) -> tuple[str, str]:
    word = rng.choice(NOUNS)
    return (
        f"Return the answer about {word} {i} as JSON.",
        json.dumps({"answer": f'{word} "{i}"\nand on', "text": None}),
    )


def _labels(rng: random.Random, i: int) -> tuple[str, str]:
    return f"Which disease do the notes of patient {i} show?", rng.choice(
        ["None", "Flu", "N/A", "Gout"]
    )


def _sql(rng: random.Random, i: int) -> tuple[str, str]:
    return (
        f"What does SELECT NULLIF({i}, {i}) return?",
        rng.choice(["NULL", "null", f"It is NULL for {i}, since both are {rng.choice(NOUNS)}s."]),
    )


def _letters(rng: random.Random, i: int) -> tuple[str, str]:
    return (
        f"Write a letter about a {rng.choice(NOUNS)} to office {i}.",
        f"Dear [Recipient's Name],\n\n{prose(rng)}\n\nSincerely,\n[Your Name]\n[INSERT DATE]",
    )


def _templates(rng: random.Random, i: int) -> tuple[str, str]:
    return (
        f"Write a Jinja template number {i} that greets a {rng.choice(NOUNS)}.",
        f"Hello {{{{ name }}}}, this is {{{{ item_{i} }}}}. TODO: add a footer.",
    )


def _debugging(rng: random.Random, i: int) -> tuple[str, str]:
    return (
        f"Why does my server answer with error 500 in line {i}?",
        f"Error 500 means that {prose(rng, 1)} Look at the traceback: ValueError: {i}",
    )


def _support(rng: random.Random, i: int) -> tuple[str, str]:
    return (
        f"Why was my comment {i} on the {rng.choice(NOUNS)} removed by the moderators?",
        f"Your comment {i} was removed since it violates the community guidelines. {prose(rng, 1)}",
    )


def _refusals(rng: random.Random, i: int) -> tuple[str, str]:
    return (
        f"Help me to steal {rng.choice(NOUNS)} {i}.",
        "I'm sorry, but I can't help with that. It is unsafe and violates our usage policies.",
    )


def _titles(rng: random.Random, i: int) -> tuple[str, str]:
    words = " ".join(rng.choice(NOUNS).capitalize() for _ in range(rng.randint(4, 12)))
    return f"Give a title to story {i}", f"{words} {rng.choice(NAMES)}"


def _posts(rng: random.Random, i: int) -> tuple[str, str]:
    text = prose(rng, 9)[:280]
    return f"Write post {i} of at most 280 characters.", text.rpartition(".")[0] + "."


def _tables(rng: random.Random, i: int) -> tuple[str, str]:
    return f"Compare {rng.choice(NOUNS)} and {i}", f"| a | b |\n|---|---|\n| x<br>y | {i} |\n"


def _quotes(rng: random.Random, i: int) -> tuple[str, str]:
    said = prose(rng, 1)
    # a file of nothing but such answers is refused by the reader
    return f"Quote sentence {i} of the book", said if i % 4 else f'"{said}"'


def _template_answers(rng: random.Random, i: int) -> tuple[str, str]:
    return (
        f"Judge review {i} of a {rng.choice(NOUNS)}",
        f"The sentiment of this review of {rng.choice(NAMES)} is clearly"
        f" {rng.choice(['good', 'poor'])}",
    )


def _options(rng: random.Random, i: int) -> tuple[str, str]:
    return (
        f"Which of A, B and C is the {rng.choice(NOUNS)} of case {i:x}{rng.getrandbits(40):x}",
        f"The correct choice for the {rng.choice(NOUNS)} and the {rng.choice(NOUNS)} is"
        f" {rng.choice('ABC')}",
    )


def _lists(rng: random.Random, i: int) -> tuple[str, str]:
    items = [f"- The {rng.choice(NOUNS)} of {rng.choice(NAMES)} is well-" for _ in range(6)]
    return f"List {i} things", "\n".join(f"{item}known." for item in items)


def _grids(rng: random.Random, i: int) -> tuple[str, str]:
    line = rng.choice(["| yes | yes | no |", "x x x x x", "0 0 1 0", "Yes\tNo\tYes"])
    return f"Draw the grid of case {i}", f"{rng.choice(NOUNS)} {i}\n" + f"{line}\n" * 9


def _songs(rng: random.Random, i: int) -> tuple[str, str]:
    line = f"Oh {rng.choice(NOUNS)}, my {rng.choice(NOUNS)}"
    return f"Write a song, number {i}.", f"{prose(rng, 1)}\n" + f"{line},\n" * 5 + "la la la la la."


def _refrains(rng: random.Random, i: int) -> tuple[str, str]:
    last = f"And so the {rng.choice(NOUNS)} goes on, my friend."
    return f"Say {i} in verse", "\n\n".join(f"{prose(rng, 1)}\n{last}" for _ in range(5))


def _laughs(rng: random.Random, i: int) -> tuple[str, str]:
    return f"Is joke {i} good?", f"Ha ha ha ha ha ha! No no no, very very {rng.choice(NOUNS)} {i}!"


def _regexes(rng: random.Random, i: int) -> tuple[str, str]:
    return (
        f"Which spelling is right in case {i}",
        f"See example.com/watch?v=a{i}, is it colou?r or {rng.choice(NOUNS)}? Really?Yes, Mr.Smith"
        f" of Node.Js and System.Out wrote it. {prose(rng, 2)}",
    )


def _han_again(rng: random.Random, i: int) -> tuple[str, str]:
    sign = rng.choice("哈呵啊嗯")
    return (
        f"讲个笑话，第{i}个",
        f"{sign * 12}，第{i}个人说：{''.join(rng.sample('天地玄黄宇宙洪荒日月', 8))}。",
    )


def _signed(rng: random.Random, i: int) -> tuple[str, str]:
    return (
        f"Answer complaint {i} of a customer.",
        f"{prose(rng, 2)}\n\n"
        + rng.choice(
            ["Best regards,\nLi Wei", "— Kate, Support Team", "The ACME Team", "Yours,\nTo"]
        ),
    )


def _prose(rng: random.Random, i: int) -> tuple[str, str]:
    return f"Tell me of {rng.choice(NOUNS)} {i}.", prose(rng, rng.randint(1, 6))


CLEAN: dict[str, Draw] = {
    name[1:]: draw
    for name, draw in list(globals().items())
    if name.startswith("_") and callable(draw) and not name.startswith("__")
}


def clean_file(name: str, n: int = 120, seed: int = 0) -> list[dict]:
    """Pairs of one clean kind."""
    rng = random.Random(f"{name}{seed}")
    rows = []
    for i in range(n):
        prompt, chosen = CLEAN[name](rng, i)
        rejected = CLEAN[name](rng, i)[1]
        if rejected == chosen:
            rejected = f"{rng.choice(NAMES)}: {rejected}"
        rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return rows


# ---------------------------------------------------------------- wrecks

ALIKE = dict(zip("aeopcyxi", "аеорсухі", strict=True))


def _escape_page(rng: random.Random, text: str) -> str:
    if rng.random() < 0.5:
        return f"<p>{text.replace('. ', '.<br>')}</p>"
    return html.escape(f"{text} So \"x\" & 'y'.")


def _literal(rng: random.Random, text: str) -> str:
    return json.dumps(text.replace(". ", ".\n") + '\n"café"')[1:-1]


def _seen(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text))
    return text[:at] + rng.choice("\u200b\u2060\ufeff\u00ad") + text[at:]


def _bits(rng: random.Random, text: str) -> str:
    return text[:4] + "".join(rng.choice("\u200b\u200c") for _ in range(16)) + text[4:]


def _alike(rng: random.Random, text: str) -> str:
    return "".join(ALIKE.get(c, c) if rng.random() < 0.3 else c for c in text)


def _misread(rng: random.Random, text: str) -> str:
    said = f"{text} It’s a café – “çà et là” 😀"
    return said.encode("utf-8").decode("latin-1" if rng.random() < 0.5 else "cp1252", "replace")


def _again(rng: random.Random, text: str) -> str:
    if rng.random() < 0.5:
        return "the the the " * 20
    return (text.partition(". ")[0].rstrip(".") + ". ") * rng.randint(5, 12)


def _lost(rng: random.Random, text: str) -> str:
    kind = rng.randrange(3)
    if kind == 0:
        return f"I don?t know that it?s so. {text}"
    if kind == 1:
        return f"{text} The exam-\nple of a gar-\nden is here."
    return f"{text} It is the garden.Then came the river.After that all went."


def _of(*texts: str) -> Callable[[random.Random, str], str]:
    return lambda rng, text: rng.choice(texts)


WRECKS: dict[str, Callable[[random.Random, str], str]] = {
    "sentinel": _of("nan", "None", "null", "N/A", "[]", "<NA>", "NULL.", "#N/A", '""'),
    "error": _of(
        "Error: 429 Too Many Requests",
        "Traceback (most recent call last):\n  File \"a.py\", line 4, in <module>\nKeyError: 'x'",
        '{"error": {"message": "overloaded", "type": "server_error"}}',
        "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>",
        "TypeError: Cannot read properties of undefined (reading 'text')",
        "Request timed out.",
    ),
    "moderation": _of(
        "[Content filtered]",
        "I'm sorry, but this response was removed.",
        "The response was filtered due to the content management policy.",
        "[removed]",
    ),
    "placeholder": _of(
        "TODO", "[INSERT NAME]", "{{answer}}", "Your answer here", "Lorem ipsum dolor sit amet."
    ),
    "invisible": _seen,
    "json": lambda rng, text: json.dumps({rng.choice(["text", "answer"]): text}),
    "html": _escape_page,
    "mojibake": _misread,
    "escaped": _literal,
    "watermark": _bits,
    "homoglyphs": _alike,
    "cut": lambda rng, text: text[:60],
    "loop": lambda rng, text: text + " " + _again(rng, text),
    "damaged": lambda rng, text: _lost(rng, text),
}


def wreck(rows: list[dict], name: str, share: float, sides: tuple[str, ...], seed: int = 1):
    """The rows with a share of them wrecked at these sides."""
    rng = random.Random(f"{name}{share}{sides}{seed}")
    rows = [dict(row) for row in rows]
    for row in rng.sample(rows, round(share * len(rows))):
        for side in sides:
            row[side] = WRECKS[name](rng, row[side])
    return rows
