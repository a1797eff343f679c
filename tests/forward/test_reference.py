"""References stand still, and a cache gives back what was computed or says why not."""

import shutil

import numpy as np
import pytest
import torch
from forward.tiny import some_trees, tiny
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from accord.forward import reference
from accord.forward.choose import choose
from accord.forward.reference import AdaptersOff, Cached, Frozen, cache_root, full_key, key
from accord.models.export import save
from accord.models.language import REFERENCE, TRAINED
from accord.models.lora import add_lora, load_adapter, train_all_weights
from accord.types import Logps, Refused, Tree

LORA = dict(rank=2, alpha=4.0, targets="all-linear", dropout=0.0, seed=0)


def move(model, by=0.3):
    with torch.no_grad():
        for number, parameter in enumerate(model.trainable().values()):
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) * by
            )


def adapted(dora=False):
    model, trees = tiny(), some_trees()
    base = choose(model, trees)(trees).reduce().detach()
    add_lora(model, **LORA, dora=dora)
    return model, trees, base


# ---------------------------------------------------------------- the network itself


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_adapters_off_is_the_base_to_the_bit(dora):
    model, trees, base = adapted(dora)
    reference = AdaptersOff(choose(model, trees))
    move(model)
    assert torch.equal(reference.logps(trees).sum, base.sum)
    assert (reference.forward(trees).reduce().sum - base.sum).abs().min() > 0.01
    assert not reference.logps(trees).sum.requires_grad


def test_gradient_flags_and_adapters_come_back_even_after_an_error():
    model, trees, _ = adapted()
    reference = AdaptersOff(choose(model, trees))
    move(model)
    flags = {name: p.requires_grad for name, p in model.root.named_parameters()}
    trained = reference.forward(trees).values.detach()
    reference.logps(trees)
    with pytest.raises(KeyboardInterrupt), model.as_reference():
        raise KeyboardInterrupt
    assert {name: p.requires_grad for name, p in model.root.named_parameters()} == flags
    assert any(flags.values()) and torch.equal(reference.forward(trees).values, trained)


@pytest.fixture
def incoming(tmp_path, tokenizer):
    """The folder of an adapter that was trained elsewhere."""
    model, _, _ = adapted()
    move(model)
    model.tokenizer = tokenizer
    save(model, tmp_path / "sft", {})
    return str(tmp_path / "sft")


def test_an_incoming_adapter_is_its_own_reference(incoming):
    """Not the base, which the adapter has left."""
    model, trees = tiny(), some_trees()
    forward = choose(model, trees)
    base = forward(trees).reduce().sum.detach()
    load_adapter(model, incoming)
    reference = AdaptersOff(choose(model, trees))
    start = reference.logps(trees).sum
    assert torch.equal(start, reference.forward(trees).reduce().sum), (
        "policy = reference before the first update"
    )
    assert (start - base).abs().min() > 0.01
    move(model)
    assert torch.equal(reference.logps(trees).sum, start)
    assert (reference.forward(trees).reduce().sum - start).abs().min() > 0.01
    flags = {name: p.requires_grad for name, p in model.root.named_parameters()}
    assert all(flag == (f".{TRAINED}." in name) for name, flag in flags.items())
    assert any(f".{REFERENCE}." in name for name in flags)
    with pytest.raises(KeyboardInterrupt), model.as_reference():
        raise KeyboardInterrupt
    assert {name: p.requires_grad for name, p in model.root.named_parameters()} == flags


def test_a_frozen_copy_does_not_move_with_the_policy():
    model, trees = tiny(), some_trees()
    train_all_weights(model)
    policy = choose(model, trees)
    reference = Frozen.copy_of(policy)
    start = policy(trees).reduce().sum.detach()
    assert torch.equal(reference.logps(trees).sum, start)
    move(model, 0.05)
    assert torch.equal(reference.logps(trees).sum, start) and not torch.equal(
        policy(trees).reduce().sum, start
    )
    assert not any(p.requires_grad for p in reference.forward.model.network.parameters())
    assert all(p.requires_grad for p in model.network.parameters())
    assert (
        reference.forward.path == policy.path
        and reference.forward.model.network is not model.network
    )


# ---------------------------------------------------------------- the cache


class Counting:
    """A reference that says −(row number) − 0.5 per token, and counts what it is asked."""

    name = "counting"

    def __init__(self):
        self.asked = []

    def logps(self, trees):
        self.asked += [tree.row for tree in trees]
        answers = [(-(tree.row + 0.5) * len(c), len(c)) for tree in trees for c in tree.completions]
        sums, counts = zip(*answers, strict=True)
        # a third: no float32 holds it
        return Logps(torch.tensor(sums, dtype=torch.float64) / 3, torch.tensor(counts))


def cache(folder):
    return Cached(folder, torch.device("cpu"))


def test_a_cache_gives_back_what_was_computed_in_any_order(tmp_path):
    trees, live = some_trees(), Counting()
    filled = cache(tmp_path)
    seen = []
    assert filled.fill(live, trees, 20, lambda done, total: seen.append((done, total))) == 4
    assert seen[-1] == (4, 4) and sorted(live.asked) == [0, 1, 2, 3]
    again = cache(tmp_path)
    assert again.load() == []
    for held in (filled, again):
        for order in (trees, trees[::-1], trees[2:3]):
            found, wanted = held.logps(order), Counting().logps(order)
            assert torch.equal(found.sum, wanted.sum) and torch.equal(found.count, wanted.count)
    assert found.sum.dtype == torch.float64


def test_only_what_is_missing_is_computed(tmp_path):
    trees, live = some_trees(), Counting()
    cache(tmp_path).fill(live, trees[:2], 100)
    second = cache(tmp_path)
    second.load()
    # one of its answers is known
    other = Tree(trees[1].prompt, (trees[1].completions[0], (9, 9)), 9)
    assert sorted(second.missing([*trees, other])) == [2, 3, 4]
    live.asked.clear()
    assert second.fill(live, [*trees, other], 100) == 3 and sorted(live.asked) == [2, 3, 9]
    assert second.fill(live, [*trees, other], 100) == 0
    third = cache(tmp_path)
    assert third.load() == [] and not len(third.missing([*trees, other]))


def test_pieces_are_kept_when_the_pass_is_cut_off(tmp_path):
    trees = [Tree((row + 1,), ((7,),), row) for row in range(300)]

    class Stops(Counting):
        def logps(self, trees):
            if len(self.asked) >= 270:
                raise KeyboardInterrupt
            return super().logps(trees)

    with pytest.raises(KeyboardInterrupt):
        cache(tmp_path).fill(Stops(), trees, 10)
    rest = cache(tmp_path)
    assert rest.load() == [] and len(rest.missing(trees)) == 300 - 256


def flip_a_bit(file):
    data = bytearray(file.read_bytes())
    data[-3] ^= 1  # in the tensors, which come last
    file.write_bytes(data)


def truncate(file):
    file.write_bytes(file.read_bytes()[:-5])


def other_checksum(file):
    save_file(load_file(file), file, metadata={"sha256": "0" * 64})


def no_checksum(file):
    save_file(load_file(file), file)


def other_sums(file):
    tensors = load_file(file)
    save_file(
        tensors | {"sums": tensors["sums"] + np.float32(1)}, file, metadata={"sha256": "0" * 64}
    )


def lacking(file):
    tensors = load_file(file)
    del tensors["counts"]
    save_file(tensors, file)


def empty(file):
    file.write_bytes(b"")


def of_another_reference(file):
    cache(file.parent / "other").fill(Counting(), some_trees()[:2], 100)
    (shard,) = (file.parent / "other").glob("*.safetensors")
    shard.replace(file)


DAMAGE = [
    flip_a_bit,
    truncate,
    other_checksum,
    no_checksum,
    other_sums,
    lacking,
    empty,
    of_another_reference,
]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda f: f.__name__)
def test_a_damaged_shard_is_reported_and_computed_again(tmp_path, damage):
    trees, live = some_trees(), Counting()
    cache(tmp_path).fill(live, trees[:2], 100)
    cache(tmp_path).fill(live, trees[2:], 100)
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) == 2
    damage(shards[0])
    held = cache(tmp_path)
    problems = held.load()
    assert len(problems) == 1 and shards[0].name in problems[0] and "computed again" in problems[0]
    live.asked.clear()
    assert held.fill(live, trees, 100) == 2 and len(live.asked) == 2
    assert torch.equal(held.logps(trees).sum, Counting().logps(trees).sum)
    assert cache(tmp_path).load() == []


def test_a_table_has_one_form_on_disk(tmp_path):
    """safetensors draws the order of a header's entries anew for each file: twenty would hardly
    agree by chance.
    """
    held, trees = cache(tmp_path), some_trees()
    held.fill(Counting(), trees, 100)
    for number in range(20):
        held.keep(tmp_path / f"{number}", trees)
    assert len({(tmp_path / f"{number}").read_bytes() for number in range(20)}) == 1
    assert cache(tmp_path).recall(tmp_path / "0") == ""


def test_half_written_files_are_not_read(tmp_path):
    cache(tmp_path).fill(Counting(), some_trees(), 100)
    shard = next(tmp_path.glob("*.safetensors"))
    shutil.copy(shard, tmp_path / ".staging.123")
    shard.unlink()
    held = cache(tmp_path)
    assert held.load() == [] and not held.table


def test_recheck_refuses_when_the_weights_moved(tmp_path):
    model, trees = tiny(), some_trees()
    live = Frozen(choose(model, trees))
    held = cache(tmp_path / "key")
    held.fill(live, trees, 100)
    finding = held.recheck(live, trees, 0, 2e-4)
    assert (
        finding.verdict == "ok"
        and finding.evidence["rows"] == 4
        and finding.evidence["nats_per_token"] < 1e-5
    )
    with torch.no_grad():
        model.network.model.layers[0].mlp.up_proj.weight.mul_(1.02)
    with pytest.raises(Refused, match="(?s)differ from the reference.*rm -r .*key"):
        held.recheck(live, trees, 0, 2e-4)


def test_recheck_refuses_numbers_that_are_not_numbers(tmp_path):
    trees, live = some_trees(), Counting()
    held = cache(tmp_path)
    held.fill(live, trees, 100)
    held.table |= {k: (float("nan"), count) for k, (_, count) in held.table.items()}
    with pytest.raises(Refused):
        held.recheck(live, trees, 0, 2e-4)


def test_recheck_takes_eight_rows_that_depend_on_the_seed(tmp_path):
    trees, held = [Tree((row + 1,), ((7,),), row) for row in range(50)], cache(tmp_path)
    held.fill(Counting(), trees, 100)
    asked = []
    for seed in (0, 0, 1):
        live = Counting()
        assert held.recheck(live, trees, seed, 2e-4).evidence["rows"] == 8
        asked.append(live.asked)
    assert len(set(asked[0])) == 8 and asked[0] == asked[1] != asked[2]


# ---------------------------------------------------------------- keys


def test_keys_know_where_the_prompt_ends():
    a, b, c = 10, 11, 12
    keys = [
        key((a,), (b, c)),
        key((a, b), (c,)),
        key((a, b), (c, 0)),
        key((0, a, b), (c,)),
        key((b, a), (c,)),
    ]
    assert len(set(keys)) == 5 and {len(k) for k in keys} == {16}


ids = st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple)


@given(ids, ids, ids, ids)
def test_keys_are_equal_exactly_for_equal_rows(prompt, completion, other_prompt, other_completion):
    same = (prompt, completion) == (other_prompt, other_completion)
    assert (key(prompt, completion) == key(other_prompt, other_completion)) == same


def test_the_full_key_depends_on_every_part_and_not_on_their_order():
    one = full_key(weights="a", template="b")
    assert one == full_key(template="b", weights="a")
    assert (
        len(
            {
                one,
                full_key(weights="a", template="c"),
                full_key(weights="b", template="a"),
                full_key(weights="a"),
            }
        )
        == 4
    )


def test_the_cache_lies_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path))
    assert cache_root() == tmp_path / "reference"


def test_a_cache_lies_under_its_key():
    """A run looks its reference up by the full key: another key is another folder."""
    held = Cached.under("abc", torch.device("cpu"))
    assert held == Cached(reference.cache_root() / "abc", torch.device("cpu")) and held.table == {}
