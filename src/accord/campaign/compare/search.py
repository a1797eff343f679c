"""`accord sweep --search optuna`: search settings with Optuna in place of a grid, on rows cut off
the training rows.

    DIR/search.json    each finished trial: its number, its settings, its score on the validation
                       rows

A trial is a cell like any other, on the training rows less the validation rows, with the first
seed. Its score is the accuracy by the change of log-prob, the yardstick that is the same for all
settings. Held-out rows take no part. The best setting is then compared with the recipe as it
stands. Both train on all training rows, over all seeds, and are measured on the held-out rows. So
the answer tells whether the search has found anything.

The sampler is Optuna's tree of Parzen estimators (Bergstra et al. 2011, NeurIPS), seeded by the
recipe's seed. A stopped search resumes by replay: the sampler proposes its trials again from the
first, and gets the recorded scores. So it continues as if it had not been stopped. No storage of
Optuna's is used; its state is this file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from accord.campaign.compare import contenders
from accord.campaign.compare.contenders import Cell, Contender
from accord.campaign.compare.measure import ModelMeasurer, Questions
from accord.campaign.compare.shared_data import SharedData
from accord.campaign.compare.verdict import pair_scores
from accord.config.schema import Config, parse_assignment
from accord.environment.installing import install_line
from accord.objectives.configured import resolve_objective
from accord.runs.display import Display
from accord.runs.files import write_json
from accord.types import Refused, UsageError

FILE = "search.json"
SEARCHES = ("grid", "optuna")
TRIALS = 20  # settings that a search tries, where no number is given
BETWEEN, LOG = "..", "log:"
RANGE = re.compile(r"(log:)?[-+.\de]+\.\.[-+.\de]+")


@dataclass(frozen=True)
class Axis:
    """A field to search: a range, even or logarithmic, or a few values."""

    path: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False
    values: tuple = ()

    def suggested(self, trial) -> object:
        """Return Optuna's proposal for this field, rounded to three digits, so that a name and a
        record show the exact value.
        """
        if self.values:
            return self.values[trial.suggest_categorical(self.path, list(range(len(self.values))))]
        assert self.low is not None and self.high is not None, "without values it is a range"
        if self.whole:
            return trial.suggest_int(self.path, int(self.low), int(self.high), log=self.log)
        return float(f"{trial.suggest_float(self.path, self.low, self.high, log=self.log):.3g}")


@dataclass(frozen=True)
class Plan:
    """The settings to search, and the number of trials."""

    base: Config  # the recipe, with the fields that have one value only
    axes: tuple[Axis, ...]
    trials: int

    def identity(self) -> dict:
        """Return the settings that must stay the same for a search to resume. The number of trials
        may grow.
        """
        return {
            "sampler": f"tpe of optuna {_optuna().__version__}",
            "space": [vars(axis) for axis in self.axes],
        }


def trials_of(search: str, trials: int | None) -> int:
    """Return the number of settings that a sweep tries beside its grid.

    Raises:
      UsageError: a number of trials, where nothing is searched.
    """
    if search == "grid" and trials is not None:
        raise UsageError(
            "--trials: a grid tries every combination once. Leave it out, or search: --search"
            " optuna."
        )
    return 1 if search == "grid" else trials or TRIALS


def plan(base: Config, assignments: Sequence[str], trials: int) -> Plan:
    """Parse the assignments of a search.

    Args:
      assignments: KEY=LOW..HIGH, KEY=log:LOW..HIGH, KEY=VALUE,VALUE,… or KEY=VALUE for all.

    Raises:
      UsageError: Optuna is missing, an unknown field, no range, or nothing to search.
    """
    _optuna()
    if trials < 2:
        raise UsageError(f"--trials {trials}: a search compares settings; expected at least 2.")
    fixed: dict[str, object] = {}
    axes: list[Axis] = []
    for assignment in assignments:
        path, words = contenders.field_and_words(assignment)
        if any(path == axis.path for axis in axes) or path in fixed:
            raise UsageError(f"--set {path} is given twice.")
        if RANGE.fullmatch(words[0]):
            axes.append(_range(path, words))
        elif len(words) > 1:
            axes.append(
                Axis(path, values=tuple(parse_assignment(f"{path}={word}")[1] for word in words))
            )
        else:
            fixed[path] = parse_assignment(assignment)[1]
    if not axes:
        raise UsageError(
            "Nothing to search. Give --set KEY=LOW..HIGH, such as --set objective.beta=log:0.01..1."
        )
    found = Plan(contenders.with_change(base, fixed), tuple(axes), trials)
    # report an unknown field or a value out of bounds now, not at some later trial
    for axis in axes:
        for value in axis.values or (axis.low, axis.high):
            resolve_objective(
                contenders.with_change(found.base, {axis.path: int(value) if axis.whole else value})
            )
    return found


def _range(path: str, words: Sequence[str]) -> Axis:
    text = words[0].removeprefix(LOG)
    try:
        low, high = map(float, text.split(BETWEEN))
    except ValueError as error:
        raise UsageError(
            f"--set {path}={','.join(words)}: expected LOW..HIGH or log:LOW..HIGH, two numbers."
        ) from error
    log, whole = (
        words[0].startswith(LOG),
        all(end.lstrip("-").isdigit() for end in text.split(BETWEEN)),
    )
    if len(words) > 1 or not low < high or high == float("inf") or (log and low <= 0):
        more = ", both above 0" if log else ""
        raise UsageError(
            f"--set {path}={','.join(words)}: expected one range from a smaller number to a larger"
            f" one{more}."
        )
    return Axis(path, low, high, log, whole)


def search_settings(
    wanted: Plan,
    folder: Path,
    material: SharedData,
    display: Display,
    carry_out: Callable[[Sequence[Cell]], dict[str, str]],
) -> tuple[list[Contender], dict]:
    """Return the recipe and the best of all trials as contenders, and the account of the trials.

    Raises:
      Refused: the record does not fit what is searched, or no trial gave a model.
    """
    bench = ModelMeasurer(
        folder / "trials", wanted.base, Questions(material.validation, samples=0), display
    )

    def score(contender: Contender) -> tuple[float | None, str | None]:
        cell = _trial(wanted.base, contender, folder, material)
        failed = carry_out([cell])
        if reason := failed.get(cell.name):
            return None, reason
        return (
            float(pair_scores(cell, bench.of(cell), bench.start(cell))["change_sum"].mean()),
            None,
        )

    # no cell yet: refuse another space, sampler or recipe than the plan's before the first
    # trial
    carry_out([])
    trials = run_trials(wanted, folder, score, display)
    best = max(
        (t for t in trials if t["score"] is not None),
        key=lambda t: (t["score"], -t["number"]),
        default=None,
    )
    if best is None:
        raise Refused(
            f"None of {len(trials)} trials gave a model, so there is no setting to compare.\n "
            f" {trials[-1]['failed']}"
        )
    display.line(
        f"the best of {len(trials)} trials on validation rows: {_name(best)}, accuracy"
        f" {best['score']:.3f}"
    )
    account = {
        **wanted.identity(),
        "seed": wanted.base.train.seed,
        "trials": trials,
        "best": best["number"],
    }
    return [Contender("recipe", {}), Contender(f"found {_name(best)}", best["settings"])], account


def run_trials(
    wanted: Plan,
    folder: Path,
    score: Callable[[Contender], tuple[float | None, str | None]],
    display: Display,
) -> list[dict]:
    """Ask Optuna for a setting, run it and tell the score, as often as requested. Recorded trials
    are not run again.

    Args:
      score: score of a setting on the validation rows; None and the reason if it gave no model.
    """
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=wanted.base.train.seed)
    )
    known = search_record(folder)
    trials: list[dict] = []
    for number in range(wanted.trials):
        asked = study.ask()
        settings = {axis.path: axis.suggested(asked) for axis in wanted.axes}
        entry = {"number": number, "settings": settings}
        if number < len(known):
            entry = _same(known[number], entry, folder)
        else:
            display.line(f"trial {number + 1} of {wanted.trials}: {_name(entry)}")
            value, reason = score(Contender(f"trial{number} {_name(entry)}", settings))
            entry |= {"score": value, "failed": reason}
            write_json(folder / FILE, [*trials, entry])
        trials.append(entry)
        state = optuna.trial.TrialState.FAIL if entry["score"] is None else None
        study.tell(asked, entry["score"], state=state)
    return trials


def search_record(folder: Path) -> list[dict]:
    """Return the finished trials, in order."""
    file = folder / FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []


def _same(former: Mapping, asked: Mapping, folder: Path) -> dict:
    """Check that a recorded trial has the proposed setting.

    Raises:
      Refused: another setting was tried then.
    """
    if former["number"] != asked["number"] or former["settings"] != asked["settings"]:
        raise Refused(
            f"{folder / FILE}: trial {asked['number']} was {_name(former)}, and would be"
            f" {_name(asked)} now: another seed, or another sampler.\nSearch in another folder:"
            " --output DIR."
        )
    return dict(former)


def _trial(base: Config, contender: Contender, folder: Path, material: SharedData) -> Cell:
    place = (folder / "trials").resolve()
    return contenders.cell(
        base, contender, base.train.seed, place, material.trial_train.resolve(), material.steps
    )


def _name(entry: Mapping) -> str:
    return " ".join(
        f"{path.rpartition('.')[2]}={value}" for path, value in entry["settings"].items()
    )


def _optuna():
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--search optuna needs {error.name}: {install_line('accord[optuna]')}"
        ) from error
    return optuna


def lines(account: Mapping) -> list[str]:
    """Format the best trials for the terminal."""
    ordered = sorted(
        account["trials"], key=lambda t: (t["score"] is None, -(t["score"] or 0), t["number"])
    )
    out = [f"{len(ordered)} trials by {account['sampler']}, on validation rows; the best:"]
    return out + [
        f"  {_name(t)}: {'no model' if t['score'] is None else format(t['score'], '.3f')}"
        for t in ordered[:5]
    ]
