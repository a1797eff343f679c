"""Constraints that an instruction states and a program can verify, as in IFEval.

A row lists them under `constraints`, each with its kind and the arguments of that kind:

    {"prompt": …, "constraints": [{"kind": "words", "at_least": 50}, {"kind": "no_comma"}, {"kind":
    "ends_with", "text": "Bye."}]}

IFEval's own columns are read as well (ifeval.py). The reward is the share of constraints that the
answer meets; with `strict`, it is 1 if all are met and else 0. A blank answer meets nothing: it has
no comma and few words, and a policy would soon learn to give blank answers. IFEval does the same. A
constraint that is unknown, incomplete or void (no keywords, an empty text) is a failure of that row
and is reported by its name. A silent 0 would blame the answer; a silent 1 would praise it.

Source: Zhou et al. 2023, arXiv:2311.07911, Table 1; strict and loose as there, without its
loosening of the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from accord.rewards.ifeval import stated

Check = Callable[..., bool]
DEEPEST = 1_000_000  # characters of an answer that is read as JSON


def _between(count: int, at_least: int | None, at_most: int | None) -> bool:
    if at_least is None and at_most is None:
        raise TypeError("neither at_least nor at_most")
    return (at_least is None or count >= at_least) and (at_most is None or count <= at_most)


def words(answer: str, at_least: int | None = None, at_most: int | None = None) -> bool:
    return _between(len(answer.split()), at_least, at_most)


def sentences(answer: str, at_least: int | None = None, at_most: int | None = None) -> bool:
    return _between(
        sum(bool(re.search(r"\w", part)) for part in re.split(r"[.!?]+(?:\s|$)", answer)),
        at_least,
        at_most,
    )


def paragraphs(answer: str, count: int, divider: str | None = None) -> bool:
    parts = answer.split(divider) if divider else re.split(r"\n[ \t]*\n|\n\*\*\*\n", answer)
    return len([part for part in parts if part.strip(" \t\n*")]) == count


def bullets(answer: str, count: int) -> bool:
    return len(re.findall(r"^[ \t]*[*\-•][ \t]+\S", answer, re.M)) == count


def highlights(answer: str, at_least: int) -> bool:
    """Find passages in asterisks, such as *this one* or **this**."""
    return (
        len([found for found in re.findall(r"\*+([^*\n]+)\*+", answer) if found.strip()])
        >= at_least
    )


def frequency(
    answer: str, text: str, at_least: int | None = None, at_most: int | None = None
) -> bool:
    return _between(answer.lower().count(text.lower()), at_least, at_most)


def capital_words(answer: str, at_least: int | None = None, at_most: int | None = None) -> bool:
    return _between(sum(word.isupper() for word in answer.split()), at_least, at_most)


def one_of(answer: str, texts: list[str]) -> bool:
    return any(text in answer for text in texts)


def include(answer: str, keywords: list[str]) -> bool:
    return all(_word(keyword, answer) for keyword in keywords)


def exclude(answer: str, keywords: list[str]) -> bool:
    return not any(_word(keyword, answer) for keyword in keywords)


def _word(keyword: str, answer: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(keyword)}(?!\w)", answer, re.I) is not None


def no_comma(answer: str) -> bool:
    return "," not in answer


def lower_case(answer: str) -> bool:
    return answer == answer.lower() and any(c.isalpha() for c in answer)


def upper_case(answer: str) -> bool:
    return answer == answer.upper() and any(c.isalpha() for c in answer)


def starts_with(answer: str, text: str) -> bool:
    return answer.strip().lower().startswith(text.strip().lower())


def ends_with(answer: str, text: str) -> bool:
    return answer.strip().strip('"').lower().endswith(text.strip().lower())


def json_only(answer: str) -> bool:
    """Tell whether the whole answer is one JSON value. A fence of ```json around it is allowed."""
    text = answer.strip()
    text = (
        text.removeprefix("```json")
        .removeprefix("```JSON")
        .removeprefix("```")
        .removesuffix("```")
        .strip()
    )
    try:
        return len(text) <= DEEPEST and isinstance(json.loads(text), (dict, list))
    except (ValueError, RecursionError):
        return False


def quoted(answer: str) -> bool:
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def placeholders(answer: str, at_least: int) -> bool:
    return len(re.findall(r"\[[^\[\]]*\]", answer)) >= at_least


def title(answer: str) -> bool:
    """Tell whether there is a title in double angular brackets, such as <<On birds>>."""
    return any(found.strip() for found in re.findall(r"<<([^<>\n]+)>>", answer))


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        words,
        sentences,
        paragraphs,
        bullets,
        highlights,
        frequency,
        capital_words,
        one_of,
        include,
        exclude,
        no_comma,
        lower_case,
        upper_case,
        starts_with,
        ends_with,
        json_only,
        quoted,
        placeholders,
        title,
    )
}


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_text, value))


# Types of the arguments. An argument of another type would not fail: the constraint would always or
# never hold (a count of "2", keywords of "cat").
ARGUMENTS: dict[str, Callable[[object], bool]] = {
    "at_least": _whole,
    "at_most": _whole,
    "count": _whole,
    "text": _text,
    "divider": _text,
    "keywords": _texts,
    "texts": _texts,
}


def constraints(strict: bool = False) -> Callable[[str, Mapping], float | str]:
    """Judge an answer by its row's constraints."""

    def judge(answer: str, row: Mapping) -> float | str:
        asked = stated(row)
        if not isinstance(asked, list) or not asked:
            return "the row has no constraints"
        met = [_met(answer, one) for one in asked]
        wrong = next((one for one in met if isinstance(one, str)), None)
        if wrong is not None:
            return wrong
        if not answer.strip():
            return 0.0
        count = sum(one for one in met if not isinstance(one, str))
        return float(count == len(met)) if strict else count / len(met)

    return judge


def _met(answer: str, asked: object) -> bool | str:
    """Tell whether the answer meets a constraint; return an error text for a bad constraint."""
    kind = asked.get("kind") if isinstance(asked, Mapping) else asked
    if not isinstance(asked, Mapping) or not isinstance(kind, str) or kind not in CHECKS:
        return f"unknown constraint {str(kind)[:40]!r}"
    given = {key: value for key, value in asked.items() if key != "kind"}
    if not all(key in ARGUMENTS and ARGUMENTS[key](value) for key, value in given.items()):
        return f"constraint {kind!r} has wrong arguments"
    try:
        return CHECKS[kind](answer, **given)
    except TypeError:  # an argument is missing, or one of another kind's
        return f"constraint {kind!r} has wrong arguments"
