"""The result of a run: what came of it, and the next steps as methods."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from accord.api import measuring
from accord.api.outcomes import Answers, Outcome, table
from accord.api.words import in_python
from accord.errors import plural
from accord.pages.verdict import verdict
from accord.runs.folder import RunFolder
from accord.runs.recorded import Recorded
from accord.training.run import Result as RunResult
from accord.types import AccordError, Finding


@dataclass(frozen=True)
class Flag(Finding):
    """A red flag, and the step at which it was raised."""

    step: int = 0


@dataclass(frozen=True, repr=False)
class Result(RunResult):
    """A finished run.

    Attributes:
      folder: the run's folder; every function that takes a run takes it, or the result itself.
      saved: the weights (adapter/ or final/), as transformers and PEFT load them.
      steps: updates of the run. best_step: the step with the lowest held-out loss, if there is one.
      before, after: held-out figures before the first and after the last update, by TRL's names;
        empty without held-out rows.
      findings: every check before the first update.
    """

    @classmethod
    def of(cls, done: RunResult) -> Result:
        """Make the result of Python from that of a run."""
        return cls(**{each.name: getattr(done, each.name) for each in fields(done)})

    @property
    def flags(self) -> list[Flag]:
        """The red flags that were raised, in their order, also those before a resume."""
        lines = RunFolder(self.folder).appended("events.jsonl")
        return [
            _in_python(Flag(**line)) for line in lines if line["verdict"] in ("warning", "refused")
        ]

    @property
    def warnings(self) -> list[Finding]:
        """The findings before the first update that a person should look at."""
        return [_in_python(each) for each in self.findings if each.verdict == "warning"]

    @property
    def verdict(self) -> list[str]:
        """The report's three sentences: what was learned, what it cost, what to look at."""
        try:
            return [in_python(line) for line in verdict(Recorded.open(str(self.folder)))]
        except AccordError as error:
            return [in_python(str(error))]

    def report(self, output: str | Path | None = None) -> Path:
        """Write the page of the run; see `accord.report`."""
        return measuring.report(self, output=output)

    def generate(self, prompts: Any, **options: Any) -> Answers:
        """Answer prompts with the trained model; see `accord.generate`. One text is one prompt."""
        return measuring.generate(
            self, [prompts] if isinstance(prompts, str) else prompts, **options
        )

    def evaluate(self, **options: Any) -> Outcome:
        """Measure the trained model on its held-out rows; see `accord.evaluate`."""
        return measuring.evaluate(self, **options)

    def export(self, output: str | Path | None = None, **options: Any) -> Path:
        """Write the model as a folder of its own; see `accord.export`."""
        return measuring.export(self, output=output, **options)

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        flags = [f"{each.check} (step {each.step})" for each in self.flags]
        return "\n".join(
            [
                f"accord run {self.folder}: {plural(self.steps, 'update')}, weights in"
                f" {self.saved}",
                *(f"  {line}" for line in self.verdict),
                *([f"  red flags: {', '.join(flags)}"] if flags else []),
                *(
                    [f"  warnings: {', '.join(w.check for w in ws)}"]
                    if (ws := self.warnings)
                    else []
                ),
            ]
        )

    def _repr_html_(self) -> str:
        shown: dict[str, Any] = {"folder": self.folder, "weights": self.saved}
        shown |= {"updates": f"{self.steps:,}"}
        names = ("learned", "cost", "to look at")
        # a run without figures has one sentence, which says so
        shown |= dict(zip(names, self.verdict, strict=False))
        shown |= {f"{each.check}, step {each.step}": each.says for each in self.flags}
        shown |= {each.check: each.says for each in self.warnings}
        return table("accord run", shown.items())


def _in_python(finding):
    """Return a finding whose texts speak Python."""
    return replace(
        finding,
        says=in_python(finding.says),
        remedy=in_python(finding.remedy),
        means=in_python(finding.means),
    )
