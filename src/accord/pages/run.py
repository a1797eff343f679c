"""The page of a run: its layout, and the colours of an answer's tokens. All text of the data is
escaped.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from accord.auditing import run_rows
from accord.auditing.verdict import Verdict, judge_record
from accord.evaluate.intervals import Estimate
from accord.pages.curves import DISPLACED, sample_curves, training_curves
from accord.pages.page import check_page, environment, write_page_file
from accord.pages.same_data import data_differences, said_apart, together
from accord.pages.tables import Row, differences, held_out_table, margin_gain, slices, trained_files
from accord.pages.verdict import verdict
from accord.pages.words import short
from accord.runs import judging_costs as judging
from accord.runs.recorded import Recorded

TEMPLATE = "run.html.j2"
SIDES = ("train", "held_out")  # of data.json: files whose rows were read
STRONGEST = 2.0  # nats per token at which the colour is full


@dataclass
class Shown:
    """One run as the template sees it."""

    run: Recorded
    verdict: list[str]
    curves: list[Markup]
    displaced: list[Markup]
    sampled: list[Markup]
    held_out: list[Row]
    slices: list[Row]
    files: list[Row]  # of training rows
    gain: Estimate | None
    pairs: dict
    preflight: list[dict]
    data: list[tuple[str, dict]]  # the side and the record of each file
    hold_out: dict | None  # the account of rows that were cut off to evaluate on
    audit: dict
    judged: Verdict | None  # of the audit; None if none was kept
    environment: dict
    judging: list[str]
    # numbered as on the time axis; warnings first
    flags: list[tuple[int, dict]] = field(default_factory=list)

    @property
    def row_checks(self) -> list[dict]:
        """The checks on the rows that passed. There are many, so the page folds them away."""
        return [
            f for f in self.preflight if f["check"].startswith("data.") and f["verdict"] == "ok"
        ]

    @property
    def proofs(self) -> list[dict]:
        """All other findings before the first update."""
        return [f for f in self.preflight if f not in self.row_checks]

    @property
    def command(self) -> str:
        return shlex.join(self.environment.get("command", [])) or "accord.train(...)"


def write_report(paths: Sequence[str], output: str | None = None) -> Path:
    """Write the page of one run, or of several side by side.

    Args:
      paths: folders of runs.
      output: the file; for one run report.html in its folder, else report.html here.

    Raises:
      UsageError: no run there. CheckpointError: the file cannot be written.
    """
    runs = [Recorded.open(path) for path in paths]
    if output:
        check_page(output, "--output")
    file = (
        Path(output).expanduser()
        if output
        else (runs[0].folder.path if len(runs) == 1 else Path()) / "report.html"
    )
    return write_page_file(file, render(runs))


def report_notes(paths: Sequence[str]) -> list[str]:
    """Return what a reader of a report on several runs should know before its tables."""
    return said_apart([Recorded.open(path) for path in paths])


def render(runs: Sequence[Recorded]) -> str:
    """Return the page as text."""
    templates = environment()
    templates.filters |= {"short": short, "heat": heat}
    several = len(runs) > 1
    return templates.get_template(TEMPLATE).render(
        title=" · ".join(run.name for run in runs),
        shown=[show(run) for run in runs],
        runs=runs,
        several=several,
        differences=[*data_differences(runs), *differences(runs)] if several else [],
        together=together(runs) if several else [],
    )


def show(run: Recorded) -> Shown:
    data = run.json("data.json", {})
    return Shown(
        run,
        verdict(run),
        training_curves(run),
        training_curves(run, DISPLACED),
        sample_curves(run),
        held_out_table(run),
        slices(run),
        trained_files(run),
        margin_gain(run),
        run.json("pairs.json", {}),
        run.json("preflight.json", []),
        [
            (side, record)
            for side, whole in data.items()
            if side in SIDES
            for record in whole.get("files", [whole])
        ],
        data.get("hold_out"),
        audit := run.json(run_rows.NAME, {}),
        judge_record(audit) if audit else None,
        run.json("environment.json", {}),
        list(judging.lines(run.json(judging.NAME, {}))),
        sorted(enumerate(run.events, 1), key=lambda event: event[1]["verdict"] == "note"),
    )


def heat(tokens: Sequence[dict]) -> Markup:
    """Render an answer with each token coloured by log π - log π_ref and titled with it. A token
    without that figure stays plain.
    """
    return Markup("").join(_token(token) for token in tokens)


def _token(token: dict) -> Markup:
    text = token["text"] or "∅"
    if "change" not in token:
        return Markup("<span>{}</span>").format(text)
    level = max(-4, min(4, round(4 * token["change"] / STRONGEST)))
    name = f"{'up' if level > 0 else 'down'}{abs(level)}" if level else "same"
    return Markup('<span class="{}" title="{:+.2f} nats, now {:.2f}">{}</span>').format(
        name, token["change"], token["logp"], text
    )
