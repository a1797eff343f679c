"""Every path on a GPU equals the oracle, forward and backward, and itself when it is run again."""

import pytest
import torch
from forward.tiny import gradients, some_trees, tiny, tokens

from accord.forward import choose as choosing
from accord.forward import flex
from accord.forward.choose import choose
from accord.forward.logps import PATHS, oracle
from accord.models.lora import add_lora
from accord.types import Tree

# Heads of 16: kernels of flex attention take no narrower ones.
WIDE = {"gpt2": {"n_embd": 64}}
# grouped heads, a window, a window in half of the layers, a soft cap
FAMILIES = ["llama", "qwen3", "mistral", "gemma2", "gpt2"]
# Nats a token, and gradients relative to the whole gradient's size.
CLOSE = {torch.float32: (2e-4, 2e-3), torch.bfloat16: (1.5, 0.3)}


def on(device, family, dtype=torch.float32):
    model = tiny(family, dtype, **WIDE.get(family, {"hidden_size": 64, "head_dim": 16}))
    model.network.to(device)
    return model


def long_trees(seed=1):
    """Prompts and answers that fill more than one tile of 128 tokens."""
    import random

    rng = random.Random(seed)
    return [
        Tree(tokens(rng, 60), (tokens(rng, 21), tokens(rng, 50)), 0),
        Tree(tokens(rng, 40), (tokens(rng, 80), tokens(rng, 3)), 1),
    ]


def apart(one, other):
    """Distance of two gradients relative to the second's size, over all parameters."""
    gap = sum((one[name].double() - other[name].double()).square().sum() for name in other)
    return (gap / sum(g.double().square().sum() for g in other.values())).sqrt().item()


@pytest.mark.parametrize("dtype", CLOSE, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_path_equals_the_oracle(family, dtype, device, shared):
    model = on(device, family, dtype)
    close, close_gradient = CLOSE[dtype]
    for trees in (some_trees(), long_trees()):
        forward = choose(model, trees)
        assert forward.path == shared, forward.reason
        wanted = oracle(model, trees)
        expected = gradients(model, wanted.values)
        for path in (shared, "tree", "padded"):
            found = PATHS[path](model, trees)
            assert (found.values - wanted.values).abs().max() <= close, path
            assert apart(gradients(model, found.values), expected) <= close_gradient, path


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gpu_computes_what_the_cpu_computes(family, device, shared):
    trees = some_trees()
    here, there = on("cpu", family), on(device, family)
    choose(here, trees), choose(there, trees)
    ours, theirs = PATHS["tree"](here, trees), PATHS[shared](there, trees)
    torch.testing.assert_close(theirs.values.cpu(), ours.values, atol=5e-4, rtol=1e-4)
    torch.testing.assert_close(theirs.entropy.cpu(), ours.entropy, atol=5e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", CLOSE, ids=["float32", "bfloat16"])
def test_two_forwards_of_one_batch_are_the_same_bits(dtype, device, shared):
    """Sums too: policy and reference are compared bit by bit before the first update."""
    model, trees = on(device, "llama", dtype), long_trees()
    forward = choose(model, trees)
    first, second = forward(trees), forward(trees)
    assert torch.equal(first.values, second.values) and torch.equal(
        first.reduce().sum, second.reduce().sum
    )


def test_adapters_train_through_flex_attention(device, shared):
    model, trees = on(device, "llama"), long_trees()
    add_lora(model, rank=3, alpha=6.0, targets="all-linear", dropout=0.0, dora=False, seed=0)
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    forward = choose(model, trees)
    assert forward.path == shared
    assert (
        apart(
            gradients(model, forward(trees).values), gradients(model, oracle(model, trees).values)
        )
        < 2e-3
    )


def test_batches_of_one_length_share_a_kernel(device, shared):
    if shared != "flex":
        pytest.skip("nothing is compiled on a CPU")
    from torch._dynamo.utils import counters

    model = on(device, "gemma2")
    choose(model, some_trees())
    gradients(model, PATHS["flex"](model, some_trees()).values)
    before = counters["stats"]["unique_graphs"]
    for seed in range(1, 5):
        gradients(model, PATHS["flex"](model, some_trees(seed)).values)
    assert counters["stats"]["unique_graphs"] == before


def test_a_wrong_mask_falls_back_to_the_plan_of_blocks(device, shared, monkeypatch):
    if shared != "flex":
        pytest.skip("flex attention is not tried on a CPU")
    monkeypatch.setattr(
        flex, "mask", lambda where, window: lambda b, h, q, k: where.first[k] <= where.first[q]
    )
    forward = choose(on(device, "llama"), some_trees())
    assert forward.path == "tree" and "flex attention cannot be used" in forward.reason


def test_gradients_are_compared_on_the_device(device, shared):
    model, trees = on(device, "llama"), long_trees()
    choose(model, trees)
    assert choosing.gradients_apart(model, trees, shared) < 1e-3
