"""What the functions return: short when printed, a small table in a notebook, and the next steps as
methods.

Texts of the data are hostile: everything that a notebook shows is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from accord.api.words import in_python
from accord.auditing.run import Audit as FileAudit
from accord.errors import printable
from accord.pages.audit import check_page, write_page
from accord.pages.verdict import verdict
from accord.runs.folder import RunFolder
from accord.runs.recorded import Recorded
from accord.training.run import Result as RunResult
from accord.types import AccordError, Finding

MOST_LINES = 40  # of a result in a notebook


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
        """What was learned, what it cost, what to look at: the three sentences of the report."""
        try:
            return [in_python(line) for line in verdict(Recorded.open(str(self.folder)))]
        except AccordError as error:
            return [in_python(str(error))]

    def report(self, output: str | Path | None = None) -> Path:
        """Write the page of the run; see `accord.report`."""
        from accord.api.measuring import report

        return report(self, output=output)

    def generate(self, prompts: Any, **options: Any) -> Answers:
        """Answer prompts with the trained model; see `accord.generate`. One text is one prompt."""
        from accord.api.measuring import generate

        return generate(self, [prompts] if isinstance(prompts, str) else prompts, **options)

    def evaluate(self, **options: Any) -> Outcome:
        """Measure the trained model on its held-out rows; see `accord.evaluate`."""
        from accord.api.measuring import evaluate

        return evaluate(self, **options)

    def export(self, output: str | Path | None = None, **options: Any) -> Path:
        """Write the model as a folder of its own; see `accord.export`."""
        from accord.api.measuring import export

        return export(self, output=output, **options)

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        flags = [f"{each.check} (step {each.step})" for each in self.flags]
        return "\n".join(
            [
                f"accord run {self.folder}: {self.steps:,} updates, weights in {self.saved}",
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
        shown |= dict(zip(("learned", "cost", "to look at"), self.verdict, strict=False))
        shown |= {f"{each.check}, step {each.step}": each.says for each in self.flags}
        shown |= {each.check: each.says for each in self.warnings}
        return table("accord run", shown.items())


class Outcome(dict):
    """The figures of a call, as the command gives them with --json.

    Attributes:
      lines: what the command prints.
      folder, page: where it was written, if it was.
    """

    def __init__(
        self,
        title: str,
        record: Mapping,
        lines: Iterable[str] = (),
        *,
        folder: str | Path | None = None,
        page: str | Path | None = None,
    ):
        super().__init__(record)
        self.title = title
        self.lines = tuple(in_python(printable(line, keep="\n")) for line in lines)
        self.folder = None if folder is None else Path(folder)
        self.page = None if page is None else Path(page)

    def __repr__(self) -> str:
        shown = self.lines[:MOST_LINES]
        more = len(self.lines) - len(shown)
        keys = ", ".join(map(str, self))
        return "\n".join(
            [
                self.title,
                *shown,
                *([f"… {more} more lines: .lines"] if more else []),
                f"keys: {keys}",
            ]
        )

    def _repr_html_(self) -> str:
        return str(Markup("<pre>{}</pre>").format(repr(self)))


class Answers(Outcome):
    """The answers to prompts; `texts` has the answers alone, K to each prompt."""

    @property
    def texts(self) -> list[list[str]]:
        return [row["completions"] for row in self.get("rows", [])]


class Audit(FileAudit):
    """The audit of a file or of rows; `page` writes it with figures, `as_dict` has all of it."""

    @classmethod
    def of(cls, done: FileAudit) -> Audit:
        """Make the audit of Python from that of a file."""
        return cls(**{each.name: getattr(done, each.name) for each in fields(done)})

    def page(self, path: str | Path) -> Path:
        """Write a self-contained HTML page with figures.

        Raises:
          UsageError: the name does not end in .html, or its folder is not there.
        """
        check_page(path)
        write_page(self, path)
        return Path(path)

    def __repr__(self) -> str:
        judged = self.judged
        lines = [f"accord audit: {judged.headline}"]
        lines += [
            f"  {each.verdict:<8} {each.title or each.check}: {in_python(each.says)}"
            for each in (cause.finding for cause in judged.causes)
        ]
        return printable("\n".join([*lines, f"  {judged.counts}"]), keep="\n")

    def _repr_html_(self) -> str:
        judged = self.judged
        causes = [
            (c.finding.title or c.finding.check, in_python(c.finding.says)) for c in judged.causes
        ]
        return table(f"accord audit: {judged.headline}", [*causes, ("findings", judged.counts)])


def table(title: str, rows: Iterable[tuple[str, object]]) -> str:
    """Return a small table of two columns for a notebook; all text is escaped."""
    body = Markup("").join(
        Markup(
            "<tr><th style='text-align:left'>{}</th><td style='text-align:left'>{}</td></tr>"
        ).format(_shown(name), _shown(value))
        for name, value in rows
    )
    return str(
        Markup("<table><caption style='text-align:left'>{}</caption>{}</table>").format(
            _shown(title), body
        )
    )


def _shown(value: object) -> Markup:
    return escape(printable(str(value), keep="\n"))


def _in_python(finding):
    """Return a finding whose texts speak Python."""
    return replace(
        finding,
        says=in_python(finding.says),
        remedy=in_python(finding.remedy),
        means=in_python(finding.means),
    )
