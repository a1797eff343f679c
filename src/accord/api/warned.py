"""Warnings of a run for Python: each through `warnings`, at the line of the caller.

A warning is shown each time that it is raised. Python's own rule, once for each line of code, would
hide it in the second run of a loop. Filters work as ever: `warnings.simplefilter("ignore",
accord.RedFlag)`.
"""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

from accord.api.words import in_python
from accord.errors import AccordWarning, DataWarning, FindingWarning, RedFlag, printable
from accord.types import Finding

PACKAGE = str(Path(__file__).parents[1])


def warn(text: str, category: type[AccordWarning] = AccordWarning) -> None:
    """Warn with a text."""
    _at_the_caller(category(printable(text, keep="\n")))


def warn_of(finding: Finding, category: type[FindingWarning], step: int | None = None) -> None:
    """Warn of a finding: what was noticed, what it means and what to do."""
    when = "" if step is None else f"step {step}, "
    lines = [f"{when}{finding.check}: {finding.says}", finding.means]
    lines += [f"what to do: {finding.remedy}"] if finding.remedy else []
    warning = category(printable(in_python("\n    ".join(filter(None, lines))), keep="\n"))
    warning.finding = finding
    _at_the_caller(warning)


def _at_the_caller(warning: AccordWarning) -> None:
    """Raise a warning at the innermost line that is not of this package."""
    frame = inspect.currentframe()
    assert frame is not None  # CPython has frames
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    place = frame.f_code.co_filename, frame.f_lineno
    warnings.warn_explicit(warning, type(warning), *place, registry={})


def warn_of_flag(finding: Finding, step: int) -> None:
    """Warn of a red flag."""
    warn_of(finding, RedFlag, step)


def warn_of_check(finding: Finding) -> None:
    """Warn of a finding before the first update."""
    warn_of(finding, DataWarning)


def say_nothing(text: str) -> None:
    """Take a line of progress that nobody wants to see; a warning among them is raised as one."""
    if text.lstrip().startswith("! "):
        warn(in_python(text.lstrip()[2:]))
