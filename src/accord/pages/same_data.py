"""The runs of a report that may share a table: those measured on the same held-out rows, as the
same tokens. They are compared pair by pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from accord.errors import plural
from accord.evaluate.intervals import bounded_mean
from accord.pages.curves import side_by_side
from accord.pages.tables import Row, margins_of, summary, tie_width_of
from accord.runs.recorded import Recorded

SIDES = {"train": "training", "held_out": "held-out"}


@dataclass(frozen=True)
class Together:
    """Runs that were measured on the same rows, with what is shown of them side by side."""

    runs: Sequence[Recorded]
    about: str
    summary: list[Row]
    paired: list[Row]
    figures: list[Markup]


def digests(run: Recorded, side: str) -> tuple[str, str]:
    """Return the digests of a file and of the tokens made of it; "–" where none is recorded."""
    found = run.json("data.json", {}).get(side) or {}
    return found.get("sha256") or "–", (found.get("tokens") or {}).get("sha256") or "–"


def measured_on(run: Recorded) -> tuple:
    """Return what names the rows that a run was measured on, and the tokens that it saw of them."""
    rows = run.config.evaluate.rows
    # a part of the rows is drawn by the run's seed
    drawn = None if rows is None else (rows, run.config.train.seed)
    return (*digests(run, "held_out"), drawn)


def by_held_out(runs: Sequence[Recorded]) -> list[list[Recorded]]:
    """Put runs together that were measured on the same rows, in the order given."""
    groups: dict[tuple, list[Recorded]] = {}
    for run in runs:
        groups.setdefault(measured_on(run), []).append(run)
    return list(groups.values())


def data_differences(runs: Sequence[Recorded]) -> list[Row]:
    """List the digests of data that differ between runs: they are part of "the same"."""
    rows = []
    for side, words in SIDES.items():
        files, tokens = zip(*(digests(run, side) for run in runs), strict=True)
        for name, values in ((f"{words} file", files), (f"tokens of the {words} rows", tokens)):
            if len(set(values)) > 1:
                rows.append(Row(name, tuple(value[:12] for value in values)))
    return rows


def together(runs: Sequence[Recorded]) -> list[Together]:
    """Return the tables of several runs: one for each set of held-out rows."""
    return [
        Together(group, _about(group[0]), summary(group), paired(group), side_by_side(group))
        for group in by_held_out(runs)
    ]


def said_apart(runs: Sequence[Recorded]) -> list[str]:
    """Say which runs were measured on other held-out rows than the first ones."""
    groups = by_held_out(runs)
    if len(groups) == 1:
        return []
    named = "; ".join(f"{', '.join(run.name for run in g)}: {_about(g[0])}" for g in groups)
    return [
        f"the runs were measured on {len(groups)} different held-out sets, so their figures do not"
        f" compare; each set has a table of its own ({named})"
    ]


def _about(run: Recorded) -> str:
    file, _ = digests(run, "held_out")
    if (held_out := run.config.held_out_file) is None:
        return "no held-out rows"
    rows = run.config.evaluate.rows
    part = "" if rows is None else f", {plural(rows, 'row')} drawn by seed {run.config.train.seed}"
    return f"{held_out.rsplit('/', 1)[-1]}, sha256 {file[:12]}{part}"


def paired(runs: Sequence[Recorded]) -> list[Row]:
    """Compare the held-out accuracy of every further run with the first one's, row by row."""
    first, *others = runs
    scores = _wins(first)
    if scores is None:
        return []
    rows = []
    for run in others:
        own = _wins(run)
        # the same file and tokens give the same rows in the same order
        if own is None or len(own[0]) != len(scores[0]) or own[1] != scores[1]:
            continue
        found = bounded_mean(own[0] - scores[0], (-1.0, 1.0), clusters=own[1])
        sure = "better" if found.low > 0 else "worse" if found.high < 0 else "not told apart"
        rows.append(Row(f"{run.name} minus {first.name}", (str(found), sure)))
    return rows


def _wins(run: Recorded) -> tuple[np.ndarray, list[int]] | None:
    """Return 1, ½ or 0 for each held-out pair [B], and its prompt."""
    table = run.examples(run.measured)
    if table is None:
        return None
    margins = margins_of(table)
    if np.isnan(margins).any():
        return None
    scores = np.where(np.abs(margins) <= tie_width_of(run), 0.5, margins > 0)
    return scores, np.array(table["prompt"]).tolist()
