"""benchmarks/gpu.py without a GPU: its plan and its deadlines, processes that fail or take too
long, and what is made of the figures. Its stages: test_gpu_stages.py.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from gpu_benchmark import BENCHMARKS, beside, stage  # noqa: F401 - a fixture

H200 = 150_100_000_000  # bytes


# ---------------------------------------------------------------- the plan


def test_deadlines_use_the_time_and_no_more():
    from gpu_stages.plan import STAGES, deadline

    left, given_to = 570.0, []
    for index in range(len(STAGES)):
        given_to.append(deadline(STAGES, index, left))
        left -= given_to[-1]
    assert left == pytest.approx(0, abs=1e-6) and min(given_to) > 15
    shares = [stage.share for stage in STAGES]
    assert given_to == pytest.approx([570 * share / sum(shares) for share in shares])
    assert deadline(STAGES, 5, 400.0) > deadline(STAGES, 5, 300.0), "what was not used is used"
    assert deadline(STAGES, len(STAGES) - 1, 123.0) == 123.0


def test_what_does_not_fit_is_left_out_with_the_estimate(monkeypatch):
    """8.03 billion weights at 22 bytes are 177 GB; the 1B shape takes 27."""
    from gpu_stages import plan

    monkeypatch.setattr(plan, "_installed", lambda package: True)
    monkeypatch.setattr(plan, "can_quantize", lambda: True)
    why = {s.name: plan.why_not(s, H200, False) for s in plan.STAGES}
    assert {name for name, says in why.items() if says} == {"all 8b by accord", "all 8b by TRL"}
    assert "about 177 GB before activations" in why["all 8b by accord"]
    assert "float32 masters, gradients and moments" in why["all 8b by accord"]
    assert "of the 150 GB that are free 90%" in why["all 8b by accord"]
    theirs = why["all 8b by TRL"]
    assert "nothing to compare with" in theirs and "about 80 GB" in theirs and "without" in theirs
    assert "nothing to compare" not in plan.why_not(stage("all 8b by TRL"), 80_000_000_000, False)
    small = {s.name for s in plan.STAGES if plan.why_not(s, 24_000_000_000, False)}
    assert small - set(why) == set() and "all 1b by accord" in small
    assert "lora 8b by accord" not in small
    assert not any(plan.why_not(s, 24_000_000_000, True) for s in plan.STAGES), "tiny models fit"


def test_what_is_missing_is_a_reason(monkeypatch):
    from gpu_stages import plan

    monkeypatch.setattr(plan, "_installed", lambda package: False)
    why = {s.name: plan.why_not(s, H200, False) for s in plan.STAGES}
    assert "pytest is not installed" in why["tests"]
    assert all("pip install" in why[s.name] for s in plan.STAGES if s.side == "trl")
    assert "bitsandbytes is not installed" in why["qlora 8b by accord"]
    assert not why["machine"] and not why["lora 1b by accord"] and not why["generation"]
    monkeypatch.setattr(plan, "_installed", lambda package: True)
    monkeypatch.setattr(plan, "can_quantize", lambda: False)
    assert "no model.quantize" in plan.why_not(stage("qlora 8b by accord"), H200, False)
    assert not plan.why_not(stage("qlora 8b by TRL"), H200, False)


def test_stages_are_chosen_by_the_beginnings_of_their_names():
    import gpu

    names = [stage.name for stage in gpu.chosen("paths, lora 1b")]
    assert names == ["machine", "paths", "lora 1b by accord", "lora 1b by TRL"]
    with pytest.raises(SystemExit, match="no stage's name begins with 'loar'. They are: machine"):
        gpu.chosen("loar")


# ---------------------------------------------------------------- a process and its deadline

EMIT = """
import json, sys, time, subprocess
spec = json.loads(sys.argv[1])
def emit(**found):
    with open(spec["folder"] + "/findings.jsonl", "a") as file:
        file.write(json.dumps(found) + "\\n")
"""


def run_code(code, monkeypatch, seconds=20.0):
    from gpu_stages import running

    monkeypatch.setattr(running, "command", lambda spec: [sys.executable, "-c", EMIT + code, spec])
    record = {"state": "cut off", "given_seconds": seconds}
    running.run_stage(stage("paths"), {"device": "cpu", "tiny": True}, seconds, record)
    return record


def test_a_stage_that_ends_well(monkeypatch):
    code = "emit(a=1, b=2)\nemit(b=3, c=float('nan'), spec=spec)\nprint('words')"
    record = run_code(code, monkeypatch)
    assert record["state"] == "done" and "last_lines" not in record
    found = record["found"]
    assert (found["a"], found["b"], found["c"]) == (1, 3, None), "what is said later counts"
    assert found["spec"]["stage"] == "paths" and found["spec"]["tiny"] is True
    assert 0 < found["spec"]["ends"] - found["spec"]["began"] < 20


def test_a_stage_that_fails_keeps_what_it_found_and_its_last_lines(monkeypatch):
    record = run_code(
        "emit(a=1)\nfor i in range(99): print(i)\nraise ValueError('why')", monkeypatch
    )
    assert record["state"] == "failed" and record["found"] == {"a": 1}
    assert record["last_lines"][-1] == "ValueError: why" and len(record["last_lines"]) <= 15


def test_a_stage_that_takes_too_long_is_ended_with_all_that_it_started(monkeypatch):
    """It asks not to be ended, its child does not hear of it, and a line is cut off."""
    code = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
emit(pid=child.pid)
open(spec["folder"] + "/findings.jsonl", "a").write('{"cut": ')
print("still there", flush=True)
time.sleep(60)
"""
    began = time.monotonic()
    record = run_code(code, monkeypatch, seconds=6.0)
    assert time.monotonic() - began < 7 and record["state"] == "out of time"
    assert list(record["found"]) == ["pid"] and record["last_lines"] == ["still there"]
    for _ in range(50):  # until it is reaped
        status = Path(f"/proc/{record['found']['pid']}/status")
        if not status.exists() or "zombie" in status.read_text():
            break
        time.sleep(0.1)
    else:
        pytest.fail("its child lives on")


def run_stages(monkeypatch, outcomes, names, fail=None):
    """Every stage replaced by its outcome; what was written, each time."""
    from gpu_stages import plan, running

    def run_stage(stage, options, seconds, record):
        if stage.name == fail:
            raise KeyboardInterrupt
        record.update(state=outcomes.get(stage.name, "done"), seconds=1.0, found={"free": H200})

    monkeypatch.setattr(running, "run_stage", run_stage)
    monkeypatch.setattr(plan, "_installed", lambda package: package != "trl")
    written = []
    arguments = ([stage(n) for n in names], {"device": "cpu", "tiny": True}, 100.0)

    def write(records):
        written.append(json.loads(json.dumps(records)))

    with suppress(KeyboardInterrupt):
        running.run_all(*arguments, write, lambda name, record: None)
    return written


NAMES = ["machine", "paths", "lora 1b by accord", "lora 1b by TRL", "generation"]


def test_a_failure_stops_no_other_stage_and_all_is_written_at_once(monkeypatch):
    written = run_stages(monkeypatch, {"paths": "failed", "generation": "out of time"}, NAMES)
    assert [list(records)[-1] for records in written if "cut off" in str(records)] == [
        name for name in NAMES if name != "lora 1b by TRL"
    ], "before a stage begins, what came before is written"
    states = {name: record["state"] for name, record in written[-1].items()}
    assert states == {
        "machine": "done",
        "paths": "failed",
        "lora 1b by accord": "done",
        "lora 1b by TRL": "skipped",
        "generation": "out of time",
    }
    assert "TRL is not installed" in written[-1]["lora 1b by TRL"]["why"]
    times = [r["given_seconds"] for r in written[-1].values() if "given_seconds" in r]
    assert times[-1] == pytest.approx(100, abs=1), "nobody used any time before"
    shares = [stage(name).share for name in ("lora 1b by accord", "generation")]
    of_two = 100 * shares[0] / sum(shares)
    assert times[-2] == pytest.approx(of_two, abs=1), "what is skipped takes no share"


def test_a_run_that_is_cut_off_keeps_what_it_has(monkeypatch):
    written = run_stages(monkeypatch, {}, NAMES, fail="lora 1b by accord")
    assert {name: record["state"] for name, record in written[-1].items()} == {
        "machine": "done",
        "paths": "done",
        "lora 1b by accord": "cut off",
    }


def test_without_the_machine_nothing_is_measured(monkeypatch):
    with pytest.raises(SystemExit, match="Nothing can be measured on cpu.*--tiny --device cpu"):
        run_stages(monkeypatch, {"machine": "failed"}, NAMES)


# ---------------------------------------------------------------- what is made of the figures


def records_of(trains="lora 8b", apart=0.0, seconds=(2.0, 6.0)):
    """An update of 1e14 operations on a device of 1e14 a second, twice that by its vendor."""
    facts = {
        "batch": 16,
        "unique_tokens_an_update": 1_000.0,
        "flops_an_update": 1e14,
        "flops_an_update_unshared": 3e14,
    }
    machine = {"name": "a GPU", "matmul_flops": {"1b": 9e13, "8b": 1e14}, "vendor_flops": 2e14}
    records = {"machine": {"state": "done", "found": machine}}
    for side, took in zip(("accord", "TRL"), seconds, strict=True):
        check = [
            {"loss": 0.69, "logps/chosen": -100.0, "logps/rejected": -100.0},
            {"loss": 0.6, "logps/chosen": -100.0, "logps/rejected": -100.0},
        ]
        if side == "TRL":
            check[1]["logps/chosen"] = None if apart is None else -100.0 - apart
        found = {
            "check": check,
            "seconds_an_update": [took, took, 9.0],
            "device_peak_gb": 10 * took,
            "setting": "s",
            "facts": facts,
        }
        if side == "accord":
            found |= {"path": "flex", "estimated_gb": {"s": 21.0, "another": 9.0}}
        records[f"{trains} by {side}"] = {"state": "done", "found": found}
    return records


def test_figures_by_hand():
    from gpu_stages.report import comparisons, figures

    records = records_of()
    found = figures(stage("lora 8b by accord"), records)
    assert (found["rows_a_second"], found["unique_tokens_a_second"]) == (8.0, 500.0)
    assert found["model_tflops"] == 50.0
    assert (found["share_of_measured_rate"], found["share_of_vendor_rate"]) == (0.5, 0.25)
    assert found["share_of_measured_rate_unshared"] == 1.5
    theirs = figures(stage("lora 8b by TRL"), records)
    assert theirs["share_of_measured_rate"] == pytest.approx(1 / 6), "the same operations"
    compared = comparisons(records)
    assert compared["lora 8b"]["speed"] == 3.0
    assert compared["lora 8b"]["memory"] == pytest.approx(1 / 3)
    assert list(compared) == ["lora 8b"], "nothing is known of the others"
    del records["lora 8b by TRL"]
    assert "not both reported" in comparisons(records)["lora 8b"]["why"]


def test_sides_that_disagree_are_not_compared():
    from gpu_stages.report import comparisons

    for apart in (0.02, None):
        found = comparisons(records_of(apart=apart))["lora 8b"]
        assert "disagree" in found["why"] and "speed" not in found and "memory" not in found
    assert "speed" in comparisons(records_of(apart=0.009))["lora 8b"]
    records = records_of()
    records["lora 8b by TRL"]["found"]["check"].pop()
    assert "they reported 2 and 1 updates" in comparisons(records)["lora 8b"]["why"]


def test_of_a_quantised_model_the_first_update_is_compared():
    from gpu_stages.report import comparisons

    assert comparisons(records_of("qlora 8b", apart=0.02))["qlora 8b"]["speed"] == 3.0


def test_the_table_says_what_was_measured_and_what_was_not():
    from gpu_stages.report import comparisons, table

    records = records_of()
    records["all 8b by accord"] = {"state": "skipped", "why": "177 GB"}
    records["tests"] = {
        "state": "out of time",
        "seconds": 9.0,
        "given_seconds": 10.0,
        "last_lines": ["the last one"],
        "found": {"counts": {"passed": 3, "failed": 1}, "failed": ["tests/gpu/x.py::y"]},
    }
    results = {"tiny": False, "minutes": 10, "stages": records, "compared": comparisons(records)}
    text = table(json.loads(json.dumps(results)))
    assert "a GPU, 10 min" in text and "Tiny" not in text
    assert "8.00 rows/s, 500 unique tokens/s, 50.0% of the measured rate, 25.0% of the" in text
    assert "20.0 GB allocated at the peak (21.0 expected) (flex path, s)" in text
    assert "16.7% of the measured rate, 8.3% of the vendor's, 50.0% of the measured one if" in text
    assert "3.00 × as fast" in text and "1 failed, 3 passed" in text and "x.py::y" in text
    assert "NOT DONE, all 8b by accord: skipped: 177 GB" in text
    assert "NOT DONE, tests: out of time after 9 of 10 s\n    the last one" in text
    assert "Tiny models" in table(results | {"tiny": True})


# ---------------------------------------------------------------- the command


def test_the_whole_command(tmp_path):
    """Two stages, as processes; a second command shows what they wrote."""
    output = tmp_path / "gpu.json"
    command = [sys.executable, str(BENCHMARKS / "gpu.py")]
    done = subprocess.run(
        [*command, "--only", "generation", "--tiny", "--device", "cpu", "--output", str(output)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(output.read_text())
    assert {name: r["state"] for name, r in results["stages"].items()} == {
        "machine": "done",
        "generation": "done",
    }
    assert "generation, K = 8:" in done.stdout and "Tiny models" in done.stdout
    assert list(tmp_path.iterdir()) == [output]
