"""Running cells: one after the other, each an ordinary run. Finished ones are passed by, a stopped one is resumed.

    DIR/plan.json      what is compared, on which rows, measured how; another plan is refused, further cells are welcome
    DIR/cells/NAME     a run's folder; `accord report`, `accord resume` and `accord export` take it
    DIR/cells.jsonl    each beginning and end of a cell, with its seconds
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from accord.compare.contenders import Cell
from accord.training.display import Display
from accord.training.files import write_json, writing
from accord.training.folder import REFUSED, RunFolder
from accord.training.memory import release
from accord.training.prepare import trajectory
from accord.training.run import resume, start
from accord.types import Diverged, Finding, Refused

PLAN, LOG = "plan.json", "cells.jsonl"
SHOWN = 6  # differences that are listed
LONGEST = 300  # characters of a reason


class CellDisplay(Display):
    """Of a cell, what a person following many of them wants: warnings, and now and then how far it is."""

    def __init__(self, outer: Display, name: str):
        super().__init__(outer.stream)
        self.outer, self.name, self.newest = outer, name, time.monotonic()
        self.phases: dict[str, float] = {}  # seconds of each phase of setting up, so far
        self._phase: tuple[str, float] | None = None

    def line(self, text: str) -> None:
        return None

    def phase(self, name: str, text: str) -> None:
        self._end_phase()
        self._phase = name, time.monotonic()

    def _end_phase(self) -> None:
        if self._phase is not None:
            name, began = self._phase
            self.phases[name] = round(self.phases.get(name, 0.0) + time.monotonic() - began, 3)
            self._phase = None

    def progress(self, name: str, done: int, total: int) -> None:
        return None

    def step(self, step: int, total: int, metrics: Mapping[str, float], speed: float, eta: float) -> None:
        self._end_phase()
        if time.monotonic() - self.newest > 30 or step == total:
            self.newest = time.monotonic()
            self.outer.line(f"    {self.name}: step {step}/{total}, loss {metrics['loss']:.4f}, {speed:,.0f} tokens/s")

    def flagged(self, step: int, finding: Finding) -> None:
        if finding.verdict in ("warning", "refused"):
            self.outer.line(f"  ! {self.name}, step {step}: {finding.check}: {finding.says}")


def require_plan(folder: Path, cells: Sequence[Cell], shared: dict) -> None:
    """Write the plan, or hold it against the one that is there; cells and measures that it lacks are added.

    Args:
      shared: what all cells have in common: fingerprints of the rows, how models are measured.

    Raises:
      Refused: a cell would not be the run that it was, or other rows or another measure are asked for.
    """
    fresh = {"shared": shared, "cells": {cell.name: trajectory(cell.config) for cell in cells}}
    file = folder / PLAN
    if file.is_file():
        former = json.loads(file.read_text(encoding="utf-8"))
        fresh = json.loads(json.dumps(fresh))
        if lines := _differences(former, fresh):
            more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
            raise Refused(
                f"{folder} holds another comparison: its cells could not be compared with those asked for now.\n"
                + "\n".join(f"  {line}" for line in [*lines[:SHOWN], *more])
                + "\nWrite to another folder (--output DIR), or go back to the recipe and data that it was begun with."
            )
        fresh = {"shared": fresh["shared"], "cells": former["cells"] | fresh["cells"]}
    write_json(file, fresh)


def _differences(former: dict, fresh: dict) -> list[str]:
    lines = []
    for name in dict.fromkeys([*former["shared"], *fresh["shared"]]):
        then, now = former["shared"].get(name), fresh["shared"].get(name)
        if then != now:
            lines.append(f"{name}: then {_brief(then)}, now {_brief(now)}")
    for cell in former["cells"].keys() & fresh["cells"].keys():
        then, now = former["cells"][cell], fresh["cells"][cell]
        fields = [field for field in dict.fromkeys([*then, *now]) if then.get(field) != now.get(field)]
        lines += [f"{cell}: {field}: then {then.get(field)}, now {now.get(field)}" for field in fields]
    return sorted(lines)


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:40] + "…"


def plan_hash(folder: Path) -> str:
    """Of every resolved config of the plan, and of what they share."""
    return hashlib.sha256((folder / PLAN).read_bytes()).hexdigest()


def finished(cell: Cell) -> bool:
    """Whether its saved model is there: it is put there whole, after everything else."""
    return any((cell.path / name).is_dir() for name in ("adapter", "final"))


def run_cells(
    cells: Sequence[Cell], folder: Path, display: Display, command: Sequence[str], poll: Callable[[], None]
) -> dict[str, str]:
    """Run what is not finished; returns why a cell has no model, by its name.

    Raises:
      AccordError: whatever concerns all cells, such as a full disk or a signal; what is finished stays so.
    """
    failed: dict[str, str] = {}
    for number, cell in enumerate(cells, 1):
        poll()
        reason = former_failure(cell)
        if reason is None and not finished(cell):
            display.line(f"cell {number} of {len(cells)}: {cell.contender}, seed {cell.seed}")
            reason = _run(cell, folder, display, command)
        if reason is not None:
            failed[cell.name] = reason
            display.line(f"  ! {cell.name} gave no model: {reason}")
    return failed


def former_failure(cell: Cell) -> str | None:
    """Why a cell stopped for good before: numbers that were not finite would be so again."""
    file = cell.path / "diverged.json"
    return None if finished(cell) or not file.is_file() else json.loads(file.read_text(encoding="utf-8"))["says"]


def _run(cell: Cell, folder: Path, display: Display, command: Sequence[str]) -> str | None:
    """Train the cell, or go on with it; why there is no model."""
    began, processor = time.monotonic(), time.process_time()
    goes_on = (cell.path / "config.yaml").is_file() and not (cell.path / REFUSED).is_file()
    log(folder, {"cell": cell.name, "what": "resumed" if goes_on else "started"})
    shown, what, reason = CellDisplay(display, cell.name), "finished", None
    try:
        if goes_on:
            resume(str(cell.path), shown, command)
        else:
            start(cell.config, shown, command)
    except Diverged as error:
        what, reason = "failed", str(error).splitlines()[0]
    except Refused as error:
        what, reason = "failed", " ".join(str(error).split())[:LONGEST]
    except BaseException:
        what = "stopped"
        raise
    finally:
        took = {"seconds": round(time.monotonic() - began, 3), "cpu_seconds": round(time.process_time() - processor, 3)}
        log(folder, {"cell": cell.name, "what": what, **took, "phases": shown.phases})
        release()
    return reason


def log(folder: Path, entry: dict) -> None:
    file = folder / LOG
    torn = file.exists() and not file.read_bytes().endswith(b"\n")  # by a kill: what comes next would be lost with it
    with writing(folder), file.open("a", encoding="utf-8") as stream:
        stream.write("\n" * torn + json.dumps({"at": round(time.time(), 3), **entry}) + "\n")


def logged(folder: Path) -> list[dict]:
    """What happened, in order; a half-written last line is left out."""
    return RunFolder(folder).appended(LOG)


def cost(cell: Cell, entries: Sequence[dict]) -> dict:
    """What a finished cell took: seconds in all, on updates and on its reference, the largest memory after an update, tokens."""
    run = RunFolder(cell.path)
    timings, metrics = run.appended("timings.jsonl"), [line for line in run.metrics() if "loss" in line]
    own = [entry for entry in entries if entry["cell"] == cell.name]
    return {
        "seconds": round(sum(entry.get("seconds", 0.0) for entry in own), 3),
        "cpu_seconds": round(sum(entry.get("cpu_seconds", 0.0) for entry in own), 3),
        "reference_seconds": round(sum(entry.get("phases", {}).get("reference", 0.0) for entry in own), 3),
        "update_seconds": round(sum(line["seconds"] for line in timings), 3),
        "memory_bytes": max((line["rss"] for line in timings), default=0),
        "updates": len(metrics), "tokens": metrics[-1]["num_tokens"] if metrics else 0,
        "learning_rate": max((line["learning_rate"] for line in metrics), default=0.0),
        "reference_rows": _reference(run),
    }  # fmt: skip


def _reference(run: RunFolder) -> dict | None:
    """Rows of the reference pass that this cell computed itself; the others it read from the cache."""
    file = run.path / "preflight.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    checks = [f["evidence"] for f in found if f["check"] == "step0.cache"]
    return {"computed": checks[0]["computed"], "needed": checks[0]["needed"]} if checks else None
