"""What a comparison took and what single runs would have taken: over all sessions, killed ones
said.
"""

from pytest import approx

from accord.campaign.compare import cells, times
from accord.campaign.compare.times import sessions, singles, totals
from accord.campaign.log import append_entry, logged
from accord.runs.display import clock


def entry(what, at, cell=None, **more) -> dict:
    return {"cell": cell, "what": what, "at": at, **more}


def test_sessions_add_up_and_a_killed_one_is_counted_until_its_last_line():
    """10 s that ended; one killed 4 s after it began, whatever came later; one of before sessions
    were logged.
    """
    log = [{"cell": None, "what": "process", "seconds": 2.0}]
    log += [
        entry("session", 100.0),
        entry("started", 101.0, "a"),
        entry("process", 110.0, seconds=10.0),
    ]
    log += [
        entry("session", 200.0),
        entry("started", 204.0, "b"),
        entry("session", 900.0),
        entry("process", 901.0, seconds=1.0),
    ]
    assert sessions(log) == (17.0, 1)
    assert sessions(log[:-2]) == (16.0, 1)  # nothing came after it


def of_cell(seconds, rows=None, reference=0.0) -> dict:
    computed, needed = rows or (0, 0)
    return {
        "seconds": seconds,
        "cpu_seconds": 2 * seconds,
        "reference_seconds": reference,
        "reference_rows": {"computed": computed, "needed": needed} if rows else None,
    }


def test_single_runs_with_a_cache_and_without():
    """100 rows in 20 s; the second cell had them, the third computed half of its own in 10 s; sft
    asks for none.
    """
    each = {
        "dpo": of_cell(60, (100, 100), 20.0),
        "ipo": of_cell(41, (0, 100), 0.5),
        "kto": of_cell(50, (50, 100), 10.0),
        "sft": of_cell(30),
    }
    found = singles(each)
    assert found["reference_rows_more"] == 150
    seconds_a_row = (20 - 0.5 + 10 - 0.5) / 150  # less what a cell with nothing to compute takes
    assert found["seconds"] == 181 and found["seconds_without_cache"] == approx(
        181 + 150 * seconds_a_row
    )
    assert singles({"sft": of_cell(30)}) == {
        "seconds": 30,
        "seconds_without_cache": 30,
        "reference_rows_more": 0,
    }
    # by an earlier command: nobody knows what a row takes
    cached = singles({"dpo": of_cell(30, (0, 100), 0.5)})
    assert cached == {"seconds": 30, "seconds_without_cache": None, "reference_rows_more": 100}


def test_a_folder_s_log(tmp_path):
    with times.session(tmp_path):
        with times.preparing(tmp_path):
            pass
        append_entry(
            tmp_path,
            cells.LOG,
            {
                "cell": "dpo",
                "what": "finished",
                "seconds": 60.0,
                "cpu_seconds": 70.0,
                "phases": {"reference": 1.0},
            },
        )
        append_entry(
            tmp_path,
            cells.LOG,
            {"cell": "trial", "what": "finished", "seconds": 7.0, "cpu_seconds": 7.0},
        )
    append_entry(tmp_path, cells.LOG, {"cell": None, "what": "session"})
    for place in ("measured", "trials/measured"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "start.json").write_text('{"seconds": 1.5}')
    cost = {"cells": {"dpo": of_cell(60.0, (8, 8), 1.0)}}
    cost |= totals(tmp_path, cost["cells"])
    assert (
        cost["cell_seconds"],
        cost["cell_cpu_seconds"],
        cost["other_cell_seconds"],
        cost["measuring_seconds"],
    ) == (60, 120, 7, 3)
    assert (cost["sessions"], cost["sessions_killed"]) == (2, 1) and cost["total_cpu_seconds"] >= 0
    whole, single = times.says(cost, clock)
    assert "1 of 2 sessions were killed" in whole and "the cells 1:00" in whole
    assert (
        "The 1 cells with a model, as single runs of accord train: 1:00" in single
        and "rows of the reference" not in single
    )
    cost["single_runs"] = {"seconds": 60, "seconds_without_cache": 90, "reference_rows_more": 8}
    assert "1:30 without a cache that they share, which spares 8 rows" in times.says(cost, clock)[1]


def test_a_line_torn_by_a_kill_takes_no_other_along(tmp_path):
    append_entry(tmp_path, cells.LOG, {"cell": None, "what": "session"})
    with (tmp_path / cells.LOG).open("a") as file:
        file.write('{"cell": "dpo", "wh')
    append_entry(tmp_path, cells.LOG, {"cell": "ipo", "what": "started"})
    assert [entry["cell"] for entry in logged(tmp_path, cells.LOG)] == [None, "ipo"]
