"""A run on a device that is not the host: nothing is left behind on the host, and the host seldom
waits.

The device is pretended (tests/pretend.py), so this needs no GPU; what it computes is what a CPU
computes, but for rounding.
"""

import pretend
import pytest
import torch
from conftest import pair_rows, write_rows
from safetensors.torch import load_file
from torch.optim import optimizer
from training.helpers import json_lines, labelled_rows, metrics, ready_for, run, stopped_after

import accord
from accord.engine.step import accumulate, make_batch
from accord.models import load
from accord.types import Interrupted


@pytest.fixture
def elsewhere(monkeypatch):
    """Models load onto the pretended device."""
    monkeypatch.setattr(load, "pick_device", lambda device: torch.device(pretend.NAME))
    monkeypatch.setattr(
        optimizer, "_get_fused_kernels_supported_devices", lambda: [pretend.NAME, "cpu"]
    )
    # the wrapped tensors own no storage that could be measured
    monkeypatch.setattr("accord.engine.memory.kept_bytes", lambda forward, trees: 10**6)
    before = torch.__future__.get_swap_module_params_on_conversion()
    # tied weights stay tied on their way, as to a GPU
    torch.__future__.set_swap_module_params_on_conversion(True)
    with pretend.machine():
        yield
    torch.__future__.set_swap_module_params_on_conversion(before)


# Adam moves a weight without gradient by its whole learning rate, one way or the other as rounding
# has it.
SLOWLY = {"lora": False, "learning_rate": 1e-5}
CASES = {
    "dpo": {},
    "all weights": SLOWLY,
    "kto": {"method": "kto"},
    "simpo in bfloat16": {"method": "simpo", "dtype": "bfloat16"},
    "cached reference": {"reference": "cached"},
    # a second network; PEFT leaves a second adapter on the host where the others are on a device
    # named meta
    "moving reference": {
        **SLOWLY,
        "reference": "moving",
        "set": {"moving.every": 2, "moving.mix": 0.5},
    },
    "padded path": {"set": {"model.forward": "padded"}},
}


@pytest.fixture
def here(tiny_folder, held_out_file, tmp_path):
    """Runs of one case, by the folder that they go to: few rows, since each operation of the
    pretended device goes through Python. No samples: transformers' masks for
    generation ask for truth values of tensors that torch itself makes without content on a device
    named meta.
    """

    def go(changes, name):
        rows = labelled_rows(pair_rows(12)) if changes.get("method") == "kto" else pair_rows(12)
        changes = {"steps": 3, **changes, "set": {"monitor.samples": 0, **changes.get("set", {})}}
        return run(
            tiny_folder,
            write_rows(tmp_path / "rows.jsonl", rows),
            tmp_path / name,
            held_out=held_out_file,
            **changes,
        )

    return go


def saved(folder):
    return {
        name: tensor
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def same_but_for_rounding(found, wanted):
    """torch picks other kernels for some products of a wrapped tensor."""
    assert [line.keys() for line in found] == [line.keys() for line in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        for name in theirs:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=2e-5), (
                ours["step"],
                name,
            )


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_a_whole_run_elsewhere_is_the_run_here(changes, here, request, monkeypatch, tmp_path):
    """From the first check to the saved model, held-out rows included."""
    wanted = here(changes, "here")
    monkeypatch.setattr("accord.forward.reference.cache_root", lambda: tmp_path / "another-cache")
    request.getfixturevalue("elsewhere")
    found = here(changes, "elsewhere")
    same_but_for_rounding(metrics(found), metrics(wanted))
    ours, theirs = saved(found.saved), saved(wanted.saved)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=2e-5, rtol=1e-4)


def test_a_checkpoint_goes_back_to_the_device(here, request, monkeypatch, tmp_path):
    """Moments and step counts too: a fused optimizer takes none from the host."""
    wanted = here({}, "here")
    request.getfixturevalue("elsewhere")
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        here({}, "elsewhere")
    accord.resume(str(tmp_path / "elsewhere"))
    lines = [line for line in json_lines(tmp_path / "elsewhere/metrics.jsonl") if "loss" in line]
    same_but_for_rounding(lines, metrics(wanted))


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_the_host_does_not_wait_at_every_micro_batch(method, tiny_folder, tmp_path, elsewhere):
    """Once a micro-batch is computed the next can be queued:
    nothing in between asks for a number.
    """
    rows = labelled_rows(pair_rows(24)) if method == "kto" else pair_rows(24)
    ready = ready_for(
        tiny_folder, write_rows(tmp_path / "rows.jsonl", rows), method=method, batch_size=8
    )
    batch, counts = make_batch(ready.learner, 0, ready.batch_trees(0)), []
    for budget in (10**9, 64):
        pretend.waits.clear()
        accumulate(ready.learner.with_budget(budget), batch, ready.optimizer.masters)
        counts.append(len(pretend.waits))
    assert counts[0] == counts[1], pretend.waits
