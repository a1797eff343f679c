"""benchmarks/gpu.py on a CPU with a tiny model: its rows, accord's side of it, and what it makes of
the figures.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return pytest.importorskip("gpu")


def test_rows_have_the_shapes_that_are_named(gpu):
    rows = gpu.make_rows(200, 1_000, gpu.LENGTHS)
    assert rows == gpu.make_rows(200, 1_000, gpu.LENGTHS), "seeded"
    prompts, answers = (
        [len(r["prompt"]) for r in rows],
        [len(c) for r in rows for c in r["completions"]],
    )
    assert 200 <= min(prompts) < 300 and 1_200 < max(prompts) <= 1_500
    assert 50 <= min(answers) < 80 and 350 < max(answers) <= 400
    assert (
        len({tuple(r["prompt"][:40]) for r in rows}) == 1
        and len({tuple(r["prompt"][:41]) for r in rows}) > 100
    )
    assert all(c[-1] == 1 and 1 not in c[:-1] for r in rows for c in r["completions"])


def test_accords_side(gpu, tmp_path):
    """Every task of a child process, in this one."""
    import gpu_side

    gpu.write_model(tmp_path / "model", gpu.TINY)
    gpu.write_rows(tmp_path, updates=2, batch=4, tiny=True)
    for all_weights in (False, True):
        case = {**vars(gpu.Case("", batch=4, dtype="float32", all_weights=all_weights))}
        spec = {
            "case": case,
            "folder": str(tmp_path),
            "model": str(tmp_path / "model"),
            "device": "cpu",
            "micro_tokens": 100,
        }
        facts = gpu_side.prepare(spec)
        assert facts["passes"] == (4 if all_weights else 3)
        assert 4 * 30 < facts["tokens_an_update"] < 4 * 100
        found = gpu_side.train(spec)
        assert len(found["seconds"]) == 4 and min(found["seconds"]) > 0 and found["path"] == "tree"
        assert len(gpu.second_half(found)["seconds"]) == 2
        lines = gpu_side.check(spec)["metrics"]
        assert (
            lines[0]["loss"] == pytest.approx(0.6931, abs=1e-3) and len(lines) == gpu.CHECK_UPDATES
        )
        assert lines[1]["loss"] != lines[0]["loss"], "weights move"
        assert gpu_side.gemm(spec)["flops_a_second"] > 1e6
    assert (tmp_path / "adapter/adapter_model.safetensors").exists()


@pytest.mark.parametrize("trl", [True, False], ids=["with TRL", "without"])
def test_what_is_made_of_the_figures(gpu, trl, tmp_path, monkeypatch):
    """Two seconds an update against six; the setting that runs out of memory is not the best."""
    seconds = {"4096": 3.0, "16384": 2.0, "65536": None}

    def child(script, task, case, folder, **more):
        if task == "prepare":
            return {"flops_an_update": 1e12, "tokens_an_update": 1_000.0, "passes": 3}
        if task == "gemm":
            return {"flops_a_second": 1e12}
        if task == "check":
            return {"metrics": [{"loss": 0.69, "logps/chosen": -100.0, "logps/rejected": -100.0}]}
        taken = seconds[str(more["micro_tokens"])] if "micro_tokens" in more else 6.0
        if taken is None:
            raise SystemExit("gpu_side.py train failed (1):\nOutOfMemoryError: CUDA out of memory")
        return {
            "seconds": [9.0] * 3 + [taken] * 3,
            "peak_gb": 1.0,
            "device_peak_gb": 2.0,
            "path": "flex",
        }

    monkeypatch.setattr(gpu, "child", child)
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: object() if trl else None)
    monkeypatch.setattr(gpu, "write_rows", lambda *arguments: None)
    options = SimpleNamespace(updates=3, repeats=2, tiny=False, device="cuda")
    found = gpu.measure(gpu.Case("", batch=32, dtype="bfloat16"), tmp_path, options)
    ours = found["accord"]
    assert ours["setting"] == 16_384 and "OutOfMemory" in ours["settings_tried"]["65536"]
    assert ours["rows_a_second"] == [16.0] * 2 and ours["unique_tokens_a_second"] == [500.0] * 2
    assert ours["share_of_gemm_rate"] == [0.5] * 2
    assert found["speed"] == ([3.0, 3.0] if trl else []) and ("trl" in found) == trl
    assert ("3.0 × TRL" if trl else "TRL is not installed") in gpu.line(
        "LoRA", json.loads(json.dumps(found))
    )


def test_sides_that_disagree_are_not_compared(gpu, tmp_path, monkeypatch):
    def child(script, task, case, folder, **more):
        far = 0.02 if script == "trl_side.py" else 0.0
        return {"metrics": [{"loss": 0.69, "logps/chosen": -100.0 - far, "logps/rejected": -100.0}]}

    monkeypatch.setattr(gpu, "child", child)
    with pytest.raises(SystemExit, match="disagree.*no speed is reported"):
        gpu.compare(gpu.Case(""), tmp_path, {})
