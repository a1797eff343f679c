"""Lean layers: bitwise the same forward pass, the same gradients,
less kept for the backward pass.
"""

import copy

import pytest
import torch
from forward.tiny import SHARE_A_PROMPT, tiny

from accord.models.lean_layers import LeanRMSNorm, make_lean


def ids(seed=0):
    return torch.randint(3, 97, (2, 11), generator=torch.Generator().manual_seed(seed))


def gradients(network):
    network.requires_grad_(True)
    logits = network(input_ids=ids(), use_cache=False).logits
    logits.float().square().mean().backward()
    return logits.detach(), {
        name: p.grad for name, p in network.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize("family", SHARE_A_PROMPT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_same_numbers_and_gradients(family, dtype):
    if family == "mixtral" and dtype is torch.bfloat16:
        pytest.skip("torch's grouped product wants wider experts than tiny ones in bfloat16")
    own = tiny(family, dtype).network
    lean = copy.deepcopy(own)
    make_lean(lean)
    (one, theirs), (two, ours) = gradients(own), gradients(lean)
    assert torch.equal(one, two)
    assert set(theirs) == set(ours)
    for name, grad in theirs.items():
        error = (ours[name] - grad).float().norm() / grad.float().norm().clamp(min=1e-12)
        assert error < (2e-2 if dtype is torch.bfloat16 else 1e-5), (name, error)


@pytest.mark.parametrize(
    ("family", "replaced"),
    [("llama", 7), ("qwen3", 11), ("mistral", 7), ("gemma", 0), ("gpt2", 0), ("phi3", 5)],
)
def test_what_is_replaced(family, replaced):
    """Two norms and an MLP a layer and a last norm; qwen3 has norms of queries and keys; gemma's
    add 1 to the weight.
    """
    assert make_lean(tiny(family).network) == replaced


def kept_bytes(network):
    """What autograd keeps of one forward pass, weights left out."""
    weights = {p.data_ptr() for p in network.parameters()}
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.setdefault(t.untyped_storage().data_ptr(), t) is None or t, lambda t: t
    ):
        network(input_ids=ids(), use_cache=False)
    return sum(
        t.untyped_storage().nbytes() for pointer, t in kept.items() if pointer not in weights
    )


def test_less_is_kept():
    own = tiny("llama", torch.bfloat16).network.requires_grad_(True)
    lean = copy.deepcopy(own)
    make_lean(lean)
    assert kept_bytes(lean) < 0.85 * kept_bytes(own)


def test_a_copy_uses_its_own_weights():
    """A frozen reference is a deep copy; it must not move with the policy."""
    network = tiny("llama").network
    make_lean(network)
    other = copy.deepcopy(network)
    with torch.no_grad():
        network.model.norm.weight.mul_(2)
    assert not torch.equal(network(input_ids=ids()).logits, other(input_ids=ids()).logits)


def test_a_norm_that_computes_something_else_is_left_alone():
    class Shifted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.variance_epsilon = torch.nn.Parameter(torch.ones(8)), 1e-6

        def forward(self, x):
            return LeanRMSNorm.forward(self, x) * 1.001

    network = torch.nn.Sequential(Shifted())
    assert make_lean(network) == 0 and type(network[0]) is Shifted


def test_trying_leaves_the_random_state():
    network = tiny("llama").network
    torch.manual_seed(5)
    state = torch.get_rng_state()
    make_lean(network)
    assert torch.equal(torch.get_rng_state(), state)
