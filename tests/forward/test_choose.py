"""The path is chosen by trying it: one that computes other numbers is noticed,
named and not used.
"""

import dataclasses

import pytest
import torch
from forward.tiny import some_trees, tiny
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from accord.forward import attention, blocks, logps
from accord.forward import choose as choosing
from accord.forward.choose import choose, compare
from accord.forward.head import token_logps
from accord.forward.layout import Segment
from accord.forward.logps import PATHS, oracle
from accord.forward.rounding import Bounds
from accord.types import Refused, UsageError


def test_the_tree_path_is_taken_where_it_equals_the_oracle():
    model, trees = tiny(), some_trees()
    forward = choose(model, trees)
    assert forward.path == "tree" and forward.worst < 1e-4
    assert "each prompt computed once" in forward.reason and "largest difference" in forward.reason
    assert torch.equal(forward(trees).values, PATHS["tree"](model, trees).values)
    assert compare(model, trees, "tree").max() == pytest.approx(forward.worst)


def test_insisting_on_padded():
    forward = choose(tiny(), some_trees(), "padded")
    assert forward.path == "padded" and "(as asked)" in forward.reason


def test_unknown_words_are_an_error():
    with pytest.raises(UsageError, match="'fast': expected auto, flex, tree or padded"):
        choose(tiny(), some_trees(), "fast")


def see_everything(batch, window, dtype):
    """The padded keys too: what a forgotten mask does."""
    return torch.zeros(
        len(batch.query_at), batch.query_at.shape[1], batch.key_at.shape[1], dtype=dtype
    )


def pack_without_offsets(trees, device="cpu"):
    """Every segment starts at position 0: what packing tools do."""
    layout = pack_rightly(trees, device)
    starts = [position for s in layout.segments for position in range(len(s))]
    return dataclasses.replace(layout, positions=torch.tensor(starts))


def pack_blind(trees, device="cpu"):
    """Answers that do not see their prompt, though positions go on from it."""
    layout = pack_rightly(trees, device)
    return dataclasses.replace(
        layout, segments=tuple(Segment(s.start, s.stop) for s in layout.segments)
    )


def pack_shifted(trees, device="cpu"):
    """Each answer token read off one place too far: the classic off-by-one."""
    layout = pack_rightly(trees, device)
    return dataclasses.replace(layout, source=(layout.source + 1).clamp(max=layout.tokens - 1))


pack_rightly = logps.pack
SABOTAGE = {
    "mask": (blocks.Batch, "bias", see_everything),
    "positions": (logps, "pack", pack_without_offsets),
    "ancestors": (logps, "pack", pack_blind),
    "source": (logps, "pack", pack_shifted),
}


@pytest.mark.parametrize("kind", SABOTAGE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_broken_tree_path_is_noticed(kind, dtype, monkeypatch):
    """Also in bfloat16, where honest rounding is a thousand times larger."""
    monkeypatch.setattr(*SABOTAGE[kind])
    model, trees = tiny("llama", dtype), some_trees()
    own = model.network.config._attn_implementation
    forward = choose(model, trees)
    assert forward.path == "padded"
    assert (
        "tree path cannot be used: its log-probs differ from the model's own by up to"
        in forward.reason
    )
    assert model.network.config._attn_implementation == own
    with pytest.raises(Refused, match="tree: its log-probs differ"):
        choose(model, trees, "tree")


def test_where_no_path_is_right_training_is_refused(monkeypatch):
    """A scale of the logits that the head does not know of moves both paths."""
    model = tiny("granite")
    monkeypatch.setattr(
        logps,
        "token_logps",
        lambda h, t, head, **asked: token_logps(
            h, t, dataclasses.replace(head, scale=1.0), **asked
        ),
    )
    with pytest.raises(
        Refused, match="(?s)No forward path.*tree: .*differ.*padded: .*differ.*silently wrong"
    ):
        choose(model, some_trees())


def test_numbers_that_are_not_finite_are_refused():
    model = tiny()
    with torch.no_grad():
        model.network.model.norm.weight[0] = float("nan")
    with pytest.raises(Refused, match="nan nats"):
        choose(model, some_trees())


def test_trying_leaves_weights_gradients_and_random_state(monkeypatch):
    model, trees = tiny(), some_trees()
    before = {name: p.clone() for name, p in model.network.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    choose(model, trees)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, before[name]) for name, p in model.network.state_dict().items())
    assert all(p.grad is None for p in model.network.parameters())


def test_the_oracle_uses_the_authors_attention_and_gives_ours_back(monkeypatch):
    model, trees = tiny(), some_trees()
    choose(model, trees)
    wanted = oracle(model, trees).values

    def never(*args, **kwargs):
        raise AssertionError("the oracle must not run the code that it judges")

    ALL_ATTENTION_FUNCTIONS.register(attention.NAME, never)
    try:
        assert torch.equal(oracle(model, trees).values, wanted)
    finally:
        attention.register()
    assert model.network.config._attn_implementation == attention.NAME


# ---------------------------------------------------------------- what counts as rounding


@pytest.mark.parametrize(
    ("nats", "right"),
    [
        ([1.0, *[0.0] * 15], True),
        ([1.1, *[0.0] * 15], False),
        ([0.25] * 16, True),
        ([0.26] * 16, False),
    ],
)
def test_both_limits_count_and_are_themselves_allowed(nats, right, monkeypatch):
    """The largest difference of a token, and the mean over tokens."""
    limits = Bounds(token=1.0, answer=0.5, mean=0.25)
    monkeypatch.setattr(choosing, "bounds", lambda model, probe: limits)
    monkeypatch.setattr(choosing, "compare", lambda *given: torch.tensor(nats, dtype=torch.float64))
    if right:
        chosen = choose(tiny(), some_trees(), "tree")
        assert chosen.worst == max(nats) and chosen.bounds == limits
    else:
        with pytest.raises(Refused, match=f"by up to {max(nats):.3g} nats a token"):
            choose(tiny(), some_trees(), "tree")
