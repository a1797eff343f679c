"""The head's GPU path on a CPU: the functions between its products as they stand, and compiled."""

import pytest
import torch
from forward.test_head import HEADS, C, definition, problem
from torch.autograd.graph import saved_tensors_hooks

from accord.forward import head, head_gpu

PLAIN_HEADS = [kind for kind in HEADS if kind in ("plain", "scaled")]


@pytest.fixture(params=["as they stand", "traced"])
def kernels(request, monkeypatch):
    """Traced: through torch.compile with a backend that generates no code, which is where a graph
    break would show.
    """
    found = head_gpu.PLAIN if request.param == "as they stand" else head_gpu.compiled("aot_eager")
    monkeypatch.setattr(head_gpu, "kernels", lambda device: found)


@pytest.mark.parametrize("chunk", [1, 4, 11, 256])
@pytest.mark.parametrize("kind", PLAIN_HEADS)
def test_it_equals_the_definition(kind, chunk, kernels):
    hidden, targets, spec = problem(**HEADS[kind])
    inputs = (hidden, spec.module.weight)
    weigh = torch.linspace(-1, 2, C, dtype=torch.float64)
    results = []
    for values, entropy, collision in (
        head_gpu.token_logps(hidden, targets, spec, chunk, collision=True),
        definition(hidden, targets, spec),
    ):
        of_values, of_entropy = (values * weigh).sum(), (entropy * weigh.flip(0)).sum()
        slopes = [
            torch.autograd.grad(total, inputs, retain_graph=True)
            for total in (of_values, of_entropy, of_values + of_entropy)
        ]
        each_slope = (one for each in slopes for one in each)
        results.append((values, entropy, collision.detach(), *each_slope))
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("kind", PLAIN_HEADS)
def test_gradcheck(kind):
    hidden, targets, spec = problem(**HEADS[kind])
    weight = spec.module.weight.detach().clone().requires_grad_()

    def values(h, w):
        return head_gpu._FusedLogps.apply(h, w, targets, spec.scale, 4, False)[0]

    assert torch.autograd.gradcheck(values, (hidden, weight), check_undefined_grad=False)


@pytest.mark.parametrize("trains", ["hidden", "weight"])
def test_only_what_trains_gets_a_gradient(trains):
    hidden, targets, spec = problem()
    if trains == "hidden":
        spec.module.weight.requires_grad_(False)
    else:
        hidden = hidden.detach()
    head_gpu.token_logps(hidden, targets, spec, 4)[0].sum().backward()
    assert (hidden.grad is not None) == (trains == "hidden")
    assert (spec.module.weight.grad is not None) == (trains == "weight")


def test_bfloat16_weights_give_float32_log_probs_and_bfloat16_gradients():
    hidden, targets, spec = problem(rows=200, dtype=torch.bfloat16)
    values, entropy, _ = head_gpu.token_logps(hidden, targets, spec, 64)
    assert values.dtype == entropy.dtype == torch.float32
    logits = spec.logits(hidden.detach()).double()
    torch.testing.assert_close(
        values.double(), logits.log_softmax(-1)[torch.arange(200), targets], atol=1e-5, rtol=0
    )
    values.sum().backward()
    wanted = head.token_logps(other := hidden.detach().requires_grad_(), targets, spec, 64)[0]
    wanted.sum().backward()
    assert hidden.grad.dtype == torch.bfloat16
    torch.testing.assert_close(hidden.grad, other.grad, atol=0.05, rtol=0.05)


def test_logits_are_never_kept():
    hidden, targets, spec = problem(rows=200)
    kept = []
    with saved_tensors_hooks(
        lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        head_gpu.token_logps(hidden, targets, spec, 64)
    assert sum(kept) < 200 * 17 / 2


def test_extreme_logits_stay_finite():
    hidden, targets, spec = problem()
    with torch.no_grad():
        spec.module.weight.mul_(1e4)
    values, entropy, _ = head_gpu.token_logps(hidden, targets, spec, 4)
    values.sum().backward()
    assert values.isfinite().all() and entropy.isfinite().all() and hidden.grad.isfinite().all()


def test_a_chunk_is_chosen_by_its_bytes():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert head.rows_at_once(cpu, 49_152) == head.CHUNK == head.rows_at_once(cpu, 10**7)
    for vocabulary in (32_000, 49_152, 128_256, 262_144):
        rows = head.rows_at_once(gpu, vocabulary)
        assert rows % 8 == 0 and 0.9 < rows * vocabulary * 4 / head_gpu.BYTES <= 1
    assert head.rows_at_once(gpu, 10**8) == 64


def test_kernels_that_do_not_compile_run_step_by_step_and_say_so(monkeypatch):
    def missing(function, **options):
        def run(*args):
            raise RuntimeError("Cannot find a working triton installation.")

        return run

    monkeypatch.setattr(torch, "compile", missing)
    real = torch.zeros
    monkeypatch.setattr(
        torch, "zeros", lambda *shape, device=None, **options: real(*shape, **options)
    )
    head_gpu.kernels.cache_clear()
    with pytest.warns(UserWarning, match="step by step: Cannot find a working triton"):
        assert head_gpu.kernels("cuda") is head_gpu.PLAIN
    head_gpu.kernels.cache_clear()
    assert head_gpu.kernels("cpu") is head_gpu.PLAIN
