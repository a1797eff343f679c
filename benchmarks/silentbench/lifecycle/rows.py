"""Rows of the lifecycle bench: questions, and answers of which one kind is preferred more often.

An answer names things; each thing has a worth, and people prefer the worthier answer with the
probability of Bradley and Terry. So a reward model can learn something and no single word decides.
"""

from __future__ import annotations

import math
import random

from benchmarks.silentbench.world import NOUNS, PLACES, VERBS, message

SHARPNESS = 5  # at 2, forty updates of a reward model end at .6 of the held-out pairs; at 5, at .84
# of mean zero, so that a longer answer is worth neither more nor less
_STEPS = [number % 8 for number in range(len(NOUNS))]
WORTH = {
    noun: (step - sum(_STEPS) / len(_STEPS)) / 2 for noun, step in zip(NOUNS, _STEPS, strict=True)
}
PERSONA = "The people of the old town repair what they find, and answer every letter that they get."


def answer(rng: random.Random, extra: int = 4) -> tuple[str, float]:
    """An answer and what it is worth."""
    nouns = [rng.choice(NOUNS) for _ in range(2 + rng.randrange(extra))]
    words = f"The {nouns[0]} {rng.choice(VERBS)} the {nouns[1]} near {rng.choice(PLACES)}"
    words += "".join(f" and the {noun}" for noun in nouns[2:]) + rng.choice([".", "!", ""])
    return words, sum(WORTH[noun] for noun in nouns) / math.sqrt(len(nouns))


def question(rng: random.Random, number: int) -> str:
    return (
        f"Question {number}: where is the {rng.choice(NOUNS)} that {rng.choice(VERBS)} the"
        f" {rng.choice(NOUNS)}?"
    )


def pair(rng: random.Random, number: int) -> dict:
    """One pair, the better side with the probability of Bradley and Terry."""
    (first, worth), (second, other) = answer(rng), answer(rng)
    while second == first:
        second, other = answer(rng)
    if rng.random() > 1 / (1 + math.exp(-SHARPNESS * (worth - other))):
        first, second = second, first
    return {
        "prompt": [message("user", question(rng, number))],
        "chosen": [message("assistant", first)],
        "rejected": [message("assistant", second)],
    }


def pairs(seed: int, n: int, start: int = 0) -> list[dict]:
    """Pairs with distinct prompts; another seed or start gives other rows."""
    rng = random.Random(seed * 100_003 + start)
    return [pair(rng, number) for number in range(start, start + n)]


def labelled(rows: list[dict]) -> list[dict]:
    """The two answers of each pair with a label each."""
    return [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in rows
        for side in ("chosen", "rejected")
    ]


def worthy(prompts: list[str], answers: list[str]) -> list[float]:
    """A reward of accord's kind: what the things that an answer names are worth."""
    words = [answer.replace(".", " ").replace("!", " ").split() for answer in answers]
    return [float(sum(WORTH.get(word, 0.0) for word in each)) for each in words]


def prompts(rows: list[dict]) -> list[dict]:
    return [{"prompt": row["prompt"]} for row in rows]


def conversation(rng: random.Random) -> list[dict]:
    """A question of the grammar with an answer, for the models' own training."""
    return [
        message("user", question(rng, rng.randrange(3_000))),
        message("assistant", answer(rng)[0]),
    ]
