"""Which micro-batches are computed: every row once, alike beside alike,
and each row found again.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from accord.distributed.world import ALONE, World
from accord.forward.layout import pack
from accord.forward.shares import places, shares
from accord.types import Tree

prompts = st.sampled_from([(*range(40), 1), (*range(40), 2), (*range(10), 3), (9, 9)])
trees = st.lists(
    st.builds(
        lambda prompt, n, row: Tree(prompt, ((5,) * n, (6,)), row),
        prompts,
        st.integers(1, 4),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(trees, st.integers(1, 200), st.integers(1, 3))
def test_every_row_once_and_in_the_place_that_is_said(trees, budget, ranks):
    world = World(0, ranks)
    laid = [tree for mine in shares(trees, budget, world) for group in mine for tree in group]
    assert [id(tree) for tree in laid] == [id(trees[at]) for at in places(trees, world)]
    assert sorted(places(trees, world)) == list(range(len(trees)))


def test_rows_that_share_a_prompt_are_computed_together():
    """Two prompts in turns, a micro-batch holds two rows: in the order of the file each would be
    computed twice as often.
    """
    one, two = tuple(range(40)), tuple(range(50, 90))
    trees = [Tree(prompt, ((1,), (2,)), row) for row, prompt in enumerate((one, two, one, two))]
    groups = shares(trees, 50, ALONE)[0]
    assert [[tree.row for tree in group] for group in groups] == [[0, 2], [1, 3]]
    assert sum(pack(group).tokens for group in groups) == 80
