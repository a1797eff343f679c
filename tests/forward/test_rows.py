"""From completions back to rows: chosen first, labels in their order."""

import pytest
import torch

from accord.forward.rows import as_rows
from accord.types import Logps, Tree


def logps(n):
    return Logps(-torch.arange(1.0, n + 1), torch.arange(1, n + 1))


def test_pairs_are_chosen_then_rejected_tree_by_tree():
    trees = [Tree((1,), ((2,), (3,)), row) for row in range(3)]
    rows = as_rows("pairs", trees, logps(6))
    assert rows.chosen.sum.tolist() == [-1, -3, -5] and rows.rejected.sum.tolist() == [-2, -4, -6]
    assert rows.chosen.count.tolist() == [1, 3, 5] and rows.rejected.count.tolist() == [2, 4, 6]


def test_labels_and_demonstrations_keep_their_order():
    trees = [Tree((1,), ((2,),), row, desirable=row == 1) for row in range(3)]
    rows = as_rows("labelled", trees, logps(3))
    assert rows.desirable.tolist() == [False, True, False] and rows.completion.sum.tolist() == [
        -1,
        -2,
        -3,
    ]
    assert as_rows("demonstrations", trees, logps(3)).completion.count.tolist() == [1, 2, 3]


def test_a_pair_is_no_label():
    with pytest.raises(AssertionError, match="one completion each"):
        as_rows("labelled", [Tree((1,), ((2,), (3,)), 0)], logps(2))
