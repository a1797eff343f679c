"""A run's folder, read for people. Nothing is computed here that the run did not record."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as parquet

from accord.config.schema import Config
from accord.monitor.history import Table
from accord.objectives import BoundObjective
from accord.objectives.configured import resolve_objective
from accord.runs.files import read_json
from accord.runs.folder import RunFolder
from accord.runs.held_out_rows import file_of
from accord.runs.identity import trajectory
from accord.types import UsageError

Json = TypeVar("Json", dict, list)


@dataclass
class Recorded:
    """All that a run wrote about itself."""

    folder: RunFolder

    @classmethod
    def open(cls, path: str) -> Recorded:
        """
        Raises:
          UsageError: no run there, or one that has not made an update.
        """
        run = cls(RunFolder.open(path))
        if not run.lines("metrics.jsonl"):
            raise UsageError(
                f"{path}: this run has recorded no figures yet; there is nothing to show."
            )
        return run

    @property
    def name(self) -> str:
        return self.folder.path.resolve().name

    @cached_property
    def config(self) -> Config:
        return self.folder.config()

    @cached_property
    def objective(self) -> BoundObjective:
        return resolve_objective(self.config)

    @property
    def fields(self) -> dict[str, object]:
        """The config's fields by path, as they took effect: options that were left out have the
        objective's defaults.
        """
        options = {f"objective.{name}": value for name, value in self.objective.options.items()}
        return trajectory(self.config) | options | {"data.train": self.config.data.train}

    def lines(self, name: str) -> list[dict]:
        return self.folder.appended(name)

    def json(self, name: str, absent: Json) -> Json:
        """A file of the run, of the kind that `absent` is; that where there is none."""
        return read_json(self.folder.path / name, absent)

    # ------------------------------------------------------------ figures by step

    @cached_property
    def training(self) -> Table:
        return _table(line for line in self.lines("metrics.jsonl") if "loss" in line)

    @cached_property
    def held_out(self) -> Table:
        return _table(
            line
            for line in self.lines("metrics.jsonl")
            if any(name.startswith("eval_") for name in line)
        )

    @cached_property
    def sampled(self) -> Table:
        return _table(line for line in self.lines("metrics.jsonl") if "diag/samples_tokens" in line)

    @cached_property
    def ended(self) -> int:
        """The step whose weights were saved: the last one, or the one that --on-flag adapt went
        back to.
        """
        taken = [
            e["evidence"]["taken"] for e in self.lines("events.jsonl") if e["check"] == "guard.best"
        ]
        return taken[-1] if taken else max((*self.training.steps, *self.held_out.steps), default=0)

    @cached_property
    def measured(self) -> int:
        """The newest step up to `ended` at which held-out rows were evaluated: an earlier one where
        the run stopped in between.
        """
        return max(
            (step for step in self.held_out.steps if 0 < step <= self.ended), default=self.ended
        )

    def at(self, step: int, name: str) -> float | None:
        """A held-out figure at a step, if it was measured there."""
        return dict(self.held_out.points(name)).get(step)

    # ------------------------------------------------------------ records

    @cached_property
    def events(self) -> list[dict]:
        """Red flags and notes, in their order; the guard's own lines among them."""
        return [
            event
            for event in self.lines("events.jsonl")
            if event["check"].startswith(("flag.", "guard."))
        ]

    @cached_property
    def samples(self) -> list[tuple[str, dict, dict]]:
        """(prompt, the first answer, the newest answer) of each prompt."""
        first: dict[int, dict] = {}
        newest: dict[int, dict] = {}
        for line in self.lines("samples.jsonl"):
            first.setdefault(line["prompt"], line)
            newest[line["prompt"]] = line
        return [(first[n]["asked"], first[n], newest[n]) for n in sorted(first)]

    def examples(self, step: int) -> pa.Table | None:
        file = file_of(self.folder.path, step)
        return parquet.read_table(file) if file.is_file() else None


def _table(lines) -> Table:
    table = Table()
    for line in lines:
        table.add(line)
    return table
