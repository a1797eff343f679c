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


share = st.sampled_from([0, 1, 2, 8])


@settings(deadline=None)
@given(trees, share)
def test_packing_is_lossless(trees, share):
    """Each completion can be read back from the layout: its tokens, what predicts each, and where that stands."""
    layout = pack(trees, share=share)
    answers = [(tree.prompt, completion) for tree in trees for completion in tree.completions]
    alone = sum(tree.tokens for tree in trees) - len(answers)  # last tokens are only ever targets
    assert layout.tokens == alone if share == 0 else layout.tokens <= alone
    assert layout.count.tolist() == [len(completion) for _, completion in answers]
    for n, (prompt, completion) in enumerate(answers):
        mine = layout.owner == n
        source = layout.source[mine]
        assert layout.targets[mine].tolist() == list(completion)
        assert layout.ids[source].tolist() == [prompt[-1], *completion[:-1]]
        assert layout.positions[source].tolist() == list(range(len(prompt) - 1, len(prompt) + len(completion) - 1))


@settings(deadline=None)
@given(trees, share)
def test_segments_cover_every_token_once_and_see_their_own_path(trees, share):
    layout = pack(trees, share=share)
    assert [t for s in layout.segments for t in range(s.start, s.stop)] == list(range(layout.tokens))
    seen_by = {}  # what the token at each place sees, itself included
    for segment in layout.segments:
        seen = [t for a, b in (*segment.ancestors, (segment.start, segment.stop)) for t in range(a, b)]
        assert layout.positions[seen].tolist() == list(range(len(seen)))
        assert segment.depth == len(seen) - len(segment)
        ids = layout.ids[seen].tolist()
        seen_by |= {segment.start + i: ids[: segment.depth + i + 1] for i in range(len(segment))}
    n = 0
    for tree in trees:
        for completion in tree.completions:
            contexts = [seen_by[int(place)] for place in layout.source[layout.owner == n]]
            assert contexts == [[*tree.prompt, *completion[:i]] for i in range(len(completion))]
            n += 1


def test_a_common_beginning_is_laid_once():
    """System turn 1 2 3, two questions under it, one of them asked twice, and a stranger."""
    one, two = Tree((1, 2, 3, 4), ((7, 8),), 0), Tree((1, 2, 3, 5, 6), ((7, 8), (9,)), 1)
    layout = pack([two, one, Tree((4, 4), ((1,),), 2), two], share=3)
    assert layout.ids.tolist() == [1, 2, 3, 4, 5, 6, 4, 4, 7, 7, 7]
    assert layout.positions.tolist() == [0, 1, 2, 3, 3, 4, 0, 1, 5, 4, 5]
    assert [s.ancestors for s in layout.segments[:4]] == [(), ((0, 3),), ((0, 3),), ()]
    assert layout.segments[4].ancestors == ((0, 3), (4, 6))
    assert layout.owner.tolist() == [0, 0, 1, 2, 2, 3, 4, 4, 5]


def test_a_short_agreement_is_not_shared():
    layout = pack([Tree((1, 2, 3), ((7,),), 0), Tree((1, 2, 4), ((7,),), 1)], share=3)
    assert layout.ids.tolist() == [1, 2, 3, 1, 2, 4]


def test_a_small_layout_by_hand():
    layout = pack([Tree((5, 6), ((7, 8, 9), (4,)), 0), Tree((3,), ((2, 1),), 1)], share=0)
    assert layout.ids.tolist() == [5, 6, 3, 7, 8, 2]
    assert layout.positions.tolist() == [0, 1, 0, 2, 3, 1]
    assert layout.source.tolist() == [1, 3, 4, 1, 2, 5]
    assert layout.targets.tolist() == [7, 8, 9, 4, 2, 1]
    assert layout.owner.tolist() == [0, 0, 0, 1, 2, 2]
    assert [(s.start, s.stop, s.ancestors) for s in layout.segments] == [
        (0, 2, ()), (2, 3, ()), (3, 5, ((0, 2),)), (5, 6, ((2, 3),)),
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
