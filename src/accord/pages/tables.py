"""The tables of a report: held-out figures before and after, slices with intervals, differences
between runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from accord.evaluate.by_file import FIGURES, ROWS, TOKENS, name_of
from accord.evaluate.intervals import Estimate, accuracy, bootstrap_difference, bootstrap_mean
from accord.evaluate.slices import parts
from accord.monitor.history import Table
from accord.pages.words import MEANINGS
from accord.runs.recorded import Recorded
from accord.training.card import BESIDE, REPORTED


@dataclass(frozen=True)
class Row:
    name: str
    cells: tuple[str, ...]
    value: Estimate | None = None  # drawn as a bar with its interval, if there is one
    means: str = ""  # the figure in words, if its name is for machines


def held_out_table(run: Recorded) -> list[Row]:
    """List the model card's figures, before and after."""
    names = [*(f"eval_{name}" for name in REPORTED), *BESIDE]
    rows = []
    for name in names:
        before, after = run.at(0, name), run.at(run.measured, name)
        if after is not None:
            rows.append(
                Row(
                    name,
                    (_number(before), _number(after), _signed(before, after)),
                    means=_meaning(run, name),
                )
            )
    return rows


def _meaning(run: Recorded, name: str) -> str:
    """Put a figure into words; those of a few depend on the run."""
    if name == "eval_kl" and not run.answers_itself:
        return MEANINGS["kto's eval_kl"]
    ended = run.at(run.measured, "eval_ended")
    if name == "eval_tokens" and ended is not None and ended < 1:
        limit = run.config.rollout_settings.max_new_tokens
        return f"{MEANINGS[name]}; {1 - ended:.0%} of them were cut at {limit}, the limit"
    return MEANINGS[name]


def slices(run: Recorded) -> list[Row]:
    """Compute the held-out accuracy and margin of parts of the rows, with intervals clustered by
    prompt.
    """
    table = run.examples(run.measured)
    if table is None or "turns" not in table.column_names:
        return []
    margins = margins_of(table)
    if np.isnan(margins).any():
        return []
    width, prompts = tie_width_of(run), np.array(table["prompt"])
    rows = []
    for name, chosen in parts(table):
        clusters = list(prompts[chosen])
        estimate = accuracy(margins[chosen], tie_width=width, clusters=clusters)
        margin = bootstrap_mean(margins[chosen], clusters=clusters)
        rows.append(
            Row(
                name,
                (
                    f"{int(chosen.sum()):,}",
                    f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})",
                    f"{margin.value:+.3f} ({margin.low:+.3f} to {margin.high:+.3f})",
                ),
                estimate,
            )
        )
    return rows


def trained_files(run: Recorded) -> list[Row]:
    """Compute the figures of the training rows of each of several files, over the first and the
    last tenth of the updates; nothing for one file.
    """
    table, rows = run.training, []
    tenth = max(1, len(table) // 10)
    spans = slice(0, tenth), slice(len(table) - tenth, None)
    for number, file in enumerate(run.config.data.train_files):
        column = partial(_column, table, number)
        taken = column(ROWS)
        if not taken.any():  # one file, or a run of before these figures
            continue
        cells = [f"{int(taken.sum()):,}"]
        for name in FIGURES.values():
            per_token = name == "loss" and run.objective.denominator == "tokens"
            weights = column(TOKENS) if per_token else taken
            means = [_mean(column(name)[span], weights[span]) for span in spans]
            cells.append(" → ".join("–" if mean is None else f"{mean:.3f}" for mean in means))
        rows.append(Row(file.path, tuple(cells)))
    return rows


def _column(table: Table, number: int, name: str) -> np.ndarray:
    """Return a figure of a file for each update; NaN where it has none, 0 of counts."""
    missing = 0.0 if name in (ROWS, TOKENS) else math.nan
    found = np.array(table.columns.get(name_of(number, name), [missing] * len(table)), float)
    return np.nan_to_num(found) if missing == 0 else found


def _mean(values: np.ndarray, weights: np.ndarray) -> float | None:
    """Return the weighted mean of the values that there are; None of none."""
    known = ~np.isnan(values)
    total = weights[known].sum()
    return float((values[known] * weights[known]).sum() / total) if total else None


def margin_gain(run: Recorded) -> Estimate | None:
    """Estimate the growth of held-out margins, row by row; prompts are drawn whole."""
    before, after = run.examples(0), run.examples(run.measured)
    if before is None or after is None or np.isnan(margins_of(after)).any():
        return None
    return bootstrap_difference(
        margins_of(after), margins_of(before), clusters=list(np.array(after["prompt"]))
    )


def tie_width_of(run: Recorded) -> float:
    """Return the margin that rounding makes up, as the first check of the run measured it."""
    preflight = {finding["check"]: finding for finding in run.json("preflight.json", [])}
    return preflight.get("step0.noise_floor", {}).get("evidence", {}).get("reward_margin", 0.0)


def margins_of(table: pa.Table) -> np.ndarray:
    """Return the reward of the chosen minus that of the rejected answer, [B]."""
    return np.array(table["rewards/chosen"]) - np.array(table["rewards/rejected"])


def differences(runs: Sequence[Recorded]) -> list[Row]:
    """List the fields of the config that differ between runs."""
    fields = [run.fields for run in runs]
    names = list(dict.fromkeys(name for one in fields for name in one))
    rows = [Row(name, tuple(_shown(one.get(name)) for one in fields)) for name in names]
    return [row for row in rows if len(set(row.cells)) > 1]


def _shown(value: object) -> str:
    return "–" if value is None else str(value)


def summary(runs: Sequence[Recorded]) -> list[Row]:
    """Make one line per figure, with one column per run."""

    def figures(run: Recorded) -> dict[str, str]:
        low, high = (
            run.at(run.measured, "diag/eval_accuracy_low"),
            run.at(run.measured, "diag/eval_accuracy_high"),
        )
        accuracy_now = run.at(run.measured, "eval_rewards/accuracies")
        sampled = [v for step, v in run.sampled.points("diag/samples_kl") if step]
        kl = (
            run.at(run.measured, "eval_kl")
            if run.answers_itself
            else (sampled[-1] if sampled else None)
        )
        warnings = [
            e["check"].removeprefix("flag.") for e in run.events if e["verdict"] == "warning"
        ]
        return {
            "updates": f"{run.training.steps[-1] if len(run.training) else 0:,}",
            "held-out accuracy": (
                f"{accuracy_now:.3f} ({low:.3f} to {high:.3f})" if accuracy_now is not None else "–"
            ),
            "held-out margin": _number(run.at(run.measured, "eval_rewards/margins")),
            "chosen, nats a token": _number(
                run.at(run.measured, "diag/eval_log_ratio_token/chosen")
            ),
            "KL, nats an answer": _number(kl),
            "red flags": ", ".join(warnings) or "none",
        }

    columns = [figures(run) for run in runs]
    return [Row(name, tuple(column[name] for column in columns)) for name in columns[0]]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _signed(before: float | None, after: float) -> str:
    return "–" if before is None else f"{after - before:+.4f}"
