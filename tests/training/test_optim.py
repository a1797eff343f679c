"""Masters in float32, the optimizers on them, and the schedule, against their libraries and by
hand.
"""

import math

import pytest
import torch
from torch.nn import Parameter

from accord.config.schema import TrainConfig
from accord.engine.optimizer import Masters, Optimizer, schedule
from accord.engine.optimizers import OPTIMIZERS
from accord.engine.written_out import Moment, Whole

SHAPES = {"matrix": (3, 4), "norm": (4,)}


def parameters(dtype, scale=1.0, shapes=SHAPES):
    generator = torch.Generator().manual_seed(1)
    return {
        n: Parameter((scale * torch.randn(s, generator=generator)).to(dtype))
        for n, s in shapes.items()
    }


def gradient(step, shapes=SHAPES):
    generator = torch.Generator().manual_seed(100 + step)
    return {n: torch.randn(s, generator=generator) for n, s in shapes.items()}


def feed(optimizer, trainable, step):
    """A gradient arrives, and one update is made."""
    shapes = {name: tuple(p.shape) for name, p in trainable.items()}
    for name, grad in gradient(step, shapes).items():
        trainable[name].grad = grad.to(trainable[name].dtype)
    optimizer.masters.accumulate_grads()
    return optimizer.update(step, optimizer.grad_norm())


@pytest.mark.parametrize("clip", [None, 0.5])
def test_update_is_torch_adamw(clip):
    """Five updates equal torch's own AdamW with clipping: decay on matrices alone, rate by step."""
    config = TrainConfig(
        weight_decay=0.1, max_grad_norm=clip, betas=(0.8, 0.95), warmup=2, schedule="cosine"
    )
    ours, theirs = parameters(torch.float32), parameters(torch.float32)
    optimizer = Optimizer(ours, config, peak=0.03, steps=5)
    groups = [
        {"params": [theirs["matrix"]], "weight_decay": 0.1},
        {"params": [theirs["norm"]], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, lr=1.0, betas=(0.8, 0.95), eps=1e-8, foreach=False)
    for step in range(5):
        rate = feed(optimizer, ours, step)
        for name, grad in gradient(step).items():
            theirs[name].grad = grad
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(theirs.values(), clip)
        for group in reference.param_groups:
            group["lr"] = rate
        reference.step()
        for name in SHAPES:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-6, atol=1e-7)
    assert all(p.grad is None for p in ours.values())


def test_first_update_by_hand():
    """Adam's first step is lr · sign(g) up to ε, whatever the size of g."""
    trainable = {"w": Parameter(torch.tensor([[1.0, 2.0]]))}
    optimizer = Optimizer(
        trainable, TrainConfig(warmup=0, schedule="constant", max_grad_norm=None), peak=0.1, steps=1
    )
    trainable["w"].grad = torch.tensor([[3.0, -0.5]])
    assert optimizer.grad_norm().item() == pytest.approx(math.sqrt(9.25))
    optimizer.update(0, optimizer.grad_norm())
    torch.testing.assert_close(trainable["w"].detach(), torch.tensor([[0.9, 2.1]]))


def test_bf16_weights_move_in_the_end():
    """An update of 1e-4 is below bf16's spacing at 1.0 (1/128): the master moves each time, the
    network now and then.
    """
    trainable = {"w": Parameter(torch.ones(1, 1, dtype=torch.bfloat16))}
    optimizer = Optimizer(
        trainable, TrainConfig(warmup=0, schedule="constant"), peak=1e-4, steps=80
    )
    master = optimizer.masters.masters["w"]
    assert master.dtype == torch.float32
    copies = []
    for step in range(80):
        trainable["w"].grad = torch.ones(1, 1, dtype=torch.bfloat16)
        optimizer.masters.accumulate_grads()
        optimizer.update(step, optimizer.grad_norm())
        assert master.item() == pytest.approx(1 - 1e-4 * (step + 1), abs=1e-5)
        copies.append(trainable["w"].item())
    assert copies[0] == 1.0 and copies[-1] < 1.0
    assert torch.equal(trainable["w"], master.to(torch.bfloat16))


def test_collect_adds_in_float32():
    """1 + 2⁻⁹ is lost in bf16; over micro-batches it must not be. The network keeps no gradient."""
    trainable = {"w": Parameter(torch.zeros(1, 1, dtype=torch.bfloat16))}
    masters = Masters(trainable)
    for value in (1.0, 2.0**-9, 2.0**-9):
        trainable["w"].grad = torch.full((1, 1), value, dtype=torch.bfloat16)
        masters.accumulate_grads()
        assert trainable["w"].grad is None
    assert masters.gradients()["w"].item() == 1.0 + 2.0**-8
    masters.zero_grad()
    assert masters.gradients() == {}


def test_float32_is_its_own_master():
    trainable = parameters(torch.float32)
    assert all(Masters(trainable).masters[name] is p for name, p in trainable.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_state_goes_on_bit_for_bit(dtype):
    """Three updates, the state into fresh objects, two more: equal to five in a row."""
    config = TrainConfig(weight_decay=0.01)
    straight, first, second = (parameters(dtype) for _ in range(3))
    one, two, three = (Optimizer(p, config, peak=0.01, steps=5) for p in (straight, first, second))
    for step in range(5):
        feed(one, straight, step)
    for step in range(3):
        feed(two, first, step)
    three.load_state({name: tensor.clone() for name, tensor in two.state().items()}, 3)
    for step in (3, 4):
        feed(three, second, step)
    assert all(torch.equal(straight[name], second[name]) for name in SHAPES)
    assert all(torch.equal(tensor, three.state()[name]) for name, tensor in one.state().items())


def test_state_before_the_first_update():
    """A run stopped before its first update saves zeros, as AdamW starts with."""
    state = Optimizer(parameters(torch.float32), TrainConfig(), peak=0.01, steps=5).state()
    assert set(state) == {
        f"{kind}/{name}" for kind in ("master", "exp_avg", "exp_avg_sq") for name in SHAPES
    }
    assert not state["exp_avg/matrix"].any() and not state["exp_avg_sq/norm"].any()


def check_written_update(row, updates=20):
    """Twenty updates, stopped and resumed after eleven, go where the row's written-out update takes
    float64 copies of the weights: decay on matrices alone, clipped, the rate by the step.
    """
    config = TrainConfig(weight_decay=0.1, max_grad_norm=0.5, betas=(0.8, 0.95), warmup=3)
    config = config.model_copy(update={"momentum": 0.9})  # each row reads its own
    trainable = parameters(torch.float32)
    optimizer = Optimizer(trainable, config, peak=0.03, steps=updates, kind=row)
    everything = {n: torch.arange(p.numel()) for n, p in trainable.items()}
    written = {n: p.detach().double().reshape(-1) for n, p in trainable.items()}
    state = {n: state_at(optimizer, n, everything[n]) for n in written}
    for step in range(updates):
        if step == 11:
            saved = {name: tensor.clone() for name, tensor in optimizer.state().items()}
            assert set(saved) == set(optimizer.shapes())
            trainable = parameters(torch.float32)
            optimizer = Optimizer(trainable, config, peak=0.03, steps=updates, kind=row)
            optimizer.load_state(saved, step)
        rate = feed(optimizer, trainable, step)
        gradients = gradient(step)
        norm = math.sqrt(sum(g.double().square().sum().item() for g in gradients.values()))
        scale = min(1.0, config.max_grad_norm / (norm + 1e-6))
        for name, grad in gradients.items():
            decay = config.weight_decay if grad.dim() >= 2 else 0.0
            whole = Whole(grad, scale, everything[name])
            moment = Moment(step + 1, rate, decay, config, whole)
            written[name], state[name] = row.written(
                written[name], state[name], scale * grad.double().reshape(-1), moment
            )
            torch.testing.assert_close(
                trainable[name].double().reshape(-1), written[name], rtol=1e-5, atol=1e-6
            )
    for name, kept in state.items():
        found = state_at(optimizer, name, everything[name])
        assert set(found) == set(kept)
        for key, wanted in kept.items():
            torch.testing.assert_close(found[key], wanted, rtol=1e-5, atol=1e-7)


def state_at(optimizer, name, index):
    """An optimizer's state of some weights, as its written-out update reads it."""
    kept = optimizer.state_of(optimizer.masters.masters[name])
    return optimizer.kind.read(kept, index)


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_its_written_update(name):
    check_written_update(OPTIMIZERS[name])


def test_what_adamw_takes():
    """float32 master, gradient and two moments: 4 bytes each."""
    row = OPTIMIZERS["adamw"]
    assert (row.state_bytes, row.training_bytes) == (8, 16)
    assert row.saved_bytes_of((3, 5)) == 12 * 15


def rates(shape, warmup, steps=10, peak=1.0):
    rate = schedule(shape, peak, steps, warmup)
    return [rate(step) for step in range(steps + 1)]


def test_linear_by_hand():
    """Warm-up over 2 of 10 steps: 1/3, 2/3, then 8/8, 7/8 … and 0 at the end."""
    assert rates("linear", 0.2) == pytest.approx([1 / 3, 2 / 3, *(k / 8 for k in range(8, -1, -1))])


def test_warmup_as_share_or_steps():
    assert rates("linear", 0.3) == rates("linear", 3)
    assert rates("constant", 4) == pytest.approx([0.2, 0.4, 0.6, 0.8] + [1.0] * 7)
    assert rates("constant", 0) == [1.0] * 11
    # never past the run
    assert rates("linear", 100) == pytest.approx([k / 11 for k in range(1, 11)] + [1.0])


def test_cosine_by_hand():
    """Half way down half a cosine is half the peak; the end is 0."""
    values = rates("cosine", 0, peak=4.0)
    assert values[0] == 4.0 and values[5] == pytest.approx(2.0) and values[10] == pytest.approx(0.0)
    assert values == sorted(values, reverse=True)


def test_clipping_bounds_the_norm_and_spares_small_gradients():
    """With clip 1 a gradient of norm 5 is scaled by a fifth; one of norm 0.5 stays."""
    for size, moment in ((5.0, 0.1), (0.5, 0.05)):
        trainable = {"w": Parameter(torch.zeros(1, 1))}
        optimizer = Optimizer(
            trainable, TrainConfig(max_grad_norm=1.0, warmup=0), peak=1e-3, steps=1
        )
        trainable["w"].grad = torch.full((1, 1), size)
        optimizer.update(0, optimizer.grad_norm())
        # (1 - β₁) times what arrived
        assert optimizer.state()["exp_avg/w"].item() == pytest.approx(moment, rel=1e-4)
