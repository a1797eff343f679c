"""The audit on a terminal: the faults (worst first, each with its symptoms), the properties worth
knowing, the amount, the checks that passed in one line, and last the verdict.
"""

from __future__ import annotations

import shlex
import shutil
import textwrap
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TextIO

from accord.auditing.findings import AuditFinding
from accord.auditing.run import Audit
from accord.auditing.verdict import Cause
from accord.environment.wrapping import glue, unglue
from accord.runs.display import MARKS

WIDEST = 110
NARROWEST = 40
PLACES = 2  # rows shown with a finding; --json and the page have more
SYMPTOMS = 4  # shown with their cause; --all shows the rest


def show(audit: Audit, stream: TextIO, *, every: bool = False) -> None:
    """Print the audit for a person.

    Args:
      every: also print what each check that passed says, and the reasons behind notes.
    """
    width = max(NARROWEST, min(WIDEST, shutil.get_terminal_size((100, 20)).columns))
    print("\n".join(lines(audit, width, every=every)), file=stream)


def lines(audit: Audit, width: int, *, every: bool = False) -> Iterator[str]:
    """Yield the lines of the audit; the verdict is the last."""
    scan, judged = audit.scan, audit.judged
    yield ""
    yield _wrapped(f"{scan.name}: {judged.amount}. {judged.counts}.", width, "")
    account = audit.find("columns.unread")
    if account is not None and account.verdict == "ok":
        yield _wrapped(account.says[:1].upper() + account.says[1:], width, "", "  ")
    for cause in judged.causes:
        yield from _cause(cause, width, audit, every)
    if judged.notes:
        yield "\nTo know, no fault:"
        for note in judged.notes:
            yield from _note(note, width, audit, every)
    if judged.sizes:
        yield "\nAmount:"
        for finding in judged.sizes:
            yield from _note(Cause(finding), width, audit, every)
    yield ""
    yield from _passed(judged.passed, width, every)
    if audit.cleaned is not None:
        yield ""
        yield from audit.cleaned.lines()
    yield f"\n{audit.seconds:.1f} s"
    yield _wrapped(judged.headline, width, "", "  ")


def _cause(cause: Cause, width: int, audit: Audit, every: bool) -> Iterator[str]:
    finding = cause.finding
    yield f"\n{MARKS[finding.verdict]} {finding.title}  [{finding.check}]"
    yield _wrapped(finding.says, width, "    ")
    if finding.why:
        yield _wrapped(finding.why, width, "    why: ")
    yield from _remedy(finding, width, audit)
    for place in finding.places[:PLACES]:
        yield _wrapped(f"{place.at}  {place.detail}", width, "    ▸ ")
        for line in place.excerpt.splitlines():
            yield "        " + fitted(line, width - 10)
    yield from _symptoms(cause, width, every)


def _note(note: Cause, width: int, audit: Audit, every: bool) -> Iterator[str]:
    """Show what is no fault in a few lines: nothing of it must be mended."""
    finding = note.finding
    yield _wrapped(finding.says, width, f"  {MARKS['note']} {finding.title}: ", "    ")
    if every and finding.why:
        yield _wrapped(finding.why, width, "    why: ")
    yield from _remedy(finding, width, audit)
    yield from _symptoms(note, width, every)


def _remedy(finding: AuditFinding, width: int, audit: Audit) -> Iterator[str]:
    if finding.remedy:
        yield _wrapped(finding.remedy, width, "    do:  ")
    if finding.command:
        command = full_command(finding.command, audit.scan.name, audit.scan.naming.options())
        yield f"         {command}"  # not wrapped: it is copied


def _symptoms(cause: Cause, width: int, every: bool) -> Iterator[str]:
    shown = cause.symptoms if every else cause.symptoms[:SYMPTOMS]
    for symptom in shown:
        yield _wrapped(f"{symptom.title}: {first_sentence(symptom.says)}", width, "    from this: ")
    if len(shown) < len(cause.symptoms):
        yield f"    from this: {len(cause.symptoms) - len(shown)} more; --all shows them"


def _passed(passed: Sequence[AuditFinding], width: int, every: bool) -> Iterator[str]:
    """Name the checks that passed in one line, or give each its own."""
    if every:
        yield f"{len(passed)} checks without a finding:"
        for finding in passed:
            first = f"  {MARKS['ok']} {finding.check}: "
            yield _wrapped(finding.says, width, first, "      ")
        return
    groups = Counter(finding.check.partition(".")[0] for finding in passed)
    names = ", ".join(f"{name} {count}" for name, count in groups.most_common())
    begin, end = f"{len(passed)} checks without a finding: ", "; --all shows them"
    room = width - len(begin) - len(end)
    shown = names if len(names) <= room else names[: room - 2].rpartition(", ")[0] + ", …"
    yield f"{begin}{shown}{end}"


def first_sentence(text: str) -> str:
    """Return a text up to its first semicolon or full stop that a blank follows."""
    ends = [at for mark in ("; ", ". ") if (at := text.find(mark)) > 0]
    return text[: min(ends)] if ends else text.removesuffix(".")


def fitted(text: str, columns: int) -> str:
    """Cut a text to so many columns of a terminal. A Chinese character takes two."""
    # the longest beginning that leaves a column for the mark, if the rest does not fit
    ends = list(accumulate(map(columns_of, text)))
    if not ends or ends[-1] <= columns:
        return text
    return text[: bisect_right(ends, columns - 1)] + "…"


def columns_of(character: str) -> int:
    """Return how many columns of a terminal a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def full_command(command: str, data: str, options: str = "") -> str:
    """Complete a finding's command so that it can be typed: bare options get their command and the
    file in front.

    The file's name is quoted for a shell, since people paste commands.

    Args:
      options: --columns and --ignore-columns of the audit, which every further command needs.
    """
    data = shlex.quote(data)
    if options and "--columns" not in command and "--ignore-columns" not in command:
        data = f"{data} {options}"
    if command.startswith("--fix"):
        return f"accord audit {data} {command.replace('OUT', 'cleaned.jsonl', 1)}"
    if command.startswith("--"):
        return f"accord train --data {data} {command}"
    return command.replace("DATA", data)


def _wrapped(text: str, width: int, first: str, rest: str | None = None) -> str:
    """Fill a paragraph; what follows its first line stands under the text, or behind `rest`."""
    filled = textwrap.fill(
        glue(text),
        width,
        initial_indent=first,
        subsequent_indent=rest if rest is not None else " " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return unglue(filled)
