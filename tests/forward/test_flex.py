"""Flex attention as far as a CPU can tell: its mask, its tiles, its numbers by torch's uncompiled
definition.

torch refuses a backward pass on a CPU, though its definition has one: the refusal alone is switched
off here. Compiled kernels are tried by tests/gpu.
"""

from dataclasses import replace

import pytest
import torch
from forward.test_attention import MODULE, inputs, layout, naive
from forward.test_blocks import tree
from forward.tiny import SHARE_A_PROMPT, gradients, some_trees, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounter
from torch.nn.attention import flex_attention as torch_flex

from accord.forward import choose as choosing
from accord.forward import flex
from accord.forward.attention import attend
from accord.forward.backends import TREE_ATTENTION
from accord.forward.choose import choose
from accord.forward.layout import pack
from accord.forward.logps import PATHS, oracle
from accord.types import Refused, Tree


@pytest.fixture
def on_a_cpu(monkeypatch):
    """The uncompiled definition, backward too, and as if this device were fit for it."""
    torch._dynamo.reset()  # it gives up after eight shapes
    monkeypatch.setattr(torch_flex, "_validate_device", lambda *tensors: None)
    monkeypatch.setattr(torch_flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    fit = replace(TREE_ATTENTION["flex"], problem=lambda device: None)
    monkeypatch.setitem(TREE_ATTENTION, "flex", fit)


def paths_of(packed):
    """Of each token: the packed tokens on its path, itself last, from the segments alone."""
    found = {}
    for segment in packed.segments:
        path = [
            t for a, b in (*segment.ancestors, (segment.start, segment.stop)) for t in range(a, b)
        ]
        found |= {
            t: path[: segment.depth + t - segment.start + 1]
            for t in range(segment.start, segment.stop)
        }
    return [found[t] for t in range(packed.tokens)]


def naive_mask(packed, window):
    """[L, L]; a padded token sees itself alone."""
    length = flex.padded_length(packed.tokens)
    wanted = torch.eye(length, dtype=torch.bool)
    for token, path in enumerate(paths_of(packed)):
        wanted[token, path[-window if window else 0 :]] = True
    return wanted


forests = st.lists(tree, min_size=1, max_size=5)
windows = st.sampled_from([None, 1, 7, 1_000])


@settings(max_examples=25, deadline=None)
@given(forests, windows, st.sampled_from([0, 1, 8]))
def test_a_token_sees_the_end_of_its_path(trees, window, share):
    packed = pack(trees, share=share)
    wanted = naive_mask(packed, window)
    index = torch.arange(len(wanted))
    assert torch.equal(
        flex.mask(flex.places(packed), window)(0, 0, index[:, None], index[None, :]), wanted
    )


@settings(max_examples=15, deadline=None)
@given(forests, windows, st.integers(1, 4))
def test_the_tiles_hold_what_is_seen(trees, window, rows):
    """Every visible pair lies in a marked tile, none twice; a tile marked as full is; few rows at a
    time or all.
    """
    packed, tile = pack(trees), flex.TILE
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flex, "SCORES", rows * tile * flex.padded_length(packed.tokens))
        mask = flex._mask_of(packed, window)
    wanted = naive_mask(packed, window)
    n = len(wanted) // tile
    counts = wanted.view(n, tile, n, tile).sum((1, 3))
    for number, which, right in (
        (mask.kv_num_blocks, mask.kv_indices, (counts > 0) & (counts < tile**2)),
        (mask.full_kv_num_blocks, mask.full_kv_indices, counts == tile**2),
    ):
        marked = [sorted(which[0, 0, i, : number[0, 0, i]].tolist()) for i in range(n)]
        assert marked == [right[i].nonzero().flatten().tolist() for i in range(n)]
    assert mask.shape == (1, 1, len(wanted), len(wanted))


def test_most_of_a_batch_of_many_rows_is_not_computed():
    trees = [Tree((1, *range(i, i + 250)), ((2,) * 130, (3,) * 130), i) for i in range(8)]
    mask = flex._mask_of(pack(trees, share=0), None)
    tiles = mask.kv_num_blocks.sum() + mask.full_kv_num_blocks.sum()
    assert mask.full_kv_num_blocks.sum() > 0 and tiles < 0.25 * (mask.shape[-1] / flex.TILE) ** 2


def test_tokens_are_padded_to_few_lengths():
    lengths = [flex.padded_length(tokens) for tokens in range(1, 20_000)]
    assert all(length >= tokens for tokens, length in enumerate(lengths, 1))
    assert all(
        length <= 1.5 * tokens for tokens, length in enumerate(lengths, 1) if tokens > flex.SHORTEST
    )
    assert sorted(set(lengths)) == [
        512,
        768,
        1024,
        1536,
        2048,
        3072,
        4096,
        6144,
        8192,
        12288,
        16384,
        24576,
    ]


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_flex_attention_is_the_naive_loop(kv_heads, window, softcap, on_a_cpu):
    tensors = inputs(kv_heads)
    whole = layout()
    tree = replace(
        whole, positions=torch.tensor([len(path) - 1 for path in paths_of(whole)]), attention="flex"
    )
    found, weights = attend(
        MODULE, *tensors, None, tree=tree, scaling=0.7, sliding_window=window, softcap=softcap
    )
    wanted = naive(*tensors, 0.7, window, softcap)
    torch.testing.assert_close(found, wanted)
    assert weights is None
    weigh = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).reshape(found.shape)
    for ours, theirs in zip(
        torch.autograd.grad((found * weigh).sum(), tensors),
        torch.autograd.grad((wanted * weigh).sum(), tensors),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("family", SHARE_A_PROMPT)
def test_the_flex_path_equals_the_oracle(family, on_a_cpu):
    model, trees = tiny(family), some_trees()
    forward = choose(model, trees)
    assert (
        forward.path == "flex"
        and forward.shares_prompts
        and "flex attention: each prompt computed once" in forward.reason
    )
    wanted, found = oracle(model, trees), forward(trees)
    torch.testing.assert_close(found.values, wanted.values, atol=2e-5, rtol=2e-5)
    expected = gradients(model, wanted.values)
    floor = 1e-2 * max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in gradients(model, found.values).items():
        worst = (gradient - expected[name]).abs().max().item()
        assert worst <= 3e-4 * max(expected[name].abs().max().item(), floor), name


def test_on_a_cpu_it_is_not_tried_and_when_insisted_on_refused():
    model, trees = tiny(), some_trees()
    assert choose(model, trees).path == "tree" and "flex" not in choose(model, trees).reason
    with pytest.raises(Refused, match="flex: flex attention has no backward pass on cpu"):
        choose(model, trees, "flex")


def see_the_future(where, window):
    first, behind = where.first, where.behind
    return lambda b, h, q, k: (first[k] <= first[q]) & (first[q] < behind[k])


def test_a_wrong_mask_falls_back_to_the_plan_of_blocks_aloud(on_a_cpu, monkeypatch):
    monkeypatch.setattr(flex, "mask", see_the_future)
    forward = choose(tiny(), some_trees())
    assert forward.path == "tree"
    assert (
        "no padding; the tree path by flex attention cannot be used: its log-probs differ"
        in forward.reason
    )


def test_a_wrong_backward_pass_falls_back_too(on_a_cpu, monkeypatch):
    """Right log-probs, but the gradient of the keys is cut off."""
    right = flex.attend
    wrong = replace(TREE_ATTENTION["flex"], attend=lambda q, k, *rest: right(q, k.detach(), *rest))
    monkeypatch.setitem(TREE_ATTENTION, "flex", wrong)
    forward = choose(tiny(), some_trees())
    assert (
        forward.path == "tree"
        and "flex attention cannot be used: its gradients differ" in forward.reason
    )


def test_a_kernel_that_does_not_compile_falls_back_too(on_a_cpu, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError(
            "No valid triton configs. OutOfResources: out of resource: shared memory"
        )

    monkeypatch.setattr(flex, "_kernel", lambda device: broken)
    forward = choose(tiny(), some_trees())
    assert forward.path == "tree" and "RuntimeError: No valid triton configs" in forward.reason


def test_gradients_of_every_path_are_the_oracles():
    """By token: a prompt stands once in a packed batch and twice in a padded one."""
    model, trees = tiny(), some_trees()
    choose(model, trees)
    for path in ("tree", "padded"):
        assert choosing.gradients_apart(model, trees, path) < 1e-5
    assert all(p.grad is None for p in model.network.parameters())


def test_batches_of_one_length_share_a_kernel(on_a_cpu, monkeypatch):
    """Every batch has a mask of its own: were it a constant of the kernel, each would be compiled
    anew.
    """
    counter = CompileCounter()
    kernel = torch.compile(
        torch_flex.flex_attention, backend=counter, dynamic=False, fullgraph=True
    )
    monkeypatch.setattr(flex, "_kernel", lambda device: kernel)
    model = tiny("gemma2")  # a window in one layer, none in the other, a soft cap in both
    choosing._use_tree_attention(model)
    with torch.no_grad():
        for seed in range(4):
            PATHS["flex"](model, some_trees(seed))
            assert counter.frame_count == 2, "one kernel for each kind of layer"
        PATHS["flex"](model, [Tree((1,) * 100, ((2,) * 450,), 0)])
        assert counter.frame_count == 4, "and again for another length"
