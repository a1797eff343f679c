"""Order is a pure function; every row comes once an epoch; no row meets its own prompt in KTO's
baseline.
"""

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.data.order import Order, Part, _epoch, mismatch
from accord.types import Tree

sizes = st.integers(1, 60)


def epoch(order, number=0):
    n = order.batches_per_epoch
    return [order.batch(index) for index in range(number * n, (number + 1) * n)]


@given(sizes, sizes, st.integers(0, 3), st.integers(0, 4), st.booleans())
def test_every_row_once_an_epoch_in_batches_of_even_size(n, batch_size, seed, number, mixed):
    order = Order(n, batch_size, seed, bytes(row % 3 for row in range(n)) if mixed else None)
    batches = epoch(order, number)
    assert sorted(row for batch in batches for row in batch) == list(range(n))
    lengths = [len(batch) for batch in batches]
    assert max(lengths) - min(lengths) <= 1 and max(lengths) <= batch_size and min(lengths) > 0
    assert len(batches) == -(-n // batch_size)


@given(sizes, sizes, st.integers(0, 2**32))
def test_a_batch_depends_on_nothing_but_its_index(n, batch_size, seed):
    """Resuming at any step, in any order, in another process."""
    batches = [order.tolist() for order in epoch(Order(n, batch_size, seed), 1)]
    for index in reversed(range(len(batches))):
        _epoch.cache_clear()
        again = Order(n, batch_size, seed)
        assert again.batch(len(batches) + index).tolist() == batches[index]


def test_the_order_is_the_same_on_every_machine():
    """Written down once: a change of the generator would make a resumed run skip rows."""
    assert Order(10, 4, 0).batch(0).tolist() == [0, 7, 8]
    assert Order(10, 4, 0, bytes((0, 1) * 5)).batch(0).tolist() == [8, 1, 2]


@given(sizes, sizes, st.integers(0, 3), st.booleans(), st.sampled_from([1, 2]), st.booleans())
def test_the_digest_is_that_of_all_batches(n, size, seed, mixed, unit, several):
    """Checkpoints hold it: batches as int64 with a bar between, then the files."""
    strata = bytes(row % 3 for row in range(n)) if mixed else None
    parts = (Part(n * unit, 1.5), Part(3 * unit, 0.5)) if several else ()
    if parts and strata is not None:
        strata += bytes(3)
    rows = (n + 3 * several) * unit
    order = Order(rows, size * unit, seed, strata, unit, parts)
    batches = [batch.astype(np.int64).tobytes() for batch in epoch(order)]
    batches += [repr((part.rows, part.taken(unit))).encode() for part in parts]
    assert order.digest == hashlib.sha256(b"|".join(batches)).hexdigest()


def test_the_digest_of_a_run_of_before():
    """Written down once: a resumed run refuses another."""
    mix = Order(12, 4, 1, bytes((0, 1) * 3), 2, (Part(8, 2.0), Part(4, 0.5)))
    assert Order(10, 4, 0).digest.startswith("95ca9137e9070c42a0fe95c25d42eedf")
    assert mix.digest.startswith("e9b0f87ea1d154dae5023c1ab2a83539")


def test_epochs_and_seeds_differ():
    orders = [
        np.concatenate(epoch(Order(50, 7, seed), number)).tolist()
        for seed in (0, 1)
        for number in (0, 1, 2)
    ]
    assert len({tuple(order) for order in orders}) == 6 and all(
        order != sorted(order) for order in orders
    )


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 5))
def test_labels_are_spread_over_batches(good, bad, seed):
    """Each batch holds its share of each label, up to one row: none is all good or all bad by
    chance.
    """
    n = good + bad
    strata = bytes([1] * good + [0] * bad)
    order = Order(n, 8, seed, strata)
    for batch in epoch(order):
        found = sum(strata[row] for row in batch)
        assert abs(found - len(batch) * good / n) < 2


def test_rows_of_a_stratum_are_shuffled():
    strata = bytes((0, 1) * 30)
    rows = np.concatenate(epoch(Order(60, 8, 0, strata)))
    assert [r for r in rows if r % 2] != sorted(r for r in rows if r % 2)


# ---------------------------------------------------------------- mismatch


def rows(prompts):
    """One tree a prompt number; the answer names its row."""
    return [
        Tree((prompt + 1,), ((100 + row,),), row, row % 2 == 0)
        for row, prompt in enumerate(prompts)
    ]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(0, 3))
def test_no_row_is_given_an_answer_to_its_own_prompt(prompts, seed):
    trees = rows(prompts)
    found = mismatch(trees, seed)
    owner = {tree.completions[0]: tree.prompt for tree in trees}
    assert all(owner[tree.completions[0]] != tree.prompt for tree in found)
    # each row once, each answer once
    assert max(Counter(tree.row for tree in found).values(), default=1) == 1
    assert max(Counter(tree.completions for tree in found).values(), default=1) == 1
    assert all(
        tree.prompt == trees[tree.row].prompt and tree.desirable == trees[tree.row].desirable
        for tree in found
    )
    largest = max(Counter(prompts).values())
    # as many as there are partners for
    assert len(found) == min(len(prompts), 2 * (len(prompts) - largest))


def test_one_prompt_has_no_partners():
    assert mismatch(rows([3, 3, 3]), 0) == [] == mismatch(rows([1]), 0)


def test_half_of_a_batch_with_one_prompt():
    assert len(mismatch(rows([0, 0, 1, 2]), 0)) == 4
    assert len(mismatch(rows([0, 0, 0, 1]), 0)) == 2


@given(st.integers(2, 12), st.integers(0, 3))
def test_the_two_labels_of_a_pair_are_never_partners(pairs, seed):
    trees = rows([row // 2 for row in range(2 * pairs)])
    for tree in mismatch(trees, seed):
        donor = tree.completions[0][0] - 100
        assert donor // 2 != tree.row // 2


def test_pairs_give_their_chosen_answer():
    trees = [Tree((row + 1,), ((100 + row,), (200 + row,)), row) for row in range(4)]
    assert all(len(t.completions) == 1 and t.completions[0][0] < 200 for t in mismatch(trees, 0))


@pytest.mark.parametrize("prompts", [list(range(12)), [0, 1] * 6])
def test_partners_are_drawn_from_the_seed(prompts):
    trees = rows(prompts)
    assert mismatch(trees, 3) == mismatch(trees, 3)
    if len(set(prompts)) > 2:
        assert mismatch(trees, 3) != mismatch(trees, 4)
