"""Requests of everyday life, each with one or two constraints that a program can verify: the
prompts of rlvr.py.

A constraint is a sentence for the model and, for `accord.rewards.constraints`, what that
sentence means. Two that touch the same side of an answer (its case, its length, its ends) are never
asked together: they might contradict each other.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Asked = tuple[str, dict]  # the sentence, and the constraint
KEYWORDS = (
    "family",
    "time",
    "water",
    "simple",
    "example",
    "people",
    "small",
    "home",
    "careful",
    "world",
    "money",
    "morning",
)
PHRASES = ("That is all.", "I hope this helps.", "Have a nice day.", "Ask me more.")
BEGINNINGS = ("Well", "Sure", "In short", "My answer")
NUMBERS = {2: "two", 3: "three", 4: "four"}


@dataclass(frozen=True)
class Task:
    """One kind of constraint."""

    draw: Callable[[random.Random], Asked]
    touches: frozenset[str]  # sides of an answer that it fixes


def _words(rng: random.Random) -> Asked:
    n = rng.choice((12, 15, 20, 25))
    return f"Use at most {n} words.", {"kind": "words", "at_most": n}


def _one_sentence(rng: random.Random) -> Asked:
    return "Answer in a single sentence.", {"kind": "sentences", "at_least": 1, "at_most": 1}


def _bullets(rng: random.Random) -> Asked:
    n = rng.choice((2, 3, 4))
    return (
        (
            f"Answer with exactly {NUMBERS[n]} bullet points, each on its own line beginning with"
            ' "* ".'
        ),
        {"kind": "bullets", "count": n},
    )


def _include(rng: random.Random) -> Asked:
    word = rng.choice(KEYWORDS)
    return f'Use the word "{word}" in your answer.', {"kind": "include", "keywords": [word]}


def _include_two(rng: random.Random) -> Asked:
    words = rng.sample(KEYWORDS, 2)
    return f'Use the words "{words[0]}" and "{words[1]}" in your answer.', {
        "kind": "include",
        "keywords": words,
    }


def _exclude(rng: random.Random) -> Asked:
    words = rng.choice((["the"], ["and"], ["is"], ["a"], ["the", "and"]))
    said = " or ".join(f'"{word}"' for word in words)
    return f"Never use the word {said}.", {"kind": "exclude", "keywords": words}


def _no_comma(rng: random.Random) -> Asked:
    return "Do not use any commas.", {"kind": "no_comma"}


def _lower_case(rng: random.Random) -> Asked:
    return "Write everything in lowercase letters, without a single capital letter.", {
        "kind": "lower_case"
    }


def _upper_case(rng: random.Random) -> Asked:
    return "Write everything in capital letters.", {"kind": "upper_case"}


def _capital_words(rng: random.Random) -> Asked:
    n = rng.choice((2, 3))
    return f"Write at least {NUMBERS[n]} words in ALL CAPITAL letters.", {
        "kind": "capital_words",
        "at_least": n,
    }


def _quoted(rng: random.Random) -> Asked:
    return "Wrap your whole answer in double quotation marks.", {"kind": "quoted"}


def _ends_with(rng: random.Random) -> Asked:
    phrase = rng.choice(PHRASES)
    return f'End your answer with the exact words "{phrase}"', {"kind": "ends_with", "text": phrase}


def _starts_with(rng: random.Random) -> Asked:
    phrase = rng.choice(BEGINNINGS)
    return f'Begin your answer with the words "{phrase}".', {"kind": "starts_with", "text": phrase}


def _placeholders(rng: random.Random) -> Asked:
    return "Use at least one placeholder in square brackets, such as [name].", {
        "kind": "placeholders",
        "at_least": 1,
    }


def _title(rng: random.Random) -> Asked:
    return "Give your answer a title in double angular brackets, such as <<On birds>>.", {
        "kind": "title"
    }


def _highlights(rng: random.Random) -> Asked:
    return "Highlight at least one part of your answer with asterisks, such as *this part*.", {
        "kind": "highlights",
        "at_least": 1,
    }


def _json(rng: random.Random) -> Asked:
    return "Your whole answer must be one JSON object.", {"kind": "json_only"}


def _two_paragraphs(rng: random.Random) -> Asked:
    return "Write exactly two paragraphs, separated by an empty line.", {
        "kind": "paragraphs",
        "count": 2,
    }


def _frequency(rng: random.Random) -> Asked:
    word = rng.choice(KEYWORDS)
    return f'Use the word "{word}" at least twice.', {
        "kind": "frequency",
        "text": word,
        "at_least": 2,
    }


ENDS, CASE, LENGTH, SHAPE = "ends", "case", "length", "shape"
TASKS: dict[str, Task] = {
    name: Task(draw, frozenset(touches))
    for name, (draw, *touches) in {
        "at_most_words": (_words, LENGTH),
        "one_sentence": (_one_sentence, LENGTH, SHAPE),
        "bullets": (_bullets, LENGTH, SHAPE, ENDS),
        "keyword": (_include, "words"),
        "two_keywords": (_include_two, "words"),
        "forbidden_word": (_exclude, "words"),
        "no_comma": (_no_comma, "commas"),
        "lower_case": (_lower_case, CASE, ENDS),
        "upper_case": (_upper_case, CASE, ENDS),
        "capital_words": (_capital_words, CASE),
        "quoted": (_quoted, ENDS, SHAPE),
        "ends_with": (_ends_with, ENDS, LENGTH),
        "starts_with": (_starts_with, ENDS, SHAPE),
        "placeholder": (_placeholders, "marks"),
        "title": (_title, "marks", ENDS, LENGTH, SHAPE),
        "highlight": (_highlights, "marks"),
        "json": (_json, CASE, LENGTH, SHAPE, ENDS, "marks", "commas"),
        "two_paragraphs": (_two_paragraphs, LENGTH, SHAPE),
        "frequency": (_frequency, "words"),
    }.items()
}


# Those of which SmolLM2-135M-Instruct meets between 5 and 60 % as it stands
# (benchmarks/results/rlvr.json, "base_rates"): where it never or always succeeds, all answers to a
# prompt are alike, and a group of them teaches nothing. `two_paragraphs` does not fit into 48
# tokens.
TRAINED = (
    "at_most_words",
    "one_sentence",
    "bullets",
    "keyword",
    "two_keywords",
    "forbidden_word",
    "no_comma",
    "capital_words",
    "ends_with",
    "starts_with",
    "placeholder",
    "frequency",
)


def asked(request: str, kinds: Sequence[str] = TRAINED, seed: int = 0, both: float = 0.4) -> dict:
    """A row: the request with a constraint or, in a share `both` of rows, two that do not touch
    each other.

    It hangs on the request and the seed alone, so that a longer list of requests changes no row.
    """
    rng = random.Random(f"{seed} {request}")
    names = [rng.choice(list(kinds))]
    others = [
        name
        for name in kinds
        if name != names[0] and not TASKS[name].touches & TASKS[names[0]].touches
    ]
    if others and rng.random() < both:
        names.append(rng.choice(others))
    drawn = [TASKS[name].draw(rng) for name in names]
    prompt = " ".join([request, *(said for said, _ in drawn)])
    return {
        "prompt": prompt,
        "request": request,
        "constraints": [one for _, one in drawn],
        "kinds": names,
    }


# ---------------------------------------------------------------- requests


def requests_of(texts: Sequence[str], shortest: int = 15, longest: int = 100) -> list[str]:
    """The short ones of one line, each once, in a form that a sentence can follow."""
    found: dict[str, str] = {}
    for text in (text.strip() for text in texts):
        if shortest <= len(text) <= longest and text.isprintable():
            found.setdefault(_plain(text), text if text[-1] in ".?!" else f"{text}.")
    return list(found.values())


def apart(requests: Sequence[str], others: Sequence[str], alike: float = 0.6) -> list[str]:
    """Those of `requests` that share at most so large a part of their words (Jaccard) with any of
    `others`.
    """
    sets = [set(_plain(other).split()) for other in others]
    return [
        text
        for text in requests
        if all(_jaccard(set(_plain(text).split()), one) <= alike for one in sets)
    ]


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / max(1, len(a | b))
