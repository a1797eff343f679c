"""The contenders of a comparison. Each is a method or a setting; with a seed it is a cell, an
ordinary run.

Every cell trains on the same file of pairs, in the same order, for the same number of updates. The
method's row in the table of objectives tells what else it needs: it gets two labels per pair, or
the chosen answers as demonstrations.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from accord.config.schema import Config, make_config, parse_assignment
from accord.objectives import OBJECTIVES
from accord.objectives.configured import resolve_objective
from accord.types import UsageError

WIDEST = 10**0.5  # largest factor between a trial's learning rate and the method's own
# Fields that a sweep may not change, since all cells share them: the rows, their measure, and the
# rules for stopping a run.
FIXED = (
    "data.train",
    "data.held_out",
    "data.format",
    "data.columns",
    "data.ignore_columns",
    "output",
    "evaluate",
    "checkpoint",
    "monitor",
    "train.seed",
    "train.pair_labels",
    "train.epochs",
    "model.name",
    "model.adapter",
)


@dataclass(frozen=True)
class Contender:
    """A method with its options, or a point of a grid."""

    name: str
    changes: Mapping[str, object]  # fields of the recipe by their path; objective.name first

    def with_rate(self, rate: float) -> Contender:
        return replace(self, changes={**self.changes, "train.learning_rate": rate})


@dataclass(frozen=True)
class Cell:
    """One run of one contender."""

    contender: str
    seed: int
    config: Config

    @property
    def path(self) -> Path:
        return self.config.run_folder

    @property
    def name(self) -> str:
        return self.path.name


def methods(base: Config, names: str) -> list[Contender]:
    """Make one contender per method. Options and learning rate of the recipe go to the method that
    it names.

    Raises:
      UsageError: an unknown method, one named twice, or a single one.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if twice := {name for name in wanted if wanted.count(name) > 1}:
        raise UsageError(f"--methods {names}: {', '.join(sorted(twice))} is named twice.")
    if not wanted:
        raise UsageError(
            f"--methods: expected names such as dpo,ipo,kto. Known: {', '.join(OBJECTIVES)}."
        )
    found = []
    for name in wanted:
        own = base.objective["name"] == name
        objective = dict(base.objective) if own else {"name": name}
        found.append(
            Contender(
                name,
                {
                    "objective": objective,
                    "train.learning_rate": base.train.learning_rate if own else None,
                },
            )
        )
    for contender in found:
        resolve_objective(with_change(base, contender.changes))
    return found


def grid(base: Config, assignments: Sequence[str]) -> list[Contender]:
    """Make one contender for each combination of the given values.

    Args:
      assignments: "section.key=value,value,…", each value in YAML.

    Raises:
      UsageError: an unknown field or value, or a field that all cells must share.
    """
    axes = [_axis(assignment) for assignment in assignments]
    if not axes:
        raise UsageError(
            "Nothing to vary. Give a field and its values, such as --set"
            " objective.beta=0.05,0.1,0.5."
        )
    found, configs = [], []
    for point in itertools.product(*(values for _, values in axes)):
        changes = {path: value for (path, _), (_, value) in zip(axes, point, strict=True)}
        name = " ".join(
            f"{path.rpartition('.')[2]}={text}"
            for (path, _), (text, _) in zip(axes, point, strict=True)
        )
        config = with_change(base, changes)
        resolve_objective(config)
        if config in configs:
            raise UsageError(f"--set: {name} is given twice.")
        configs.append(config)
        found.append(Contender(name, changes))
    return found


def _axis(assignment: str) -> tuple[str, list[tuple[str, object]]]:
    """Parse the field, and its values with the words that were typed for them."""
    path, words = field_and_words(assignment)
    return path, [(word, parse_assignment(f"{path}={word}")[1]) for word in words]


def field_and_words(assignment: str) -> tuple[str, list[str]]:
    """Split key=value,value,… into the field and the words of its values.

    Raises:
      UsageError: no value is given, or a field that all cells must share.
    """
    key, sign, text = assignment.partition("=")
    path = key.strip()
    if not sign or not text.strip():
        raise UsageError(
            f"--set {assignment}: expected key=value,value,…, such as objective.beta=0.05,0.1."
        )
    if any(path == fixed or path.startswith(fixed + ".") for fixed in FIXED):
        raise UsageError(
            f"--set {path}: all cells of a sweep share it. Change it in the recipe; seeds are"
            " --seeds N."
        )
    return path, [word.strip() for word in text.split(",")]


def rates(own: float, trials: int) -> list[float]:
    """Spread learning rates around a method's own, evenly in their logarithm. One trial is the
    method's own.
    """
    if trials == 1:
        return [own]
    return [float(f"{own * WIDEST ** (2 * k / (trials - 1) - 1):.3g}") for k in range(trials)]


def with_change(base: Config, changes: Mapping[str, object]) -> Config:
    """Return the config with other values at some paths.

    Raises:
      UsageError: an unknown field, or a value that it does not take.
    """
    raw = base.model_dump(mode="json")
    for path, value in changes.items():
        *sections, last = path.split(".")
        node = raw
        for section in sections:
            if not isinstance(node.get(section), dict):
                node[section] = {}
            node = node[section]
        node[last] = value
    return make_config(raw)


def cell(
    base: Config, contender: Contender, seed: int, folder: Path, train: Path, steps: int
) -> Cell:
    """Make one run: the recipe, the contender's changes on top, and the shared settings of all
    cells on top of both.
    """
    config = with_change(base, contender.changes)
    objective = resolve_objective(config)
    labels = objective.rows == "labelled"
    own = "train.steps" in contender.changes
    shared: dict[str, object] = {
        "data.train": str(train),
        "data.held_out": None,
        "data.format": "auto",
        "data.columns": {},
        "data.ignore_columns": (),
        "data.max_rejected": 0.0,
        "data.max_too_long": 0.0,
        "train.seed": seed,
        "train.steps": config.train.steps if own else steps,
        "train.epochs": None,
        "train.pair_labels": labels,
        "train.batch_size": config.train.batch_size * (2 if labels else 1),
        "reference": (
            "cached" if objective.reference and config.reference == "auto" else config.reference
        ),
        "evaluate": {},
        "output": str(folder / f"{slug(contender.name)}-seed{seed}"),
    }
    if not objective.reference:
        shared["reference"] = "auto"
        shared["moving"] = None
    return Cell(contender.name, seed, with_change(config, shared))


def slug(name: str) -> str:
    """Turn a contender's name into a part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "_", name)
