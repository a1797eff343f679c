"""Run the cells one after the other, each as an ordinary run. Finished cells are skipped, and a
stopped one is resumed.

    DIR/plan.json      what is compared, on which rows, measured how; another plan is refused,
                       further cells are welcome
    DIR/cells/NAME     a run's folder; `accord report`, `accord resume` and `accord export` take it
    DIR/cells.jsonl    each beginning and end of a cell, with its seconds
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from accord.campaign.compare.contenders import Cell
from accord.campaign.log import append_entry, stopwatch
from accord.campaign.plan import PLAN, as_written, differences, read_plan, require_no_difference
from accord.campaign.stages import is_begun, saved_folder, train_or_resume
from accord.engine.release import release
from accord.errors import first_line
from accord.runs.display import CellDisplay, Display
from accord.runs.files import read_json, write_json
from accord.runs.folder import RunFolder
from accord.runs.identity import trajectory
from accord.types import Diverged, Refused, UsageError

LOG = "cells.jsonl"
LONGEST = 300  # characters of a reason


def require_plan(folder: Path, cells: Sequence[Cell], shared: dict) -> None:
    """Write the plan, or compare it with the one that is there and add the cells and measures that
    it lacks.

    Args:
      shared: settings of all cells: fingerprints of the rows, options of the measurement.

    Raises:
      Refused: a cell would not be the run that it was, or other rows or another measure are asked
        for.
      UsageError: two cells would lie in one folder, and one be taken for the other.
    """
    names = [cell.name for cell in cells]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(
            f"Two contenders would both be {twice!r} on the disk: their names differ in signs"
            " alone. Compare them apart."
        )
    fresh = as_written(
        {"shared": shared, "cells": {cell.name: trajectory(cell.config) for cell in cells}}
    )
    if former := read_plan(folder):
        why = "holds another comparison: its cells could not be compared with those asked for now."
        require_no_difference(folder, _differences(former, fresh), why)
        fresh["cells"] = former["cells"] | fresh["cells"]
    write_json(folder / PLAN, fresh)


def _differences(former: dict, fresh: dict) -> list[str]:
    """List what differs in what all cells share, and in the cells that are in both plans."""
    lines = differences(former["shared"], fresh["shared"])
    for cell in former["cells"].keys() & fresh["cells"].keys():
        lines += differences(former["cells"][cell], fresh["cells"][cell], f"{cell}: ")
    return sorted(lines)


def is_finished(cell: Cell) -> bool:
    """Tell whether its saved model is there, and its card, which is written last."""
    return saved_folder(cell.path) is not None


def run_cells(
    cells: Sequence[Cell],
    folder: Path,
    display: Display,
    command: Sequence[str],
    poll: Callable[[], None],
) -> dict[str, str]:
    """Run all cells that are not finished. Return for each cell without a model, by its name, the
    reason.

    Raises:
      AccordError: a problem of all cells, such as a full disk or a signal. Finished cells stay
        finished.
    """
    failed: dict[str, str] = {}
    for number, cell in enumerate(cells, 1):
        poll()
        reason = former_failure(cell)
        if reason is None and not is_finished(cell):
            display.line(f"cell {number} of {len(cells)}: {cell.contender}, seed {cell.seed}")
            reason = _run(cell, folder, display, command)
        if reason is not None:
            failed[cell.name] = reason
            display.line(f"  ! {cell.name} gave no model: {reason}")
    return failed


def former_failure(cell: Cell) -> str | None:
    """Return the reason if a cell stopped for good before, with values that were not finite. A
    second run would give the same.
    """
    file = cell.path / "diverged.json"
    return None if is_finished(cell) or not file.is_file() else read_json(file, {})["says"]


def _run(cell: Cell, folder: Path, display: Display, command: Sequence[str]) -> str | None:
    """Train or resume the cell. Return the reason if it gives no model."""
    took, what = stopwatch(), "resumed" if is_begun(cell.path) else "started"
    append_entry(folder, LOG, {"cell": cell.name, "what": what})
    shown, what, reason = CellDisplay(display, cell.name), "finished", None
    try:
        train_or_resume(cell.config, shown, command)
    except Diverged as error:
        what, reason = "failed", first_line(error)
    except Refused as error:
        what, reason = "failed", " ".join(str(error).split())[:LONGEST]
    except BaseException:
        what = "stopped"
        raise
    finally:
        entry = {"cell": cell.name, "what": what, **took(), "phases": shown.phases}
        append_entry(folder, LOG, entry)
        release()
    return reason


def cost(cell: Cell, entries: Sequence[dict]) -> dict:
    """Sum up the cost of a finished cell: seconds in all, on updates and on its reference, the
    largest memory after an update, and tokens.
    """
    run = RunFolder(cell.path)
    timings, metrics = (
        run.appended("timings.jsonl"),
        [line for line in run.metrics() if "loss" in line],
    )
    own = [entry for entry in entries if entry["cell"] == cell.name]
    return {
        "seconds": round(sum(entry.get("seconds", 0.0) for entry in own), 3),
        "cpu_seconds": round(sum(entry.get("cpu_seconds", 0.0) for entry in own), 3),
        "reference_seconds": round(
            sum(entry.get("phases", {}).get("reference", 0.0) for entry in own), 3
        ),
        "update_seconds": round(sum(line["seconds"] for line in timings), 3),
        "memory_bytes": max((line["rss"] for line in timings), default=0),
        "updates": len(metrics),
        "tokens": metrics[-1]["num_tokens"] if metrics else 0,
        "learning_rate": max((line["learning_rate"] for line in metrics), default=0.0),
        "reference_rows": _reference(run),
    }


def _reference(run: RunFolder) -> dict | None:
    """Count the rows of the reference pass: those that this cell computed itself, and those that it
    needed. The others came from the cache.
    """
    found = read_json(run.path / "preflight.json", [])
    checks = [f["evidence"] for f in found if f["check"] == "step0.cache"]
    return {"computed": checks[0]["computed"], "needed": checks[0]["needed"]} if checks else None
