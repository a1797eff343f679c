"""The table of optimizers: each against its library, by hand, resumed, and held against its
written-out update, which must notice what goes wrong.
"""

import math
import tomllib
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import Parameter
from training.helpers import ready_for, run, stopped_after
from training.test_optim import feed, gradient, parameters

import accord
from accord.config.optimizers import OPTIMIZER_OPTIONS
from accord.config.schema import TrainConfig, make_config
from accord.engine import eight_bits
from accord.engine.optimizer import Optimizer
from accord.engine.optimizers import OPTIMIZERS, optimizer_of
from accord.engine.written_out import (
    BLOCK,
    Moment,
    Whole,
    adafactor_update,
    adamw_update,
    dequantized,
    dynamic_map,
    sgd_update,
    spacing,
)
from accord.environment import bitsandbytes_package
from accord.errors import UsageError
from accord.runs import checkpoint
from accord.runs.identity import differences
from accord.training.red_flags import facts_of
from accord.types import Interrupted, Refused

ROOT = Path(__file__).parents[2]
# one tensor whose moments are kept in 8 bits, 17 blocks of which the last is short; two that are
# too small for that
SHAPES = {"large": (47, 89), "matrix": (3, 4), "norm": (4,)}
HERE = [name for name in OPTIMIZERS if not OPTIMIZERS[name].paged]


def config_of(name, **more):
    return TrainConfig(optimizer=name, **{"learning_rate": 0.03, "warmup": 2, **more})


def optimizer(name, trainable, steps=20, **more):
    return Optimizer(trainable, config_of(name, **more), peak=0.03, steps=steps)


# ---------------------------------------------------------------- the library's own


def library(name, groups, betas):
    """The optimizer as its library's users make it."""
    import bitsandbytes
    from transformers.optimization import Adafactor

    return {
        "adamw": lambda: torch.optim.AdamW(groups, lr=1.0, betas=betas, foreach=False),
        "adamw_8bit": lambda: bitsandbytes.optim.AdamW8bit(groups, lr=1.0, betas=betas),
        "sgd": lambda: torch.optim.SGD(groups, lr=1.0, momentum=0.8),
        # as transformers' Trainer makes it
        "adafactor": lambda: Adafactor(groups, lr=1.0, scale_parameter=False, relative_step=False),
    }[name]()


@pytest.mark.parametrize("name", HERE)
def test_twenty_updates_are_the_librarys(name):
    """Clipped, decay on matrices alone, the rate by the step; bit for bit but for AdamW, whose
    fused kernel rounds otherwise than its loop.
    """
    more = {"sgd": {"momentum": 0.8}, "adafactor": {}}.get(name, {"betas": (0.8, 0.95)})
    ours, theirs = (parameters(torch.float32, shapes=SHAPES) for _ in range(2))
    mine = optimizer(name, ours, weight_decay=0.1, max_grad_norm=0.5, **more)
    matrices = [theirs["large"], theirs["matrix"]]
    groups = [
        {"params": matrices, "weight_decay": 0.1},
        {"params": [theirs["norm"]], "weight_decay": 0.0},
    ]
    other = library(name, groups, (0.8, 0.95))
    for step in range(20):
        rate = feed(mine, ours, step)
        for n, grad in gradient(step, SHAPES).items():
            theirs[n].grad = grad
        torch.nn.utils.clip_grad_norm_(theirs.values(), 0.5)
        for group in other.param_groups:
            group["lr"] = rate
        other.step()
    for n in SHAPES:
        tolerance = {"rtol": 1e-6, "atol": 1e-7} if name == "adamw" else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(ours[n], theirs[n], **tolerance)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_state_goes_on_bit_for_bit(name, dtype):
    """Eleven updates, the state into fresh objects, nine more: equal to twenty in a row."""
    straight, first, second = (parameters(dtype, shapes=SHAPES) for _ in range(3))
    one, two, three = (
        optimizer(name, each, weight_decay=0.01) for each in (straight, first, second)
    )
    for step in range(20):
        feed(one, straight, step)
    for step in range(11):
        feed(two, first, step)
    three.load_state({key: tensor.clone() for key, tensor in two.state().items()}, 11)
    for step in range(11, 20):
        feed(three, second, step)
    assert all(torch.equal(straight[n], second[n]) for n in SHAPES)
    wanted, found = one.state(), three.state()
    assert set(wanted) == set(found) == set(one.shapes())
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)
    assert all(found[key].dtype == wanted[key].dtype for key in wanted)
    assert all(tuple(wanted[key].shape) == shape for key, shape in one.shapes().items())


@pytest.mark.parametrize("name", HERE)
def test_state_before_the_first_update_is_that_of_a_fresh_start(name):
    """A run stopped before its first update goes on as one that was never stopped."""
    straight, stopped = (parameters(torch.float32, shapes=SHAPES) for _ in range(2))
    one, two = (optimizer(name, each) for each in (straight, stopped))
    two.load_state({key: tensor.clone() for key, tensor in two.state().items()}, 0)
    for step in range(3):
        feed(one, straight, step), feed(two, stopped, step)
    assert all(torch.equal(straight[n], stopped[n]) for n in SHAPES)


# ---------------------------------------------------------------- what it takes


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("adamw", 8.0),
        ("adamw_8bit", 2 + 2 * 4 / BLOCK),
        ("paged_adamw", 8.0),
        ("paged_adamw_8bit", 2 + 2 * 4 / BLOCK),
        ("adafactor", 2 * 4 / 4096),
        ("sgd", 4.0),
    ],
)
def test_bytes_of_a_weight(name, state):
    row = OPTIMIZERS[name]
    assert row.state_bytes == pytest.approx(state) and row.training_bytes == 8 + row.state_bytes


@pytest.mark.parametrize("name", HERE)
def test_bytes_are_those_of_the_tensors(name):
    """In memory and in a checkpoint, counted from shapes and from what an update leaves."""
    trainable = parameters(torch.float32, shapes=SHAPES)
    found = optimizer(name, trainable)
    feed(found, trainable, 0)
    masters = 4 * found.masters.count
    state = sum(
        tensor.nbytes
        for master in found.masters.masters.values()
        for tensor in found.state_of(master).values()
    )
    assert found.saved_bytes() == sum(tensor.nbytes for tensor in found.state().values())
    assert found.saved_bytes() == masters + state and found.update_bytes() == masters + state


def test_paged_state_need_not_fit_on_the_device():
    """bitsandbytes pages tensors of 100,000 weights and more."""
    for name in ("paged_adamw", "paged_adamw_8bit"):
        row = OPTIMIZERS[name]
        assert row.resident_bytes_of((400, 250)) == 0 < row.bytes_of((400, 250))
        assert row.resident_bytes_of((399, 250)) == row.bytes_of((399, 250))


# ---------------------------------------------------------------- updates by hand


def moment_of(gradient, config, number=1, rate=0.1, decay=0.0):
    everything = torch.arange(gradient.numel())
    return Moment(number, rate, decay, config, Whole(gradient, 1.0, everything))


def test_sgd_by_hand():
    """Buffers 1 and 0.5 · 1 + 2 = 2.5 at rate 0.1: 1 becomes 0.9, then 0.65. With decay 0.1 the
    first gradient is 1.1.
    """
    config = config_of("sgd", momentum=0.5)
    value, state = torch.tensor([1.0]).double(), {"momentum_buffer": torch.zeros(1).double()}
    for number, (grad, wanted) in enumerate(((1.0, 0.9), (2.0, 0.65)), 1):
        grad = torch.tensor([grad]).double()
        value, state = sgd_update(value, state, grad, moment_of(grad, config, number))
        assert value.item() == pytest.approx(wanted)
    one = torch.ones(1).double()
    decayed, _ = sgd_update(
        one, {"momentum_buffer": 0 * one}, one, moment_of(one, config, decay=0.1)
    )
    assert decayed.item() == pytest.approx(1 - 0.1 * 1.1)


def test_sgd_without_momentum_keeps_nothing():
    trainable = {"w": Parameter(torch.tensor([[1.0, 2.0]]))}
    plain = Optimizer(
        trainable,
        config_of("sgd", momentum=0.0, warmup=0, schedule="constant", max_grad_norm=None),
        peak=0.5,
        steps=2,
    )
    for _ in range(2):
        trainable["w"].grad = torch.tensor([[1.0, -2.0]])
        plain.update(0, plain.grad_norm())
    torch.testing.assert_close(trainable["w"].detach(), torch.tensor([[0.0, 4.0]]))
    assert set(plain.state()) == {"master/w"} and plain.kind.state_bytes == 0


def test_adafactor_by_hand():
    """The first update has no memory. G = [[4, 1], [1, 1]]: means of squares are 8.5 and 1 over
    rows and over columns, 4.75 over all, so V = R C / 4.75. The root mean square of G / √V is
    1.3153, and is clipped to 1.
    """
    grad = torch.tensor([[4.0, 1.0], [1.0, 1.0]]).double()
    state = {"exp_avg_sq_row": torch.zeros(2), "exp_avg_sq_col": torch.zeros(2)}
    variance = torch.tensor([[8.5 * 8.5, 8.5], [8.5, 1.0]]).double() / 4.75
    update = grad / variance.sqrt()
    size = update.square().mean().sqrt().item()
    assert size == pytest.approx(1.3153, abs=1e-4)
    value, after = adafactor_update(
        torch.zeros(4).double(),
        {key: tensor.double() for key, tensor in state.items()},
        grad.reshape(-1),
        moment_of(grad, config_of("adafactor")),
    )
    torch.testing.assert_close(value, -0.1 * (update / size).reshape(-1))
    torch.testing.assert_close(after["exp_avg_sq_row"], torch.tensor([8.5, 1.0]).double())
    torch.testing.assert_close(after["exp_avg_sq_col"], torch.tensor([8.5, 1.0]).double())


@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7), (11,)])
def test_adafactor_of_a_few_weights_is_that_of_all(shape, monkeypatch):
    """Followed weights alone, and the tensor read a few rows at a time: the same numbers, as those
    of the library's twenty updates.
    """
    shapes = {"w": shape}
    trainable = parameters(torch.float32, shapes=shapes)
    made = optimizer("adafactor", trainable, warmup=0, max_grad_norm=None)
    index = torch.tensor([0, trainable["w"].numel() // 2, trainable["w"].numel() - 1])
    value = trainable["w"].detach().double().reshape(-1)[index]
    state = made.kind.read(made.state_of(made.masters.masters["w"]), index)
    monkeypatch.setattr("accord.engine.written_out.CHUNK", 9)
    for step in range(20):
        grad = gradient(step, shapes)["w"]
        rate = feed(made, trainable, step)
        moment = Moment(step + 1, rate, 0.0, config_of("adafactor"), Whole(grad, 1.0, index))
        value, state = adafactor_update(value, state, grad.double().reshape(-1)[index], moment)
        now = trainable["w"].detach().double().reshape(-1)[index]
        torch.testing.assert_close(now, value, rtol=1e-5, atol=1e-6)
    kept = made.kind.read(made.state_of(made.masters.masters["w"]), index)
    for key, wanted in state.items():
        torch.testing.assert_close(kept[key], wanted, rtol=1e-5, atol=1e-9)


# ---------------------------------------------------------------- eight bits


def test_the_values_of_eight_bits_are_the_librarys():
    """By the paper here, by bitsandbytes there: 256 of them, equal to float32's rounding."""
    from bitsandbytes.functional import create_dynamic_map

    for signed in (True, False):
        values = dynamic_map(signed)
        assert len(values) == 256 and bool((values.diff() > 0).all())
        assert values.max() == 1 and (values.min() < -0.99 if signed else values.min() == 0)
        torch.testing.assert_close(values, create_dynamic_map(signed).double(), rtol=2e-7, atol=0)


def test_codes_are_read_with_the_scale_of_their_block():
    """Blocks of 256 with the largest numbers 2 and 10: code 255 is 2 in the first, 10 in the
    second; the next code below is 0.9965 of that.
    """
    codes = torch.full((2, 256), 255, dtype=torch.uint8)
    codes[1, 3] = 254
    largest, index = torch.tensor([2.0, 10.0]), torch.tensor([0, 255, 256, 259])
    found = dequantized(codes, largest, index, signed=False)
    below = dynamic_map(False)[254].item()
    assert below == pytest.approx(1 - 0.45 / 128)
    torch.testing.assert_close(found, torch.tensor([2.0, 2.0, 10.0, 10 * below]).double())
    apart = spacing(codes, largest, index, signed=False)
    assert apart[0].item() == pytest.approx(2 * (1 - below))
    assert apart[3].item() == pytest.approx(10 * dynamic_map(False).diff()[253:255].max().item())


def test_eight_bits_are_adamw_on_rounded_moments():
    """Twenty updates of a tensor, each written out in float64 from the kept moments: the weights
    are the library's, every block's scale is its largest moment, and each new moment is the written
    one to half the way between two values, and to a step of the table of the library's CPU kernel.
    """
    shapes, names = {"w": (47, 89)}, {"exp_avg": "absmax1", "exp_avg_sq": "absmax2"}
    trainable = parameters(torch.float32, shapes=shapes)
    config = config_of("adamw_8bit", weight_decay=0.1, max_grad_norm=None)
    made = Optimizer(trainable, config, peak=0.03, steps=20)
    everything = torch.arange(47 * 89)
    kept = dict.fromkeys(names, torch.zeros(47 * 89).double())
    for step in range(20):
        value = trainable["w"].detach().double().reshape(-1)
        grad = gradient(step, shapes)["w"].double().reshape(-1)
        rate = feed(made, trainable, step)
        moment = Moment(step + 1, rate, 0.1, config, Whole(grad, 1.0, everything))
        value, written = adamw_update(value, kept, grad, moment)
        now = trainable["w"].detach().double().reshape(-1)
        torch.testing.assert_close(now, value, rtol=1e-5, atol=1e-6)
        state = made.state_of(made.masters.masters["w"])
        kept = made.kind.read(state, everything)
        allowed = made.kind.spacing(state, everything)
        for name, scale in names.items():
            tops = torch.stack([block.abs().max() for block in written[name].split(BLOCK)])
            torch.testing.assert_close(state[scale].double(), tops, rtol=1e-5, atol=0)
            step_of_table = 2 / 65_535 * tops.repeat_interleave(BLOCK)[: 47 * 89]
            nearest = (allowed[name] - step_of_table) / 2 + step_of_table
            assert bool(((kept[name] - written[name]).abs() <= 1.0001 * nearest).all())


# ---------------------------------------------------------------- words of the config


def test_every_name_of_the_config_has_a_row():
    assert list(OPTIMIZER_OPTIONS) and set(OPTIMIZER_OPTIONS) == set(OPTIMIZERS)
    literal = TrainConfig.model_fields["optimizer"].annotation
    assert set(literal.__args__) == set(OPTIMIZERS)
    assert all(row.name == name for name, row in OPTIMIZERS.items())


def test_defaults_are_written_down_for_the_optimizer_that_reads_them():
    assert TrainConfig().betas == (0.9, 0.999) and TrainConfig().momentum is None
    assert config_of("sgd").momentum == 0.9 and config_of("sgd").betas is None
    assert config_of("adafactor").betas is None and config_of("adafactor").momentum is None
    for name in OPTIMIZERS:  # what a run's config.yaml holds can be read again
        again = TrainConfig(**config_of(name).model_dump())
        assert again == config_of(name) and optimizer_of(again).name == name


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (
            {"optimizer": "sgd", "learning_rate": 0.1, "betas": [0.9, 0.99]},
            "betas = .* is for adamw",
        ),
        ({"optimizer": "adafactor", "betas": [0.9, 0.99]}, "train.optimizer is adafactor, which"),
        ({"momentum": 0.9}, r"momentum = 0.9 is for sgd, and train.optimizer is adamw"),
        ({"optimizer": "adamw_8bit", "momentum": 0.0}, "--set train.optimizer=sgd"),
        ({"optimizer": "sgd"}, "sgd needs a learning rate.*--set train.learning_rate="),
        ({"optimizer": "adam"}, "train.optimizer: expected.*did you mean adamw"),
        ({"optimizer": ["sgd"]}, "train.optimizer: expected"),
        ({"optimizer": "sgd", "learning_rate": 0.1, "momentum": 1.0}, "less than 1"),
    ],
)
def test_an_option_that_does_nothing_is_an_error(train, words):
    with pytest.raises(UsageError, match=f"(?s){words}"):
        make_config({"data": {"train": "x"}, "train": train})


# ---------------------------------------------------------------- machines that lack it


CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_what_runs_on_a_cpu():
    assert [name for name, row in OPTIMIZERS.items() if row.problem(CPU) is None] == HERE


@pytest.mark.parametrize(
    ("name", "other"), [("paged_adamw", "adamw"), ("paged_adamw_8bit", "adamw_8bit")]
)
def test_paging_on_a_cpu_is_refused_with_the_command(name, other):
    said = OPTIMIZERS[name].problem(CPU)
    assert "pages nothing" in said and said.endswith(f"--set train.optimizer={other}")


def test_eight_bits_on_another_device_are_refused():
    assert "--set train.optimizer=adamw" in OPTIMIZERS["adamw_8bit"].problem(torch.device("mps"))


@pytest.mark.parametrize(
    ("version", "words"), [(None, "not installed"), ("0.43.1", "0.43.1 is"), ("junk", "junk is")]
)
@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw", "paged_adamw_8bit"])
def test_a_missing_or_old_library_is_named_with_the_command(name, version, words, monkeypatch):
    def found(package):
        if version is None:
            raise bitsandbytes_package.metadata.PackageNotFoundError(package)
        return version

    monkeypatch.setattr(bitsandbytes_package.metadata, "version", found)
    said = OPTIMIZERS[name].problem(CPU if name == "adamw_8bit" else GPU)
    assert words in said and said.endswith("'accord[quantize]'")


def test_the_bounds_are_those_of_the_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = extras["optional-dependencies"]
    line = f"bitsandbytes{bitsandbytes_package.BITSANDBYTES}"
    assert extras["quantize"] == [line] and line in extras["test"]


def test_a_library_that_does_not_work_is_found_before_anything_is_loaded(monkeypatch):
    eight_bits._trial.cache_clear()
    with monkeypatch.context() as patched:

        def broken(*args, **more):
            raise OSError("libbitsandbytes_cuda118.so: cannot open")

        patched.setattr(eight_bits, "_build", broken)
        said = OPTIMIZERS["adamw_8bit"].problem(CPU)
    eight_bits._trial.cache_clear()
    assert "libbitsandbytes_cuda118.so" in said and said.endswith("--set train.optimizer=adamw")


def test_adafactor_moves_a_tensor_by_the_learning_rate():
    """Adafactor moves the root mean square of a tensor by the learning rate at most."""
    trainable = parameters(torch.float32, shapes={"w": (30, 40)})
    before = trainable["w"].detach().clone()
    made = optimizer("adafactor", trainable, warmup=0, schedule="constant", max_grad_norm=None)
    feed(made, trainable, 0)
    assert math.isclose((trainable["w"] - before).square().mean().sqrt().item(), 0.03, rel_tol=0.01)


# ---------------------------------------------------------------- runs


def settings_of(name, **more):
    return {"lora": False, "steps": 12, "set": {"train.optimizer": name, **more}}


@pytest.mark.parametrize("name", HERE)
def test_a_run_stopped_and_resumed_ends_with_the_same_bytes(
    name, tiny_folder, pairs_file, tmp_path, monkeypatch
):
    """Its updates are followed, its checkpoint is read back, and the second half follows the state
    that came back.
    """
    changes = settings_of(name)
    straight = run(tiny_folder, pairs_file, tmp_path / "straight", **changes)
    with stopped_after(monkeypatch, 5), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, tmp_path / "run", **changes)
    resumed = accord.resume(str(tmp_path / "run"))
    wanted, found = (
        checkpoint.load(each.folder / "checkpoints").tensors for each in (straight, resumed)
    )
    assert set(wanted) == set(found)
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)
    lines = [(each.folder / "metrics.jsonl").read_bytes() for each in (straight, resumed)]
    assert lines[0] == lines[1]
    kept = {key.partition("/")[0] for key in found}
    assert (
        kept
        == {
            "adamw": {"master", "exp_avg", "exp_avg_sq"},
            "adamw_8bit": {"master", "state1", "state2", "absmax1", "absmax2"},
            "adafactor": {"master", "exp_avg_sq", "exp_avg_sq_row", "exp_avg_sq_col"},
            "sgd": {"master", "momentum_buffer"},
        }[name]
    )


def three_times_as_fast(self, update):
    for group in self.inner.param_groups:
        group["lr"] *= 3


def forgets(self, update):
    if update == 3:
        for master in self.masters.masters.values():
            for tensor in self.state_of(master).values():
                tensor.zero_()


def exchanges(self, update):
    """Give two tensors of one shape each other's state, of which a copy is kept nowhere."""
    if update == 3:
        one, other = [
            self.state_of(master)
            for name, master in self.masters.masters.items()
            if name.endswith("q_proj.weight")
        ][:2]
        for key, tensor in one.items():
            kept = tensor.clone()
            tensor.copy_(other[key])
            other[key].copy_(kept)


@pytest.mark.parametrize("fault", [three_times_as_fast, forgets, exchanges])
@pytest.mark.parametrize("name", HERE)
def test_an_update_that_is_not_the_written_one_stops_the_run(
    name, fault, tiny_folder, pairs_file, tmp_path, monkeypatch
):
    right = Optimizer.update

    def update(self, step, norm):
        inner = self.inner.step

        def wrong():
            fault(self, step)
            inner()

        monkeypatch.setattr(self.inner, "step", wrong)
        try:
            return right(self, step, norm)
        finally:
            monkeypatch.setattr(self.inner, "step", inner)

    monkeypatch.setattr(Optimizer, "update", update)
    title = OPTIMIZERS[name].title
    with pytest.raises(Refused, match=f"(?s){title}|did not move"):
        run(tiny_folder, pairs_file, tmp_path / "run", **settings_of(name))


def test_moments_that_are_rounded_too_far_stop_the_run(
    tiny_folder, pairs_file, tmp_path, monkeypatch
):
    """Codes four values off, after an update whose weights were right: found in that update."""
    right = Optimizer.update

    def update(self, step, norm):
        rate = right(self, step, norm)
        for master in self.masters.masters.values():
            state = self.state_of(master)
            if state["state1"].dtype == torch.uint8 and step == 2:
                codes = state["state1"]
                codes.copy_(torch.where(codes > 128, codes - 4, codes + 4))
        return rate

    monkeypatch.setattr(Optimizer, "update", update)
    with pytest.raises(Refused, match="after update 3 8-bit AdamW keeps .* as exp_avg of a weight"):
        run(tiny_folder, pairs_file, tmp_path / "run", **settings_of("adamw_8bit"))


def test_a_checkpoint_of_another_optimizer_is_refused_by_name(
    tiny_folder, pairs_file, tmp_path, monkeypatch
):
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, tmp_path / "run")
    file = tmp_path / "run" / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["train"] |= {"optimizer": "sgd", "betas": None, "momentum": 0.9}
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(Refused, match="train.optimizer: then adamw, now sgd"):
        accord.resume(str(tmp_path / "run"))


def test_a_run_from_before_there_was_a_choice_goes_on():
    """Its record names no optimizer, and it was AdamW's."""
    before = {"config": {"train.betas": [0.9, 0.999]}}
    now = {"train.optimizer": "adamw", "train.betas": [0.9, 0.999], "train.momentum": None}
    assert differences(before, {"config": now}, "then", "now") == []
    other = {"train.optimizer": "adamw_8bit", "train.betas": [0.9, 0.999]}
    (line,) = differences(before, {"config": other}, "then", "now")
    assert line == "train.optimizer: then adamw, now adamw_8bit"


def test_a_paged_optimizer_on_a_cpu_is_refused_before_anything_is_loaded(
    tiny_folder, pairs_file, tmp_path, monkeypatch
):
    def load(*args, **more):
        raise AssertionError("loaded")

    monkeypatch.setattr("accord.training.setup.offline.load_model", load)
    with pytest.raises(UsageError, match="pages nothing. adamw makes the same updates"):
        run(tiny_folder, pairs_file, tmp_path / "run", set={"train.optimizer": "paged_adamw"})


def test_facts_that_rules_have_of_sgd(tiny_folder, pairs_file):
    """AdamW's ε and the suggested rates say nothing of it."""
    facts = facts_of(ready_for(tiny_folder, pairs_file, assignments=["train.optimizer=sgd"]))
    assert facts.epsilon is None and facts.usual_rate is None
    usual = facts_of(ready_for(tiny_folder, pairs_file))
    assert usual.epsilon == 1e-8 and usual.usual_rate > 0
