"""The plan of blocks: every query once, with the keys of its path and no others, little of it
padding.
"""

import torch
from forward.tiny import some_trees
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.forward import blocks
from accord.forward.blocks import HIDE, QUERIES, plan_of
from accord.forward.layout import pack
from accord.types import Tree

token = st.integers(0, 3)
tokens = st.lists(token, min_size=1, max_size=200).map(tuple)
tree = st.builds(Tree, tokens, st.lists(tokens, min_size=1, max_size=3).map(tuple), st.just(0))


def seen_by_plan(layout, groups, window=None):
    """For each (head of a group, token): the packed tokens that it sees, from the plan alone."""
    plan = plan_of(layout, groups)
    rows = []
    for batch in plan.batches:
        n, length = batch.query_at.shape
        bias = batch.bias(window, torch.float32)
        keys = batch.key.view(n, -1)
        query = batch.query.view(n, groups, length)
        for block in range(n):
            for head in range(groups):
                for i in range(length):
                    rows.append(
                        (int(query[block, head, i]), keys[block][bias[block, i] == 0].tolist())
                    )
    found = [rows[place] for place in plan.inverse.tolist()]
    assert [index for index, _ in found] == list(range(groups * layout.tokens)), (
        "each query in its own place"
    )
    return [keys for _, keys in found]


@settings(max_examples=25, deadline=None)
@given(st.lists(tree, min_size=1, max_size=5), st.integers(1, 3), st.sampled_from([None, 1, 7]))
def test_every_query_meets_the_keys_of_its_path(trees, groups, window):
    layout = pack(trees)
    path = {}
    for segment in layout.segments:
        whole = [
            t for a, b in (*segment.ancestors, (segment.start, segment.stop)) for t in range(a, b)
        ]
        path |= {
            t: whole[: segment.depth + t - segment.start + 1]
            for t in range(segment.start, segment.stop)
        }
    wanted = [path[t][-window if window else 0 :] for t in range(layout.tokens)]
    assert seen_by_plan(layout, groups, window) == wanted * groups


def test_a_batch_of_many_short_rows_is_few_batches_with_little_padding():
    trees = [Tree(tuple(range(60 + i % 7)), ((1,) * (10 + i % 5), (2,) * 12), i) for i in range(32)]
    plan = plan_of(pack(trees, share=0), 1)
    scores = sum(batch.query_at.numel() * batch.key_at.shape[1] for batch in plan.batches)
    useful = sum(len(s) * (s.depth + len(s)) for s in pack(trees, share=0).segments)
    assert len(plan.batches) <= 4 and scores < 2 * useful


def test_a_long_segment_is_cut():
    plan = plan_of(pack([Tree((1,) * 5 * QUERIES, ((1, 2),), 0)]), 1)
    assert max(batch.query_at.shape[1] for batch in plan.batches) == QUERIES
    assert (
        sum(batch.query_at.numel() * batch.key_at.shape[1] for batch in plan.batches)
        < 0.75 * (5 * QUERIES) ** 2
    )


def test_the_plan_and_its_masks_are_made_once():
    layout = pack(some_trees())
    batch = plan_of(layout, 2).batches[0]
    assert plan_of(layout, 2).batches[0] is batch and plan_of(layout, 1).batches[0] is not batch
    assert batch.bias(None, torch.float32) is batch.bias(None, torch.float32)
    assert batch.bias(3, torch.float32) is not batch.bias(None, torch.float32)


def test_what_is_hidden_stays_finite():
    assert torch.softmax(torch.tensor([HIDE - 1e4, HIDE]), 0).isfinite().all()
    assert torch.tensor(2 * HIDE, dtype=torch.bfloat16).isfinite()
    assert blocks.WIDTH % 32 == 0
