"""Longrope takes other angles in a pass with a long row: short and long answers of a batch are
computed apart, and each is what the model gives it alone, forward and backward.
"""

import random

import pytest
import torch
from forward.tiny import gradients, tiny, tokens

from accord.forward.choose import choose, paths_of
from accord.forward.logps import PATHS
from accord.forward.regimes import in_regimes
from accord.models.positions import boundary, has_table, is_dynamic, limit_of
from accord.types import Tree
from accord.verify.independent import by_definition

MOST = 16  # tokens at which the tiny model's angles change
ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "original_max_position_embeddings": MOST,
    "short_factor": [1.0, 1.0, 1.0],
    "long_factor": [8.0, 4.0, 2.0],
    "partial_rotary_factor": 1.0,
}


def phi3(**changes):
    return tiny("phi3", rope_parameters=ROPE, original_max_position_embeddings=MOST, **changes)


def mixed_trees():
    """Rows on both sides, one whose two answers are on either, and one at the boundary itself."""
    rng = random.Random(3)
    shapes = [(3, (2, 4)), (9, (3, 20)), (25, (4, 7)), (10, (7, 8)), (2, (5,))]
    return [
        Tree(tokens(rng, prompt), tuple(tokens(rng, n) for n in answers), row)
        for row, (prompt, answers) in enumerate(shapes)
    ]


def alone(model, trees):
    return torch.cat([by_definition(model, t.prompt, c) for t in trees for c in t.completions])


@pytest.fixture(scope="module")
def model():
    return phi3()


def test_the_settings_are_read(model):
    assert boundary(model) == MOST and not is_dynamic(model) and not has_table(model)
    assert boundary(tiny("llama")) is None and has_table(tiny("gpt2")) and has_table(tiny("opt"))
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    assert is_dynamic(tiny("llama", rope_parameters=rope))
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
    assert limit_of(tiny("llama", rope_parameters=yarn | {"rope_theta": 1e4})) == 512
    assert limit_of(tiny("llama")) == 128


@torch.no_grad()
def test_one_pass_of_both_would_be_wrong(model):
    """Or the tests below would show nothing."""
    trees = mixed_trees()
    together = PATHS["padded"](model, trees).values
    assert (together - alone(model, trees)).abs().max() > 0.05


@pytest.mark.parametrize("path", ["padded", "oracle", "tree"])
def test_each_answer_is_what_the_model_gives_it_alone(path):
    model, trees = phi3(), mixed_trees()
    if path == "tree":
        path = choose(model, trees[:2]).path
        assert path in PATHS and path != "padded"
    found = paths_of(model)[path](model, trees)
    wanted = alone(model, trees)
    assert (found.values - wanted).abs().max() < 2e-5
    assert found.count.tolist() == [len(c) for tree in trees for c in tree.completions]
    assert found.owner.tolist() == [n for n, c in enumerate(found.count.tolist()) for _ in range(c)]
    assert len(found.entropy) == len(found.values)
    ours, theirs = gradients(model, found.values), gradients(model, wanted)
    for name, gradient in theirs.items():
        assert torch.allclose(ours[name], gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max())


def test_a_value_head_goes_along(model):
    expected = phi3()
    expected.add_critic()
    torch.nn.init.normal_(expected.critic.weight)
    trees = mixed_trees()
    found = in_regimes(PATHS["padded"])(expected, trees)
    parts = [
        in_regimes(PATHS["padded"])(expected, [Tree(t.prompt, (c,), 0)]).expected
        for t in trees
        for c in t.completions
    ]
    assert torch.allclose(found.expected, torch.cat(parts), atol=1e-5)


def test_other_models_are_computed_in_one_pass():
    calls = []

    def path(model, trees):
        calls.append(len(trees))

    in_regimes(path)(tiny("llama"), mixed_trees())
    assert calls == [5]
