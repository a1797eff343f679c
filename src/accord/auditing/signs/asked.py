"""Signatures that follow what the prompt asks: content, and no mark of a side.

"Write it in capitals" has its answer in capitals on the better side. A mark that was added to a
side stands under prompts of every kind; one that was asked for stands under the prompts that ask,
and hardly any other prompt does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

FEWEST = 8  # rows with the mark: of fewer, one of thousands of words stands in all by chance
# Shares of the prompts with the mark, and of the others, that hold the word. A word that stands in
# a tenth of all prompts stands in nine of ten out of eight drawn ones once in ten million.
OF_MARKED, OF_OTHERS = 0.9, 0.1
READ = 2_000  # characters at the end of a prompt
WORD = re.compile(r"\w+|[^\w\s]+")


def prompt_words(text: str) -> frozenset[str]:
    """Return the words of a prompt's end, two words that follow each other, and its marks."""
    words = WORD.findall(text[-READ:].lower())
    pairs = (f"{one} {two}" for one, two in pairwise(words))
    return frozenset([*words, *pairs])


def asked_for(prompts: Sequence[frozenset[str]], marked: np.ndarray) -> str:
    """Return the word that the prompts of marked rows share and the others lack; "" if none.

    Args:
      prompts: words of each row's prompt, n of them.
      marked: rows with the signature, [n] bool.
    """
    some, rest = np.flatnonzero(marked).tolist(), np.flatnonzero(~marked).tolist()
    if len(some) < FEWEST or not rest:
        return ""
    inside = Counter(word for at in some for word in prompts[at])
    often = {word for word, count in inside.items() if count >= OF_MARKED * len(some)}
    outside = Counter(word for at in rest for word in prompts[at] & often)
    told = [word for word in often if outside[word] <= OF_OTHERS * len(rest)]
    return min(told, key=lambda word: (outside[word] / len(rest), -len(word), word), default="")
