"""A run's history takes time that grows with its length, not with its square."""

import math
from array import array

import pytest
from monitor.histories import evaluation, facts, healthy, samples, timing

from accord.monitor import history as module
from accord.monitor.history import History, Table
from accord.monitor.watch import look


class Counting(array):
    """A column that counts the numbers that are copied out of it, and written into new ones."""

    copied = 0

    def __getitem__(self, index):
        found = super().__getitem__(index)
        Counting.copied += len(found) if isinstance(index, slice) else 1
        return found

    def __mul__(self, times):
        Counting.copied += times
        return Counting("d", list(array.__mul__(self, times)))

    def __iter__(self):
        Counting.copied += len(self)
        return super().__iter__()


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(module, "array", Counting)


def numbers_read(steps):
    """Numbers that the rules read over a run of so many updates; a shuffled one, so that the rules
    that look at half of it are asked again and again.
    """
    Counting.copied = 0
    history, said = History(facts(steps=steps)), set()
    flat = {"rewards/accuracies": 0.55, "rewards/margins": 0.1}
    for step in range(1, steps + 1):
        history.add(healthy(min(step, 100)) | flat | {"step": step})
        history.add(timing(step))
        if step % 10 == 0:
            history.add(evaluation(min(step, 100)) | {"step": step})
            history.add(samples(min(step, 100)) | {"step": step})
        said |= {finding.check for finding in look(history, said)}
    return Counting.copied


def test_twice_the_updates_are_twice_the_numbers_read(counted):
    """It was four times as many."""
    assert numbers_read(600) < 2.6 * numbers_read(300)


def test_means_and_ends_are_those_of_the_whole_column():
    table, values = Table(), [3.0, 1.0, math.nan, 5.0, 1.0]
    for step, value in enumerate(values, 1):
        table.add({"step": step, "a": value} if step != 3 else {"step": step, "b": 1.0})
        known = [v for v in values[:step] if not math.isnan(v)]
        assert table.newest("a") == known[-1]
        for count in range(1, 7):
            kept = [v for v in values[max(0, step - count) : step] if not math.isnan(v)]
            number, mean = table.mean_of_last("a", count)
            assert number == len(kept)
            assert mean == pytest.approx(sum(kept) / len(kept)) if kept else math.isnan(mean)
    ends = table.ends("a")
    assert [table.steps[i] for i in (ends.first, ends.second, ends.newest)] == [1, 4, 5]
    assert [table.point("a", i) for i in (ends.least, ends.most)] == [(2, 1.0), (4, 5.0)]
    assert table.ends("none") is None and table.newest("none") is None
    assert table.mean_of_last("none", 3)[0] == 0


def test_a_figure_that_was_written_as_nan_is_told_from_one_that_is_missing():
    table = Table()
    for line in ({"step": 1, "a": 1.0}, {"step": 2}, {"step": 3, "a": math.nan}):
        table.add(line)
    assert table.points("a") == [(1, 1.0)] and table.broken == {"a": [3]}
    assert [step for step, _ in table.recorded("a")] == [1, 3]


def test_the_quarters_of_a_long_run_are_read_in_part():
    table = Table()
    for step in range(1, 1001):
        table.add({"step": step, "rss": float(step)})
    assert table.spread("rss", 500, 1000, 4) == [501.0, 626.0, 751.0, 876.0]
    assert table.spread("rss", 0, 3, 32) == [1.0, 2.0, 3.0]
