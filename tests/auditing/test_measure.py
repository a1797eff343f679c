"""The script of a text: the fast count says what counting each letter says."""

from __future__ import annotations

import random

from accord.auditing.measure import _SCRIPTS, _script, language

ALPHABETS = (
    "abc é ß中文の日本ひカ한글 абв αβγ עב عرب ไทย देव 123 ’“🙂\u0370\u0400\u052f\u0530ǅ",
    "中文ab",
    "абab ",
    "ひ中",
)


def letter_by_letter(text: str) -> str:
    letters = [ord(c) for c in text if c.isalpha()]
    for name, low, high in _SCRIPTS:
        if 2 * sum(low <= c < high for c in letters) > len(letters):
            return name
    return ""


def test_scripts_are_those_counted_letter_by_letter():
    rng = random.Random(0)
    for _ in range(4_000):
        text = "".join(rng.choices(rng.choice(ALPHABETS), k=rng.randrange(30)))
        assert _script(text) == letter_by_letter(text), text


def test_a_curly_quote_does_not_hide_english():
    assert language("That is what the “best” of the answers is for you and it was not") == "en"
    assert language("这是一个很长的中文句子 with some") == "Chinese"
