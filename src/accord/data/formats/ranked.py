"""Lists of answers with scores or ranks, and the named policies that make pairs of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise

from accord.data.formats import parts, ranks
from accord.data.formats.drafts import Draft, pair, prompt_of
from accord.data.formats.parts import Row
from accord.data.ledger import RowError
from accord.types import UsageError

ANSWERS = "responses|completions|candidates|answers|generations"
SCORES = "scores|ratings|rewards|rating|score|reward"
RANKS = f"{ranks.RANKS}|{ranks.ORDER}"
PROMPT = "prompt|instruction|question|input|context"

# Names of the parts of an answer that is an object, as UltraFeedback's and Nectar's are.
SAID = "text|content|response|answer|completion|output"
SCORE = "score|overall_score|rating|reward"


@dataclass(frozen=True)
class Scored:
    """An answer and its worth: its score, or minus its rank, so that more is better."""

    answer: object
    worth: float


def _best_worst(scored: list[Scored]) -> Iterator[tuple[Scored, Scored]]:
    yield scored[0], scored[-1]


# From answers in falling order of worth to the pairs (better, worse) they give. Equal ones never
# make a pair.
POLICIES: dict[str, Callable[[list[Scored]], Iterable[tuple[Scored, Scored]]]] = {
    "best-worst": _best_worst,
    "adjacent": pairwise,
    "all": lambda scored: combinations(scored, 2),
}


@dataclass(frozen=True)
class Pairing:
    """A rule that makes pairs from a list of scored answers.

    Args:
      policy: "best-worst" (one pair a list), "adjacent" (neighbours in rank) or "all".
      margin: pairs closer than this in score, or in ranks, are left out; equal ones always are.
    """

    policy: str = "best-worst"
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise UsageError(f"pairing is {self.policy!r}; known: {', '.join(POLICIES)}.")
        if not self.margin >= 0:
            raise UsageError(f"the pairing's margin is {self.margin}; it must be 0 or more.")

    def pairs(self, scored: list[Scored]) -> list[tuple[Scored, Scored]]:
        """Return (better, worse) pairs, in falling order of worth."""
        falling = sorted(scored, key=lambda one: -one.worth)
        gaps = (
            (better, worse, better.worth - worse.worth)
            for better, worse in POLICIES[self.policy](falling)
        )
        return [(better, worse) for better, worse, gap in gaps if gap > 0 and gap >= self.margin]


def ranked(row: Row) -> list[Draft]:
    """Draft pairs from a prompt, a list of answers, and scores or ranks beside or inside it."""
    before = prompt_of(row, PROMPT)
    scored = _scored(row)
    if len(scored) < 2:
        raise RowError(
            "not a comparison", f"{len(scored)} answers in the list; two are needed to compare."
        )
    name = "rank" if _by_rank(row) else "score"
    sign = -1 if name == "rank" else 1
    drafts: list[Draft] = []
    for better, worse in row.pairing.pairs(scored):
        worth = {f"{name}_chosen": sign * better.worth, f"{name}_rejected": sign * worse.worth}
        drafts += pair(row, before, better.answer, worse.answer, **worth)
    if not drafts:
        raise RowError("tie", "no two answers of the list differ enough in score to make a pair.")
    return drafts


def is_ranked(row: Row) -> bool:
    """Tell whether the list of answers has scores or ranks, in columns beside it or in its
    objects.
    """
    answers = row.pick(ANSWERS)
    if not isinstance(answers, list) or not answers:
        return False
    beside = row.pick(f"{SCORES}|{RANKS}")
    return isinstance(beside, list) or all(
        isinstance(one, dict) and _key(one, f"{SCORE}|rank") for one in answers
    )


def _answers(row: Row) -> list:
    answers = row.pick(ANSWERS)
    assert isinstance(answers, list), "`is_ranked` looks at the row first"
    return answers


def _scored(row: Row) -> list[Scored]:
    """Return the answers that have a score or a rank."""
    answers, name = _answers(row), row.name(ANSWERS)
    beside = row.name(SCORES) or row.name(RANKS)
    values = row[beside] if beside else None
    whole = answers
    if not isinstance(values, list):
        told = [_spoken(one) for one in answers]
        worths = [_worth_inside(one, row.notes) for one in told]
        answers = [one[_key(one, SAID) or ""] for one in told]
    elif len(values) != len(answers) and beside != ranks.ORDER:
        raise RowError(
            "wrong type", f"{name} has {len(answers)} answers but {beside} {len(values)} values."
        )
    elif _by_rank(row):
        worths = ranks.worths(values, str(beside), len(answers), row.notes)
    else:
        worths = [_score(value, str(beside), row.notes) for value in values]
    if not _by_rank(row):
        _compare_ranks(row, whole, worths)
    return [
        Scored(_bare(one), worth)
        for one, worth in zip(answers, worths, strict=True)
        if worth is not None
    ]


def _score(value: object, where: str, notes: list[str]) -> float | None:
    """Return a score, of an object the overall one; None where the answer has none."""
    if isinstance(value, dict):
        named = [each for each in SCORE.split("|") if value.get(each) is not None]
        if len(named) != 1:
            keys = ", ".join(str(key)[:30] for key in list(value)[:6]) or "no keys"
            raise RowError(
                "several scores",
                f"{where} has an object ({keys}) where one number is expected; which of them"
                " decides is your choice. Write one number for each answer.",
            )
        value = value[named[0]]
    if ranks.is_none(value):
        notes.append("an answer without a score is left out")
        return None
    return parts.number(value, where)


def _by_rank(row: Row) -> bool:
    beside = row.pick(f"{SCORES}|{RANKS}")
    if isinstance(beside, list):
        return row.name(SCORES) is None
    return _key(_answers(row)[0], SCORE) is None


def _worth_inside(one: dict, notes: list[str]) -> float | None:
    name = _key(one, SCORE)
    return _score(one[name], name, notes) if name else ranks.one_worth(one.get("rank"), notes)


def _spoken(one: dict) -> dict:
    if _key(one, SAID) is None:
        raise RowError(
            "wrong type",
            f"an answer of the list has no text; expected one of {SAID.replace('|', ', ')}.",
        )
    texts = {str(one[name]): name for name in SAID.split("|") if not parts.is_null(one.get(name))}
    if len(texts) > 1:
        raise RowError(
            "two texts",
            "an answer of the list has different texts in"
            f" {' and '.join(texts.values())}; which of them is meant is not said.",
        )
    return one


def _compare_ranks(row: Row, answers: list, worths: list[float | None]) -> None:
    """Compare the scores that are read with the ranks that stand beside them, and are not."""
    name = row.name(ranks.RANKS)
    inside = [one.get("rank") if isinstance(one, dict) else None for one in answers]
    beside = row[name] if name else None
    ranks.compare(worths, beside if isinstance(beside, list) else inside, row.notes)


def _bare(one: object) -> object:
    """Return an answer without its wrapping, unless it is a message."""
    if not isinstance(one, dict) or {"role", "from"} & set(one):
        return one
    wrapped = _key(one, SAID)
    return one[wrapped] if wrapped else one


def _key(one: dict, choice: str) -> str | None:
    return next((name for name in choice.split("|") if name in one), None)
