"""Tree attention against a naive loop over visible keys."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from accord.forward import blocks
from accord.forward.attention import UnsupportedAttention, attend, visible
from accord.forward.layout import Layout, Segment

# A forest with a tree three levels deep beside a lone segment.
SEGMENTS = (
    Segment(0, 3),
    Segment(3, 7, ((0, 3),)),
    Segment(7, 9, ((0, 3),)),
    Segment(9, 14, ((0, 3), (7, 9))),
    Segment(14, 19),
)
MODULE = SimpleNamespace(num_key_value_groups=2, is_causal=True, training=False)


def layout():
    nothing = torch.empty(0)
    return Layout(torch.zeros(19), nothing, SEGMENTS, nothing, nothing, nothing, nothing)


def inputs(kv_heads, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((1, 4, 19, 6), (1, kv_heads, 19, 6), (1, kv_heads, 19, 6))
    return [
        (torch.randn(s, generator=generator, dtype=torch.float64) * 2).requires_grad_()
        for s in shapes
    ]


def naive(query, key, value, scaling, window, softcap):
    """[1, T, heads, d]: each token asks the tokens of its own path, one head and one query at a
    time.
    """
    out = torch.zeros(1, 19, 4, 6, dtype=torch.float64)
    for segment in SEGMENTS:
        path = [
            t for a, b in (*segment.ancestors, (segment.start, segment.stop)) for t in range(a, b)
        ]
        for token in range(segment.start, segment.stop):
            place = path.index(token)
            first = 0 if window is None else max(0, place - window + 1)
            seen = path[first : place + 1]
            for head in range(4):
                group = head // (4 // key.shape[1])
                scores = key[0, group, seen] @ query[0, head, token] * scaling
                if softcap is not None:
                    scores = softcap * torch.tanh(scores / softcap)
                out[0, token, head] = torch.softmax(scores, 0) @ value[0, group, seen]
    return out


@pytest.fixture(params=["whole segments", "cut into blocks", "one block a batch"])
def sizes(request, monkeypatch):
    """Blocks of 128 queries would leave these small segments whole."""
    if request.param != "whole segments":
        monkeypatch.setattr(blocks, "QUERIES", 2)
        monkeypatch.setattr(blocks, "AREA", 200 if request.param == "cut into blocks" else 0)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("window", [None, 1, 2, 5, 100])
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("scaling", [None, 0.7])
def test_tree_attention_is_the_naive_loop(kv_heads, window, softcap, scaling, sizes):
    tensors = inputs(kv_heads)
    options = {"scaling": scaling, "sliding_window": window, "softcap": softcap}
    found, weights = attend(MODULE, *tensors, None, tree=layout(), **options)
    wanted = naive(*tensors, scaling or 6**-0.5, window, softcap)
    torch.testing.assert_close(found, wanted)
    assert weights is None
    weigh = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).reshape(found.shape)
    for ours, theirs in zip(
        torch.autograd.grad((found * weigh).sum(), tensors),
        torch.autograd.grad((wanted * weigh).sum(), tensors),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("window", [None, 3])
def test_softcap_without_a_tree_is_causal_attention(window):
    """Generation and the padded path of Gemma 2."""
    tensors = inputs(2)
    found, _ = attend(MODULE, *tensors, None, softcap=1.5, sliding_window=window)
    one = replace(layout(), segments=(Segment(0, 19),))
    wanted, _ = attend(MODULE, *tensors, None, tree=one, softcap=1.5, sliding_window=window)
    torch.testing.assert_close(found, wanted)
    # the last two tokens after a cache of 17
    query, key, value = tensors
    step, _ = attend(MODULE, query[:, :, 17:], key, value, None, softcap=1.5, sliding_window=window)
    torch.testing.assert_close(step, found[:, 17:])


def test_padding_that_sees_nothing_gives_no_nan():
    tensors = inputs(4)
    mask = visible(19, 0, None, torch.device("cpu"))[None, None].clone()
    mask[..., 5, :] = False
    found, _ = attend(MODULE, *tensors, mask, softcap=1.5)
    found.sum().backward()
    assert found.isfinite().all() and all(t.grad.isfinite().all() for t in tensors)


def test_without_a_tree_it_is_transformers_sdpa():
    query, key, value = inputs(2)
    found, _ = attend(MODULE, query, key, value, None, scaling=0.4)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=0.4, enable_gqa=True
    )
    torch.testing.assert_close(found, wanted.transpose(1, 2))


@pytest.mark.parametrize("name", ["s_aux", "position_bias", "head_mask", "sinks"])
@pytest.mark.parametrize("tree", [None, layout()], ids=["plain", "tree"])
def test_what_would_change_the_numbers_is_refused(name, tree):
    with pytest.raises(UnsupportedAttention, match=name):
        attend(MODULE, *inputs(2), None, tree=tree, **{name: torch.zeros(4)})
    attend(MODULE, *inputs(2), None, tree=tree, **{name: None})


def test_who_sees_whom():
    seen = visible(2, 3, None, torch.device("cpu"))
    assert seen.tolist() == [[True, True, True, True, False], [True] * 5]
    windowed = visible(2, 3, 2, torch.device("cpu"))
    assert windowed.tolist() == [
        [False, False, True, True, False],
        [False, False, False, True, True],
    ]
