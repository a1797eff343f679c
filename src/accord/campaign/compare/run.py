"""`accord compare` and `accord sweep`: from a recipe to comparison.json, a table and a page.

plan ▸ rows ▸ (trials of learning rates) ▸ cells ▸ one measure for all ▸ verdict
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from accord.campaign.compare import budget, cells, contenders, search, times, trials, verdict
from accord.campaign.compare.contenders import Cell, Contender
from accord.campaign.compare.measure import ModelMeasurer, Questions
from accord.campaign.compare.shared_data import SharedData, gather_shared_data, source_of
from accord.campaign.compare.verdict import Result
from accord.campaign.folder import CampaignFolder, campaign_lock
from accord.campaign.log import logged
from accord.campaign.plan import PLAN, plan_hash
from accord.config.schema import Config
from accord.runs.display import Display
from accord.runs.files import write_json
from accord.runs.hub_names import pinned
from accord.types import Refused, UsageError

COMPARISON = "comparison.json"
MOST_SEEDS, MOST_TRIALS = 1_000, 100


@dataclass(frozen=True)
class Terms:
    """Options of a comparison, beside its recipe and contenders."""

    output: str
    seeds: int = 3
    trials: int = 1
    samples: int = 24
    sample_tokens: int = 48
    prompts: str | None = None
    scorer: str | None = None
    kl_budget: float | None = None
    search: str = "grid"
    # keyword arguments of the scorer, by its name
    scorer_options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def check(self) -> None:
        """Check the ranges of the options.

        Raises:
          UsageError: a number out of its range.
        """
        ranges = {
            "--seeds": (self.seeds, 1, MOST_SEEDS),
            "--trials": (self.trials, 1, MOST_TRIALS),
            "--samples": (self.samples, 1, 100_000),
            "--sample-tokens": (self.sample_tokens, 1, 100_000),
        }
        for flag, (value, low, high) in ranges.items():
            if not low <= value <= high:
                raise UsageError(f"{flag} {value}: expected {low} to {high:,}.")
        if self.scorer_options and self.scorer is None:
            raise UsageError("--scorer-set: no answer is scored. Give a scorer: --scorer vader.")
        if self.search not in search.SEARCHES:
            raise UsageError(f"--search {self.search}: expected {' or '.join(search.SEARCHES)}.")
        if self.search != "grid" and self.kl_budget is not None:
            raise UsageError("--kl-budget reads a β off a grid of them: leave --search out.")
        if self.kl_budget is not None and not 0 < self.kl_budget < float("inf"):
            raise UsageError(f"--kl-budget {self.kl_budget}: expected nats an answer, above 0.")


def compare(
    base: Config, names: str, terms: Terms, display: Display, command: Sequence[str] = ()
) -> dict:
    """Compare methods. Return the content of comparison.json.

    Raises:
      AccordError: of the class of its cause. Finished work is kept, and the same command resumes.
    """
    require_comparable(base)
    base = pinned(base)
    return _carry_out(base, contenders.methods(base, names), terms, display, command, "compare")


def sweep(
    base: Config,
    assignments: Sequence[str],
    terms: Terms,
    display: Display,
    command: Sequence[str] = (),
) -> dict:
    """Sweep the settings of one method. With several β and a budget of KL, say which β keeps to it.

    The settings can also be searched: `terms.trials` settings are tried on rows cut off the
    training rows, and the best is compared with the recipe.
    """
    terms.check()
    require_comparable(base)
    base = pinned(base)
    if terms.search != "grid":
        wanted = search.plan(base, assignments, terms.trials)
        return _carry_out(wanted.base, wanted, terms, display, command, "sweep")
    points = contenders.grid(base, assignments)
    if terms.kl_budget is not None:
        budget.require_beta(points)
    return _carry_out(base, points, terms, display, command, "sweep")


def require_comparable(base: Config) -> None:
    """Require a recipe whose cells all train for the same time.

    Raises:
      UsageError: the recipe would let held-out figures or flags decide how long a cell trains.
    """
    if base.monitor.on_flag != "warn":
        raise UsageError(
            f"monitor.on_flag = {base.monitor.on_flag} may end a cell early, and all cells make the"
            " same number of updates. Leave it at warn."
        )
    base.data.require_one_file("a comparison")
    if base.data.train == "-" or base.data.held_out == "-":
        raise UsageError(
            "A comparison that is stopped reads its rows again: give a file in place of standard"
            " input."
        )


def _carry_out(
    base: Config,
    points: Sequence[Contender] | search.Plan,
    terms: Terms,
    display: Display,
    command: Sequence[str],
    kind: str,
) -> dict:
    terms.check()
    with comparison_lock(terms.output, display, command) as desk:
        record = _compared(base, points, terms, desk, kind)
    record["cost"] |= times.totals(desk.folder, record["cost"]["cells"])
    write_json(desk.folder / COMPARISON, record)
    return record


@contextmanager
def comparison_lock(
    output: str, display: Display, command: Sequence[str]
) -> Iterator[CampaignFolder]:
    """Lock the comparison's folder for this process, delay signals to a safe point, and record the
    time. See `campaign_lock`.
    """
    signs = ("data", cells.LOG)
    with (
        campaign_lock(output, display, tuple(command), signs=signs, at_once=False) as desk,
        times.session(desk.folder),
    ):
        yield desk


def _compared(
    base: Config,
    points: Sequence[Contender] | search.Plan,
    terms: Terms,
    desk: CampaignFolder,
    kind: str,
) -> dict:
    folder, display, stop = desk.folder, desk.display, desk.stop
    # a signal may end this at once: incomplete rows are written again
    with stop.at_once(), times.preparing(folder):
        warn_few_seeds(terms.seeds, display)
        planned = (folder / PLAN).is_file()
        material = gather_shared_data(
            base, folder, trials=terms.trials > 1, planned=planned, display=display
        )
        questions = Questions(
            material.held_out,
            terms.prompts,
            terms.samples,
            1,
            terms.sample_tokens,
            terms.scorer,
            terms.scorer_options,
        )
        bench = ModelMeasurer(folder, base, questions, display)
        shared = {
            **source_of(base),
            "model": base.model.name,
            "adapter": base.model.adapter,
            "trials": terms.trials,
            "first seed": base.train.seed,
        }
        if isinstance(points, search.Plan):
            # a search may be given more trials
            shared |= {"trials": None, "search": points.identity()}

    def carry_out(run: Sequence[Cell]) -> dict[str, str]:
        cells.require_plan(folder, run, shared)
        return cells.run_cells(run, folder, display, desk.command, stop.poll)

    rates = found = None
    if isinstance(points, search.Plan):
        points, found = search.search_settings(points, folder, material, display, carry_out)
    elif terms.trials > 1:
        points, rates = trials.choose_settings(
            base, points, terms.trials, folder, material, display, carry_out
        )
    run = [
        c
        for point in points
        for c in with_seeds(base, point, terms.seeds, folder / "cells", material)
    ]
    failed = carry_out(run)
    with stop.at_once():
        record = _record(points, run, failed, bench, material, terms, folder)
        return {
            "kind": kind,
            "command": list(desk.command),
            **record,
            "trials": rates,
            "search": found,
        }


def warn_few_seeds(seeds: int, display: Display) -> None:
    """Warn about the limits of a single seed."""
    if seeds == 1:
        display.line(
            "! one seed: intervals are over prompts alone, and say nothing of what another seed"
            " would give (--seeds 3)"
        )


def with_seeds(
    base: Config, point: Contender, seeds: int, folder: Path, material: SharedData
) -> list[Cell]:
    """Return a contender's cells, one per seed."""
    first, train = base.train.seed, material.train.resolve()
    return [
        contenders.cell(base, point, seed, folder.resolve(), train, material.steps)
        for seed in range(first, first + seeds)
    ]


def _record(
    points: Sequence[Contender],
    run: Sequence[Cell],
    failed: dict[str, str],
    bench: ModelMeasurer,
    material: SharedData,
    terms: Terms,
    folder: Path,
) -> dict:
    """Measure every model and draw the conclusions."""
    whole = [cell for cell in run if cell.name not in failed]
    if not whole:
        reasons = "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
        raise Refused(f"No cell gave a model, so there is nothing to compare.\n{reasons}")
    start = bench.start(whole[0])
    results = []
    for point in points:
        own = [cell for cell in whole if cell.contender == point.name]
        if own:
            results.append(Result(point.name, own, [bench.of(cell) for cell in own]))
    values = {result.name: verdict.columns(result, start) for result in results}
    # figures of which more is better: not KL
    figures = [
        *verdict.YARDSTICKS,
        *(["win_rate"] if "win_rate" in values[results[0].name] else []),
    ]
    entries = logged(folder, cells.LOG)
    return {
        "plan": plan_hash(folder),
        "data": material.account,
        "measured": bench.questions.identity(),
        "seeds": terms.seeds,
        "steps": material.steps,
        "contenders": [_contender(point, run, failed) for point in points],
        "table": {name: verdict.table_row(column, start) for name, column in values.items()},
        "baselines": verdict.baselines(start),
        "pairwise": {
            name: verdict.pairwise(results, values, name, verdict.clusters_of(name, start))
            for name in figures
        },
        "against_length": verdict.against_length(results, values, start),
        "budget": (
            budget.recommend(results, start, points, terms.kl_budget)
            if terms.kl_budget is not None
            else None
        ),
        "failed": failed,
        "cost": {"cells": {cell.name: cells.cost(cell, entries) for cell in whole}},
    }


def _contender(point: Contender, run: Sequence[Cell], failed: dict[str, str]) -> dict:
    own = [cell for cell in run if cell.contender == point.name]
    return {
        "name": point.name,
        "changes": dict(point.changes),
        "objective": own[0].config.objective,
        "cells": [cell.name for cell in own],
        "failed": {cell.name: failed[cell.name] for cell in own if cell.name in failed},
    }
