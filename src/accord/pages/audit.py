"""The audit as one self-contained HTML page: no script, no font, no request to anywhere.

Dataset text is hostile: jinja2 escapes everything, control characters are written out before, the
page forbids scripts by its own policy, and long lines wrap.
"""

from __future__ import annotations

from pathlib import Path

from accord.auditing import figures
from accord.auditing.lines import MARKS, full_command
from accord.auditing.run import Audit
from accord.auditing.thresholds import THRESHOLDS, limit
from accord.types import CheckpointError, UsageError

HARM = {"refused": "makes it unfit", "warning": "take care", "note": "to know", "ok": "well"}


def check_page(path: str | Path) -> None:
    """Refuses a page that could not be written, before the work is done.

    Raises:
      UsageError: no folder, or no .html at the end.
    """
    path = Path(path)
    if path.suffix not in (".html", ".htm"):
        raise UsageError(f"--page {path}: expected a name that ends in .html.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--page {path}: there is no folder {path.parent}.")


def write_page(audit: Audit, path: str | Path) -> None:
    """Write the page."""
    try:
        Path(path).write_text(render(audit), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror}.") from error


def render(audit: Audit) -> str:
    """The page's text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("accord.pages", "."), autoescape=True, undefined=StrictUndefined
    )
    data = audit.scan.name
    raised = [
        (finding, full_command(finding.command, data) if finding.command else "")
        for finding in audit.raised
    ]
    return environment.get_template("audit.html.j2").render(
        audit=audit,
        raised=raised,
        well=[each for each in audit.findings if each.verdict == "ok"],
        marks=MARKS,
        harm=HARM,
        figures=[(title, says, Markup(svg)) for title, says, svg in draw_figures(audit)],
        thresholds=THRESHOLDS,
    )


def draw_figures(audit: Audit) -> list[tuple[str, str, str]]:
    """(title, what it shows, SVG) of every figure that the audit has numbers for."""
    makers = (_rules, _length_figure, _curve, _noise, _scores, _topics, _margins)
    return [figure for maker in makers if (figure := maker(audit))]


def _rules(audit: Audit):
    finding = audit.find("shortcuts.rules")
    if finding is None:
        return None
    rules = sorted(finding.evidence["rules"], key=lambda rule: -rule["score"]["value"])[:12]
    rows = [
        (
            f"{rule['direction']} {rule['feature']}",
            *(rule["score"][k] for k in ("value", "low", "high")),
        )
        for rule in rules
    ]
    for check, name in (
        ("shortcuts.length", "length, cross-fitted"),
        ("shortcuts.ngrams", "words, cross-fitted"),
    ):
        if found := audit.find(check):
            rows.append((name, *(found.evidence["accuracy"][k] for k in ("value", "low", "high"))))
    says = (
        "How often a rule that reads nothing is right; 95 % intervals by prompt. Dashed:"
        f" {limit('shortcut'):g}, from which it is flagged."
    )
    return "Shortcuts", says, figures.intervals(rows, 0.4, 1.0, limit("shortcut"), "Shortcuts")


def _length_figure(audit: Audit):
    finding = audit.always("lengths.characters")
    counts = dict(finding.evidence["histogram"])
    edges = counts.pop("edges")
    return (
        "Lengths",
        "Rows by length of prompt and answers.",
        figures.histogram(edges, counts, "Lengths", "characters (each step √2)"),
    )


def _curve(audit: Audit):
    if audit.probes is None:
        return None
    points = [(rows, each.value, each.low, each.high) for rows, each in audit.probes.curve]
    return (
        "What more data would bring",
        "Accuracy of the linear probe against the rows it was fitted on.",
        figures.curve(points, "Learning curve"),
    )


def _noise(audit: Audit):
    rows = []
    for check, name in (
        ("labels.noise", "from texts"),
        ("labels.declared", "marked in the file"),
        ("labels.scores", "scores against labels"),
        ("labels.second_labelling", "two files"),
    ):
        if found := audit.find(check):
            estimate = found.evidence["estimate"]
            rows.append((name, estimate["value"], estimate["low"], estimate["high"]))
    if not rows:
        return None
    return (
        "Flipped labels",
        "Estimated share, with 95 % intervals; each row is another kind of evidence.",
        figures.intervals(rows, 0.0, 0.6, None, "Label noise"),
    )


def _scores(audit: Audit):
    finding = audit.find("labels.score_spike")
    if finding is None:
        return None
    counts = finding.evidence["histogram"]
    rows = [(name, float(count)) for name, count in counts.items()]
    return (
        (
            "Scores",
            "How often each score was given, both sides.",
            figures.bars(rows, "Scores", "{:,.0f}"),
        )
        if len(rows) <= 30
        else None
    )


def _topics(audit: Audit):
    finding = audit.find("diversity.topics")
    if finding is None:
        return None
    return (
        "Topics",
        "Largest topics of the prompts, by the words that set them apart.",
        figures.bars(list(finding.evidence["topics"].items()), "Topics"),
    )


def _margins(audit: Audit):
    finding = audit.find("hardness.negatives")
    if finding is None:
        return None
    names = ("5 %", "25 %", "median", "75 %", "95 %")
    rows = [
        (name, value, value, value)
        for name, value in zip(names, finding.evidence["margin_quantiles"], strict=True)
    ]
    low, high = min(-1.0, rows[0][1]), max(1.0, rows[-1][1])
    return (
        "Margins under the reference",
        "Log-prob a token, chosen minus rejected: quantiles.",
        figures.intervals(rows, low, high, 0.0, "Margins"),
    )
