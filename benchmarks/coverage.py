"""Measure how often accord's intervals of 95 % hold the truth, by simulation.

    python benchmarks/coverage.py                     # tries: 400 of each case, seed 0
    python benchmarks/coverage.py --fresh --write     # publishes: the same with seeds never used

Every kind of interval that accord prints is drawn with 20, 50 and 200 prompts, and where errors
have a meaning with 0, 1 and 3 % of them: a sample of a model that is nearly always right. Half of
the cases have one to four rows a prompt that err together.

The rule was written before the published table was drawn: an interval must hold the truth in 93 %
of samples or more, for every kind and case, with room for three standard errors of the simulation
below (400 samples: .892). The seeds of the published table come from --fresh, which begins beyond
all that the methods were tried on, and the table is written whatever it says. The
length-controlled rate of 200 prompts is drawn a quarter as often: it is by far the slowest.

Beside it stands how far the expected calibration error's value and its debiased one lie from the
truth on average (the interval is of the value's bins, and holds the truth in spite of that).
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.special import expit

from accord.evaluate.auc import auc_estimate
from accord.evaluate.calibration import BINS, FEWEST_A_BIN, calibration, slope
from accord.evaluate.intervals import (
    Estimate,
    accuracy,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_ratio,
    bounded_mean,
)
from accord.evaluate.two_way_intervals import crossed_difference, crossed_mean
from accord.evaluate.win_rate import win_rate

RESULT = Path(__file__).parent / "results" / "coverage.json"
PROMPTS, ERRORS = (20, 50, 200), (0.0, 0.01, 0.03)
PROMISED, LEAST = 0.95, 0.93
FRESH = 10**9  # the first seed of a published table
ALIKE = 0.5  # correlation of two rows of a prompt
Rng = np.random.Generator


@dataclass(frozen=True)
class Case:
    """One kind of interval in one kind of sample."""

    figure: str
    prompts: int
    errors: float | None
    clustered: bool
    truth: float
    draw: Callable[[Rng], Estimate | None]  # None where accord gives no interval

    @property
    def costly(self) -> bool:
        return self.prompts == 200 and self.figure.startswith("length-controlled")

    @property
    def name(self) -> str:
        errors = "" if self.errors is None else f", {self.errors:.0%} errors"
        rows = "1 to 4 rows each" if self.clustered else "one row each"
        return f"{self.figure}, {self.prompts} prompts, {rows}{errors}"


def measure(case: Case, times: int, first: int) -> dict:
    """Count how often the interval holds the truth, over samples with their own seeds."""
    times = max(1, times // 4) if case.costly else times
    held, given, width, flat = 0, 0, 0.0, 0
    for seed in range(first, first + times):
        found = case.draw(np.random.default_rng(seed))
        if found is None or not np.isfinite((found.low, found.high)).any():
            continue
        given += 1
        held += found.low - 1e-9 <= case.truth <= found.high + 1e-9
        flat += found.low == found.high
        width += min(found.high - found.low, 1e3)
    return {
        "figure": case.figure,
        "prompts": case.prompts,
        "errors": case.errors,
        "clustered": case.clustered,
        "held": held / given if given else None,
        "samples": times,
        "given": given / times,
        "no_width": flat,
        "width": width / given if given else None,
    }


# ---------------------------------------------------------------- samples


def owners(rng: Rng, prompts: int, clustered: bool) -> np.ndarray:
    """Return the prompt of each row: one row each, or 1 to 4."""
    each = rng.integers(1, 5, prompts) if clustered else np.ones(prompts, int)
    return np.repeat(np.arange(prompts), each)


def rightly(rng: Rng, owner: np.ndarray, errors: float, clustered: bool) -> np.ndarray:
    """Draw which rows are right, [N] bool; rows of a prompt err together (beta-binomial)."""
    if not clustered or errors == 0:
        return rng.random(len(owner)) >= errors
    scale = 1 / ALIKE - 1
    easy = rng.beta((1 - errors) * scale, errors * scale, owner[-1] + 1)
    return rng.random(len(owner)) < easy[owner]


def margins(rng: Rng, owner: np.ndarray, errors: float, clustered: bool) -> np.ndarray:
    """Draw margins of a confident model, [N]: about ±3, wrong in so many cases."""
    size = np.abs(rng.normal(3.0, 1.0, len(owner)))
    return np.where(rightly(rng, owner, errors, clustered), size, -size)


def skewed(rng: Rng, owner: np.ndarray) -> np.ndarray:
    """Draw positive values such as the KL of answers, [N], mean 1: gamma, alike within a prompt."""
    prompts = owner[-1] + 1
    return (rng.gamma(1.0, size=prompts)[owner] + rng.gamma(1.0, size=len(owner))) / 2


@cache
def population() -> np.ndarray:
    """Return |margins| of the confident model, to compute truths from."""
    return np.abs(np.random.default_rng(1).normal(3.0, 1.0, 10**6))


def true_brier(errors: float) -> float:
    wrong = expit(population()) ** 2
    return float(((1 - errors) * (1 - expit(population())) ** 2 + errors * wrong).mean())


# ---------------------------------------------------------------- cases


def cases() -> Iterator[Case]:
    for prompts in PROMPTS:
        for clustered in (False, True):
            for errors in ERRORS:
                yield from with_errors(prompts, errors, clustered)
            yield from without_errors(prompts, clustered)


def with_errors(prompts: int, errors: float, clustered: bool) -> Iterator[Case]:
    """List the figures of a model that is wrong in so many cases."""

    def case(figure: str, truth: float, draw: Callable[[Rng, np.ndarray], Estimate | None]) -> Case:
        def sample(rng: Rng) -> Estimate | None:
            return draw(rng, owners(rng, prompts, clustered))

        return Case(figure, prompts, errors, clustered, truth, sample)

    def wins(rng: Rng, owner: np.ndarray) -> np.ndarray:
        return rightly(rng, owner, errors, clustered).astype(float)

    def difference(rng: Rng, owner: np.ndarray) -> Estimate:
        other = np.where(rng.random(len(owner)) < errors, 1.0, wins(rng, owner))
        return bounded_mean(other - wins(rng, owner), (-1.0, 1.0), clusters=list(owner))

    def crossed(rng: Rng, owner: np.ndarray) -> Estimate:
        values = np.stack([wins(rng, owner) for _ in range(3)])
        return crossed_mean(values, list(owner), bounds=(0.0, 1.0))

    def crossed_apart(rng: Rng, owner: np.ndarray) -> Estimate:
        one, other = (np.stack([wins(rng, owner) for _ in range(3)]) for _ in range(2))
        return crossed_difference(one, other, list(owner), bounds=(0.0, 1.0)).estimate

    def by_length(rng: Rng, owner: np.ndarray) -> Estimate:
        lengths, others = rng.integers(60, 200, len(owner)), rng.integers(40, 180, len(owner))
        return win_rate(wins(rng, owner), lengths, others, clusters=list(owner)).length_controlled

    def area(rng: Rng, owner: np.ndarray) -> Estimate:
        good = rng.random(len(owner)) < 0.5
        # a bad row above every good one, or the reverse, in so many cases
        value = np.where(good, 1.0, -1.0) * np.where(wins(rng, owner) > 0, 1.0, -3.0)
        return auc_estimate(value + 0.1 * rng.normal(size=len(owner)), good, owner)

    def calibrated(rng: Rng, owner: np.ndarray):
        return calibration(margins(rng, owner, errors, clustered), clusters=list(owner))

    yield case("accuracy", 1 - errors, lambda r, o: accuracy(2 * wins(r, o) - 1, clusters=list(o)))
    yield case("difference of accuracies", errors**2, difference)
    yield case("accuracy over 3 seeds", 1 - errors, crossed)
    yield case("difference of accuracies over 3 seeds", 0.0, crossed_apart)
    yield case("length-controlled win rate", 1 - errors, by_length)
    yield case("AUC", true_area(errors), area)
    yield case("Brier", true_brier(errors), lambda r, o: calibrated(r, o).brier)
    true = true_ece(errors, prompts, clustered)
    yield case("expected calibration error", true, lambda r, o: calibrated(r, o).ece)


def true_area(errors: float) -> float:
    """Rows at ±1 and, wrong, at ∓3: good above bad unless one of the two is wrong."""
    return (1 - errors) ** 2


def true_ece(errors: float, prompts: int, clustered: bool) -> float:
    """Compute the error of as many bins of equally many pairs as accord makes of such samples."""
    rows = prompts * (2.5 if clustered else 1)
    bins = int(max(1, min(BINS, rows // FEWEST_A_BIN)))
    parts = np.array_split(np.sort(expit(population())), bins)
    off = sum(abs(float(part.mean()) - (1 - errors)) * len(part) for part in parts)
    return off / len(population())


def ece_bias(times: int, first: int) -> list[dict]:
    """Compare the mean of the expected calibration error and of its debiased value with the
    truth.
    """
    found = []
    for prompts, errors in itertools.product(PROMPTS, ERRORS):
        values = []
        for seed in range(first, first + times):
            rng = np.random.default_rng(seed)
            owner = owners(rng, prompts, False)
            one = calibration(margins(rng, owner, errors, False))
            values.append((one.ece.value, one.ece_debiased))
        value, debiased = np.mean(values, 0).tolist()
        truth = true_ece(errors, prompts, False)
        about = {"prompts": prompts, "errors": errors, "truth": truth}
        found.append(about | {"value": value, "debiased": debiased})
    return found


def without_errors(prompts: int, clustered: bool) -> Iterator[Case]:
    """List the figures that are no shares: margins, KL, lengths, nats a token, slopes."""

    def case(figure: str, truth: float, draw: Callable[[Rng, np.ndarray], Estimate | None]) -> Case:
        def sample(rng: Rng) -> Estimate | None:
            return draw(rng, owners(rng, prompts, clustered))

        return Case(figure, prompts, None, clustered, truth, sample)

    def normal(rng: Rng, owner: np.ndarray) -> np.ndarray:
        return 0.7 * rng.normal(size=prompts)[owner] + 0.7 * rng.normal(size=len(owner))

    def kl(rng: Rng, owner: np.ndarray) -> Estimate:
        return bootstrap_mean(skewed(rng, owner), clusters=list(owner), bounds=(0.0, np.inf))

    def change(rng: Rng, owner: np.ndarray) -> Estimate:
        before = 5 * rng.normal(size=len(owner))
        return bootstrap_difference(before + normal(rng, owner), before, clusters=list(owner))

    def forgotten(rng: Rng, owner: np.ndarray) -> Estimate:
        tokens = rng.integers(5, 60, len(owner)).astype(float)
        return bootstrap_ratio(tokens * (2 + normal(rng, owner)), tokens, clusters=list(owner))

    def over_seeds(rng: Rng, owner: np.ndarray) -> Estimate:
        values = skewed(rng, owner) * (1 + 0.1 * rng.normal(size=(3, 1)))
        return crossed_mean(values, list(owner), bounds=(0.0, np.inf))

    def apart(rng: Rng, owner: np.ndarray) -> Estimate:
        one, other = (normal(rng, owner) + 0.3 * rng.normal(size=(3, 1)) for _ in range(2))
        return crossed_difference(one, other, list(owner)).estimate

    def steep(rng: Rng, owner: np.ndarray) -> Estimate | None:
        size = np.abs(rng.normal(3.0, 1.0, prompts)[owner])
        lucky = rng.random(prompts)[owner] if clustered else rng.random(len(owner))
        return slope(np.where(lucky < expit(size), size, -size), owner)

    yield case("margin", 0.0, lambda r, o: bootstrap_mean(normal(r, o), clusters=list(o)))
    yield case("KL", 1.0, kl)
    yield case("change of margins", 0.0, change)
    yield case("nats a token", 2.0, forgotten)
    yield case("KL over 3 seeds", 1.0, over_seeds)
    yield case("difference over 3 seeds", 0.0, apart)
    yield case("slope of calibration", 1.0, steep)


# ---------------------------------------------------------------- the table


def by_figure(found: list[dict]) -> dict[str, dict]:
    """Return each figure's worst and mean coverage."""
    out: dict[str, dict] = {}
    for figure in dict.fromkeys(one["figure"] for one in found):
        held = [one["held"] for one in found if one["figure"] == figure and one["held"] is not None]
        out[figure] = {"least": min(held), "mean": sum(held) / len(held), "cases": len(held)}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=400)
    parser.add_argument("--fresh", action="store_true", help="seeds that nothing was tried on")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--only", default="", help="figures whose name holds these words")
    asked = parser.parse_args()
    times, first = asked.times, FRESH if asked.fresh else 0
    began, found = time.monotonic(), []
    for case in cases():
        if asked.only in case.figure:
            found.append(measure(case, times, first))
            held = found[-1]["held"]
            said = "no interval" if held is None else f"{held:.3f}"
            mark = " <" if held is not None and held < LEAST else ""
            width = f"{found[-1]['width']:.3f}" if held is not None else "-"
            print(f"{said}  {width:>9}  {case.name}{mark}", flush=True)
            if asked.write:  # after each case: a run of half an hour may be stopped
                write(found, times, first, began)
    if asked.write:
        write(found, times, first, began, ece_bias(min(times, 100), first))
    print(json.dumps(by_figure(found), indent=1))


def write(found: list[dict], times: int, first: int, began: float, bias: Sequence = ()) -> None:
    """Write the table as far as it is drawn; `complete` says whether that is all of it."""
    record = {
        "promised": PROMISED,
        "least": LEAST,
        "complete": len(found) == len(list(cases())),
        "times": times,
        "first_seed": first,
        "seconds": round(time.monotonic() - began),
        "figures": by_figure(found),
        "ece_bias": list(bias),
        "cases": found,
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
