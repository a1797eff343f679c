"""The time of a comparison, beside the time of its cells as single runs: from cells.jsonl, over all
sessions.

A session is one process at work in the folder. Its beginning and its end are logged, and so are
those of each cell. If a session was killed, only the time until its last line is known, and the
result says so.

Single runs of `accord train` would read the rows, load the model and run their checks just as cells
do, so these seconds are in each cell's own time. One after the other on one machine they would also
share the cache of reference log-probs. Without a shared cache, such as on several machines, each
run computes all of its own; that time is estimated from the time per row here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from accord.campaign.compare.cells import LOG
from accord.campaign.log import append_entry, logged, stopwatch
from accord.errors import plural

BEGAN, ENDED, PREPARED = "session", "process", "prepared"


@contextmanager
def session(folder: Path):
    """Log a session of work: its wall clock and processor seconds."""
    took = stopwatch()
    append_entry(folder, LOG, {"cell": None, "what": BEGAN})
    try:
        yield
    finally:
        append_entry(folder, LOG, {"cell": None, "what": ENDED, **took()})


@contextmanager
def preparing(folder: Path):
    """Log the time to prepare rows and plan, which is done once for all cells."""
    took = stopwatch()
    yield
    append_entry(folder, LOG, {"cell": None, "what": PREPARED, **took()})


def totals(folder: Path, each: Mapping[str, dict]) -> dict:
    """Sum up wall clock and processor seconds of the whole, of its parts, and of the single runs.

    Args:
      each: cost of each cell with a model, by its name (`cells.cost`).
    """
    entries = logged(folder, LOG)
    whole, killed = sessions(entries)
    passes = [cost["reference_rows"] for cost in each.values() if cost["reference_rows"]]
    others = [e for e in entries if e["cell"] is not None and e["cell"] not in each]
    return {
        "total_seconds": whole,
        "total_cpu_seconds": _sum([e for e in entries if e["what"] == ENDED], "cpu_seconds"),
        "sessions": sum(e["what"] == BEGAN for e in entries),
        "sessions_killed": killed,
        "preparing_seconds": _sum([e for e in entries if e["what"] == PREPARED]),
        "cell_seconds": round(sum(cost["seconds"] for cost in each.values()), 3),
        "cell_cpu_seconds": round(sum(cost["cpu_seconds"] for cost in each.values()), 3),
        "other_cell_seconds": _sum(others),
        "measuring_seconds": round(sum(_measured(folder)), 3),
        "reference_rows": {
            name: sum(one[name] for one in passes) for name in ("computed", "needed")
        },
        "single_runs": singles(each),
    }


def sessions(entries: Sequence[dict]) -> tuple[float, int]:
    """Sum the seconds of all sessions. Return also how many of them were killed; they count until
    their last line.
    """
    total, killed, began, newest = 0.0, 0, None, 0.0
    for entry in [*entries, {"what": BEGAN, "at": 0.0}]:
        if entry["what"] == BEGAN:
            if began is not None:
                total, killed = total + newest - began, killed + 1
            began = entry["at"]
        elif entry["what"] == ENDED:
            total, began = total + entry["seconds"], None
        newest = entry.get("at", newest)
    return round(total, 3), killed


def singles(each: Mapping[str, dict]) -> dict:
    """Estimate the same cells as single runs, with and without the cache of reference log-probs
    that runs on one machine share.

    The estimate without a cache is None if no record tells how long a row takes.
    """
    own = sum(cost["seconds"] for cost in each.values())
    passes = [
        (cost["reference_rows"], cost["reference_seconds"])
        for cost in each.values()
        if cost["reference_rows"]
    ]
    computed = sum(rows["computed"] for rows, _ in passes)
    spared = sum(rows["needed"] for rows, _ in passes) - computed
    # a pass from the cache alone still reads the cache and checks eight rows
    idle = [seconds for rows, seconds in passes if not rows["computed"]]
    fixed = sum(idle) / len(idle) if idle else 0.0
    working = sum(max(0.0, seconds - fixed) for rows, seconds in passes if rows["computed"])
    known = computed or not spared
    apart = round(own + (spared * working / computed if spared else 0.0), 3) if known else None
    return {"seconds": round(own, 3), "seconds_without_cache": apart, "reference_rows_more": spared}


def says(cost: Mapping, clock) -> list[str]:
    """Format the whole and its parts, then the single runs. A time that was not recorded is left
    out.

    Args:
      cost: the costs of a record in today's form (`records.current`).
      clock: formats seconds for a person.
    """
    parts = [
        ("preparing the rows", "preparing_seconds"),
        ("the cells", "cell_seconds"),
        ("trials and cells without a model", "other_cell_seconds"),
        ("measuring every model", "measuring_seconds"),
    ]
    told = ", ".join(f"{words} {clock(cost[name])}" for words, name in parts if cost[name])
    killed = cost["sessions_killed"]
    gaps = (
        f" {killed} of {cost['sessions']} sessions were killed and are counted until their last"
        " record."
        if killed
        else ""
    )
    single = cost["single_runs"]
    apart, rows = single["seconds_without_cache"], single["reference_rows_more"]
    more = (
        f"; {clock(apart)} without a cache that they share, which spares {plural(rows, 'row')} of"
        " the"
        " reference pass"
        if rows and apart
        else ""
    )
    processor = cost["total_cpu_seconds"]
    busy = "" if processor is None else f" ({clock(processor)} of processor time)"
    return [
        f"In all {clock(cost['total_seconds'])}{busy}: {told}.{gaps}",
        (
            f"The {len(cost['cells'])} cells with a model, as single runs of accord train:"
            f" {clock(single['seconds'])}, each with its own set-up{more}. The start of their"
            " processes is not counted, and nothing would be measured on held-out rows."
        ),
    ]


def _measured(folder: Path) -> list[float]:
    # files of the comparison, of trials, of a reference
    files = [*folder.glob("measured/*.json"), *folder.glob("*/measured/*.json")]
    return [json.loads(file.read_text(encoding="utf-8"))["seconds"] for file in files]


def _sum(entries: Sequence[dict], name: str = "seconds") -> float:
    return round(sum(entry.get(name, 0.0) for entry in entries), 3)
