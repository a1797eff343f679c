"""The records of a run, read for people. Nothing is computed here that the run did not record."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
from accord.runs.refused import why_without_updates
from accord.types import UsageError

Json = TypeVar("Json", dict, list)


@dataclass
class Recorded:
    """All that a run wrote about itself."""

    folder: RunFolder
    # tables of metrics.jsonl that were read already; None reads the file when it is asked for
    read: dict[str, Table] | None = None

    @classmethod
    def open(cls, path: str) -> Recorded:
        """Open the records of a run.

        Raises:
          UsageError: no run there, or one that has not made an update.
        """
        run = cls(RunFolder.open(path))
        if not run.lines("metrics.jsonl"):
            raise UsageError(
                why_without_updates(run.folder.path)
                or f"{path}: this run has recorded no figures yet; there is nothing to show."
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
    def answers_itself(self) -> bool:
        """Tell whether the run trained on its own answers."""
        return self.config.rollouts is not None

    @property
    def fields(self) -> dict[str, object]:
        """Return the config's fields by path, as they took effect: options that were left out have
        the objective's defaults.
        """
        own = self.objective.flat_options
        options = {f"objective.{name}": value for name, value in own.items()}
        found = trajectory(self.config) | options | {"data.train": self.config.data.train}
        return found | self._chosen(found)

    def _chosen(self, fields: dict[str, object]) -> dict[str, object]:
        """Return what the run chose for itself where its config leaves the choice to it."""
        rate, steps = fields.get("train.learning_rate"), self.training.steps
        if rate is not None or not len(steps):
            return {}
        # the peak, once the warm-up is over; the schedule is a field of its own
        return {"train.learning_rate": float(f"{max(self._rates):.6g}")}

    @property
    def _rates(self) -> list[float]:
        return self.training.span("learning_rate", None, None) or [math.nan]

    def lines(self, name: str) -> list[dict]:
        return self.folder.appended(name)

    def json(self, name: str, absent: Json) -> Json:
        """Read a file of the run, of the same type as `absent`; return `absent` where there is
        none.
        """
        return read_json(self.folder.path / name, absent)

    # ------------------------------------------------------------ figures by step

    @cached_property
    def _tables(self) -> dict[str, Table]:
        if self.read is not None:
            return self.read
        tables: dict[str, Table] = {}
        for line in self.lines("metrics.jsonl"):
            tables.setdefault(table_name(line), Table()).add(line)
        return tables

    @property
    def training(self) -> Table:
        return self._tables.get("training") or Table()

    @property
    def held_out(self) -> Table:
        return self._tables.get("held_out") or Table()

    @property
    def sampled(self) -> Table:
        return self._tables.get("sampled") or Table()

    @cached_property
    def ended(self) -> int:
        """Return the step whose weights were saved: the last one, or the one that --on-flag adapt
        went back to.
        """
        taken = [
            e["evidence"]["taken"] for e in self.lines("events.jsonl") if e["check"] == "guard.best"
        ]
        return taken[-1] if taken else max((*self.training.steps, *self.held_out.steps), default=0)

    @cached_property
    def measured(self) -> int:
        """Return the newest step up to `ended` at which held-out rows were evaluated: an earlier
        one where the run stopped in between.
        """
        return max(
            (step for step in self.held_out.steps if 0 < step <= self.ended), default=self.ended
        )

    def at(self, step: int, name: str) -> float | None:
        """Return a held-out figure at a step, if it was measured there."""
        return dict(self.held_out.points(name)).get(step)

    # ------------------------------------------------------------ records

    @cached_property
    def events(self) -> list[dict]:
        """Return red flags and notes, in their order; the guard's own lines are among them."""
        return [
            event
            for event in self.lines("events.jsonl")
            if event["check"].startswith(("flag.", "guard."))
        ]

    @cached_property
    def samples(self) -> list[tuple[str, dict, dict]]:
        """Return (prompt, the first answer, the newest answer) of each prompt."""
        first: dict[int, dict] = {}
        newest: dict[int, dict] = {}
        for line in self.lines("samples.jsonl"):
            first.setdefault(line["prompt"], line)
            newest[line["prompt"]] = line
        return [(first[n]["asked"], first[n], newest[n]) for n in sorted(first)]

    def examples(self, step: int) -> pa.Table | None:
        file = file_of(self.folder.path, step)
        return parquet.read_table(file) if file.is_file() else None


def table_name(line: Mapping[str, object]) -> str:
    """Return which table a line of metrics.jsonl belongs to."""
    if "loss" in line:
        return "training"
    if "diag/samples_tokens" in line:
        return "sampled"
    return "held_out" if any(name.startswith("eval_") for name in line) else "other"
