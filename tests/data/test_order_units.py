"""Labels of one pair stay together, and batches of them are those of the pairs."""

import numpy as np
import pytest

from accord.data.order import Order
from accord.data.tree_table import packed
from accord.training.setup.plan import require_pairs_of_labels
from accord.types import Tree, UsageError


@pytest.mark.parametrize("n, batch", [(24, 4), (23, 4), (7, 16), (50, 7)])
def test_batches_of_labels_are_those_of_pairs(n, batch):
    pairs, labels = Order(n, min(batch, n), 3), Order(2 * n, 2 * min(batch, n), 3, unit=2)
    assert labels.batches_per_epoch == pairs.batches_per_epoch
    for index in range(2 * pairs.batches_per_epoch):
        rows = labels.batch(index)
        assert (rows[::2] // 2 == pairs.batch(index)).all() and (rows[1::2] == rows[::2] + 1).all()


def test_every_label_once_an_epoch():
    order = Order(46, 8, 0, unit=2)
    rows = np.concatenate([order.batch(index) for index in range(order.batches_per_epoch)])
    assert sorted(rows) == list(range(46))


def labels(desirable, prompts=None):
    prompts = prompts or [(1 + i // 2,) for i in range(len(desirable))]
    return packed(
        Tree(prompt, ((5, 6),), row, good)
        for row, (prompt, good) in enumerate(zip(prompts, desirable, strict=True))
    )


def test_what_is_two_labels_of_each_pair():
    require_pairs_of_labels(labels([True, False, True, False]), 4)


BAD = {
    "no labels": (labels([None, None]), 2),
    "one is missing": (labels([True, False, True]), 2),
    "another order": (labels([False, True]), 2),
    "two prompts": (labels([True, False], [(1,), (2,)]), 2),
    "a batch that splits a pair": (labels([True, False]), 3),
}


@pytest.mark.parametrize("trees, batch_size", BAD.values(), ids=BAD)
def test_what_is_not(trees, batch_size):
    with pytest.raises(UsageError, match="train.pair_labels"):
        require_pairs_of_labels(trees, batch_size)
