"""The trees that a reference is cached for: each once, in the order in which they are needed, made
when they are asked for.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from accord.data.order import Order, Part
from accord.data.tree_table import packed
from accord.engine.step import make_batch
from accord.training.setup import references
from accord.training.setup.references import needed_trees
from accord.types import Tree


def tree(row: int, prompt: int, *answers: int) -> Tree:
    """A tree of a numbered prompt and numbered answers."""
    return Tree((prompt, 1), tuple((answer, 2) for answer in answers), row)


def some_trees() -> list[Tree]:
    """Rows of which some are the same, and some share a prompt or an answer alone."""
    return [
        tree(0, 10, 20, 21),
        tree(1, 11, 22, 23),
        tree(2, 10, 20, 21),  # the first again
        tree(3, 10, 21, 20),
        tree(5, 12, 20, 21),
        tree(6, 13, 24),
        tree(7, 11, 22, 23),
        tree(8, 14, 25, 26),
        tree(9, 15, 27, 28),
    ]


HELD_OUT = [tree(0, 12, 20, 21), tree(1, 30, 31), tree(2, 30, 31), tree(3, 10, 29)]


def in_memory(learner, source, steps: int) -> list[Tree]:
    """All trees as objects, the same way written out."""
    coupled = learner.objective.context is not None
    updates = range(steps if coupled else min(steps, source.order.batches_of_all_rows))
    wanted: dict[tuple, Tree] = {}
    batches = [make_batch(learner, index, source.batch(index)) for index in updates]
    trees = [each for batch in batches for each in (*batch.trees, *batch.mismatched)]
    for each in (*trees, *source.reference_trees(None)):
        wanted.setdefault((each.prompt, each.completions), each)
    return list(wanted.values())


def source_of(order: Order, held_out: list[Tree]) -> SimpleNamespace:
    trees = packed(some_trees())
    return SimpleNamespace(
        rows=SimpleNamespace(trees=trees),
        order=order,
        batch=lambda update: [trees[row] for row in order.batch(update)],
        reference_trees=lambda objective: held_out,
    )


PARTS = (Part(4, 2.0), Part(5, 0.5))


@pytest.mark.parametrize("coupled", [False, True], ids=["rows", "mismatched"])
@pytest.mark.parametrize("parts", [(), PARTS], ids=["one file", "two files"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("held_out", [[], HELD_OUT], ids=["", "held out"])
def test_needed_trees_are_those_that_objects_would_be(coupled, parts, steps, held_out):
    learner = SimpleNamespace(seed=3, objective=SimpleNamespace(context=min if coupled else None))
    source = source_of(Order(9, 4, 3, parts=parts), held_out)
    found, wanted = needed_trees(learner, source, steps), in_memory(learner, source, steps)
    assert len(found) == len(wanted) and list(found) == wanted


def test_a_collision_of_prompts_hashes_loses_no_tree(monkeypatch):
    """Hashes only say which trees to compare."""
    learner = SimpleNamespace(seed=0, objective=SimpleNamespace(context=None))
    source = source_of(Order(9, 9, 0), HELD_OUT)
    source.rows.trees.__dict__["prompt_hashes"] = np.zeros(9, np.uint64)
    monkeypatch.setattr(references, "prompt_hash", lambda prompt: 0)
    assert list(needed_trees(learner, source, 1)) == in_memory(learner, source, 1)
