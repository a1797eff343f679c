"""`accord frontier`: reward against KL for every method, β and step, beside the best possible
reward at that KL.

The DPO paper's Figure 2 is such a picture. A method is good if it gets more reward for the same KL.
A run is over-optimised if it spends more KL while its reward falls. Every point answers the same
prompts with the same randomness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from accord.campaign.compare import cells, contenders, times
from accord.campaign.compare.bound import best_of, by_prompt, frontier_bound
from accord.campaign.compare.contenders import Cell, Contender
from accord.campaign.compare.measure import Measured, ModelMeasurer, Questions
from accord.campaign.compare.run import (
    comparison_lock,
    require_comparable,
    warn_few_seeds,
    with_seeds,
)
from accord.campaign.compare.shared_data import gather_shared_data, source_of
from accord.campaign.compare.verdict import as_dict
from accord.campaign.log import logged
from accord.campaign.plan import PLAN, plan_hash
from accord.config.schema import Config
from accord.evaluate.intervals import AT_LEAST_ZERO, format_short_interval
from accord.evaluate.two_way_intervals import crossed_difference, crossed_mean
from accord.objectives.configured import resolve_objective
from accord.runs.display import Display
from accord.runs.files import write_json
from accord.runs.hub_names import pinned
from accord.types import Refused, UsageError

FRONTIER = "frontier.json"


@dataclass(frozen=True)
class Wanted:
    """Options of a frontier."""

    output: str
    methods: str
    betas: tuple[float, ...] = ()  # empty: each method's own
    checkpoints: int = 1  # points along each run, the last one its end
    seeds: int = 1
    scorer: str = "vader"
    prompts: str | None = None
    samples: int = 64
    answers: int = 2
    reference_answers: int = 16
    tokens: int = 40
    # keyword arguments of the scorer, by its name
    scorer_options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def check(self) -> None:
        """Check the ranges of the options.

        Raises:
          UsageError: a number out of its range.
        """
        counts = {
            "--checkpoints": self.checkpoints,
            "--seeds": self.seeds,
            "--samples": self.samples,
            "--answers": self.answers,
            "--sample-tokens": self.tokens,
        }
        for flag, value in counts.items():
            if value < 1:
                raise UsageError(f"{flag} {value}: expected at least 1.")
        if self.reference_answers < 2:
            raise UsageError(
                "--reference-answers: a bound needs at least 2 answers of the reference to a"
                " prompt."
            )


@dataclass(frozen=True)
class Point:
    """One contender at one step, with the measurement of each seed's model."""

    contender: str
    step: int
    measured: Sequence[Measured]

    def column(self, name: str) -> np.ndarray:
        """Stack one figure by seed and answer, [S, A]."""
        return np.array([getattr(m, name) for m in self.measured], float)


def frontier(base: Config, wanted: Wanted, display: Display, command: Sequence[str] = ()) -> dict:
    """Train, sample and score. Return the content of frontier.json.

    Raises:
      AccordError: of the class of its cause. Finished work is kept, and the same command resumes.
    """
    wanted.check()
    require_comparable(base)
    base = pinned(base)
    points = contenders_of(base, wanted)
    with comparison_lock(wanted.output, display, command) as desk:
        folder, stop = desk.folder, desk.stop
        with stop.at_once(), times.preparing(folder):
            warn_few_seeds(wanted.seeds, display)
            planned = (folder / PLAN).is_file()
            material = gather_shared_data(
                base, folder, trials=False, planned=planned, display=display
            )
            asked = Questions(
                None if wanted.prompts else material.held_out,
                wanted.prompts,
                wanted.samples,
                wanted.answers,
                wanted.tokens,
                wanted.scorer,
                wanted.scorer_options,
            )
            bench = ModelMeasurer(folder, base, asked, display)
            reference = ModelMeasurer(
                folder / "reference",
                base,
                replace(asked, answers=wanted.reference_answers, seed=1),
                display,
            )
        steps = steps_of(material.steps, wanted.checkpoints)
        kept = kept_checkpoints(base, material.steps, steps)
        run = [
            cell
            for point in points
            for cell in with_seeds(kept, point, wanted.seeds, folder / "cells", material)
        ]
        shared = {
            **source_of(base),
            "model": base.model.name,
            "adapter": base.model.adapter,
            "checkpoints": wanted.checkpoints,
        }
        cells.require_plan(folder, run, shared)
        failed = cells.run_cells(run, folder, display, command, stop.poll)
        with stop.at_once():
            record = _record(points, run, failed, steps, bench, reference)
    record |= {
        "command": list(command),
        "plan": plan_hash(folder),
        "data": material.account,
        "steps": material.steps,
        "seeds": wanted.seeds,
        "measured": asked.identity(),
        "scorer": wanted.scorer,
        "failed": failed,
    }
    entries = logged(folder, cells.LOG)
    each = {cell.name: cells.cost(cell, entries) for cell in run if cell.name not in failed}
    record["cost"] = {"cells": each} | times.totals(folder, each)
    write_json(folder / FRONTIER, record)
    return record


def contenders_of(base: Config, wanted: Wanted) -> list[Contender]:
    """Combine every method with every β. A method without β, such as orpo, is taken once."""
    found = []
    for point in contenders.methods(base, wanted.methods):
        has_beta = "beta" in resolve_objective(contenders.with_change(base, point.changes)).schema
        if not wanted.betas or not has_beta:
            found.append(point)
            continue
        for beta in wanted.betas:
            own = point.changes["objective"]
            assert isinstance(own, dict), "a method is an objective's name and options"
            objective = {**own, "beta": beta}
            each = Contender(f"{point.name} β={beta:g}", {**point.changes, "objective": objective})
            resolve_objective(contenders.with_change(base, each.changes))
            found.append(each)
    names = [each.name for each in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"--beta: {twice} is asked for twice.")
    return found


def steps_of(steps: int, count: int) -> list[int]:
    """Choose the steps to measure, evenly spaced, with the end as the last one.

    Raises:
      UsageError: more points than updates.
    """
    if count > steps:
        raise UsageError(f"--checkpoints {count}: the recipe makes {steps} updates.")
    every = steps // count
    return [steps - every * k for k in range(count)][::-1]


def kept_checkpoints(base: Config, steps: int, wanted: Sequence[int]) -> Config:
    """Return the recipe with a checkpoint at each of these steps, all kept to the end."""
    every = wanted[1] - wanted[0] if len(wanted) > 1 else 0
    # steps that are no multiples of it: save at every divisor of all
    if every and wanted[0] % every:
        every = int(np.gcd.reduce(wanted))
    keep = steps // every + 2 if every else base.checkpoint.keep
    return contenders.with_change(
        base, {"checkpoint.every": every or base.checkpoint.every, "checkpoint.keep": keep}
    )


# ---------------------------------------------------------------- what was measured


def _record(
    contending: Sequence[Contender],
    run: Sequence[Cell],
    failed: dict[str, str],
    steps: Sequence[int],
    bench: ModelMeasurer,
    reference: ModelMeasurer,
) -> dict:
    """Build the record: all points with intervals by prompt, and the known curves."""
    whole = [cell for cell in run if cell.name not in failed]
    if not whole:
        raise Refused(
            "No cell gave a model.\n"
            + "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
        )
    start = bench.start(whole[0])
    sampled = reference.start(whole[0])
    rewards = by_prompt(sampled.prompt, sampled.score)
    points = []
    for contender in contending:
        own = [cell for cell in whole if cell.contender == contender.name]
        for step in steps if own else ():
            points.append(Point(contender.name, step, [bench.of(cell, step) for cell in own]))
    methods = {contender.name: contender.name.split(" β=")[0] for contender in contending}
    return {
        "points": [_point(point, points, methods, start) for point in points],
        "start": {
            "reward": as_dict(crossed_mean([start.score], start.prompt)),
            "tokens": float(np.mean(start.tokens)),
        },
        "bound": frontier_bound(rewards),
        "best_of": best_of(rewards),
        "reference_answers": list(rewards.shape),
    }


def _point(point: Point, others: Sequence[Point], methods: dict[str, str], start: Measured) -> dict:
    gain = crossed_difference(
        point.column("score"),
        np.broadcast_to(start.score, point.column("score").shape),
        start.prompt,
    )
    return {
        "contender": point.contender,
        "method": methods[point.contender],
        "step": point.step,
        "kl": as_dict(crossed_mean(point.column("kl"), start.prompt, bounds=AT_LEAST_ZERO)),
        "reward": as_dict(crossed_mean(point.column("score"), start.prompt)),
        "gain": as_dict(gain.estimate),
        "tokens": float(point.column("tokens").mean()),
        "over_optimised": over_optimised(
            point,
            [o for o in others if methods[o.contender] == methods[point.contender]],
            start.prompt,
        ),
    }


def over_optimised(point: Point, others: Sequence[Point], clusters: Sequence[int]) -> str | None:
    """Find a point of the same method that has more reward for less KL, both beyond the interval of
    the paired difference.
    """
    for other in sorted(others, key=lambda o: -o.column("score").mean()):
        if other is point or len(other.measured) != len(point.measured):
            continue
        lost = crossed_difference(point.column("score"), other.column("score"), clusters).estimate
        spent = crossed_difference(point.column("kl"), other.column("kl"), clusters).estimate
        if lost.high < 0 < spent.low:
            return f"{other.contender}, step {other.step}"
    return None


def lines(record: dict) -> list[str]:
    """Format a frontier for the terminal."""
    width = max(len(f"{p['contender']}, step {p['step']}") for p in record["points"]) + 2
    out = [f"{'':<{width}}{'KL, nats an answer':<26}{'reward':<26}tokens"]
    out.append(
        f"{'start':<{width}}{'0':<26}{format_short_interval(record['start']['reward']):<26}{record['start']['tokens']:.1f}"
    )
    for p in record["points"]:
        over = (
            f"  over-optimised: {p['over_optimised']} has more reward for less KL"
            if p["over_optimised"]
            else ""
        )
        kl, reward = (format_short_interval(p[name]) for name in ("kl", "reward"))
        figures = f"{kl:<26}{reward:<26}{p['tokens']:.1f}{over}"
        out.append(f"{p['contender']}, step {p['step']}".ljust(width) + figures)
    prompts, answers = record["reference_answers"]
    known = [b for b in record["bound"] if b["supported"]]
    out += [
        "",
        (
            f"The best possible, from {answers} answers of the reference to each of {prompts}"
            " prompts (π* ∝ π_ref exp(r/β)):"
        ),
    ]
    for b in known[:: max(1, len(known) // 5)]:
        out.append(
            f"  KL {b['kl']:.2f}  reward {format_short_interval(b['reward'])}  effective answers"
            f" {b['effective']:.1f}"
        )
    if len(known) < len(record["bound"]):
        out.append(
            f"  beyond KL {known[-1]['kl'] if known else 0:.2f} the samples do not support it"
        )
    out += [
        f"Best of {b['n']}: KL at most {b['kl_at_most']:.2f},"
        f" reward {format_short_interval(b['reward'])}"
        for b in record["best_of"]
    ]
    return out
