"""The head on a GPU against log_softmax over all logits."""

import pytest
import torch

from accord.forward import head_gpu
from accord.forward.head import rows_at_once, token_logps
from accord.models.headspec import HeadSpec

C, D, V = 531, 72, 5_003  # nothing divides anything


def problem(device, dtype):
    generator = torch.Generator().manual_seed(0)
    module = torch.nn.Linear(D, V, bias=False, dtype=dtype)
    with torch.no_grad():
        module.weight.copy_(torch.randn(V, D, generator=generator) * 0.5)
    hidden = torch.randn(C, D, generator=generator).to(device, dtype).requires_grad_()
    return (
        hidden,
        torch.randint(V, (C,), generator=generator).to(device),
        HeadSpec(module.to(device), scale=0.7),
    )


@pytest.mark.parametrize("chunk", [None, 200, 531])
@pytest.mark.parametrize(
    "dtype, close", [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)], ids=["float32", "bfloat16"]
)
def test_chunks_equal_the_definition(dtype, close, chunk, device):
    hidden, targets, head = problem(device, dtype)
    weigh = torch.linspace(-1, 2, C, device=device)
    values, entropy, collision = token_logps(hidden, targets, head, chunk, collision=True)
    found = torch.autograd.grad((values * weigh).sum(), (hidden, head.module.weight))
    softmax = (head.module(hidden).float() * head.scale).log_softmax(-1)
    wanted = softmax[torch.arange(C, device=device), targets]
    expected = torch.autograd.grad((wanted * weigh).sum(), (hidden, head.module.weight))
    torch.testing.assert_close(values, wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(entropy, -(softmax.exp() * softmax).sum(-1), atol=1e-4, rtol=1e-4)
    squares = softmax.exp().square().sum(-1)
    torch.testing.assert_close(collision, -squares.log(), atol=1e-4, rtol=1e-4)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        assert (ours.float() - theirs.float()).norm() <= close * theirs.float().norm()


def test_its_kernels_are_compiled(device):
    assert (head_gpu.kernels(device.type) is head_gpu.PLAIN) == (device.type != "cuda")


def test_no_tensor_of_all_logits_exists(device):
    """A vocabulary so large that all logits at once would be several times the chunk's bytes."""
    if device.type != "cuda":
        pytest.skip("a CPU's allocator keeps no peak")
    rows, vocabulary = 8_192, 100_000
    module = torch.nn.Linear(64, vocabulary, bias=False, dtype=torch.bfloat16, device=device)
    hidden = torch.randn(rows, 64, device=device, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.randint(vocabulary, (rows,), device=device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    token_logps(hidden, targets, HeadSpec(module))[0].sum().backward()
    chunk = rows_at_once(device, vocabulary) * vocabulary * 4
    assert torch.cuda.max_memory_allocated(device) - before < 3 * chunk < rows * vocabulary * 4
