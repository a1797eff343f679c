"""The audit as one self-contained HTML page: no script, no font, no request.

Dataset text is hostile. jinja2 escapes everything, control characters are shown as escape codes,
the page forbids scripts by its own policy, and long lines wrap.
"""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from accord.auditing.run import Audit
from accord.auditing.thresholds import THRESHOLDS, limit
from accord.auditing.verdict import RULE
from accord.pages import bars
from accord.pages.page import environment, write_page_file


def write_page(audit: Audit, path: str | Path) -> None:
    """Write the page.

    Raises:
      CheckpointError: the file cannot be written.
    """
    write_page_file(Path(path), render(audit))


def render(audit: Audit) -> str:
    """Return the page's text."""
    return (
        environment()
        .get_template("audit.html.j2")
        .render(
            audit=audit,
            judged=audit.judged,
            rule=RULE,
            data=audit.scan.name,
            options=audit.scan.naming.options(),
            figures=draw_figures(audit),
            thresholds=THRESHOLDS,
        )
    )


def draw_figures(audit: Audit) -> list[Markup]:
    """Draw every figure that the audit has numbers for."""
    makers = (_rules, _length_figure, _curve, _noise, _scores, _topics, _margins)
    return [figure for maker in makers if (figure := maker(audit))]


def _rules(audit: Audit) -> Markup | None:
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
    return bars.intervals(rows, 0.4, 1.0, limit("shortcut"), "Shortcuts", says)


def _length_figure(audit: Audit) -> Markup | None:
    finding = audit.always("lengths.characters")
    counts = dict(finding.evidence["histogram"])
    edges = counts.pop("edges")
    says = "Rows by length of prompt and answers."
    return bars.histogram(edges, counts, "Lengths", "characters (each step √2)", says)


def _curve(audit: Audit) -> Markup | None:
    if audit.probes is None:
        return None
    points = [(rows, each.value, each.low, each.high) for rows, each in audit.probes.curve]
    says = "Accuracy of the linear probe against the rows it was fitted on."
    return bars.curve(points, "What more data would bring", says)


def _noise(audit: Audit) -> Markup | None:
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
    says = "Estimated share, with 95 % intervals; each row is another kind of evidence."
    return bars.intervals(rows, 0.0, 0.6, None, "Flipped labels", says)


def _scores(audit: Audit) -> Markup | None:
    finding = audit.find("labels.score_spike")
    if finding is None:
        return None
    counts = finding.evidence["histogram"]
    rows = [(name, float(count)) for name, count in counts.items()]
    if len(rows) > 30:
        return None
    return bars.bars(rows, "Scores", "{:,.0f}", "How often each score was given, both sides.")


def _topics(audit: Audit) -> Markup | None:
    finding = audit.find("diversity.topics")
    if finding is None:
        return None
    says = "Largest topics of the prompts, by the words that set them apart."
    return bars.bars(list(finding.evidence["topics"].items()), "Topics", says=says)


def _margins(audit: Audit) -> Markup | None:
    finding = audit.find("hardness.negatives")
    if finding is None:
        return None
    names = ("5 %", "25 %", "median", "75 %", "95 %")
    rows = [
        (name, value, value, value)
        for name, value in zip(names, finding.evidence["margin_quantiles"], strict=True)
    ]
    low, high = min(-1.0, rows[0][1]), max(1.0, rows[-1][1])
    says = "Log-prob a token, chosen minus rejected: quantiles."
    return bars.intervals(rows, low, high, 0.0, "Margins under the reference", says)
