"""The audit of a run's own training rows: its findings in preflight.json, and audit.json for the
report.

The rows are scanned once. Each verdict is that of `accord audit` on the same file, by the same
thresholds and in the same words (`auditing.verdict`); only the classifiers read fewer texts
(`monitor.audit_rows`). An audit stops no run: what makes a file unfit there is a warning here.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from accord.auditing.checks.marks import mark_findings
from accord.auditing.findings import RANK, AuditFinding
from accord.auditing.lines import full_command
from accord.auditing.run import Audit, audit_dataset
from accord.auditing.tables.marks import MarkTable
from accord.data.example_table import Picked
from accord.data.prompts import Question
from accord.data.read import Dataset
from accord.data.rows import Rows
from accord.data.store.checks import Checks
from accord.runs.files import copy_in, write_json
from accord.types import Demonstration, Finding

NAME = "audit.json"
AUDITED = 50_000  # rows; their audit takes half a minute
VERDICTS = {"fit": "ok", "fit with care": "note", "unfit": "warning"}
# Checks of preflight.json and those of the audit that each sums up; "shortcuts." is all of them.
# The first that fits takes a finding, and OTHER takes what fits none, so nothing is missing.
CONTENT = {
    "data.wrecks": ("wrecks.",),
    "data.repeats": ("integrity.duplicates", "integrity.near_duplicates"),
    "data.prompts": ("diversity.repeated_prompts", "diversity.near_prompts"),
    "data.contradictions": ("integrity.contradictions", "integrity.cycles"),
    "data.belonging": (
        "integrity.belonging",
        "integrity.swapped_texts",
        "integrity.repeated_answers",
        "integrity.ids",
    ),
    "data.answers": ("integrity.same_answers", "hardness.near_identical", "integrity.language"),
    "data.shortcut": ("shortcuts.",),
    "data.scores": (
        "labels.scores",
        "labels.near_ties",
        "labels.both_bad",
        "labels.score_spike",
        "labels.numbers_",
        "labels.votes",
    ),
    "data.noise": ("labels.noise", "labels.declared", "labels.exchanged"),
    "data.balance": ("kto.",),
    "data.size": ("diversity.size", "diversity.topics", "lengths."),
    "data.held_out": ("leakage.", "held_out.", "labels.second_labelling"),
}
OTHER = "data.content"
# Findings of the audit that preflight has under another name, on both files and with a permission.
ELSEWHERE = {
    "integrity.ledger": "data.ledger",
    "columns.unread": "data.columns",
    "marks.": "data.marks",
}
SHOWN = 3  # findings of one check that are spelt out


def audit_findings(
    dataset: Dataset | None,
    kind: str,
    sample: int,
    folder: Path | None = None,
    *,
    held_out: Dataset | None = None,
    checks: Checks | None = None,
) -> list[Finding]:
    """Audit the training rows; nothing of prompts that have no answers yet.

    Of more than AUDITED rows so many are audited, evenly drawn: a run is not to wait for minutes.

    Args:
      dataset: the rows; None if they are prompts.
      kind: the objective's kind of rows, such as "pairs".
      sample: rows that the classifiers read; 0 leaves them and audit.json out.
      folder: the folder for audit.json; None writes nothing.
      held_out: the rows that the run is evaluated on, to be compared with.
      checks: what was found in the same rows before.
    """
    if dataset is None:
        return []
    checks = checks or Checks()
    depends = [kind, sample, dataset.path]
    depends += [] if held_out is None else [held_out.path, held_out.digest, len(held_out)]

    def make() -> list[Finding]:
        return _audited(dataset, kind, sample, folder, held_out)

    if not sample or folder is None:
        return checks.remember("audit", depends, make)
    if (kept := checks.kept(NAME, depends)) is not None:
        copy_in(kept, folder / NAME)
        return checks.remember("audit", depends, make)
    found = make()
    checks.keep(NAME, depends, folder / NAME)
    return checks.remember("audit", depends, lambda: found)


def _audited(
    whole: Dataset, kind: str, sample: int, folder: Path | None, held_out: Dataset | None
) -> list[Finding]:
    dataset = whole
    if len(whole) > AUDITED:
        places = np.linspace(0, len(whole) - 1, AUDITED).round().astype(np.int64)
        dataset = replace(whole, examples=Picked(whole.examples, places))
    # The run's seed is not used: `accord audit` does not know it and must give the same.
    audit = audit_dataset(dataset, kind, sample, held_out=held_out)
    if whole.files:  # a command mends one file, and these findings are of all together
        audit = replace(audit, findings=[replace(each, command="") for each in audit.findings])
    if not sample:
        return content_findings(audit)
    if folder is not None:
        # no duration, so that a resumed run leaves the same bytes
        kept = {name: value for name, value in audit.as_dict().items() if name != "seconds"}
        kept |= {"files": list(whole.files)} if whole.files else {}
        kept |= {"held_out_files": list(held_out.files)} if held_out and held_out.files else {}
        write_json(folder / NAME, kept | {"of": len(whole)})
    return [*content_findings(audit), summary(audit, len(whole), whole.files)]


def foreign_marks(rows: Rows, name: str, *, allowed: bool = False) -> Finding:
    """Find marks of other models in the rows that became trees, before anything is trained.

    A row that was left out, since it holds one of the model's own special tokens, is reported by
    its own check. The verdict is that of `accord audit` on the rows that are left.

    Args:
      name: what the rows are, such as "training rows".
      allowed: the permission `foreign_marks`: nothing is refused.
    """
    examples = Picked(rows.encoding.examples, rows.trees.rows)
    table = MarkTable.of(examples)
    found = mark_findings(table, lambda row: str(examples[row].origin))
    return _as_check(found, name, rows.dataset.path, allowed)


def foreign_marks_of_prompts(questions: Sequence[Question], name: str, *, allowed: bool) -> Finding:
    """Find marks of other models in prompts that have no answers yet; see `foreign_marks`."""
    table = MarkTable.of(Demonstration(each.turns, "", each.origin) for each in questions)
    found = mark_findings(table, lambda row: str(questions[row].origin))
    return _as_check(found, name, "", allowed)


def _as_check(found: Sequence[AuditFinding], name: str, path: str, allowed: bool) -> Finding:
    """Sum up the findings on marks as one of preflight's checks, which may refuse the run.

    Args:
      path: a file of rows that `accord audit --fix` can write without the marked ones; "" if there
        is none.
    """
    summed = _sum_up("data.marks", found)
    verdict = "refused" if any(each.refused for each in found) and not allowed else summed.verdict
    command = next((each.command for each in found if each.command), "")
    remedy = [summed.remedy] if summed.remedy else []
    if command and path:
        remedy.append(f"leave such rows out: {full_command(command, path)}")
    if verdict == "refused":
        remedy.append("accept them: --allow foreign_marks")
    return replace(
        summed, verdict=verdict, says=f"{name}: {summed.says}", remedy="; or ".join(remedy)
    )


def content_findings(audit: Audit) -> list[Finding]:
    """Sum up the checks on what the rows say: one finding for each key of CONTENT that applies."""
    found: dict[str, list[AuditFinding]] = {}
    for each in audit.findings:
        if (name := check_of(each.check)) is not None:
            found.setdefault(name, []).append(each)
    return [_sum_up(name, found[name]) for name in (*CONTENT, OTHER) if name in found]


def check_of(check: str) -> str | None:
    """Return preflight's check that sums up a check of the audit; None for one of ELSEWHERE."""
    if check.startswith(tuple(ELSEWHERE)):
        return None
    return next((name for name, checks in CONTENT.items() if check.startswith(checks)), OTHER)


def _sum_up(name: str, findings: Sequence[AuditFinding]) -> Finding:
    """Give the verdict of the worst finding, and the words of all that share it, causes first."""
    worst = min(findings, key=lambda each: (RANK[each.verdict], bool(each.explained_by)))
    told = [each for each in findings if each.verdict == worst.verdict]
    told.sort(key=lambda each: bool(each.explained_by))  # stable: the worst first within each
    says = "; ".join(each.says for each in told[:SHOWN])
    if len(told) > SHOWN:
        rest = ", ".join(dict.fromkeys(each.title for each in told[SHOWN:]))
        says += f"; and {len(told) - SHOWN} more ({rest})"
    evidence = worst.evidence | {
        "audit": {each.check: each.verdict for each in findings},
        "first": [{"at": place.at, "detail": place.detail} for place in worst.places[:3]],
    }
    verdict = "warning" if worst.refused else worst.verdict
    return Finding(name, verdict, says, evidence, worst.remedy)


def summary(audit: Audit, of: int = 0, files: Sequence[str] = ()) -> Finding:
    """Put the audit in one line: its verdict, and what leads to it.

    Args:
      of: rows of the whole file, where a part was audited.
      files: the files, where several were audited together.
    """
    judged = audit.judged
    command = "; ".join(f"accord audit {shlex.quote(name)}" for name in files or [audit.scan.name])
    part = ""
    if of > len(audit.scan):
        part = (
            f"; {len(audit.scan):,} of {of:,} rows were looked at, evenly drawn: {command}"
            f" look{'s' * (len(files) < 2)} at all"
        )
    remedy = command if judged.causes else ""
    evidence = {
        "rows": len(audit.scan),
        "sample": len(audit.scan.sample),
        "verdict": judged.word,
        "size": judged.size,
        "raised": [each.check for each in audit.raised],
    }
    return Finding("data.audit", VERDICTS[judged.word], judged.headline + part, evidence, remedy)
