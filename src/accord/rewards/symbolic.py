"""The reward `math_verify`: is the answer's mathematics the row's, whatever its form? 1/2 is 0.5,
{2, 1} is {1, 2}, 10 cm is 10, (x + 1)² is x² + 2x + 1.

The package math-verify finds the answer in the text (the last \\boxed{…}, else a formula, else a
number), reads its LaTeX and compares by SymPy. It runs in the process of `worker.py`. It evaluates
no text as code: its grammar of LaTeX is its own, and what it gives to SymPy's parser is made of
digits and operators. What takes too long to read or to compare (9^{9^{9^9}}) is not shown to be
right and counts as wrong, so that nothing is gained by it.

Source: Kydlíček 2025, github.com/huggingface/Math-Verify.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache

from accord.rewards.verify import COLUMNS, LONGEST, Unjudged

SECONDS = 2  # for reading a text, and again for comparing two: 9^{9^{9^9}} would take all there is
# a solution that says itself where its answer is
MARKED = ("\\boxed", "$", "\\(", "\\[")


def math_verify(
    prompts: Sequence[str],
    answers: Sequence[str],
    rows: Sequence[Mapping],
    *,
    column: str | None = None,
) -> list[float | Unjudged]:
    """Judge each answer: 1 where its mathematics equals the row's, else 0.

    Args:
      column: name of the row's column with the right answer; by default the first of final_answer,
        answer, solution and target that is there.
    """
    for name in ("math_verify", "latex2sympy2_extended"):  # it logs whole answers that it gives up
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return [_judge(answer, row, column) for answer, row in zip(answers, rows, strict=True)]


def _judge(answer: str, row: Mapping, column: str | None) -> float | Unjudged:
    name = column or next((c for c in COLUMNS if c in row), None)
    if name is None or row.get(name) is None:
        return Unjudged("the row has no right answer")
    wanted = _right(str(row[name]))
    if not wanted:
        return Unjudged("the row's right answer is no mathematics")
    import math_verify as package

    got = package.parse(answer[-LONGEST:], parsing_timeout=SECONDS)
    return float(package.verify(list(wanted), got, timeout_seconds=SECONDS))


@lru_cache(maxsize=1024)
def _right(text: str) -> tuple:
    """Read the row's right answer: what stands behind its last ####, or its marked formula, or all
    of it as a formula. A bare (1, 2) is read as one only between dollars.
    """
    import math_verify as package

    own = text.rpartition("####")[2].strip()
    tries = [own] if any(mark in own for mark in MARKED) else [f"${own}$", own]
    for each in tries:
        # the text itself is the second of what is found; alone it is no mathematics
        if len(found := package.parse(each, parsing_timeout=SECONDS)) > 1:
            return tuple(found)
    return ()
