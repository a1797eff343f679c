"""The digest of tokens: equal exactly where everything that is trained on is equal."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.data import tree_table
from accord.data.token_digest import prompts_digest, trees_digest
from accord.data.tree_table import packed
from accord.types import Tree

IDS = st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple)
TREES = st.lists(
    st.builds(
        Tree,
        IDS,
        st.lists(IDS, min_size=1, max_size=3).map(tuple),
        st.just(0),
        st.sampled_from((None, False, True)),
        st.sampled_from((0.0, 0.5)),
    ),
    max_size=3,
)
PAIR = Tree((1, 2, 3), ((4, 5), (6,)), 0)


@given(TREES, TREES)
def test_digests_are_equal_exactly_for_equal_trees(one, other):
    """The alphabet is small, so that many lists agree in everything but where one list ends."""
    assert (trees_digest(one) == trees_digest(other)) == (one == other)


def packed_by_hand(trees):
    total = hashlib.sha256()
    for tree in trees:
        label = -1 if tree.desirable is None else int(tree.desirable)
        sizes = [len(tree.completions), len(tree.prompt), *map(len, tree.completions)]
        total.update(struct.pack("<qd", label, tree.margin))
        for ids in (sizes, tree.prompt, *tree.completions):
            total.update(struct.pack(f"<{len(ids)}q", *ids))
    return total.hexdigest()


@given(st.lists(TREES, max_size=3), st.integers(1, 4))
def test_tables_give_the_bytes_of_one_tree_behind_the_other(lists, at_once):
    whole = [tree for trees in lists for tree in trees]
    files = [packed(trees) for trees in lists]
    joined = tree_table.Trees.joined(files, [len(trees) for trees in lists])
    expected = packed_by_hand(whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_table, "STREAMED", at_once)
        assert trees_digest(whole) == expected == trees_digest(joined)


@given(TREES.filter(bool), st.data())
def test_one_flipped_bit_of_one_id_changes_the_digest(trees, data):
    at = data.draw(st.integers(0, len(trees) - 1))
    bit = 1 << data.draw(st.integers(0, 17))
    tree = trees[at]
    parts = [list(tree.prompt), *map(list, tree.completions)]
    part = parts[data.draw(st.integers(0, len(parts) - 1))]
    part[data.draw(st.integers(0, len(part) - 1))] ^= bit
    other = replace(tree, prompt=tuple(parts[0]), completions=tuple(map(tuple, parts[1:])))
    assert trees_digest(trees) != trees_digest([*trees[:at], other, *trees[at + 1 :]])


def test_the_order_of_rows_of_answers_and_the_place_of_the_boundary_count():
    others = [
        [PAIR, replace(PAIR, prompt=(9,))],
        [replace(PAIR, prompt=(9,)), PAIR],
        [replace(PAIR, completions=PAIR.completions[::-1])],
        [replace(PAIR, prompt=(1, 2), completions=((3, 4, 5), (6,)))],
        [replace(PAIR, completions=((4,), (5, 6)))],
        [replace(PAIR, desirable=True)],
        [replace(PAIR, desirable=False)],
        [replace(PAIR, margin=1.5)],
        [PAIR],
        [],
    ]
    assert len({trees_digest(trees) for trees in others}) == len(others)


def test_the_row_number_is_no_token():
    """It is the place of a row among all that were read, and names no text."""
    assert trees_digest([PAIR]) == trees_digest([replace(PAIR, row=7)])


@given(st.lists(IDS, max_size=3), st.lists(IDS, max_size=3))
def test_digests_of_prompts_are_equal_exactly_for_equal_prompts(one, other):
    assert (prompts_digest(one) == prompts_digest(other)) == (one == other)


def test_the_digests_of_one_pair_never_change():
    """Checkpoints hold them: another way of hashing would refuse every resumed run."""
    assert (
        trees_digest([PAIR]) == "2cfeaaa7138d1888516e939533c9a3563aa18aec68ea58bf2d42fb9450281053"
    )
    assert (
        prompts_digest([(1, 2), (3,)])
        == "be3cb7e04dcce365974b9116333f0587adb7a1d2469dcd987e098564d77203b7"
    )
