"""The order of several files: counts are exact, each batch has its share of each file, and a batch
depends on nothing but its index.
"""

from collections import Counter
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.data.order import Order, Part, _epoch
from accord.verify.independent import order_finding

files = st.lists(
    st.tuples(st.integers(1, 30), st.sampled_from([0.01, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.7])),
    min_size=1,
    max_size=4,
)


def planned(files, batch_size=8, seed=0, strata=None, unit=1) -> Order:
    parts = tuple(Part(rows * unit, weight) for rows, weight in files)
    n = sum(part.rows for part in parts)
    return Order(n, batch_size * unit, seed, strata, unit, parts)


def rows_of(order: Order, epochs: int) -> np.ndarray:
    count = epochs * order.batches_per_epoch
    return np.concatenate([order.batch(index) for index in range(count)])


def file_of(order: Order, rows) -> np.ndarray:
    return np.searchsorted(np.cumsum([part.rows for part in order.parts]), rows, side="right")


@given(files, st.integers(1, 20), st.integers(0, 3), st.integers(1, 5), st.booleans())
def test_counts_are_exact_over_any_number_of_epochs(files, batch_size, seed, epochs, mixed):
    """weight × rows of each file an epoch, and no row more than once oftener than another of its
    file: counted by hand, without the order's own arithmetic.
    """
    total = sum(rows for rows, _ in files)
    strata = bytes(row % 2 for row in range(total)) if mixed else None
    order = planned(files, batch_size, seed, strata)
    counts = Counter(rows_of(order, epochs).tolist())
    start = 0
    for rows, weight in files:
        times = [counts[row] for row in range(start, start + rows)]
        assert sum(times) == epochs * max(1, round(weight * rows))
        assert max(times) - min(times) <= 1
        start += rows
    assert not counts.keys() - set(range(total))


@given(files, st.integers(1, 20), st.integers(0, 3), st.integers(0, 3))
def test_each_batch_has_its_share_of_each_file(files, batch_size, seed, epoch):
    """Rows of a file stand at even distances of an epoch: a stretch of s of N rows has s × share of
    them, give or take one for its ends and the share of one row of each file.
    """
    order = planned(files, batch_size, seed)
    taken = [max(1, round(weight * rows)) for rows, weight in files]
    for position in range(order.batches_per_epoch):
        batch = order.batch(epoch * order.batches_per_epoch + position)
        found = np.bincount(file_of(order, batch), minlength=len(files))
        for count, own in zip(found, taken, strict=True):
            share = own / sum(taken)
            assert abs(count - share * len(batch)) <= 1 + share * len(files) + 1e-9


@given(files, st.integers(1, 20), st.integers(0, 2**32))
def test_a_batch_depends_on_nothing_but_its_index(files, batch_size, seed):
    """Resuming anywhere, also in the middle of an epoch that takes a half of a file."""
    order = planned(files, batch_size, seed)
    n = order.batches_per_epoch
    batches = [order.batch(index).tolist() for index in range(3 * n)]
    for index in reversed(range(3 * n)):
        _epoch.cache_clear()
        assert planned(files, batch_size, seed).batch(index).tolist() == batches[index]
    sizes = [len(batch) for batch in batches]
    assert max(sizes) - min(sizes) <= 1 and max(sizes) <= batch_size


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 5), st.booleans())
def test_one_file_of_weight_one_is_the_file_alone(n, batch_size, seed, mixed):
    strata = bytes(row % 2 for row in range(n)) if mixed else None
    alone = Order(n, batch_size, seed, strata)
    mix = Order(n, batch_size, seed, strata, parts=(Part(n, 1.0),))
    for index in range(3 * alone.batches_per_epoch):
        assert mix.batch(index).tolist() == alone.batch(index).tolist()


def test_a_half_in_each_epoch_and_the_other_half_in_the_next():
    order = planned([(10, 0.5), (7, 1.0)], batch_size=4)
    n = order.batches_per_epoch
    first, second = (
        {int(r) for i in range(e * n, e * n + n) for r in order.batch(i) if r < 10} for e in (0, 1)
    )
    assert len(first) == len(second) == 5 and not first & second


def test_the_mixed_order_is_the_same_on_every_machine():
    """Written down once: a change of the generator would make a resumed run skip rows."""
    order = planned([(4, 0.5), (3, 2.0)], batch_size=4)
    assert [order.batch(index).tolist() for index in range(4)] == [
        [4, 5, 1, 6],
        [5, 4, 2, 6],
        [4, 0, 5, 6],
        [6, 3, 5, 4],
    ]


@given(files, st.integers(1, 6))
def test_pairs_of_labels_stay_together(files, batch_size):
    order = planned(files, batch_size, unit=2)
    for index in range(2 * order.batches_per_epoch):
        batch = order.batch(index)
        assert (batch[0::2] % 2 == 0).all() and (batch[1::2] == batch[0::2] + 1).all()


def test_labels_are_spread_within_each_file():
    """Both files are half good; so is each batch, up to a row of each file."""
    strata = bytes([1, 0] * 40 + [1] * 20 + [0] * 20)
    order = planned([(80, 1.0), (40, 0.5)], batch_size=10, strata=strata)
    for index in range(2 * order.batches_per_epoch):
        good = sum(strata[row] for row in order.batch(index))
        assert abs(good - 5) <= 2


@given(files, st.integers(1, 20), st.integers(0, 3))
def test_how_often_a_row_may_come_in_an_epoch(files, batch_size, epoch):
    """An upper bound that no row passes, and never more than two over its weight."""
    order = planned(files, batch_size)
    n = order.batches_per_epoch
    indices = range(epoch * n, epoch * n + n)
    counts = Counter(row for index in indices for row in order.batch(index).tolist())
    for index in indices:
        rows, most = order.batch(index), order.most_often(index)
        for row, allowed in zip(rows.tolist(), most.tolist(), strict=True):
            size, weight = files[file_of(order, row)]
            assert counts[row] <= allowed <= ceil(max(1, round(weight * size)) / size) + 1


@given(files, st.integers(1, 20))
def test_every_row_comes_in_the_batches_of_all_rows(files, batch_size):
    order = planned(files, batch_size)
    if order.batches_of_all_rows <= 300:
        seen = {int(r) for i in range(order.batches_of_all_rows) for r in order.batch(i)}
        assert seen == set(range(order.n))


def test_whether_rows_repeat():
    halves = planned([(10, 0.5), (10, 0.5)], batch_size=5)
    assert not halves.repeats(4) and halves.repeats(5)
    assert planned([(10, 2.0), (10, 0.5)], batch_size=5).repeats(3)


def test_the_digest_depends_on_sizes_that_the_first_epoch_does_not_show():
    """Half of 10 and half of 11 rows are five; the second epochs differ."""
    one, other = planned([(10, 0.5), (5, 1)]), planned([(11, 0.5), (5, 1)])
    assert one.digest != other.digest


# ---------------------------------------------------------------- the proof of step 0


def test_the_proof_passes():
    order = planned([(20, 0.5), (6, 2.0), (9, 1.0)])
    finding = order_finding(order, np.full(35, -1))
    assert finding.verdict == "ok" and "each epoch takes 31 rows" in finding.says


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda order, i, rows: [r if r < 20 else 20 for r in rows], "of file 2 one row comes"),
        (lambda order, i, rows: [r % 20 for r in rows], "file 1 should give 10 rows in 1 epoch"),
        # the second epoch takes the same half again
        (
            lambda order, i, rows: RIGHT(order, i % order.batches_per_epoch).tolist(),
            "of file 1 one row comes 2 times in 2 epochs, and another 0 times",
        ),
    ],
    ids=["one row", "one file", "same half"],
)
def test_the_proof_counts(change, says, monkeypatch):
    monkeypatch.setattr(
        Order, "batch", lambda self, i: np.array(change(self, i, RIGHT(self, i).tolist()))
    )
    finding = order_finding(planned([(20, 0.5), (6, 2.0)]), np.full(26, -1))
    assert finding.refused and says in finding.says


RIGHT = Order.batch
