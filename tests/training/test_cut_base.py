"""LoRA over a base in parts computes, bit for bit, what the same ranks compute with it whole: what
is apart from one process is the order in which gradients are added up. A former adapter goes on
over parts, activations can be computed again, and parts are gathered straight into their place.
"""

import pytest
import torch
from conftest import pair_rows, write_rows
from training.helpers import metrics
from training.test_ranks import tensors
from training.worlds import in_world, train

from accord.distributed.world import join_world
from accord.forward.sharded import load_sharded
from accord.models import parts

NUMBERS = ("loss", "rewards/margins", "grad_norm")


@pytest.fixture(scope="module")
def runs(tiny_folder, tmp_path_factory):
    """On two ranks a short run for each way of holding the base, and one that goes on with its
    adapter.
    """
    out = tmp_path_factory.mktemp("cut")
    data = write_rows(out / "pairs.jsonl", pair_rows(12))
    for way, parallel in (("whole", "replicated"), ("cut", "sharded")):
        settings = {"train.parallel": parallel, "train.recompute": "always", "monitor.samples": 0}
        changes = {"steps": 2, "set": {**settings, "train.micro_tokens": 64}}
        for name in (way, f"{way}-on"):
            answers = in_world(
                2, out / f"world-{name}", train, tiny_folder, data, out / name, changes
            )
            assert answers[0] == answers[1] and "error" not in answers[0], answers
            changes = changes | {"adapter": answers[0]["saved"]}
    return out


@pytest.mark.parametrize("which", ["", "-on"], ids=["new adapter, recomputed", "former adapter"])
def test_parts_change_no_bit(which, runs):
    cut, whole = tensors(runs / f"cut{which}", 2), tensors(runs / f"whole{which}", 2)
    assert cut.keys() == whole.keys()
    assert [name for name in cut if not torch.equal(cut[name], whole[name])] == []
    lines = [metrics(runs / f"{way}{which}") for way in ("cut", "whole")]
    for ours, theirs in zip(*lines, strict=True):
        assert {n: ours[n] for n in NUMBERS if n in ours} == {
            n: theirs[n] for n in NUMBERS if n in theirs
        }


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
