"""Results of the functions: short when printed, a small table in a notebook.

Texts of the data are hostile: everything that a notebook shows is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path

from markupsafe import Markup, escape

from accord.api.guard import python_words
from accord.api.words import in_python
from accord.auditing.run import Audit as FileAudit
from accord.errors import printable
from accord.pages.audit import write_page
from accord.pages.page import check_page

MOST_LINES = 40  # of a result in a notebook


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
        keys = printable(", ".join(map(str, self)))
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
        with python_words():
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
