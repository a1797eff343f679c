"""SilentBench's faults fit the code that they are to spoil: one that does not injects nothing, and
is taken for missed.
"""

import sys
from pathlib import Path

import pytest
from conftest import assert_no_faults

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.silentbench.in_code import CODE, records, unlisted
from benchmarks.silentbench.world import Stale, World

RESUMED = (  # these train a run before they spoil it
    records.damaged_checkpoint,
    records.other_data_on_resume,
    unlisted.moments_of_others,
    unlisted.other_order_on_resume,
)


def test_every_replacement_can_be_called_as_what_it_replaces(tmp_path):
    def inject(fault):
        folder = tmp_path / fault.name
        folder.mkdir()
        world = World(folder, folder)
        with world.stack:
            fault.accord(world)

    faults = [fault for fault in CODE if fault.accord not in RESUMED]
    assert_no_faults(faults, inject, lambda fault: fault.name)


class Code:
    @staticmethod
    def double(number, times=2, *, plus=0):
        return number * times + plus


@pytest.mark.parametrize(
    "value", [lambda number: 0, lambda number, times: 0, lambda number, times, more, *, plus: 0]
)
def test_a_replacement_that_no_longer_fits(value, tmp_path):
    with pytest.raises(Stale, match="double is called with number, times, plus"):
        World(tmp_path, tmp_path).patch(Code, "double", value)


def test_a_place_that_is_gone(tmp_path):
    with pytest.raises(Stale, match="has no treble"):
        World(tmp_path, tmp_path).patch(Code, "treble", Code.double)


def test_a_replacement_that_fits(tmp_path):
    world = World(tmp_path, tmp_path)
    with world.stack:
        world.patch(Code, "double", lambda *given, **named: 7)
        assert Code.double(1) == 7
    assert Code.double(1) == 2
