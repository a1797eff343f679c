"""The parts of a base are gathered straight into their place."""

import pytest
import torch
from training.worlds import in_world

from accord.distributed.world import join_world
from accord.forward.sharded import load_sharded
from accord.models import parts


def gathering(folder):
    """What is gathered in place in one pass."""
    in_place = []
    gather = parts.gather_into

    def counted(full, own, group):
        in_place.append(full.numel())
        gather(full, own, group)

    with join_world() as world:
        network = load_sharded(folder, world, dtype="float32", device="cpu").network
        parts.gather_into = counted
        with torch.no_grad():
            network(input_ids=torch.tensor([[5, 7, 11]]), use_cache=False)
        even = [p.numel() for p in network.parameters() if len(p) % world.size == 0]
        return {"in_place": sorted(in_place), "even": sorted(even)}


def test_a_weight_is_gathered_straight_into_its_place(tiny_folder, tmp_path):
    for found in in_world(2, tmp_path / "w", gathering, str(tiny_folder)):
        assert found["in_place"] == found["even"] and found["even"]


def pieces(rows):
    """The rows 0, 1, …, of each rank's part, put together."""
    with join_world() as world:
        whole = torch.arange(2.0 * rows).view(rows, 2)
        cut = whole.chunk(world.size)
        own = cut[world.rank] if world.rank < len(cut) else whole[:0]
        full = torch.full_like(whole, -1)
        parts.gather_into(full, own, torch.distributed.group.WORLD)
        return torch.equal(full, whole)


@pytest.mark.parametrize("rows", [2, 5])
def test_uneven_parts_are_put_together(rows, tmp_path):
    """Of 2 rows the last of 3 ranks holds none; of 5 it holds one."""
    assert in_world(3, tmp_path / "w", pieces, rows) == [True] * 3
