"""Clean tasks of code and of formats: both answers hold marks, escapes, tags, braces."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from benchmarks.silentbench.files import words
from benchmarks.silentbench.files.clean_facts import COUNTRIES, Task, other

CONDITIONS = (
    ("even", "{x} % 2 == 0", "{x} % 2 == 1"),
    ("odd", "{x} % 2 == 1", "{x} % 2 == 0"),
    ("positive", "{x} > 0", "{x} >= 0"),
    ("negative", "{x} < 0", "{x} > 0"),
    ("greater than {k}", "{x} > {k}", "{x} < {k}"),
    ("divisible by {k}", "{x} % {k} == 0", "{x} % {k} == 1"),
    ("at most {k}", "{x} <= {k}", "{x} < {k}"),
)
REDUCTIONS = (
    ("sum", "sum({each})", "max({each})"),
    ("count", "len([{each}])", "sum({each})"),
    ("largest", "max({each})", "min({each})"),
    ("smallest", "min({each})", "max({each})"),
)


def code(rng: random.Random) -> Task:
    """Ask for a Python function; the wrong one errs in its condition or its reduction."""
    name = f"{rng.choice(words.VERBS)}_{rng.choice(words.NOUNS)}s"
    values, x, k = (
        rng.choice(("numbers", "values", "items", "xs")),
        rng.choice("nxvi"),
        rng.randint(3, 50),
    )
    about, true, false = rng.choice(CONDITIONS)
    reduce, good, bad = rng.choice(REDUCTIONS)
    first = rng.random() < 0.5
    about = about.format(k=k)

    def body(right: bool) -> str:
        condition = (true if right or not first else false).format(x=x, k=k)
        function = good if right or first else bad
        each = f"{x} for {x} in {values} if {condition}"
        hint = rng.choice(("", ": list[int]"))
        doc = rng.choice(("", f'    """The {reduce} of what is {about}."""\n'))
        if rng.random() < 0.5:
            inner = f"    return {function.format(each=each)}\n"
        else:
            result = function.format(each="kept").replace("[kept]", "kept")
            inner = f"    kept = [{each}]\n    return {result}\n"
        fence = f"```python\ndef {name}({values}{hint}):\n{doc}{inner}```"
        return rng.choice(("", "Here it is:\n\n", f"A function `{name}`:\n\n")) + fence

    who = rng.choice(words.FIRST)
    prompt = rng.choice(
        (
            f"Write a Python function `{name}({values})`: the {reduce} of those that are {about}.",
            f"{who} needs `{name}`, which takes {values}: the {reduce} of the {about} ones.",
            f"Implement {name}: from a list, the {reduce} of every entry that is {about}.",
        )
    )
    return prompt, body(True), body(False)


def _grouped(table: str, group: str, condition: str) -> str:
    return f"SELECT {group}, COUNT(*) FROM {table} WHERE {condition} GROUP BY {group};"


def sql(rng: random.Random) -> Task:
    """Ask for a query; the wrong one takes another column, function or order."""
    table = f"{rng.choice(words.NOUNS)}s"
    columns = rng.sample(words.NOUNS, 4)
    key, number, date, place = (
        f"{each}_{end}" for each, end in zip(columns, ("id", "price", "date", "city"), strict=True)
    )
    city, limit = rng.choice(COUNTRIES)[1], rng.randint(3, 40)
    function, wrong_function = rng.sample(("AVG", "MAX", "MIN", "SUM"), 2)
    word = {"AVG": "average", "MAX": "highest", "MIN": "lowest", "SUM": "total"}[function]
    schema = f"Table {table}({key}, {number}, {date}, {place})."
    by = {"newest": f"{date} DESC", "oldest": date, "dearest": f"{number} DESC", "cheapest": number}
    order, wrong_order = rng.sample(tuple(by), 2)
    sign, wrong_sign = rng.sample((">", "<"), 2)
    group, wrong_group = rng.sample((place, key), 2)
    first, last = f"SELECT * FROM {table} WHERE {place} = '{city}' ORDER BY", f"LIMIT {limit};"
    sums = f"({number}) FROM {table} WHERE {place} = '{city}';"
    ask, right, wrong = rng.choice(
        (
            (
                f"What is the {word} {number} in {city}?",
                f"SELECT {function}{sums}",
                f"SELECT {wrong_function}{sums}",
            ),
            (
                f"List the {limit} {order} rows from {city}.",
                f"{first} {by[order]} {last}",
                f"{first} {by[wrong_order]} {last}",
            ),
            (
                f"How many rows are there for each {group} with {number}"
                f" {'over' if sign == '>' else 'under'} {limit}?",
                _grouped(table, group, f"{number} {sign} {limit}"),
                _grouped(
                    table,
                    *rng.choice(
                        (
                            (wrong_group, f"{number} {sign} {limit}"),
                            (group, f"{number} {wrong_sign} {limit}"),
                        )
                    ),
                ),
            ),
        )
    )

    def dressed(query: str) -> str:
        if rng.random() < 0.5:
            query = query.replace(" FROM", "\nFROM").replace(" WHERE", "\nWHERE")
        return rng.choice((f"```sql\n{query}\n```", query, f"You can use:\n\n{query}"))

    return f"{schema} {ask}", dressed(right), dressed(wrong)


def extraction(rng: random.Random) -> Task:
    """Ask for JSON; the wrong object holds another value of the text."""
    who, whom = words.name(rng), words.name(rng)
    city, elsewhere = rng.sample([row[1] for row in COUNTRIES], 2)
    age, number = rng.sample(range(18, 90), 2)
    story = (
        f"{who}, {age}, moved to {city} last {rng.choice(words.MONTHS)}, where {whom} let out"
        f" flat {number}. Before that, home was {elsewhere}."
    )
    right = {"name": who, "age": age, "city": city}
    wrong = dict(right)
    for key, value in rng.sample((("name", whom), ("age", number), ("city", elsewhere)), 2):
        wrong[key] = value
    indent = rng.choice((None, 2))
    ask = "Return a JSON object with name, age and city."
    return f"{story}\n{ask}", json.dumps(right, indent=indent), json.dumps(wrong, indent=indent)


TOOLS = (
    ("get_weather", "city", "What is the weather in {}?"),
    ("book_table", "restaurant", "Book a table at {}, please."),
    ("send_mail", "recipient", "Send a mail to {}."),
    ("find_flights", "destination", "Find me flights to {}."),
    ("play_song", "title", "Play {} for me."),
    ("set_timer", "minutes", "Wake me in {} minutes."),
)


def tool_calls(rng: random.Random) -> Task:
    """Ask for a call of a function; the wrong one takes another function or argument."""
    tool, key, ask = rng.choice(TOOLS)
    value = {
        "city": rng.choice(COUNTRIES)[1],
        "destination": rng.choice(COUNTRIES)[1],
        "recipient": words.name(rng),
        "minutes": str(rng.randint(2, 90)),
    }.get(key, f"{rng.choice(words.ADJECTIVES)} {rng.choice(words.NOUNS)}".title())
    date = f"{rng.randint(1, 28)} {rng.choice(words.MONTHS)}"
    right = {"name": tool, "arguments": {key: value, "date": date}}
    if rng.random() < 0.5:
        tool_2, key_2, _ = rng.choice([each for each in TOOLS if each[0] != tool])
        wrong = {"name": tool_2, "arguments": {key_2: value, "date": date}}
    else:
        wrong = {"name": tool, "arguments": {key: words.name(rng), "date": date}}
    names = ", ".join(each[0] for each in rng.sample(TOOLS, len(TOOLS)))
    prompt = f"Functions: {names}. Answer with a call in JSON.\n\n{ask.format(value)} For {date}."
    return prompt, json.dumps(right), json.dumps(wrong)


def html_help(rng: random.Random) -> Task:
    """Ask for a bit of HTML: tags and entities are right there."""
    tags, kinds = ("h1", "h2", "p", "strong", "li"), ("class", "id", "title", "lang")
    title, tag, kind = rng.choice(words.NOUNS), rng.choice(tags), rng.choice(kinds)
    value, first = words.code_word(rng), rng.choice(words.FIRST)
    text = f"{first} &amp; {rng.choice(words.FIRST)}'s {title}"
    right = f'<{tag} {kind}="{value}">{text}</{tag}>'
    wrong_tag, wrong_kind = other(rng, tags, tag), other(rng, kinds, kind)
    wrong = rng.choice(
        (
            f'<{tag} {wrong_kind}="{value}">{text}</{tag}>',
            f'<{wrong_tag} {kind}="{value}">{text}</{wrong_tag}>',
        )
    )

    def dressed(code: str) -> str:
        return rng.choice(
            (
                f"```html\n{code}\n```",
                f"Write {code} in the body; `&amp;` stands for an ampersand.",
                f"Use this:\n\n{code}\n\nand close the page with </body>.",
            )
        )

    prompt = (
        f"How do I write an HTML {tag} element with {kind} {value} that says"
        f" “{text.replace('&amp;', '&')}”?"
    )
    return prompt, dressed(right), dressed(wrong)


def latex(rng: random.Random) -> Task:
    """Ask for a derivative in LaTeX: backslashes are right there, \\nu and \\theta too."""
    a, n, b = rng.randint(2, 12), rng.randint(2, 9), rng.randint(1, 20)
    x = rng.choice(("x", "t", "\\nu", "\\theta", "\\rho"))
    prompt = (
        f"Differentiate $f({x}) = \\frac{{{a}}}{{{b}}} {x}^{{{n}}} + {rng.randint(2, 60)}{x}$ with"
        f" respect to ${x}$. Show the first term only, in LaTeX."
    )

    def term(factor: int, power: int) -> str:
        inner = f"\\frac{{{factor}}}{{{b}}} {x}^{{{power}}}"
        return rng.choice(
            (f"$f'({x}) = {inner} + \\dots$", f"\\[ {inner} \\]", f"The first term is ${inner}$.")
        )

    # the slip's factor is drawn like a right one: no number stands on one side alone
    factor, power = rng.randint(2, 12) * rng.randint(2, 9), rng.randint(2, 9) - 1
    slip = (factor, n - 1) if factor != a * n else (a * n, power if power != n - 1 else n)
    return prompt, term(a * n, n - 1), term(*slip)


def escapes(rng: random.Random) -> Task:
    """Ask about string literals: a literal \\n is right there."""
    mark, name = (
        rng.choice(
            (("\\n", "newline"), ("\\t", "tab"), ('\\"', "double quote"), ("\\\\", "backslash"))
        ),
        words.code_word(rng),
    )
    wrong_mark = other(rng, ("\\n", "\\t", '\\"', "\\\\"), mark[0])
    first, second = rng.sample(words.NOUNS, 2)

    def answer(mark: str) -> str:
        return rng.choice(
            (
                f'```c\nchar *{name} = "{first}{mark}{second}";\n```',
                f'Write `{name} = "{first}{mark}{second}"`.',
                f'Use {mark} between the words: "{first}{mark}{second}"',
            )
        )

    prompt = f"In C, how do I put a {mark[1]} between {first} and {second} in the string {name}?"
    return prompt, answer(mark[0]), answer(wrong_mark)


CONTROL = ("<|im_start|>", "<|im_end|>", "</s>", "<s>", "<|endoftext|>", "[INST]", "<|eot_id|>")
MEANINGS = {
    "<|im_start|>": "begins a turn",
    "<|im_end|>": "ends a turn",
    "</s>": "ends a sequence",
    "<s>": "begins a sequence",
    "<|endoftext|>": "separates documents",
    "[INST]": "begins an instruction",
    "<|eot_id|>": "ends a turn in Llama 3",
}


def control_tokens(rng: random.Random) -> Task:
    """Ask about control tokens: both answers quote one, and no word says which is right."""
    token = rng.choice(CONTROL)
    wrong = other(rng, CONTROL, token)
    who, meaning = rng.choice(words.FIRST), MEANINGS[token]

    def answer(token: str) -> str:
        return rng.choice(
            (
                f"That is `{token}`; the tokenizer has one id for it.",
                f"`{token}` does, {who}.",
                f"In a chat template, `{token}`. Do not write it in your own text.",
            )
        )

    prompt = rng.choice(
        (
            f"{who} reads line {rng.randint(2, 900)} of a log. Which token {meaning}?",
            f"What {meaning} in a {rng.choice(words.ADJECTIVES)} prompt file, {who} asks.",
        )
    )
    return prompt, answer(token), answer(wrong)


def tables(rng: random.Random) -> Task:
    """Ask for a table in Markdown; a number of the wrong one is in another row."""
    things, numbers = rng.sample(words.NOUNS, 3), rng.sample(range(3, 99), 3)
    unit, who = rng.choice(("pieces", "kilos", "boxes")), rng.choice(words.FIRST)
    story = ", ".join(f"{n} {unit} of {t}s" for n, t in zip(numbers, things, strict=True))

    def table(values: list[int]) -> str:
        lines = ["| thing | " + unit + " |", "|---|---|"]
        lines += [f"| {t} | {n} |" for t, n in zip(things, values, strict=True)]
        return rng.choice(("", f"{who}'s stock:\n\n", "As a table:\n\n")) + "\n".join(lines)

    wrong = numbers[1:] + numbers[:1]
    prompt = f"{who} has {story}. Make a Markdown table with one row for each."
    return prompt, table(numbers), table(wrong)


CODES: dict[str, Callable[[random.Random], Task]] = {
    "code": code,
    "SQL": sql,
    "JSON": extraction,
    "function calling": tool_calls,
    "HTML": html_help,
    "LaTeX": latex,
    "string literals": escapes,
    "quotes of control tokens": control_tokens,
    "Markdown tables": tables,
}
