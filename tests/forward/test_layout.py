"""Where tokens lie: what a packed batch holds, and how batches are cut."""

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.forward.layout import beside_alike, micro_batches, pack, tokens_at_most
from accord.types import Tree

some = st.lists(st.integers(0, 9), min_size=1, max_size=5).map(tuple)
trees = st.lists(
    st.builds(Tree, some, st.lists(some, min_size=1, max_size=3).map(tuple), st.just(0)),
    min_size=1,
    max_size=5,
)


share = st.sampled_from([0, 1, 2, 8])


@settings(deadline=None)
@given(trees, share)
def test_packing_is_lossless(trees, share):
    """Each completion can be read back from the layout: its tokens, what predicts each, and where
    that stands.
    """
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
        assert layout.positions[source].tolist() == list(
            range(len(prompt) - 1, len(prompt) + len(completion) - 1)
        )


@settings(deadline=None)
@given(trees, share)
def test_segments_cover_every_token_once_and_see_their_own_path(trees, share):
    layout = pack(trees, share=share)
    assert [t for s in layout.segments for t in range(s.start, s.stop)] == list(
        range(layout.tokens)
    )
    seen_by = {}  # what the token at each place sees, itself included
    for segment in layout.segments:
        seen = [
            t for a, b in (*segment.ancestors, (segment.start, segment.stop)) for t in range(a, b)
        ]
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
        (0, 2, ()),
        (2, 3, ()),
        (3, 5, ((0, 2),)),
        (5, 6, ((2, 3),)),
    ]
    assert layout.ids.dtype == torch.long


begun = st.builds(lambda length, rest: (*range(100, 100 + length), *rest), st.integers(0, 20), some)
alike = st.lists(
    st.builds(Tree, begun, st.lists(some, min_size=1, max_size=3).map(tuple), st.just(0)),
    min_size=1,
    max_size=6,
)


@settings(deadline=None)
@given(trees | alike, st.integers(1, 60))
def test_micro_batches_keep_order_and_budget(trees, budget):
    groups = micro_batches(trees, budget)
    assert [index for group in groups for index in group] == list(range(len(trees)))
    for group in ([trees[i] for i in group] for group in groups):
        assert pack(group).tokens <= tokens_at_most(group) <= budget or len(group) == 1
    # no group could have taken the next tree as well, had it nothing in common with the one before
    for group, after in pairwise(groups):
        assert sum(trees[i].tokens for i in (*group, after[0])) > budget


def test_micro_batches_count_what_prompts_have_in_common_once():
    """Three rows of 30 + 2 + 1 tokens with one prompt: 36; a prompt that goes on otherwise after 20
    shares 13 for sure.
    """
    same, other = tuple(range(30)), (*range(20), *range(50, 60))
    trees = [
        Tree(prompt, ((1, 2), (3,)), row) for row, prompt in enumerate((same, same, same, other))
    ]
    tokens = trees[0].tokens
    assert micro_batches(trees, tokens + 2 * (tokens - 30)) == [[0, 1, 2], [3]]
    assert micro_batches(trees, tokens + 2 * (tokens - 30) + tokens - 13) == [[0, 1, 2, 3]]
    assert micro_batches(trees, tokens + 2 * (tokens - 30) + tokens - 14) == [[0, 1, 2], [3]]


@settings(deadline=None)
@given(alike)
def test_alike_prompts_are_put_side_by_side(trees):
    order = beside_alike(trees, range(len(trees)))
    assert sorted(order) == list(range(len(trees)))
    prompts = [trees[i].prompt for i in order]
    assert prompts == sorted(prompts)
    # otherwise as they came
    assert all(a < b for a, b in pairwise(order) if trees[a].prompt == trees[b].prompt)


def test_dialogues_that_share_a_turn_are_found_among_others_that_begin_with_the_same_word():
    one, two, three = (1, *range(10, 30), 5), (1, *range(10, 30), 6), (1, 2, 3)
    layout = pack(
        [Tree(prompt, ((7,),), row) for row, prompt in enumerate((three, two, one))], share=8
    )
    assert layout.tokens == 21 + 1 + 1 + 3


def test_no_trees_make_no_batches():
    assert micro_batches([], 10) == []
