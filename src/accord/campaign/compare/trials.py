"""Choose learning rates by trials: equally many for each contender, on rows cut off the training
rows, never on held-out ones.

A trial is a cell like any other, on the training rows less the validation rows, with the first
seed. The rate whose model ranks most validation pairs rightly wins (by the change of log-prob, the
yardstick that is the same for all methods). Among equals, the rate nearest to the method's own
wins. The cells of the comparison then train on all training rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from accord.campaign.compare import contenders
from accord.campaign.compare.contenders import Cell, Contender
from accord.campaign.compare.measure import ModelMeasurer, Questions
from accord.campaign.compare.shared_data import SharedData
from accord.campaign.compare.verdict import pair_scores
from accord.config.schema import Config
from accord.models.load import load
from accord.models.trainable import make_trainable
from accord.objectives.configured import resolve_objective
from accord.runs.display import Display
from accord.training.setup.common import suggested_rate
from accord.types import Refused, UsageError


def choose_settings(
    base: Config,
    points: Sequence[Contender],
    count: int,
    folder: Path,
    material: SharedData,
    display: Display,
    carry_out: Callable[[Sequence[Cell]], dict[str, str]],
) -> tuple[list[Contender], dict]:
    """Return each contender with the best of its learning rates, and the account of all trials.

    Raises:
      UsageError: the sweep is over learning rates itself. Refused: no trial of a contender gave a
        model.
    """
    if any(
        "train.learning_rate" in point.changes and "objective" not in point.changes
        for point in points
    ):
        raise UsageError(
            "--trials chooses learning rates, and --set train.learning_rate gives them: leave one"
            " out."
        )
    own = own_rates(base, points)
    candidates = {point.name: contenders.rates(own[point.name], count) for point in points}
    run = {
        (point.name, rate): _trial(base, point, rate, folder, material)
        for point in points
        for rate in candidates[point.name]
    }
    failed = carry_out(list(run.values()))
    bench = ModelMeasurer(
        folder / "trials", base, Questions(material.validation, samples=0), display
    )
    scores = {key: _accuracy(bench, cell) for key, cell in run.items() if cell.name not in failed}
    best, account = [], {}
    for point in points:
        tried = {rate: scores.get((point.name, rate)) for rate in candidates[point.name]}
        rate = _best(point.name, tried, own[point.name])
        display.line(
            f"{point.name}: learning rate {rate:g}, the best of {count} on validation rows"
        )
        best.append(point.with_rate(rate))
        account[point.name] = {
            "chosen": rate,
            "accuracy": {f"{r:g}": score for r, score in tried.items()},
        }
    return best, account


def own_rates(base: Config, points: Sequence[Contender]) -> dict[str, float]:
    """Return the learning rate that each contender would use by itself."""
    model = load(base.model.name, dtype=base.model.dtype, device="cpu", hub="hub" in base.allow)
    make_trainable(base, model)
    configs = {point.name: contenders.with_change(base, point.changes) for point in points}
    return {
        name: c.train.learning_rate or suggested_rate(resolve_objective(c), model)
        for name, c in configs.items()
    }


def _trial(base: Config, point: Contender, rate: float, folder: Path, material: SharedData) -> Cell:
    tried = Contender(f"{point.name}-rate{rate:g}", {**point.changes, "train.learning_rate": rate})
    return contenders.cell(
        base,
        tried,
        base.train.seed,
        (folder / "trials").resolve(),
        material.trial_train.resolve(),
        material.steps,
    )


def _accuracy(bench: ModelMeasurer, cell: Cell) -> float:
    return float(pair_scores(cell, bench.of(cell), bench.start(cell))["change_sum"].mean())


def _best(name: str, tried: dict[float, float | None], own: float) -> float:
    """Choose the best trial of a contender.

    Raises:
      Refused: none of the trials gave a model.
    """
    known = {rate: score for rate, score in tried.items() if score is not None}
    if not known:
        raise Refused(
            f"{name}: none of {len(tried)} learning rates from {min(tried):g} to {max(tried):g}"
            " gave a model."
        )
    return max(known, key=lambda rate: (known[rate], -max(rate / own, own / rate)))
