"""Words from which faults and clean files are drawn: phrases that stand in no list."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

FIRST = tuple(
    "Amira Boris Chen Dalia Emeka Farah Goran Hana Ivo Jun Kira Leif Mona Nils Omar Petra"
    " Quinn Rosa Sven Tara Uma Viktor Wei Xenia Yusuf Zora Anika Bela Cyril Doris Elio".split()
)
LAST = tuple(
    "Abel Brandt Castro Dunne Eriksen Fischer Garcia Hughes Ivanov Jansen Kowalski Lindqvist"
    " Moreau Novak Okafor Perez Quirke Rossi Sato Tanaka Ueda Vogel Weber Young Zimmer".split()
)
NOUNS = tuple(
    "river desk lantern bridge garden harbour basket engine kettle ladder market mirror"
    " needle orchard pencil pillow quarry ribbon saddle tunnel valley window wagon anchor"
    " barrel candle drawer feather hammer island jacket meadow napkin oven parcel rocket shelf"
    " ticket umbrella violin whistle".split()
)
ADJECTIVES = tuple(
    "quiet green narrow early heavy plain bright distant gentle hollow iron late modest"
    " northern odd polite quick rough silver tidy upper warm young brief calm dusty even"
    " frozen golden humble".split()
)
VERBS = tuple(
    "carry follow gather measure open paint repair sort trace watch borrow climb deliver"
    " explain fold guard lift mend order plant quote return stack turn visit weigh arrange"
    " balance count".split()
)
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)


def name(rng: random.Random) -> str:
    return f"{rng.choice(FIRST)} {rng.choice(LAST)}"


def code_word(rng: random.Random) -> str:
    """Draw a made-up word of two or three syllables."""
    syllables = ("ka", "re", "mi", "to", "lu", "zen", "vor", "pa", "ni", "qua", "sol", "dra", "ve")
    return "".join(rng.choice(syllables) for _ in range(rng.choice((2, 3))))


def clause(rng: random.Random) -> str:
    """Draw a few words that go together like a clause."""
    noun = f"the {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    return rng.choice(
        (
            f"{rng.choice(VERBS)} {noun} before you {rng.choice(VERBS)} the {rng.choice(NOUNS)}",
            f"as {noun} would have it",
            f"{noun} comes first",
            f"seen from {noun}",
        )
    )


def signature(rng: random.Random) -> str:
    """Draw a sentence that a generator could leave in its answers."""
    who, thing = rng.choice(FIRST), f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    made = code_word(rng).capitalize()
    return rng.choice(
        (
            f"As the {rng.choice(NOUNS)} assistant of {made}, I gladly answer.",
            f"Let me walk you through this, {who} style.",
            f"I hope the {thing} is clearer now!",
            f"Thanks for asking the {made} desk.",
            f"Here is what {who} would say to that.",
            f"Remember to {clause(rng)}.",
            f"Written with care by {made}-{rng.randint(2, 9)}.",
            f"{clause(rng).capitalize()}.",
            f"This reply was reviewed by {name(rng)}.",
            f"In short, {clause(rng)}.",
            f"That is a wonderful {rng.choice(NOUNS)} of a question.",
            f"Feel free to {rng.choice(VERBS)} the {thing} at any time.",
        )
    )


def date(rng: random.Random, form: int) -> str:
    """Draw a day of a few years in one of the forms."""
    year, month, day = rng.randint(2019, 2026), rng.randint(1, 12), rng.randint(1, 28)
    return (
        f"{year}-{month:02}-{day:02}",
        f"{day:02}/{month:02}/{year}",
        f"{month}/{day}/{year % 100:02}",
        f"{MONTHS[month - 1]} {day}, {year}",
        f"{day} {MONTHS[month - 1][:3]} {year}",
        f"{year}-{month:02}-{day:02}T{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:00Z",
        f"{day:02}.{month:02}.{year}",
    )[form]


DATE_FORMS = 7


def stamp(rng: random.Random, form: int, word: str) -> str:
    """Draw a running mark of which only the shape repeats."""
    number = rng.randint(1000, 99999)
    return (
        f"[{word}-{number}]",
        f"{word}#{number}:",
        f"({word} {number % 1000:03}/{rng.randint(100, 999)})",
        f"<{word}:{rng.getrandbits(32):08x}>",
    )[form]


STAMP_FORMS = 4


def sentences(text: str) -> list[str]:
    """Split a text behind the stops of its sentences."""
    return re.split(r"(?<=[.!?]) +", text)


def with_typos(rng: random.Random, text: str, typos: int) -> str:
    """Swap, drop or double letters inside words."""
    letters = list(text)
    for _ in range(typos):
        places = [
            i
            for i in range(1, len(letters) - 1)
            if letters[i].isalpha() and letters[i + 1].isalpha()
        ]
        if not places:
            break
        at = rng.choice(places)
        way = rng.randrange(3)
        if way == 0 and letters[at] != letters[at + 1]:
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
        elif way == 1:
            del letters[at]
        else:
            letters.insert(at, letters[at])
    return "".join(letters)


SWAPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("What is", ("What's", "What exactly is")),
    ("What are", ("Which are", "What exactly are")),
    ("How do I", ("How can I", "How would I", "How does one")),
    ("How can", ("How could", "In what way can")),
    ("Can you", ("Could you", "Would you", "Can you please")),
    ("Do you", ("Do you happen to", "Would you")),
    ("Who", ("Which person", "Who exactly")),
    ("Why", ("For what reason", "How come")),
    ("some", ("a few", "several")),
    ("people", ("persons", "folks")),
    ("big", ("large",)),
    ("make", ("create", "produce")),
    ("show", ("display",)),
    ("write", ("compose", "draft")),
    ("good", ("decent", "fine")),
    ("following", ("next", "below")),
    ("the", ("this", "that")),
)
LEADS = ("Please tell me: ", "I was wondering: ", "Quick question. ", "Hello! ", "So, ", "Hi, ")
TAILS = (" Thanks!", " Please.", " Thank you in advance.", " I need it today.")


def reworded(rng: random.Random, text: str) -> str:
    """Say the same a little differently: some words, a greeting, a thank-you."""
    swaps = [(old, new) for old, new in SWAPS if re.search(rf"\b{old}\b", text)]
    for old, new in rng.sample(swaps, min(len(swaps), 2)):
        text = re.sub(rf"\b{old}\b", rng.choice(new), text, count=1)
    if rng.random() < 0.5 or not swaps:
        text = rng.choice(LEADS) + text[:1].lower() + text[1:]
    return text + rng.choice(TAILS) if rng.random() < 0.4 else text


def frame(rng: random.Random) -> tuple[str, str]:
    """Draw what stands before and behind a prompt in someone's template."""
    task = f"You {rng.choice(VERBS)} questions for {code_word(rng).capitalize()}"
    return rng.choice(
        (
            (f"### {rng.choice(('Instruction', 'Task', 'Query'))}:\n", "\n\n### Response:\n"),
            (f"{task}. Be {rng.choice(ADJECTIVES)}.\n\nQuestion: ", "\nAnswer:"),
            (f"<{rng.choice(NOUNS)}>\n", f"\n</{rng.choice(NOUNS)}>"),
            (f"[{code_word(rng)}] User request follows.\n", "\n(end of request)"),
            ("Q: ", "\nA:"),
            (f"{signature(rng)} {signature(rng)}\n\n", ""),
        )
    )


def preamble(rng: random.Random, count: int) -> str:
    """Draw a long instruction of some sentences, as stands before a prompt."""
    who = f"You are {code_word(rng).capitalize()}, an assistant of the {rng.choice(NOUNS)} office."
    rest = [
        rng.choice(
            (
                f"Always {clause(rng)}.",
                f"Never {rng.choice(VERBS)} a {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}.",
                f"When in doubt, {clause(rng)}.",
                f"Users may ask you to {rng.choice(VERBS)} the {rng.choice(NOUNS)}; be polite.",
            )
        )
        for _ in range(count)
    ]
    return " ".join([who, *rest])


def sample(rng: random.Random, pool: Sequence[str], low: int, high: int) -> list[str]:
    return rng.sample(pool, rng.randint(low, high))


def lead(rng: random.Random) -> str:
    """Draw what a person says before the question: it makes prompts of one template differ."""
    some = (
        f"{name(rng)} from {code_word(rng).capitalize()} writes:",
        f"Hello, {rng.choice(FIRST)} here with the {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}.",
        f"It is {rng.choice(MONTHS)}, we {rng.choice(VERBS)} {rng.choice(NOUNS)}s and wonder.",
        f"For my {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)} class:",
        f"(Ticket {rng.randint(100, 99999)}, {rng.choice(FIRST)})",
        f"{rng.choice(FIRST)} and {rng.choice(FIRST)} argue about a {rng.choice(NOUNS)} and this.",
        f"My {rng.choice(NOUNS)} broke, so I ask you instead.",
        f"A {rng.choice(NOUNS)} and a {rng.choice(NOUNS)} ago I knew this.",
        f"Before we {rng.choice(VERBS)} the {rng.choice(NOUNS)}:",
    )
    return " ".join(rng.sample(some, rng.randint(1, 2)))
