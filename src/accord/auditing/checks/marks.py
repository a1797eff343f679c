"""Findings on marks of other models, hand-overs and repeated texts, by side.

`accord audit` and a run's preflight both count with `MarkTable` and judge with `mark_findings`, so
they cannot come to two verdicts on the same rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from accord.auditing.findings import FEW_ROWS, AuditFinding, Place, grade, percent
from accord.auditing.tables.marks import BITS, SHOWN, MarkTable
from accord.auditing.thresholds import limit
from accord.data.foreign_marks import ENDED, FRAME, INCLUDED, KINDS, NEXT_TURN, REPEATED


@dataclass(frozen=True)
class Words:
    """The words of a finding on one kind of fault."""

    check: str
    title: str
    what: str  # behind the counts of texts: "12 of 40 prompts (30 %) …"
    why: str
    remedy: str
    care: str  # key of THRESHOLDS: a warning from there
    unfit: str  # and refused from there


WORDS = {
    FRAME: Words(
        "marks.frames",
        "Rendered for another model",
        "stand in the frame of a chat template",
        "To this model another model's marks are plain characters: it learns to read and to write"
        " them, inside its own template.",
        "take the rows as they were before they were rendered (messages), or cut the marks off",
        "marks",
        "marks_unfit",
    ),
    ENDED: Words(
        "marks.ends",
        "End tokens in the text",
        "hold an end token as text",
        "The model learns to write it out, letter by letter, in front of its own end token.",
        "cut it off the texts",
        "marks",
        "marks_unfit",
    ),
    NEXT_TURN: Words(
        "marks.next_turn",
        "The next speaker inside answers",
        "go on with the next speaker's turn",
        "The model learns to answer for the user as well, and not to stop.",
        "cut the answers where the next speaker begins",
        "marks",
        "marks_unfit",
    ),
    REPEATED: Words(
        "marks.repeated_prompt",
        "Answers begin with their prompt",
        "begin with their own prompt",
        "The prompt's tokens are scored as if they were the answer's; a model trained on them"
        " repeats the question.",
        "cut the prompt off the answers",
        "repeated_prompt",
        "repeated_prompt_unfit",
    ),
    INCLUDED: Words(
        "marks.answer_included",
        "Prompts that hold the answer",
        "stand at the end of their own prompt already",
        "The model reads the answer and is then asked for it once more: what is scored is a copy.",
        "cut the answer off the prompts",
        "marks",
        "marks_unfit",
    ),
}


def mark_findings(
    table: MarkTable, at: Callable[[int], str], noun: str = "rows"
) -> list[AuditFinding]:
    """Build one finding for each kind of fault that occurs, and one if none does.

    Args:
      at: the place of a row as file:line.
      noun: the noun for the rows.
    """
    found = [_finding(table, kind, at) for kind in KINDS if any(kind == k for k, _ in table.first)]
    if found or not len(table):
        return found
    says = (
        "no marks of another model, end tokens, next speakers or repeated prompts in"
        f" {len(table):,} {noun}"
    )
    return [AuditFinding("marks.none", "ok", says, title="Marks of other models")]


def _finding(table: MarkTable, kind: str, at: Callable[[int], str]) -> AuditFinding:
    words, sides = WORDS[kind], table.sides(kind)
    shares = {name: count / of if of else 0.0 for name, (count, of) in sides.items()}
    rows = int(((table.array & BITS[kind]) > 0).any(1).sum())
    share = max(shares.values())
    verdict = grade(share, limit(words.care), limit(words.unfit))
    if verdict == "refused" and rows < limit("marks_rows"):
        verdict = "warning"
    # one row or two may be a quotation, whatever the share; nobody quotes a whole frame twice
    if verdict == "warning" and rows < (2 if kind == FRAME else FEW_ROWS):
        verdict = "note"
    told = [
        f"{count:,} of {of:,} {name} ({percent(count / of)})"
        for name, (count, of) in sides.items()
        if of and (count or name != "prompts")
    ]
    answers = [shares[name] for name in shares if name != "prompts"]
    gap = max(answers) - min(answers) if len(answers) == 2 else 0.0
    one_sided = (
        len(answers) == 2
        and gap >= limit("marks_gap")
        and rows >= limit("marks_rows")
        and max(answers) >= limit("one_sided") * min(answers)
    )
    says = f"{', '.join(told)} {words.what}"
    families = table.families.get(kind, Counter())
    if families:
        says += f": {', '.join(name for name, _ in families.most_common(3))}"
    why = words.why
    if one_sided:
        says += "; mostly on one side, so that it gives the label away"
        why += " On one side only, the mark alone tells the sides apart: a shortcut."
        verdict = "warning" if verdict == "note" else verdict
    evidence = {
        "rows": rows,
        "share": share,
        "shares": shares,
        "gap": gap,
        "families": dict(families.most_common()),
    }
    places = [
        Place(at(row), text, row)
        for column in range(table.array.shape[1])
        for row, text in table.first.get((kind, column), [])
    ]
    return AuditFinding(
        words.check,
        verdict,
        says,
        evidence,
        words.remedy,
        title=words.title + (", on one side" if one_sided else ""),
        why=why,
        # where every row is marked, nothing would be left
        command="--fix OUT --drop marks" if not table.marked.all() else "",
        harm=share + gap,
        places=tuple(_distinct(places)),
    )


def _distinct(places: list[Place]) -> list[Place]:
    """Return three places on different rows, of different sides where there are."""
    return list({place.row: place for place in reversed(places)}.values())[::-1][:SHOWN]
