"""What preferences give away: each check is raised by its own fault,
and silent on rows without it.
"""

import math

import pytest

from accord.data.content import content_findings, figure, words
from accord.types import Origin, Pair, Turn


def pair(i: int, chosen: str = "", rejected: str = "", question: str = "", **extra) -> Pair:
    """Answers of one length that begin with a letter of their own."""
    sides = (chosen or f"{'ab'[i % 2]} {i:03}", rejected or f"{'ba'[i % 2]} {i:03}")
    return Pair(
        (Turn("user", question or f"What of {i}?"),), *sides, Origin("f.jsonl", i + 1), extra
    )


def found(rows) -> dict[str, str]:
    return {
        finding.check: finding.says
        for finding in content_findings(rows)
        if finding.verdict == "warning"
    }


CLEAN = [pair(i) for i in range(60)]


def test_silent_on_rows_without_a_fault():
    assert found(CLEAN) == {}


@pytest.mark.parametrize(
    ("rows", "check", "says"),
    [
        ([*CLEAN, pair(3, CLEAN[3].rejected, CLEAN[3].chosen)], "data.contradictions", "2 of 61"),
        (CLEAN[:20] * 3, "data.repeats", "40 of 60"),
        ([pair(i, question="Always this?") for i in range(60)], "data.prompts", "effectively 1"),
        (
            [pair(i, chosen=f"a long answer {i}", rejected=f"no {i}") for i in range(60)],
            "data.shortcut",
            "the longer answer is the chosen one in 100%",
        ),
        (
            [pair(i, chosen=f"no {i}", rejected=f"a long answer {i}") for i in range(60)],
            "data.shortcut",
            "the longer answer is the rejected one",
        ),
        (
            [pair(i, **({"chosen": "I'm sorry, no."} if i % 4 else {})) for i in range(60)],
            "data.shortcut",
            "the answer that refuses",
        ),
        (
            [pair(i, score_chosen=1 + i % 5, score_rejected=2) for i in range(60)],
            "data.scores",
            "20.0% score the rejected answer higher",
        ),
        (
            [pair(i, score_chosen=2 + i % 2, score_rejected=2) for i in range(60)],
            "data.scores",
            "50.0% are tied",
        ),
    ],
    ids=[
        "contradictions",
        "repeats",
        "one-prompt",
        "longer",
        "shorter",
        "refusals",
        "scores-against",
        "scores-tied",
    ],
)
def test_each_fault_is_named(rows, check, says):
    assert says in found(rows)[check]


def test_a_rule_is_not_judged_on_few_pairs():
    assert "data.shortcut" not in found(
        [pair(i, chosen=f"a long answer {i}", rejected="no") for i in range(49)]
    )


def test_scores_that_agree_are_silent_and_booleans_are_none():
    assert found([pair(i, score_chosen=3, score_rejected=2) for i in range(60)]) == {}
    assert not any(
        f.check == "data.scores"
        for f in content_findings(
            [pair(i, score_chosen=True, score_rejected=False) for i in range(60)]
        )
    )


def test_scores_of_a_csv_are_numbers_too():
    """They arrive as text; what is no number is none."""
    rows = [pair(i, score_chosen=str(1 + i % 5), score_rejected="2.0") for i in range(60)]
    assert "20.0% score the rejected answer higher" in found(rows)["data.scores"]
    assert [figure(value) for value in ("4.5", 3, " 7 ")] == [4.5, 3.0, 7.0]
    assert all(
        math.isnan(figure(value)) for value in ("good", "nan", "1e999", True, None, [1], "9" * 50)
    )


def test_words_ignore_case_and_punctuation():
    assert (
        words([Turn("user", "Where IS it?!")])
        == words([Turn("user", "where is it")])
        != words([Turn("user", "where was it")])
    )
