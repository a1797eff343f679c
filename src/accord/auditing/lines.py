"""The audit on a terminal: first the verdict, then the defects (worst first), then the checks that
passed.
"""

from __future__ import annotations

import shlex
import shutil
import textwrap
from typing import TextIO

from accord.auditing.findings import AuditFinding
from accord.auditing.run import Audit
from accord.runs.display import MARKS

WORDS = {"fit": "FIT", "fit with care": "FIT WITH CARE", "unfit": "UNFIT"}
PLACES = 2  # rows shown with a finding; --json and the page have more


def show(audit: Audit, stream: TextIO) -> None:
    """Print the audit for a person."""
    scan, width = audit.scan, min(110, shutil.get_terminal_size((100, 20)).columns)
    print(f"\n{WORDS[audit.verdict]}: {scan.name}, {len(scan):,} {scan.noun}", file=stream)
    print(_wrapped(_summary(audit), width, "  "), file=stream)
    for finding in audit.raised:
        print(_block(finding, width, scan.name, scan.naming.options()), file=stream)
    well = [finding for finding in audit.findings if finding.verdict == "ok"]
    print(f"\nChecked and well ({len(well)}):", file=stream)
    for finding in well:
        print(
            _wrapped(
                finding.says, width, f"  {MARKS['ok']} {finding.title or finding.check}: ", "      "
            ),
            file=stream,
        )
    if audit.cleaned is not None:
        print("\n" + "\n".join(audit.cleaned.lines()), file=stream)
    print(f"\n{audit.seconds:.1f} s", file=stream)


def _summary(audit: Audit) -> str:
    counts = {verdict: sum(f.verdict == verdict for f in audit.findings) for verdict in MARKS}
    reason = f"Worst: {audit.raised[0].title}." if audit.raised else "Nothing to mend."
    return (
        f"{counts['refused']} that make it unfit, {counts['warning']} to take care of,"
        f" {counts['note']} to know, {counts['ok']} checks without a finding. {reason}"
    )


def _block(finding: AuditFinding, width: int, data: str, options: str) -> str:
    lines = [
        f"\n{MARKS[finding.verdict]} {finding.title}  [{finding.check}]",
        _wrapped(finding.says, width, "    "),
    ]
    if finding.why:
        lines.append(_wrapped(finding.why, width, "    why: ", "         "))
    if finding.remedy:
        lines.append(_wrapped(finding.remedy, width, "    do:  ", "         "))
    if finding.command:
        lines.append(f"         {full_command(finding.command, data, options)}")
    for place in finding.places[:PLACES]:
        lines.append(_wrapped(f"{place.at}  {place.detail}", width, "    ▸ ", "      "))
        lines += [f"        {line[: width - 10]}" for line in place.excerpt.splitlines()]
    return "\n".join(lines)


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
    indent = rest if rest is not None else " " * len(first)
    return textwrap.fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
