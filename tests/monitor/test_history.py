"""What rules see: tables with gaps, windows, and which table a line belongs to."""

import math

import pytest
from monitor.histories import FACTS, evaluation, facts, healthy, samples, timing

from accord.monitor.history import History, Table


def test_a_column_that_comes_late_or_pauses():
    table = Table()
    for line in (
        {"step": 1, "a": 1.0},
        {"step": 2, "a": 2.0, "b": 5.0},
        {"step": 3, "b": 6.0, "text": "no figure"},
    ):
        table.add(line)
    assert (table.last("a", 2), table.last("b", 3), table.first("b", 2)) == (
        [2.0],
        [5.0, 6.0],
        [5.0],
    )
    assert table.points("b") == [(2, 5.0), (3, 6.0)] and table.span("c", None, None) == []
    assert table.last("a", 0) == [] and "text" not in table and len(table) == 3


@pytest.mark.parametrize(
    "make, name",
    [(healthy, "training"), (evaluation, "held_out"), (samples, "samples"), (timing, "timings")],
)
def test_lines_find_their_table(make, name):
    history = History(FACTS)
    history.add(make(20))
    assert [
        len(getattr(history, table)) for table in ("training", "held_out", "samples", "timings")
    ] == [int(table == name) for table in ("training", "held_out", "samples", "timings")]


def test_windows():
    """A tenth of the run, and never fewer than 64 rows."""
    assert History(facts(steps=1000)).window == 25 and History(facts(steps=100)).window == 10
    assert (
        History(facts(steps=20)).window == 5 and History(facts(steps=20, batch_size=4)).window == 16
    )


def test_means_wait_for_a_whole_window():
    history = History(facts(steps=20))
    for step in range(1, 10):
        history.add({"step": step, "loss": float(step)})
        assert (history.recent("loss") is None) == (step < 5)
        assert history.gained("loss") is None
    history.add({"step": 10, "loss": 10.0})
    assert (history.recent("loss"), history.early("loss"), history.gained("loss")) == (
        8.0,
        3.0,
        5.0,
    )
    assert history.past(0.5) and not history.past(0.6)


def test_typical_is_of_the_lines_before():
    history = History(FACTS)
    for step, value in enumerate([1.0] * 5 + [3.0] * 4 + [2.0, 99.0], 1):
        history.add({"step": step, "grad_norm": value})
    assert history.typical("grad_norm") == 1.5


def test_nan_is_a_gap():
    history = History(facts(steps=20))
    for step in range(1, 7):
        history.add({"step": step, "loss": math.nan if step == 3 else 1.0})
    assert history.recent("loss") is None
