"""Where tokens lie: what a packed batch holds, and how batches are cut."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.forward.layout import micro_batches, pack
from accord.types import Tree

some = st.lists(st.integers(0, 9), min_size=1, max_size=5).map(tuple)
trees = st.lists(
    st.builds(Tree, some, st.lists(some, min_size=1, max_size=3).map(tuple), st.just(0)), min_size=1, max_size=5
)


@settings(deadline=None)
@given(trees)
def test_packing_is_lossless(trees):
    """Each completion can be read back from the layout: its tokens, what predicts each, and where that stands."""
    layout = pack(trees)
    answers = [(tree.prompt, completion) for tree in trees for completion in tree.completions]
    assert layout.tokens == sum(tree.tokens for tree in trees) - len(answers)  # last tokens are only ever targets
    assert layout.count.tolist() == [len(completion) for _, completion in answers]
    for n, (prompt, completion) in enumerate(answers):
        mine = layout.owner == n
        source = layout.source[mine]
        assert layout.targets[mine].tolist() == list(completion)
        assert layout.ids[source].tolist() == [prompt[-1], *completion[:-1]]
        assert layout.positions[source].tolist() == list(range(len(prompt) - 1, len(prompt) + len(completion) - 1))


@settings(deadline=None)
@given(trees)
def test_segments_cover_every_token_once_and_see_their_own_path(trees):
    layout = pack(trees)
    assert [t for s in layout.segments for t in range(s.start, s.stop)] == list(range(layout.tokens))
    paths = []
    for segment in layout.segments:
        seen = [t for a, b in (*segment.ancestors, (segment.start, segment.stop)) for t in range(a, b)]
        assert layout.positions[seen].tolist() == list(range(len(seen)))
        assert segment.depth == len(seen) - len(segment)
        paths.append(layout.ids[seen].tolist())
    wanted = []
    for tree in trees:
        wanted.append(list(tree.prompt))
        wanted += [[*tree.prompt, *c[:-1]] for c in tree.completions if len(c) > 1]
    assert paths == wanted


def test_a_small_layout_by_hand():
    layout = pack([Tree((5, 6), ((7, 8, 9), (4,)), 0), Tree((3,), ((2, 1),), 1)])
    assert layout.ids.tolist() == [5, 6, 7, 8, 3, 2]
    assert layout.positions.tolist() == [0, 1, 2, 3, 0, 1]
    assert layout.source.tolist() == [1, 2, 3, 1, 4, 5]
    assert layout.targets.tolist() == [7, 8, 9, 4, 2, 1]
    assert layout.owner.tolist() == [0, 0, 0, 1, 2, 2]
    assert [(s.start, s.stop, s.ancestors) for s in layout.segments] == [
        (0, 2, ()), (2, 4, ((0, 2),)), (4, 5, ()), (5, 6, ((4, 5),)),
    ]  # fmt: skip
    assert layout.ids.dtype == torch.long


@settings(deadline=None)
@given(trees, st.integers(1, 40))
def test_micro_batches_keep_order_and_budget(trees, budget):
    groups = micro_batches(trees, budget)
    assert [index for group in groups for index in group] == list(range(len(trees)))
    sizes = [sum(trees[i].tokens for i in group) for group in groups]
    assert all(size <= budget or len(group) == 1 for size, group in zip(sizes, groups))
    # no group could have taken the next tree as well
    assert all(size + trees[group[0]].tokens > budget for size, group in zip(sizes, groups[1:]))


def test_no_trees_make_no_batches():
    assert micro_batches([], 10) == []
