"""The tables of a report: held-out figures before and after, slices with intervals, differences between runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from accord.evaluate.statistics import Estimate, accuracy, bootstrap_difference
from accord.training.card import BESIDE, REPORTED
from accord.training.prepare import trajectory
from accord.training.recorded import Recorded

FEWEST = 10  # rows of a slice that is shown
MOST_SOURCES = 8


@dataclass(frozen=True)
class Row:
    name: str
    cells: tuple[str, ...]
    value: Estimate | None = None  # drawn as a bar with its interval, where there is one


def held_out_table(run: Recorded) -> list[Row]:
    """The model card's figures, before and after."""
    names = [*(f"eval_{name}" for name in REPORTED), *BESIDE]
    rows = []
    for name in names:
        before, after = run.at(0, name), run.at(run.ended, name)
        if after is not None:
            rows.append(Row(name, (_number(before), _number(after), _signed(before, after))))
    return rows


def slices(run: Recorded) -> list[Row]:
    """Held-out accuracy of parts of the rows, with the interval clustered by prompt."""
    table = run.examples(run.ended)
    if table is None or "turns" not in table.column_names:
        return []
    margins = _margins(table)
    if np.isnan(margins).any():
        return []
    preflight = {finding["check"]: finding for finding in run.json("preflight.json", [])}
    width = preflight.get("step0.noise_floor", {}).get("evidence", {}).get("reward_margin", 0.0)
    prompts = np.array(table["prompt"])
    rows = []
    for name, chosen in _parts(table):
        if chosen.sum() >= FEWEST:
            estimate = accuracy(margins[chosen], tie_width=width, clusters=list(prompts[chosen]))
            rows.append(Row(name, (f"{int(chosen.sum()):,}", str(estimate)), estimate))
    return rows


def margin_gain(run: Recorded) -> Estimate | None:
    """How much held-out margins grew, row by row, with the bootstrap over prompts."""
    before, after = run.examples(0), run.examples(run.ended)
    if before is None or after is None or np.isnan(_margins(after)).any():
        return None
    return bootstrap_difference(_margins(after), _margins(before), clusters=list(np.array(after["prompt"])))


def _parts(table: pa.Table) -> list[tuple[str, np.ndarray]]:
    """(name, mask) of each slice: all rows, by length, by which answer is longer, by turns, by source."""
    tokens, turns = np.array(table["tokens"]), np.array(table["turns"])
    longer = np.array(table["tokens/chosen"]) - np.array(table["tokens/rejected"])
    parts = [("all rows", np.ones(len(tokens), bool))]
    low, high = np.quantile(tokens, (1 / 3, 2 / 3))
    parts += [(f"answers together up to {low:.0f} tokens", tokens <= low), (f"{low:.0f} to {high:.0f} tokens", (tokens > low) & (tokens <= high)),
              (f"over {high:.0f} tokens", tokens > high)]  # fmt: skip
    parts += [("chosen is longer", longer > 0), ("chosen is shorter", longer < 0), ("equally long", longer == 0)]
    if len(set(turns)) > 1:
        parts += [("one question", turns == 1), ("several turns", turns > 1)]
    sources = [source for source in table["source"].to_pylist()]
    names = sorted({s for s in sources if s is not None}, key=lambda s: (-sources.count(s), s))[:MOST_SOURCES]
    return parts + [(f"source {name}", np.array([s == name for s in sources])) for name in names]


def _margins(table: pa.Table) -> np.ndarray:
    return np.array(table["rewards/chosen"]) - np.array(table["rewards/rejected"])


def differences(runs: Sequence[Recorded]) -> list[Row]:
    """Fields of the config that are not the same in all runs."""
    fields = [trajectory(run.config) | {"data.train": run.config.data.train} for run in runs]
    names = list(dict.fromkeys(name for one in fields for name in one))
    rows = [Row(name, tuple(str(one.get(name, "–")) for one in fields)) for name in names]
    return [row for row in rows if len(set(row.cells)) > 1]


def summary(runs: Sequence[Recorded]) -> list[Row]:
    """A line a figure, a column a run."""
    def figures(run: Recorded) -> dict[str, str]:
        low, high = run.at(run.ended, "diag/eval_accuracy_low"), run.at(run.ended, "diag/eval_accuracy_high")
        accuracy_now, kl = run.at(run.ended, "eval_rewards/accuracies"), run.sampled.last("diag/samples_kl", 1)
        warnings = [e["check"].removeprefix("flag.") for e in run.events if e["verdict"] == "warning"]
        return {
            "updates": f"{run.training.steps[-1] if len(run.training) else 0:,}",
            "held-out accuracy": f"{accuracy_now:.3f} ({low:.3f} to {high:.3f})" if accuracy_now is not None else "–",
            "held-out margin": _number(run.at(run.ended, "eval_rewards/margins")),
            "chosen, nats a token": _number(run.at(run.ended, "diag/eval_log_ratio_token/chosen")),
            "KL, nats an answer": _number(kl[0] if kl else None),
            "red flags": ", ".join(warnings) or "none",
        }  # fmt: skip

    columns = [figures(run) for run in runs]
    return [Row(name, tuple(column[name] for column in columns)) for name in columns[0]]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _signed(before: float | None, after: float) -> str:
    return "–" if before is None else f"{after - before:+.4f}"
