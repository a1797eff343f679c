"""A red flag as data: condition, evidence, meaning, remedy, source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from accord.monitor.history import History
from accord.types import Finding

Evidence = dict[str, object]


@dataclass(frozen=True)
class Rule:
    """A rule: what to notice, and what to say about it. All three texts are filled in with the
    evidence.
    """

    name: str
    # the numbers that show it; None while there is nothing to say
    when: Callable[[History], Evidence | None]
    says: str
    means: str
    remedy: str
    source: str
    # "note": looks alarming and is normal, or concerns the machine: never stops a run
    verdict: str = "warning"
    unless: tuple[str, ...] = ()  # causes: once one was reported, this symptom is not
    shown: str = ""  # the remedy in the documentation, where it depends on the run
    adapt: str | None = None  # action of --on-flag adapt: "best", "slower", or nothing

    def finding(self, history: History) -> Finding | None:
        """Return the finding of this rule on the run now."""
        evidence = self.when(history)
        if evidence is None:
            return None
        evidence = {"step": history.step, **evidence}
        says, means, remedy = (
            text.format(**evidence) for text in (self.says, self.means, self.remedy)
        )
        return Finding(PREFIX + self.name, self.verdict, says, evidence, remedy, means, self.source)


PREFIX = "flag."  # prefix of a flag's name among all checks
