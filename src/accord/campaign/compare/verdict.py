"""Turn measurements into a table, and decide who is better than whom.

Methods disagree on what a reward is, so three accuracies stand side by side: each method's own
implicit reward, and two yardsticks that are the same for all. Those ask whether training raises the
chosen answer's log-prob above the rejected one's, by sums and by means over tokens. Differences are
paired by pair, seed and prompt. Intervals are over prompts and seeds
(evaluate/two_way_intervals.py). The p-values of one yardstick are adjusted together (Holm).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from accord.campaign.compare.contenders import Cell
from accord.campaign.compare.measure import Measured
from accord.evaluate.intervals import AT_LEAST_ZERO, UNBOUNDED, Estimate
from accord.evaluate.two_way_intervals import Difference, crossed_difference, crossed_mean, holm
from accord.objectives.configured import resolve_objective

SURE = 0.05  # adjusted p under which one is called better
YARDSTICKS = {
    "change_sum": "change of log-prob since the start, sums over tokens",
    "change_token": "change of log-prob since the start, means over tokens",
    "implicit": "the method's own implicit reward",
}  # the first one decides the order of the table
RANKINGS = {"logp_sum": "log-prob, sums over tokens", "logp_token": "log-prob, means over tokens"}


@dataclass(frozen=True)
class Result:
    """One contender: its cells that have a model, and their measurements."""

    name: str
    cells: Sequence[Cell]
    measured: Sequence[Measured]  # one per cell

    @property
    def seeds(self) -> list[int]:
        return [cell.seed for cell in self.cells]


def wins(margins: np.ndarray) -> np.ndarray:
    """Return 1 for a win, ½ for a tie, 0 for a loss."""
    return np.where(margins == 0, 0.5, margins > 0)


def pair_scores(cell: Cell, now: Measured, start: Measured) -> dict[str, np.ndarray]:
    """Tell for each held-out pair and each yardstick whether the pair is ranked rightly, [B]."""
    (chosen, rejected), (chosen0, rejected0) = now.logps(), start.logps()
    objective = resolve_objective(cell.config)
    reward = (objective.reward(chosen, chosen0) - objective.reward(rejected, rejected0)).numpy()
    total = ((chosen.sum - chosen0.sum) - (rejected.sum - rejected0.sum)).numpy()
    mean = ((chosen.mean - chosen0.mean) - (rejected.mean - rejected0.mean)).numpy()
    return {
        "change_sum": wins(total),
        "change_token": wins(mean),
        "implicit": wins(reward),
        **rankings(now),
    }


def rankings(now: Measured) -> dict[str, np.ndarray]:
    """Rank pairs by plain log-probs, [B]. Every model has them, the start included."""
    chosen, rejected = now.logps()
    return {
        "logp_sum": wins((chosen.sum - rejected.sum).numpy()),
        "logp_token": wins((chosen.mean - rejected.mean).numpy()),
    }


def longer_wins(start: Measured) -> np.ndarray:
    """Apply the rule that reads nothing: the longer answer is the better one, [B]."""
    return wins(np.array(start.chosen_tokens) - np.array(start.rejected_tokens))


def others(now: Measured, start: Measured) -> dict[str, np.ndarray]:
    """Compute the figures that are no accuracies, by pair [B] or by answer [A]."""
    (chosen, rejected), (chosen0, rejected0) = now.logps(), start.logps()
    found = {
        "chosen_moved": (chosen.mean - chosen0.mean).numpy(),
        "rejected_moved": (rejected.mean - rejected0.mean).numpy(),
        "chosen_fell": (chosen.sum < chosen0.sum).double().numpy(),
        "kl": np.array(now.kl),
        "tokens": np.array(now.tokens, float),
    }
    if now.score:
        found |= {
            "score": np.array(now.score),
            "win_rate": wins(np.array(now.score) - np.array(start.score)),
        }
    return found


LIMITED = {*YARDSTICKS, *RANKINGS, "chosen_fell", "longer_wins", "win_rate"}
SIZES = {"kl", "tokens"}
BY_ANSWER = {"kl", "tokens", "score", "win_rate"}


def columns(result: Result, start: Measured) -> dict[str, np.ndarray]:
    """Stack every figure of a contender by seed and row, [S, N]."""
    rows = [
        pair_scores(cell, m, start) | others(m, start)
        for cell, m in zip(result.cells, result.measured, strict=True)
    ]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0] if rows[0][name].size}


def clusters_of(name: str, start: Measured) -> list[int]:
    """Return the prompt of each row of a figure, which the intervals cluster by."""
    return start.prompt if name in BY_ANSWER else start.clusters


def bounds_of(name: str) -> tuple[float, float]:
    """Return the limits that no value of a figure can leave."""
    return (0.0, 1.0) if name in LIMITED else AT_LEAST_ZERO if name in SIZES else UNBOUNDED


def table_row(values: dict[str, np.ndarray], start: Measured) -> dict[str, dict]:
    """Estimate every figure of one contender."""
    return {
        name: as_dict(crossed_mean(column, clusters_of(name, start), bounds=bounds_of(name)))
        for name, column in values.items()
    }


def baselines(start: Measured) -> dict[str, dict]:
    """Estimate the start model and the rule of length, on the same rows."""

    def one(column: np.ndarray, name: str) -> dict:
        clusters = clusters_of(name, start)
        return as_dict(crossed_mean(column[None], clusters, bounds=bounds_of(name)))

    found = {name: one(column, name) for name, column in rankings(start).items()}
    found["longer_wins"] = one(longer_wins(start), "longer_wins")
    if start.tokens:
        found["tokens"] = one(np.array(start.tokens, float), "tokens")
    if start.score:
        found["score"] = one(np.array(start.score), "score")
    return found


# ---------------------------------------------------------------- who is better


def pairwise(
    results: Sequence[Result],
    values: dict[str, dict[str, np.ndarray]],
    name: str,
    clusters: Sequence[int],
) -> list[dict]:
    """Estimate the differences of one figure between all contenders, on the seeds that both have.
    The p-values are adjusted together.
    """
    found = []
    for one, other in itertools.combinations(results, 2):
        seeds = [seed for seed in one.seeds if seed in other.seeds]
        if seeds and name in values[one.name] and name in values[other.name]:
            left, right = (
                values[r.name][name][[r.seeds.index(seed) for seed in seeds]] for r in (one, other)
            )
            difference = crossed_difference(left, right, clusters, bounds=bounds_of(name))
            found.append((one.name, other.name, len(seeds), difference))
    return _judged(found)


def against_length(
    results: Sequence[Result], values: dict[str, dict[str, np.ndarray]], start: Measured
) -> list[dict]:
    """Compare each contender's own accuracy with that of the rule of length, on the same rows."""
    rule = longer_wins(start)
    found = []
    for result in results:
        own = values[result.name]["implicit"]
        difference = crossed_difference(
            own, np.broadcast_to(rule, own.shape), start.clusters, bounds=bounds_of("implicit")
        )
        found.append((result.name, "longer answer wins", len(own), difference))
    return _judged(found)


def _judged(found: Sequence[tuple[str, str, int, Difference]]) -> list[dict]:
    known = iter(holm([one.p for *_, one in found if one.p is not None]))
    adjusted = [None if difference.p is None else next(known) for *_, difference in found]
    return [
        {
            "one": one,
            "other": other,
            "seeds": seeds,
            "difference": as_dict(difference.estimate),
            "p": difference.p,
            "adjusted": p,
            "better": None
            if p is None or p >= SURE
            else one
            if difference.estimate.value > 0
            else other,
        }
        for (one, other, seeds, difference), p in zip(found, adjusted, strict=True)
    ]


def verdict_sentence(judged: Sequence[dict]) -> list[str]:
    """Say who is better than whom and who is indistinguishable, one sentence each."""
    lines = []
    for entry in judged:
        if entry["better"] is not None:
            sign = 1 if entry["better"] == entry["one"] else -1
            value = sign * entry["difference"]["value"]
            low, high = sorted(sign * entry["difference"][end] for end in ("low", "high"))
            says = f"by {value:.3f} ({low:.3f} to {high:.3f}), adjusted p {entry['adjusted']:.2g}"
            lines.append(f"{entry['better']} is better than {_loser(entry)} {says}")
    return lines + _alike(judged)


def summary_sentence(judged: Sequence[dict]) -> list[str]:
    """Say the same in few sentences: winners over the same losers share one."""
    beaten: dict[str, list[dict]] = {}
    for entry in judged:
        if entry["better"] is not None:
            beaten.setdefault(entry["better"], []).append(entry)
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, entries in beaten.items():
        alike.setdefault(tuple(_loser(entry) for entry in entries), []).append(name)
    sentences = []
    for losers, winners in alike.items():
        entries = [entry for name in winners for entry in beaten[name]]
        sizes = sorted(abs(entry["difference"]["value"]) for entry in entries)
        by = f"{sizes[0]:.3f}" if len(sizes) == 1 else f"{sizes[0]:.3f} to {sizes[-1]:.3f}"
        largest = max(entry["adjusted"] for entry in entries)
        p = f"adjusted p {'at most ' if len(sizes) > 1 else ''}{largest:.3g}"
        sentences.append(
            f"{_named(winners)} {'is' if len(winners) == 1 else 'are'} better than"
            f" {_named(losers)}, by {by}, {p}"
        )
    return sentences + _alike(judged)


def _alike(judged: Sequence[dict]) -> list[str]:
    """Write the sentences on contenders that nothing tells apart, if there are any."""
    two = [entry for entry in judged if entry["p"] is None]
    alike = [entry for entry in judged if entry["better"] is None and entry["p"] is not None]
    sentences = [_of_two_seeds(two)] if two else []
    names = list(dict.fromkeys(name for entry in judged for name in (entry["one"], entry["other"])))
    if len(names) > 2 and len(alike) == len(names) * (len(names) - 1) // 2:
        return [f"no two of them can be told apart: {_named(names)}"]
    pairs = "; ".join(f"{entry['one']} and {entry['other']}" for entry in alike)
    return sentences + ([f"not to be told apart: {pairs}"] if alike else [])


def _of_two_seeds(entries: Sequence[dict]) -> str:
    """Say that two seeds give no verdict, and what each of them showed."""
    values = "; ".join(
        f"{entry['one']} minus {entry['other']} is"
        f" {' and '.join(f'{value:.3f}' for value in entry['difference']['seeds'])}"
        for entry in entries
    )
    return f"2 seeds give no interval and no verdict (--seeds 3 does): {values}"


def _loser(entry: dict) -> str:
    return entry["other"] if entry["better"] == entry["one"] else entry["one"]


def _named(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


as_dict = Estimate.as_dict
