"""All rules over one history: each cause is reported once."""

from __future__ import annotations

from collections.abc import Iterable

from accord.monitor.causes import CAUSES
from accord.monitor.history import History
from accord.monitor.normal import NORMAL
from accord.monitor.outcomes import OUTCOMES
from accord.monitor.rollouts import ROLLOUTS
from accord.monitor.rule import PREFIX, Rule
from accord.monitor.settings import SETTINGS
from accord.types import Finding

RULES: tuple[Rule, ...] = (*SETTINGS, *CAUSES, *OUTCOMES, *ROLLOUTS, *NORMAL)


def look(history: History, said: Iterable[str], rules: Iterable[Rule] = RULES) -> list[Finding]:
    """Return the findings to report now.

    Args:
      said: names of the checks that were reported before, among others those of rules
        ("flag.memorised").
      rules: in their order; a cause that is found now silences its symptoms at once.
    """
    said, found = set(said), []
    for rule in rules:
        if PREFIX + rule.name in said or any(PREFIX + cause in said for cause in rule.unless):
            continue
        if (finding := rule.finding(history)) is not None:
            found.append(finding)
            said.add(finding.check)
    return found


def rule_of(check: str) -> Rule | None:
    """Return the rule that raised a check, if one did."""
    return next((rule for rule in RULES if PREFIX + rule.name == check), None)
