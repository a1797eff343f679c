"""Public data sets with columns of their own: two answers, and a column that says which is
preferred.

Sources, all dataset cards on huggingface.co: stanfordnlp/SHP; PKU-Alignment/PKU-SafeRLHF;
openai/webgpt_comparisons; nvidia/HelpSteer2 (preference); nvidia/HelpSteer3 (preference).
"""

from __future__ import annotations

from accord.data.formats import messages, parts
from accord.data.formats.drafts import Draft, after_system, pair, prompt_of
from accord.data.formats.parts import Row
from accord.data.ledger import RowError


def shp(row: Row) -> list[Draft]:
    """Stanford Human Preferences: labels is 1 where answer A is preferred, 0 where B is."""
    return _ordered(
        row, "history", "human_ref_A", "human_ref_B", first=parts.label(row["labels"], "labels")
    )


def pku(row: Row) -> list[Draft]:
    """PKU-SafeRLHF: the more helpful answer is chosen, or the safer one where the file has no other
    verdict.

    To train on safety where it has both: columns={"better_response_id": "safer_response_id"}.
    """
    column = row.column("better_response_id|safer_response_id")
    if row.get("safer_response_id", row[column]) != row[column]:
        row.notes.append("the better answer is not the safer one")
    return _ordered(
        row, "prompt", "response_0", "response_1", first=not parts.label(row[column], column)
    )


def webgpt(row: Row) -> list[Draft]:
    """WebGPT comparisons: the higher score wins; the question is text or {full_text, …}."""
    question = row["question"]
    asked = question.get("full_text") if isinstance(question, dict) else question
    answers = [
        (parts.number(row[f"score_{one}"], f"score_{one}"), row[f"answer_{one}"]) for one in (0, 1)
    ]
    (most, better), (least, worse) = sorted(answers, key=lambda scored: -scored[0])
    _refuse_tie(most - least, "score_0 and score_1 are equal")
    before = after_system(row, messages.prompt(row, asked, "question", []))
    return pair(row, before, better, worse, score_chosen=most, score_rejected=least)


def helpsteer(row: Row) -> list[Draft]:
    """HelpSteer 2 and 3, preferences from -3 (the first is much better) to 3 (the second is)."""
    column = row.column("overall_preference|preference_strength")
    strength = parts.number(row[column], column)
    _refuse_tie(strength, f"{column} is 0")
    answers = row.column("response1|response_1"), row.column("response2|response_2")
    return _ordered(row, "context|prompt", *answers, first=strength < 0)


def _ordered(row: Row, asked: str, one: str, two: str, first: bool) -> list[Draft]:
    """Make a pair of two columns, the first of them chosen if `first`."""
    answers = (row[one], row[two]) if first else (row[two], row[one])
    return pair(row, prompt_of(row, asked), *answers)


def _refuse_tie(lead: float, says: str) -> None:
    if lead == 0:
        raise RowError("tie", f"{says}: no answer is preferred.")
