"""Log-probs by chunks against log_softmax over all logits: values, entropy, gradients."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from accord.forward import head as head_module
from accord.forward.head import token_logps
from accord.models.headspec import HeadSpec

C, D, V = 11, 5, 17


def problem(rows=C, dtype=torch.float64, bias=False, **spec):
    generator = torch.Generator().manual_seed(rows)
    module = torch.nn.Linear(D, V, bias=bias, dtype=dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    hidden = torch.randn(rows, D, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(V, (rows,), generator=generator)
    return hidden, targets, HeadSpec(module, **spec)


def definition(hidden, targets, head):
    logits = head.module(hidden) * head.scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    log_softmax = torch.log_softmax(logits, -1)
    return (
        log_softmax[torch.arange(len(targets)), targets],
        -(log_softmax.exp() * log_softmax).sum(-1),
        -(log_softmax.exp() ** 2).sum(-1).log(),
    )


HEADS = {
    "plain": {},
    "scaled": {"scale": 0.3},
    "bias": {"bias": True},
    "bias, scaled": {"bias": True, "scale": 2.5},
    "softcap": {"softcap": 1.7},
    "softcap, scaled": {"softcap": 1.7, "scale": 0.3},
}


@pytest.mark.parametrize("near", [2, 16])
@pytest.mark.parametrize("chunk", [1, 4, 11, 256])
@pytest.mark.parametrize("kind", HEADS)
def test_chunks_equal_the_definition(kind, chunk, near, monkeypatch):
    monkeypatch.setattr(head_module, "NEAR", near)
    hidden, targets, head = problem(**HEADS[kind])
    assert head.plain == (kind in ("plain", "scaled"))
    inputs = (hidden, *head.module.parameters())
    weigh = torch.linspace(-1, 2, C, dtype=torch.float64)
    results = []
    for values, entropy, collision in (
        token_logps(hidden, targets, head, chunk, collision=True),
        definition(hidden, targets, head),
    ):
        of_values, of_entropy = (values * weigh).sum(), (entropy * weigh.flip(0)).sum()
        slopes = [
            torch.autograd.grad(total, inputs, retain_graph=True, allow_unused=True)
            for total in (of_values, of_entropy, of_values + of_entropy)
        ]
        each_slope = (one for each in slopes for one in each)
        results.append((values, entropy, collision.detach(), *each_slope))
    assert not token_logps(hidden, targets, head, chunk, collision=True)[2].requires_grad
    assert token_logps(hidden, targets, head, chunk)[2] is None
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("kind", HEADS)
def test_gradcheck(kind):
    hidden, targets, head = problem(**HEADS[kind])
    weight = head.module.weight

    def values(h, w):
        module = torch.nn.Linear(D, V, bias=head.module.bias is not None, dtype=torch.float64)
        del module.weight
        module.weight = w
        if head.module.bias is not None:
            module.bias = head.module.bias
        return token_logps(h, targets, HeadSpec(module, head.scale, head.softcap), 4)[0]

    assert torch.autograd.gradcheck(values, (hidden, weight), check_undefined_grad=False)


def test_a_frozen_head_gets_no_gradient_and_passes_one_on():
    hidden, targets, head = problem()
    wanted = torch.autograd.grad(token_logps(hidden, targets, head)[0].sum(), hidden)[0]
    head.module.weight.requires_grad_(False)
    token_logps(hidden, targets, head)[0].sum().backward()
    assert head.module.weight.grad is None
    assert torch.equal(hidden.grad, wanted)


def test_a_frozen_trunk_trains_the_head_alone():
    hidden, targets, head = problem()
    wanted = torch.autograd.grad(definition(hidden, targets, head)[0].sum(), head.module.weight)[0]
    token_logps(hidden.detach(), targets, head, 4)[0].sum().backward()
    torch.testing.assert_close(head.module.weight.grad, wanted)


class Adapted(torch.nn.Linear):
    """A Linear with something around it, as PEFT makes: its weight is not all of it."""

    def forward(self, x):
        return super().forward(x) + x.sum(-1, keepdim=True)[..., :1] * torch.arange(V).to(x)


def test_adapters_on_the_head_are_not_skipped():
    hidden, targets, plain = problem()
    module = Adapted(D, V, bias=False, dtype=torch.float64)
    module.load_state_dict(plain.module.state_dict())
    head = HeadSpec(module)
    values, _, _ = token_logps(hidden, targets, head, 4)
    torch.testing.assert_close(values, definition(hidden, targets, head)[0])
    assert (values - token_logps(hidden, targets, plain, 4)[0]).abs().max() > 0.1


def test_bfloat16_logits_are_summed_in_float32():
    """Over 4,096 near-equal logits a bf16 log-sum-exp would be off by more than the log-probs
    differ.
    """
    generator = torch.Generator().manual_seed(0)
    module = torch.nn.Linear(D, 4096, bias=False, dtype=torch.bfloat16)
    hidden = torch.randn(C, D, generator=generator).bfloat16().requires_grad_()
    targets = torch.randint(4096, (C,), generator=generator)
    for head in (HeadSpec(module), HeadSpec(module, softcap=30.0)):
        values, entropy, _ = token_logps(hidden, targets, head, 4)
        assert values.dtype == entropy.dtype == torch.float32
        logits = head.logits(hidden.detach()).double()
        wanted = logits.log_softmax(-1)[torch.arange(C), targets]
        torch.testing.assert_close(values.double(), wanted, atol=1e-5, rtol=0)
        values.sum().backward()
        assert hidden.grad.dtype == module.weight.grad.dtype == torch.bfloat16


def test_logits_are_never_kept():
    """What autograd holds on to grows with rows and with the vocabulary, not with their product."""
    hidden, targets, head = problem(rows=200)
    kept = []

    def keep(tensor):
        kept.append(tensor.numel())
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        token_logps(hidden, targets, head, 7)
    assert sum(kept) < 200 * V / 2


def test_extreme_logits_stay_finite():
    hidden, targets, head = problem()
    with torch.no_grad():
        head.module.weight.mul_(1e4)
    values, entropy, collision = token_logps(hidden, targets, head, 4, collision=True)
    values.sum().backward()
    assert values.isfinite().all() and entropy.isfinite().all() and hidden.grad.isfinite().all()
    assert (values <= 0).all() and (entropy >= -1e-6).all()
    # Rényi's entropy of order 2 is never above Shannon's
    assert (collision >= -1e-6).all() and (collision <= entropy + 1e-6).all()
