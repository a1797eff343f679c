"""Which pairs push their chosen answer down, by hand."""

import pytest
import torch
from training.helpers import ready_for

from accord.evaluate.similarity import ches, overlap
from accord.types import Tree


def test_ches_by_hand(tiny_folder, pairs_file):
    ready = ready_for(tiny_folder, pairs_file)
    tree = ready.source.rows.trees[0]
    means = []
    for completion in tree.completions:
        with torch.no_grad():
            states = (
                ready.model.trunk(input_ids=torch.tensor([tree.prompt + completion]))
                .last_hidden_state[0]
                .double()
            )
        means.append(states[len(tree.prompt) - 1 : -1].mean(0))
    expected = (means[0] * means[1]).sum() - means[0].square().sum()
    assert ches(ready.model, [tree]).item() == pytest.approx(expected.item(), rel=1e-5)


def test_equal_answers_have_the_largest_similarity(tiny_folder, pairs_file):
    """A pair whose answers are the same has CHES 0 exactly."""
    ready = ready_for(tiny_folder, pairs_file)
    tree = ready.source.rows.trees[0]
    same = Tree(tree.prompt, (tree.completions[0],) * 2, 0)
    assert ches(ready.model, [same]).item() == pytest.approx(0, abs=1e-9) and overlap(same) == 1
    assert overlap(Tree((1,), ((5, 5, 6), (5, 7)), 0)) == 0.5
