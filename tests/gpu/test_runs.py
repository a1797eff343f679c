"""Whole runs on a GPU: equal to a CPU's in float32, stopped and resumed, with a cache, with all
weights; and the doctor.
"""

import json

import pytest
import torch
from conftest import pair_rows, write_rows
from safetensors.torch import load_file
from training.helpers import json_lines, labelled_rows, metrics, ready_for, run, stopped_after

import accord
from accord.engine import memory
from accord.sampling.local import LocalSampler
from accord.types import Interrupted
from accord.verify.doctor import run_checks

COMPARED = ("loss", "logps/chosen", "logps/rejected", "rewards/chosen", "grad_norm", "entropy")


def options(device, **settings):
    return {"set": {"model.device": str(device), **settings}}


def weights(result):
    files = sorted(result.saved.glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def same_figures(one, other, tolerance):
    assert len(one) == len(other)
    for ours, theirs in zip(one, other, strict=True):
        for name in COMPARED:
            assert ours[name] == pytest.approx(theirs[name], rel=tolerance, abs=tolerance), (
                ours["step"],
                name,
            )


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "all weights"])
@pytest.mark.parametrize("method", ["dpo", "kto", "orpo"])
def test_five_updates_are_those_of_a_cpu(method, lora, device, tiny_folder, tmp_path):
    rows = labelled_rows(pair_rows(24)) if method == "kto" else pair_rows(24)
    data = write_rows(tmp_path / "rows.jsonl", rows)
    settings = {"method": method, "steps": 5, **({} if lora else {"lora": False})}
    here = run(tiny_folder, data, tmp_path / "cpu", **settings, **options("cpu"))
    there = run(tiny_folder, data, tmp_path / "gpu", **settings, **options(device))
    same_figures(metrics(there), metrics(here), 2e-3)
    ours, theirs = weights(there), weights(here)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize(
    "name", ["adamw_8bit", "paged_adamw", "paged_adamw_8bit", "adafactor", "sgd"]
)
def test_each_optimizer_is_followed_stopped_and_resumed(
    name, device, tiny_folder, pairs_file, tmp_path, monkeypatch
):
    """Its kernels make the written-out updates, and the state that comes back goes on as it was."""
    settings = {"lora": False, "steps": 12} | options(device, **{"train.optimizer": name})
    straight = run(tiny_folder, pairs_file, tmp_path / "straight", **settings)
    with stopped_after(monkeypatch, 5), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, tmp_path / "run", **settings)
    resumed = accord.resume(str(tmp_path / "run"))
    same_figures(metrics(straight), metrics(resumed), 1e-3)


def test_a_run_in_bfloat16_with_everything_on(
    device, tiny_folder, pairs_file, held_out_file, tmp_path
):
    """Held-out rows, samples, checkpoints, invariants; the loss falls."""
    settings = options(
        device, **{"evaluate.every": 4, "checkpoint.every": 4, "monitor.sample_every": 4}
    )
    result = run(
        tiny_folder,
        pairs_file,
        tmp_path / "run",
        dtype="bfloat16",
        steps=12,
        held_out=held_out_file,
        **settings,
    )
    assert (
        result.after["eval_loss"] > 0 and metrics(result)[-1]["loss"] < metrics(result)[0]["loss"]
    )
    assert (result.folder / "samples.jsonl").exists()
    timings = json_lines(result.folder / "timings.jsonl")
    assert all(("gpu_peak" in line) == (device.type == "cuda") for line in timings)


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "all weights"])
def test_resumed_equals_uninterrupted(lora, device, tiny_folder, pairs_file, tmp_path, monkeypatch):
    """Up to the order in which a GPU may add."""
    settings = {"steps": 5, **({} if lora else {"lora": False}), **options(device)}
    straight = run(tiny_folder, pairs_file, tmp_path / "straight", **settings)
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, tmp_path / "stopped", **settings)
    resumed = accord.resume(str(tmp_path / "stopped"))
    same_figures(metrics(resumed), metrics(straight), 1e-5)
    theirs = weights(straight)
    for name, tensor in weights(resumed).items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-5, rtol=1e-4)


def test_a_checkpoint_of_a_gpu_goes_on_on_a_cpu(
    device, tiny_folder, pairs_file, tmp_path, monkeypatch
):
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, tmp_path / "run", steps=4, **options(device))
    config = tmp_path / "run/config.yaml"
    config.write_text(config.read_text().replace(f"device: {device}", "device: cpu"))
    assert accord.resume(str(tmp_path / "run")).steps == 4


def test_cached_reference(device, tiny_folder, pairs_file, tmp_path):
    """The second run looks up what the first computed."""
    live = run(tiny_folder, pairs_file, tmp_path / "live", steps=5, **options(device))
    first = run(
        tiny_folder, pairs_file, tmp_path / "first", steps=5, reference="cached", **options(device)
    )
    again = run(
        tiny_folder, pairs_file, tmp_path / "again", steps=5, reference="cached", **options(device)
    )
    same_figures(metrics(first), metrics(live), 1e-3)
    same_figures(metrics(again), metrics(first), 1e-5)
    found = json.loads((again.folder / "preflight.json").read_text())
    assert "0 of 20 computed now" in json.dumps(found)


def test_a_run_takes_the_devices_own_path(device, shared, tiny_folder, pairs_file):
    forward = ready_for(
        tiny_folder, pairs_file, assignments=[f"model.device={device}"]
    ).learner.forward
    assert forward.path == shared, forward.reason


def test_what_memory_is_estimated_and_what_is_taken(device, tiny_folder, pairs_file):
    if device.type != "cuda":
        pytest.skip("the memory of a CPU's process is another matter")
    ready = ready_for(tiny_folder, pairs_file, assignments=[f"model.device={device}"])
    finding = next(f for f in ready.findings if f.check == "memory")
    trees = ready.batch_trees(0)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    kept = memory.kept_bytes(ready.learner.forward, trees)
    ready.learner.forward(trees).values.sum().backward()
    taken = torch.cuda.max_memory_allocated() - before
    assert kept <= taken <= finding.evidence["peak"] - finding.evidence["resident"]


def test_samples_are_a_cpus(device, tiny_folder):
    """The likeliest tokens: nothing random, float32."""
    from accord.models.load import load

    models = [
        load(str(tiny_folder), dtype="float32", device=where) for where in ("cpu", str(device))
    ]
    prompts = [tuple(range(5, 5 + n)) for n in (3, 9, 5)]
    ours, theirs = (
        LocalSampler.of(m).sample(prompts, max_new_tokens=8, seed=0, temperature=0) for m in models
    )
    assert [s.tokens for s in ours] == [s.tokens for s in theirs]


def test_the_doctor_finds_this_machine_healthy(device):
    report = run_checks(str(device), "auto")
    assert report.healthy, [f"{f.check}: {f.says}" for f in report.findings if f.refused]
