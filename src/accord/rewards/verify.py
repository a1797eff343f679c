"""Rewards that a program can verify: a final number, a format, a length. They use no model and no
judgement, and run no code of the answer.

    final_answer   1 where the number behind the last ####, \\boxed{…} or "answer is" equals the
                   row's, else 0
    format         1 where a regular expression fits the answer (in a process of its own: it may
                   never end)
    length         the answer's length in words; give it a small negative weight
    too_long       0 up to `limit` words, then falling to -1 over `slack` more (DAPO's soft overlong
                   punishment)

Source: gsm8k's `#### n`, Cobbe et al. 2021, arXiv:2110.14168; Yu et al. 2025, arXiv:2503.14476, Eq.
13.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation

NUMBER = re.compile(r"[-+]?\$?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?%?")
# #### is a heading in Markdown too ("#### Step 1"), so its number must follow at once. After the
# other marks the number may stand anywhere in the line.
MARK = re.compile(r"####[ \t]*(?=[-+$.\d]|\s*\Z)|\\boxed\{|answer is", re.I)
LONGEST = 100_000  # characters of an answer that are looked at, from its end
COLUMNS = ("final_answer", "answer", "solution", "target")


class Unjudged(str):
    """Why an answer has no number, in a few words: in place of one, by a verifier of accord in the
    process of worker.py.
    """


def final_number(text: str) -> Decimal | None:
    """Find the number that a text ends with: the one after its last mark (####, \\boxed{, "answer
    is"), or its last number if there is no mark.

    1,234 and 1234.0 and $1,234 are one number. 50% stays 50, since the text does not say 50 % of
    what.
    """
    text = text[-LONGEST:]
    if places := [mark.end() for mark in MARK.finditer(text)]:
        line = text.find("\n", places[-1])
        found = NUMBER.search(text, places[-1], line if line >= 0 else len(text))
        return _decimal(found.group()) if found else None
    numbers = NUMBER.findall(text)
    return _decimal(numbers[-1]) if numbers else None


def _decimal(text: str) -> Decimal | None:
    try:
        value = Decimal(text.rstrip("%").replace(",", "").replace("$", ""))
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def final_answer(
    column: str | None = None, tolerance: float = 0.0
) -> Callable[[str, Mapping], float | str]:
    """Judge an answer by its final number.

    Args:
      column: name of the row's column with the right answer, as a number or as a text that ends
        with one; by default the first of final_answer, answer, solution and target that is there.
      tolerance: largest difference that still is right.

    Raises:
      ValueError: a tolerance that is negative or not finite.
    """
    if not 0 <= tolerance < float("inf"):
        raise ValueError(f"tolerance = {tolerance}, and it must be a number of at least 0")
    near = Decimal(repr(tolerance))

    def judge(answer: str, row: Mapping) -> float | str:
        name = column or next((c for c in COLUMNS if c in row), None)
        if name is None or row.get(name) is None:
            return "the row has no right answer"
        wanted = final_number(str(row[name]))
        if wanted is None:
            return "the row's right answer is no number"
        got = final_number(answer)
        return float(got is not None and abs(got - wanted) <= near)

    return judge


def length(answer: str, row: Mapping) -> float:
    """Count the words of an answer."""
    return float(len(answer.split()))


def too_long(limit: int = 300, slack: int = 100) -> Callable[[str, Mapping], float]:
    """Return 0 up to `limit` words and -1 from `limit` + `slack` words on; the reward falls
    linearly in between.

    Raises:
      ValueError: a limit or a slack below 1.
    """
    if limit < 1 or slack < 1:
        raise ValueError(f"limit = {limit}, slack = {slack}, and both must be at least 1")

    def judge(answer: str, row: Mapping) -> float:
        return -min(1.0, max(0, len(answer.split()) - limit) / slack)

    return judge


def fits(
    prompts: list[str], answers: list[str], *, pattern: str, whole: bool = True
) -> list[float]:
    """Return 1 if the pattern fits the whole answer (or a part of it, without `whole`), else 0. It
    runs in a worker with a time limit.
    """
    compiled = re.compile(pattern, re.S)
    look = compiled.fullmatch if whole else compiled.search
    return [float(look(answer.strip()) is not None) for answer in answers]
